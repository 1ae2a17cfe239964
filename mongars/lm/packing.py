"""Packing: an encoder processes several texts in one row of tokens, and none attends to another.

All tokens pass the linear layers as one flat list, and attention runs over each text separately. The result is
that of a block mask without its quadratic cost (docs/decisions/016-packing.md). `allow_packing` checks that
packing does not change an encoder's states.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mongars.errors import TrainingError
from mongars.lm.token_rows import PackedRows, PaddedRows, TokenRows

NAME = "mongars_packed"
"""Name of our function in transformers' registry of attention functions."""
CHECK_LENGTHS = (5, 3, 8, 3)
TOLERANCE = 1e-4
"""Relative to the largest state: above the effect of summation order, below that of attention across texts."""
WINDOWS = ("sliding_window", "attention_chunk_size")
"""Config fields that limit a layer's attention; the texts of the check are too short to reveal them."""
REMEDY = "Set packing to false: rows are padded then."

Runs = tuple[tuple[int, int], ...]


def allow_packing(encoder: nn.Module, max_tokens: int) -> None:
    """Prepare a bidirectional encoder for packed rows, and only these, of texts of at most `max_tokens`.

    Changes the attention in the encoder's module tree. Raises TrainingError, with the model's name, when packing
    is impossible or changes a state: a sliding window shorter than a text, layers that mix neighbouring tokens
    other than by attention, or an architecture with its own attention function.
    """
    from transformers import AttentionInterface

    config: Any = encoder.config
    windows = (getattr(config, name, None) for name in WINDOWS)
    window = min((window for window in windows if window is not None), default=max_tokens)
    if window < max_tokens:
        raise TrainingError(
            f"{config.model_type} has layers that see {window} tokens, fewer than max_tokens {max_tokens}; packed "
            "texts attend to all of their tokens.",
            remedy=REMEDY,
        )
    texts = _check_texts(config.vocab_size)
    alone = [[_states(encoder, PaddedRows.of([text])) for text in each] for each in texts]
    AttentionInterface.register(NAME, packed_attention)
    config._attn_implementation = NAME  # set_attn_implementation accepts only its own names
    for each, expected in zip(texts, alone, strict=True):
        _require_same(encoder, PackedRows.of(each), torch.cat(expected))


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    packed_runs: Runs | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each text; an attention function of transformers.

    `query`, `key`, `value`: [1, heads, tokens, size], keys and values perhaps with fewer heads; returns
    [1, tokens, heads, size]. Raises TypeError for rows that are not packed, whose padding would be attended to.
    """
    if packed_runs is None or attention_mask is not None:
        raise TypeError("this encoder takes packed rows only")
    return attend_within(packed_runs, query, key, value, dropout=dropout, scale=scaling), None


def attend_within(
    runs: Runs,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Return the attention of each token within its own text, [1, tokens, heads, size].

    `query`, `key`, `value`: [1, heads, tokens, size], keys and values perhaps with fewer heads; `runs` are those
    of `PackedRows`.
    """
    sizes = [count * length for count, length in runs]
    parts = zip(runs, *(torch.split(states[0], sizes, dim=1) for states in (query, key, value)), strict=True)
    outputs = []
    for run, *own in parts:
        queries, keys, values = (states.unflatten(1, run).transpose(0, 1) for states in own)
        shared = queries.shape[1] != keys.shape[1]
        attended = scaled_dot_product_attention(
            queries, keys, values, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=shared
        )
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).unsqueeze(0)


def _check_texts(vocab_size: int) -> list[list[list[int]]]:
    """Return the same texts twice; the second time every other text has different tokens."""
    ids = torch.arange(sum(CHECK_LENGTHS)).remainder(vocab_size)
    first = [part.tolist() for part in torch.split(ids, list(CHECK_LENGTHS))]
    second = [[vocab_size - 1 - token for token in text] if at % 2 else text for at, text in enumerate(first)]
    return [first, second]


@torch.no_grad()
def _states(encoder: nn.Module, rows: TokenRows) -> Tensor:
    was_training = encoder.training
    encoder.eval()  # dropout would change the states
    states = rows.to(next(encoder.parameters()).device).states(encoder)
    encoder.train(was_training)
    return states


def _require_same(encoder: nn.Module, rows: PackedRows, expected: Tensor) -> None:
    config: Any = encoder.config
    try:
        found = _states(encoder, rows)
    except (TypeError, ValueError, RuntimeError) as error:  # it takes no positions, or expects another shape
        raise TrainingError(f"{config.model_type} does not take packed rows: {error}", remedy=REMEDY) from error
    farthest = float((found - expected).abs().max() / expected.abs().max())
    if not farthest <= TOLERANCE:  # also refuses NaN
        raise TrainingError(
            f"{config.model_type} gives different states when texts are packed, by {farthest:.1e} of the largest.",
            remedy=REMEDY,
        )
