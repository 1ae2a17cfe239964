"""The language model: base, chat template, Llama forward pass, LoRA, adapters."""
