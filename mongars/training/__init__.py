"""MNTP adapters trained from a dataset version, tracked and evaluated."""
