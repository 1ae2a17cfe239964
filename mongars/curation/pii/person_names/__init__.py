"""A small tagger of person names: features, scoring, training and its weights."""
