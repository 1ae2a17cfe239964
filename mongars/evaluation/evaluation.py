"""Deterministic evaluation of an encoder on held-out conversations, as it would be served.

The gate compares two of these: loss on masked tokens, and the embeddings of turns and sentences.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mongars.errors import DatasetRefusedError
from mongars.evaluation.embedding_quality import (
    alignment,
    effective_rank,
    sts_similarities,
    sts_spearman,
    uniformity,
)
from mongars.evaluation.metrics import Evaluation, ItemMeans, Spread, TurnSearch
from mongars.evaluation.scored_pairs import ScoredPairs
from mongars.evaluation.turn_retrieval import TurnCorpus, held_out_pairs
from mongars.lm.adapters import attach_adapter
from mongars.lm.base import load_base
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.training.config import MNTPConfig
from mongars.training.data.masking import MaskedRow, Masker
from mongars.training.data.tokenize import Row, token_ids
from mongars.training.objectives.mntp import MNTPModel, collate

EPOCH = 0  # fixes the mask of each row, so that two adapters are compared on the same targets
TOKEN_BUDGET = 2048  # longest row x rows of a batch, as in Neurons


@torch.inference_mode()
def evaluate_encoder(
    base_path: str | Path,
    adapter_folder: Path | None,
    rows: Iterable[Row],
    config: MNTPConfig,
    scored_pairs: ScoredPairs | None = None,
    *,
    cpu_optimizations: bool = True,
) -> Evaluation:
    """Evaluate an adapter, or the bidirectional base without one, on `rows`; similarity on `scored_pairs`.

    The same rows and config give the same targets, queries and documents. Raises DatasetRefusedError if no row has
    a target, and the errors of `load_base`, `attach_adapter` and `Neurons.encode`.
    """
    base = load_base(base_path, cpu_optimizations=cpu_optimizations)
    encoder = bidirectional_encoder(base)
    if adapter_folder is not None:
        encoder = attach_adapter(encoder, adapter_folder)
    head: nn.Module = base.model.get_output_embeddings()  # type: ignore[operator] # of PreTrainedModel
    rows = list(rows)
    loss, accuracy = _prediction(MNTPModel(encoder, head).eval(), _masked(rows, base.tokenizer, config))
    neurons = Neurons(encoder, base.tokenizer)
    search, spread = _turn_metrics(neurons, rows)
    return Evaluation(loss, accuracy, search, spread, _similarity(neurons, scored_pairs) if scored_pairs else None)


def _masked(rows: Sequence[Row], tokenizer: Any, config: MNTPConfig) -> list[MaskedRow]:
    masker = Masker.of(config, tokenizer)
    masked = [masker.mask(row.id, token_ids(tokenizer, row.messages, config.max_tokens), EPOCH) for row in rows]
    masked = [row for row in masked if row.positions.size]
    if not masked:
        raise DatasetRefusedError("No held-out conversation has a token to predict.", remedy="Curate more text.")
    return masked


def _prediction(model: MNTPModel, masked: Sequence[MaskedRow]) -> tuple[ItemMeans, float]:
    """Return the loss by conversation, and the accuracy on targets shown as the mask token."""
    losses_of: dict[str, tuple[float, int]] = {}
    right = hidden = 0
    for rows_of_batch in _batches(masked):
        batch = collate(rows_of_batch)
        losses, correct = model(batch)
        right += int((correct & batch.hidden).sum())
        hidden += int(batch.hidden.sum())
        for row, part in zip(rows_of_batch, losses.split([row.labels.size for row in rows_of_batch]), strict=True):
            losses_of[row.id] = (float(part.sum()), row.labels.size)
    return ItemMeans(losses_of), right / max(hidden, 1)


def _turn_metrics(neurons: Neurons, rows: Sequence[Row]) -> tuple[TurnSearch | None, Spread | None]:
    """Return retrieval and spread of the turns' embeddings, None where there are too few turns.

    Pairs with a turn that has no token are left out, because it has no embedding with any adapter.
    """
    pairs = held_out_pairs(rows)
    texts = TurnCorpus(pairs).texts
    empty = {texts[index] for index in neurons.without_tokens(texts)}
    corpus = TurnCorpus([pair for pair in pairs if not {pair.query, pair.answer} & empty])
    if len(corpus.texts) < 2:  # noqa: PLR2004 (a distance needs two points)
        return None, None
    vectors, _ = neurons.encode(corpus.texts)
    spread = Spread(alignment(*corpus.positives(vectors)), uniformity(vectors), effective_rank(vectors))
    return corpus.search(vectors), spread


def _similarity(neurons: Neurons, pairs: ScoredPairs) -> float | None:
    """Return Spearman's correlation of the cosines with the scores, or None if all cosines are equal."""
    left, right = (neurons.encode(texts)[0] for texts in (pairs.left, pairs.right))
    if np.ptp(sts_similarities(left, right)) == 0:
        return None
    return sts_spearman(left, right, pairs.scores)


def _batches(masked: Sequence[MaskedRow]) -> Iterator[list[MaskedRow]]:
    """Yield batches of similar length within the token budget; a longer row is a batch of its own."""
    batch: list[MaskedRow] = []
    for row in sorted(masked, key=lambda row: (-row.ids.size, row.id)):
        if batch and batch[0].ids.size * (len(batch) + 1) > TOKEN_BUDGET:
            yield batch
            batch = []
        batch.append(row)
    yield batch
