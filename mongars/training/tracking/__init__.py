"""MLflow tracking of runs and of what became of their adapters."""
