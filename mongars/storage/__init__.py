"""Atomic files, digests and locks."""
