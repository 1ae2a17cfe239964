"""Conversations, feedback and profiles in SQLite or PostgreSQL."""
