"""How well an encoder predicts masked tokens of held-out conversations.

Owns the deterministic measurement that the gate compares. Must not know training, gates or registries.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mongars.errors import DatasetRefusedError
from mongars.neurons.base import load_base
from mongars.neurons.bidirectional import attach_adapter, bidirectional_encoder
from mongars.training.config import MNTPConfig
from mongars.training.masking import MaskedRow, Masker
from mongars.training.objectives import MNTPModel, collate
from mongars.training.text import Row, token_ids

EPOCH = 0  # one mask for each row: two adapters are judged on the same targets
TOKEN_BUDGET = 2048  # longest row x rows of a batch, as in neurons


@dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per target, `accuracy` on the truly masked ones; both over all conversations.

    `per_conversation` gives (sum of losses, count of targets) by id, for a paired test.
    """

    loss: float
    accuracy: float
    per_conversation: Mapping[str, tuple[float, int]]


@torch.inference_mode()
def evaluate_mntp(
    base_path: str | Path, adapter_folder: Path | None, rows: Iterable[Row], config: MNTPConfig
) -> Evaluation:
    """Evaluate an adapter, or the bidirectional base without one, on `rows`.

    The same rows and config give the same targets. Raises DatasetRefusedError when no row has a target, and what
    `load_base` and `attach_adapter` raise.
    """
    base = load_base(base_path)
    encoder = bidirectional_encoder(base)
    if adapter_folder is not None:
        encoder = attach_adapter(encoder, adapter_folder)
    head: nn.Module = base.model.get_output_embeddings()  # type: ignore[operator] # of PreTrainedModel
    model = MNTPModel(encoder, head).eval()
    masker = Masker.of(config, base.tokenizer)
    masked = [
        masker.mask(row.id, token_ids(base.tokenizer, row.messages, config.max_tokens), EPOCH) for row in rows
    ]
    masked = [row for row in masked if row.positions.size]
    if not masked:
        raise DatasetRefusedError("No held-out conversation has a token to predict.", remedy="Curate more text.")
    per_conversation: dict[str, tuple[float, int]] = {}
    right = hidden = 0
    for rows_of_batch in _batches(masked):
        batch = collate(rows_of_batch)
        losses, correct = model(batch)
        right += int((correct & batch.hidden).sum())
        hidden += int(batch.hidden.sum())
        for row, part in zip(rows_of_batch, losses.split([row.labels.size for row in rows_of_batch]), strict=True):
            per_conversation[row.id] = (float(part.sum()), row.labels.size)
    total = sum(loss for loss, _ in per_conversation.values())
    count = sum(targets for _, targets in per_conversation.values())
    return Evaluation(total / count, right / max(hidden, 1), per_conversation)


def _batches(masked: list[MaskedRow]) -> Iterator[list[MaskedRow]]:
    """Yield batches of like length within the budget, or of one row."""
    batch: list[MaskedRow] = []
    for row in sorted(masked, key=lambda row: (-row.ids.size, row.id)):
        if batch and batch[0].ids.size * (len(batch) + 1) > TOKEN_BUDGET:
            yield batch
            batch = []
        batch.append(row)
    yield batch
