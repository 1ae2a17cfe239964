"""The loop that improves: harvest, curate, train, gate, roll out."""
