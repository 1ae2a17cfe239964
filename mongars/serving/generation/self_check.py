"""Whether a model answers in a batch as it does alone.

Owns that one measurement. Must not know requests. An architecture whose arithmetic is not what `forward.py` takes
it for would give fluent nonsense, so every base is tried before it serves.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mongars.errors import SettingsError
from mongars.serving.generation.forward import Forward, forward_of

READ = (5, 9)  # tokens of the two prompts
DECODED = 2
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}  # of the largest logit


@torch.inference_mode()
def check_batch_invariance(model: nn.Module) -> None:
    """Raise SettingsError, with the model's name, unless two sequences in a batch get the logits of each alone."""
    config: Any = model.config
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(config.vocab_size, (1, read + DECODED), generator=generator).to(device) for read in READ]
    alone = [model(input_ids=row, use_cache=False).logits[0, -1] for row in rows]
    together = _together(forward_of(model), rows)
    limit = TOLERANCE[alone[0].dtype] * float(torch.stack(alone).abs().max())
    difference = max(float((one - other).abs().max()) for one, other in zip(alone, together, strict=True))
    if not difference <= limit:
        raise SettingsError(
            f"{config.model_type} gives other logits in a batch than alone (by {difference:.2g}).",
            remedy="Set MONGARS_BASE_MODEL to a model of another architecture, such as Llama, Qwen3 or Mistral.",
        )


def _together(forward: Forward, rows: list[Tensor]) -> list[Tensor]:
    tokens = [row[0].tolist() for row in rows]
    forward.cache.reserve(len(rows), max(READ) + DECODED)
    forward.prefill([row[:read] for row, read in zip(tokens, READ, strict=True)], first_row=0, start=0)
    for step in range(DECODED):
        at = [read + step for read in READ]
        logits = forward.decode([row[place] for row, place in zip(tokens, at, strict=True)], at)
    return list(logits)
