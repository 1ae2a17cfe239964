"""Continuous batching: many sequences generated at once through one module tree."""
