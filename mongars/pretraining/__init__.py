"""A base model from scratch: text to a tokenizer, a Llama and its folder."""
