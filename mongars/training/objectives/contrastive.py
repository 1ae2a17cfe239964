"""The contrastive objective: a text lies nearer to its positive than to the other texts of the step.

    loss of pair i = - log  exp(cos(q[i], d[i]) / T)  /  sum over j of exp(cos(q[i], d[j]) / T)

InfoNCE with in-batch negatives, as SimCSE (arXiv 2104.08821) and LLM2Vec (arXiv 2404.05961) have it; j runs
over i and the pairs that are truly others, and over the hard negatives of all pairs where there are any (SimCSE's
equation 5). Owns the loss, its batch and its model, which pools as serving
does. Must not know how the workers tell each other their vectors: that is handed in.

Over several workers the negatives are those of the whole step. Each worker gathers all vectors without a
gradient, puts its own, which have one, in their place, and differentiates the loss of the whole step. So its
gradient is that of the loss through its own texts, all of it: also where they are negatives of another
worker's queries. Every text is one worker's own, so the workers' gradients sum to that of one worker with all
of them, unscaled. No collective runs in a backward pass. What a worker reports is the loss of its own
queries, and these sum up too.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mongars.errors import TrainingError
from mongars.lm.packing import allow_packing
from mongars.lm.token_rows import TokenRows, lay_out
from mongars.neurons.pooling import mean_of_each, normalise
from mongars.training.config import ContrastiveConfig, Precision
from mongars.training.data.pairs import PairTable
from mongars.training.data.sampler import worker_share
from mongars.training.loop import Outputs, PassLoss
from mongars.training.objectives.precision import states_of

Gather = Callable[[Tensor], Tensor]
KEY_BYTES = 8  # of an int64


@dataclass(frozen=True)
class PairBatch:
    """Pairs of texts, padded or packed: first all queries, then their positives in the same order.

    Where pairs may have hard negatives these follow, and `negatives`, int64 [hard negatives], is the pair of each.
    `rows`: all these texts; `keys`: int64 [2 or 3, pairs], of query, positive and negative, the same where the
    text is; a pair without a negative has its positive's key there.
    """

    rows: TokenRows
    keys: Tensor
    negatives: Tensor | None = None

    @property
    def targets(self) -> int:
        """Pairs in it."""
        return self.keys.shape[1]

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on a device."""
        negatives = None if self.negatives is None else self.negatives.to(device)
        return PairBatch(self.rows.to(device), self.keys.to(device), negatives)

    def by_pair(self, vectors: Tensor) -> list[Tensor]:
        """Return the vectors of the rows as those of queries, of positives and of negatives, [pairs, hidden] each.

        A pair without a negative has zeros there.
        """
        parts = list(vectors[: 2 * self.targets].chunk(2))
        if self.negatives is not None:
            none = vectors.new_zeros(self.targets, vectors.shape[1])
            parts.append(none.index_copy(0, self.negatives, vectors[2 * self.targets :]))
        return parts


class EmbeddingModel(nn.Module):
    """A bidirectional encoder that gives the vectors which `Neurons` would serve."""

    def __init__(self, encoder: nn.Module, *, packing: bool = False, precision: Precision = "fp32") -> None:
        super().__init__()
        self.encoder = encoder
        self._packing, self._precision = packing, precision

    def forward(self, batch: PairBatch) -> tuple[Tensor]:
        """Return the vector of each text, of length 1: float32 [texts, hidden]."""
        states = states_of(self.encoder, batch.rows, self._precision)
        return (normalise(mean_of_each(states, batch.rows.lengths)),)

    def smallest_batch(self) -> PairBatch:
        """Return a batch that goes through the model, on the CPU; what it holds means nothing."""
        return PairBatch(lay_out([[0], [0]], packing=self._packing), keys=torch.zeros(2, 1, dtype=torch.long))


class ContrastiveObjective:
    """A `loop.Objective`: pairs of a table, for one worker. `gather` joins the workers' tensors, by rank."""

    def __init__(self, config: ContrastiveConfig, rows: PairTable, rank: int = 0, *, gather: Gather) -> None:
        self._config, self._rows, self._rank, self._gather = config, rows, rank, gather
        self._lengths = rows.lengths
        # Pairs of each worker: `plan` gives what does not divide to the first ones.
        self._counts = [len(range(each, config.batch, config.workers)) for each in range(config.workers)]

    def model(self, encoder: nn.Module) -> EmbeddingModel:
        """Return the encoder with pooling, and with the recipe's attention dropout in it.

        Raises TrainingError when it has no place for that, or a smaller window than the texts may be long, or
        where the recipe packs and the architecture does not allow it.
        """
        config: Any = encoder.config
        if self._config.max_tokens > config.max_position_embeddings:
            raise TrainingError(
                f"Texts of {self._config.max_tokens} tokens do not fit {config.model_type}'s window.",
                remedy=f"Set max_tokens to {config.max_position_embeddings} or less.",
            )
        set_attention_dropout(encoder, self._config.dropout)
        if self._config.packing:
            allow_packing(encoder, self._config.max_tokens)
        return EmbeddingModel(encoder, packing=self._config.packing, precision=self._config.precision)

    def batches(self, step: int) -> list[PairBatch]:
        """Return the worker's pairs of a step, in one batch."""
        tables = (self._rows.queries, self._rows.positives, self._rows.negatives)
        return [
            collate_pairs(
                *([table.row(place.row) for place in places] for table in tables if table is not None),
                packing=self._config.packing,
            )
            for places in worker_share(self._config, step, self._lengths, self._rank)
        ]

    def loss(self, outputs: Outputs, batch: PairBatch) -> PassLoss:
        """Return the step's loss as this worker may differentiate it, and what its own queries add to it."""
        (vectors,) = outputs
        queries, *documents = map(self._joined, batch.by_pair(vectors))
        rivals = true_negatives(*self._of_all(batch.keys.T.contiguous()).T)
        losses, right = info_nce(queries, torch.cat(documents), rivals, self._config.temperature)
        own = self._own()
        mine = float(losses[own].detach().sum())
        return PassLoss(losses.sum(), mine, float(right[own].sum()), batch.targets)

    def _joined(self, own: Tensor) -> Tensor:
        """Return all workers' vectors, [pairs of the step, hidden]; only this worker's have a gradient."""
        every, place = self._of_all(own.detach()), self._own()
        return torch.cat([every[: place.start], own, every[place.stop :]])

    def _of_all(self, own: Tensor) -> Tensor:
        """Return all workers' rows, by rank. The last workers may have a row less, which is filled on the way."""
        share = self._config.share
        filled = torch.cat([own, own.new_zeros(share - len(own), *own.shape[1:])])
        parts = zip(torch.split(self._gather(filled), share), self._counts, strict=True)
        return torch.cat([part[:count] for part, count in parts])

    def _own(self) -> slice:
        """Return where this worker's pairs are among all of a step."""
        start = sum(self._counts[: self._rank])
        return slice(start, start + self._counts[self._rank])


def info_nce(queries: Tensor, documents: Tensor, rivals: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return each query's loss in nats, [pairs], and whether its document scores highest, bool [pairs].

    `queries`: unit vectors [pairs, hidden], `documents` [pairs or more, hidden], of which document i is right for
    query i; `rivals`: bool [pairs, documents], which are wrong ones for which query. A query without a rival has
    loss 0.
    """
    right = torch.arange(len(queries), device=queries.device)
    counted = rivals | torch.eye(*rivals.shape, dtype=torch.bool, device=queries.device)
    scores = (queries @ documents.T / temperature).masked_fill(~counted, -torch.inf)
    return nn.functional.cross_entropy(scores, right, reduction="none"), scores.argmax(dim=1) == right


def true_negatives(query_keys: Tensor, positive_keys: Tensor, negative_keys: Tensor | None = None) -> Tensor:
    """Return which documents are wrong for which query, bool [queries, documents], from keys [pairs] of texts.

    The documents are the positives and, where there are hard negatives, these after them. Wrong is not the query's
    own positive nor one of the same text, not the query's own text, and no positive of a query of the same text:
    that is right, too. A hard negative of such a query is as wrong as the query's own.
    """
    asked, right = query_keys.unsqueeze(1), positive_keys.unsqueeze(1)
    wrong = (positive_keys != right) & (asked != positive_keys) & (asked != query_keys)
    if negative_keys is None:
        return wrong
    there = negative_keys != positive_keys  # the key of a pair without one is its positive's
    return torch.cat([wrong, there & (negative_keys != right) & (asked != negative_keys)], dim=1)


def collate_pairs(
    queries: Sequence[np.ndarray],
    positives: Sequence[np.ndarray],
    negatives: Sequence[np.ndarray] | None = None,
    *,
    packing: bool = False,
) -> PairBatch:
    """Lay out pairs of texts, int32 [tokens] each, as a batch. There must be a pair, and none without a token.

    `negatives` has a text for each pair, an empty one for a pair that has none.
    """
    keys = [list(map(_key, queries)), list(map(_key, positives))]
    if negatives is None:
        return PairBatch(lay_out([*queries, *positives], packing=packing), torch.tensor(keys))
    hard = [pair for pair, ids in enumerate(negatives) if len(ids)]
    keys.append([_key(ids) if len(ids) else keys[1][pair] for pair, ids in enumerate(negatives)])
    texts = [*queries, *positives, *(negatives[pair] for pair in hard)]
    return PairBatch(lay_out(texts, packing=packing), torch.tensor(keys), torch.tensor(hard, dtype=torch.long))


def set_attention_dropout(encoder: nn.Module, share: float) -> None:
    """Have every attention of a module tree drop a share of its weights while training, not the base's.

    Raises TrainingError where transformers has no such knob in this architecture.
    """
    attentions: list[Any] = [module for module in encoder.modules() if hasattr(module, "attention_dropout")]
    if share and not attentions:
        config: Any = encoder.config
        raise TrainingError(
            f"{config.model_type} has no attention dropout.", remedy="Set dropout to 0, lora_dropout above it."
        )
    for attention in attentions:
        attention.attention_dropout = share


def _key(ids: np.ndarray) -> int:
    digest = hashlib.blake2b(np.asarray(ids, dtype=np.int32).tobytes(), digest_size=KEY_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)
