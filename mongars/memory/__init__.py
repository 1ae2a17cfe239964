"""Storage and recall of conversations: SQL, the cache, the index, and Hippocampus over them."""
