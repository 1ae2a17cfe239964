"""The language model itself: base, chat template, Llama forward pass, LoRA, adapters."""
