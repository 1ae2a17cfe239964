"""Near-duplicate detection, selection of the rows to keep, and splits."""
