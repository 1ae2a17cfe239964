"""Attention of a few queries as two matrix products."""

import torch
from torch import Tensor, nn

from mongars.lm.cpu.onednn import OneDnnLinear

GROW_TOKENS = 32
"""Step of a cache's length for this attention, which reads rows whole: oneDNN copies a part of a tensor first."""


def product_attention_is_faster(head: nn.Module) -> bool:
    """Return whether a few queries attend faster by two products than by torch's attention, by a model's head.

    This holds in bf16 where oneDNN is the faster library (docs/results/serving.md).
    """
    if not isinstance(head, OneDnnLinear):
        return False
    return head.weight.dtype == torch.bfloat16 and head.weight.device.type == "cpu"


def product_attention(queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor, scale: float) -> Tensor:
    """Return the attention of queries over keys and values, [rows, heads, queries or tokens, size] each.

    `attn_mask` [rows, 1, 1, tokens] is added to the scores. Like `scaled_dot_product_attention`, but scores are
    rounded to the states' dtype, as in transformers' eager attention.
    """
    scores = torch.matmul(queries, keys.transpose(-1, -2)).mul_(scale).add_(attn_mask)
    return torch.matmul(scores.softmax(-1), values)
