"""The pretraining text of mongars-nano, compiled from public data sets."""
