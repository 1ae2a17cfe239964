"""A training run on Ray Train and DeepSpeed: workers, checkpoints, resumption, written adapters."""
