"""Training objectives: masked next-token prediction and contrastive learning."""
