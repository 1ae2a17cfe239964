"""Pretraining of a small base model: tokenizer, packed text, a Llama and its folder."""
