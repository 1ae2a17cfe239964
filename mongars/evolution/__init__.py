"""The self-training cycle: gate, engine and rollout."""
