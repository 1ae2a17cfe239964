"""Held-out metrics of an encoder, with confidence intervals."""
