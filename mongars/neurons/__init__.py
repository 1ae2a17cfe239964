"""A causal decoder read as a bidirectional encoder, shared by training and serving."""
