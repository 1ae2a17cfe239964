"""Which architecture a model has."""

from typing import Any

from torch import nn


def is_like_llama(model: nn.Module) -> bool:
    """Return whether `LlamaDecoder` computes what the model does: by its class and full attention in all layers.

    The model is a causal language model or its decoder, with or without an adapter.
    """
    from transformers import (
        LlamaForCausalLM,
        LlamaModel,
        MistralForCausalLM,
        MistralModel,
        Qwen2ForCausalLM,
        Qwen2Model,
        Qwen3ForCausalLM,
        Qwen3Model,
    )

    mistrals = {MistralForCausalLM, MistralModel}
    known = {LlamaForCausalLM, LlamaModel, Qwen2ForCausalLM, Qwen2Model, Qwen3ForCausalLM, Qwen3Model} | mistrals
    plain: Any = without_adapter(model)
    config = plain.config
    full = set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
    windowed = type(plain) in mistrals and config.sliding_window is not None
    return type(plain) in known and config.hidden_act == "silu" and full and not windowed


def without_adapter(model: nn.Module) -> nn.Module:
    """Return the model that peft wraps; its linear layers keep the adapter."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if unwrap else model
