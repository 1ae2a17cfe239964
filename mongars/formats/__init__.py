"""Conversations and texts as files: JSON Lines, Parquet, their schema and their shards."""
