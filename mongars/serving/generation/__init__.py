"""Continuous batching: many answers under way at once through one module tree, each token in one forward pass."""
