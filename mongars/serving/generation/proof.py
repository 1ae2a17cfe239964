"""Whether a model answers in a batch as it does alone.

Owns that one measurement. Must not know requests. An architecture whose attention is not what `masks.py` and
`rows.py` take it for would give fluent nonsense, so every base is tried before it serves.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mongars.errors import SettingsError
from mongars.serving.generation.masks import attention_mask
from mongars.serving.generation.rows import RowCache

READ = (5, 9)  # tokens of the two prompts
DECODED = 2
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}  # of the largest logit


@torch.inference_mode()
def prove_batched(model: nn.Module) -> None:
    """Raise SettingsError, with the model's name, unless two sequences in a batch get the logits of each alone."""
    config: Any = model.config
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(config.vocab_size, (1, read + DECODED), generator=generator).to(device) for read in READ]
    alone = [model(input_ids=row, use_cache=False).logits[0, -1] for row in rows]
    together = _together(model, config, rows)
    limit = TOLERANCE[alone[0].dtype] * float(torch.stack(alone).abs().max())
    difference = max(float((one - other).abs().max()) for one, other in zip(alone, together, strict=True))
    if not difference <= limit:
        raise SettingsError(
            f"{config.model_type} gives other logits in a batch than alone (by {difference:.2g}).",
            remedy="Set MONGARS_BASE_MODEL to a model of another architecture, such as Llama, Qwen3 or Mistral.",
        )


def _together(model: nn.Module, config: Any, rows: list[Tensor]) -> list[Tensor]:
    cache, longest = RowCache(), max(READ)
    cache.reserve(len(rows), longest + DECODED)
    prompts = [row[0, :read] for row, read in zip(rows, READ, strict=True)]
    ids = torch.stack([nn.functional.pad(prompt, (0, longest - len(prompt))) for prompt in prompts])
    positions = torch.arange(longest, device=ids.device).expand(len(rows), -1)
    cache.place_span(0, len(rows), 0, longest)
    _pass(model, config, cache, ids, positions, longest)
    for step in range(DECODED):
        at = torch.tensor([read + step for read in READ], device=ids.device)
        ids = torch.stack([row[0, place : place + 1] for row, place in zip(rows, at.tolist(), strict=True)])
        cache.place_next(at)
        logits = _pass(model, config, cache, ids, at[:, None], int(at.max()) + 1)
    return list(logits[:, -1])


def _pass(model: nn.Module, config: Any, cache: RowCache, ids: Tensor, positions: Tensor, length: int) -> Tensor:
    logits: Tensor = model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=attention_mask(config, positions, length),
        past_key_values=cache,
        use_cache=True,
    ).logits
    return logits
