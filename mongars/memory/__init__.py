"""Conversations kept and recalled: the only SQL, the cache, the index, and Hippocampus over them."""
