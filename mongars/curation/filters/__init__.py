"""Filters: one module per kind of text that is dropped."""
