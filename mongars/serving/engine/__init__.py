"""The engine of a replica: adapter slots, generation and embedding, reconciliation."""
