"""Dataset rows as tokens: masking, pairs, sampling."""
