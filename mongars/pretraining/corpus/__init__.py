"""The pretraining text of mongars-nano, gathered from public data sets."""
