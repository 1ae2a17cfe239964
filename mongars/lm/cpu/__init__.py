"""What makes a model faster on a CPU."""
