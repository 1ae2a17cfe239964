"""The loop that improves: curate, train, gate, roll out."""
