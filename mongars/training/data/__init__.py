"""Training data: dataset rows as tokens, masking, pairs and sampling."""
