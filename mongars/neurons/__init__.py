"""A causal decoder used as a bidirectional encoder, shared by training and serving."""
