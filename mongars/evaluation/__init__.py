"""Held-out metrics of an encoder, and their confidence intervals."""
