"""What a step minimises: MNTP and contrastive losses, and the precision of the pass."""
