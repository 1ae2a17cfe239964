"""Checks that a model gives the same logits in a batch as for each sequence alone.

An architecture whose arithmetic differs from what `forward.py` assumes would generate fluent nonsense, so every
base is checked before it serves.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mongars.errors import SettingsError
from mongars.serving.generation.forward import Forward, forward_of

PROMPT_LENGTHS = (5, 9)
DECODED = 2
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}  # of the largest logit


@torch.inference_mode()
def check_batch_invariance(model: nn.Module) -> None:
    """Raise SettingsError, with the model's name, unless sequences in a batch have the logits of each alone."""
    config: Any = model.config
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.randint(config.vocab_size, (1, length + DECODED), generator=generator).to(device)
        for length in PROMPT_LENGTHS
    ]
    alone = [model(input_ids=row, use_cache=False).logits[0, -1] for row in rows]
    batched = _batched(forward_of(model), rows)
    limit = TOLERANCE[alone[0].dtype] * float(torch.stack(alone).abs().max())
    difference = max(float((one - other).abs().max()) for one, other in zip(alone, batched, strict=True))
    if not difference <= limit:
        raise SettingsError(
            f"{config.model_type} gives different logits in a batch than alone (by {difference:.2g}).",
            remedy="Set MONGARS_BASE_MODEL to a model of another architecture, such as Llama, Qwen3 or Mistral.",
        )


def _batched(forward: Forward, rows: list[Tensor]) -> list[Tensor]:
    tokens = [row[0].tolist() for row in rows]
    forward.cache.reserve(len(rows), max(PROMPT_LENGTHS) + DECODED)
    prompts = [row[:length] for row, length in zip(tokens, PROMPT_LENGTHS, strict=True)]
    forward.prefill(prompts, first_row=0, start=0)
    for step in range(DECODED):
        positions = [length + step for length in PROMPT_LENGTHS]
        next_tokens = [row[position] for row, position in zip(tokens, positions, strict=True)]
        logits = forward.decode(next_tokens, positions)
    return list(logits)
