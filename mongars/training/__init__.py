"""Training of LoRA adapters in two stages: MNTP, then contrastive learning."""
