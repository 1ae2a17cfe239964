"""The contrastive objective: a text is closer to its positive than to the other texts of the step.

    loss of pair i = - log  exp(cos(q[i], d[i]) / T)  /  sum over j of exp(cos(q[i], d[j]) / T)

InfoNCE with in-batch negatives, as in SimCSE (arXiv 2104.08821) and LLM2Vec (arXiv 2404.05961). j runs over i,
over the pairs with different texts and over the hard negatives of all pairs (SimCSE's equation 5). Texts are
pooled as in serving.

With several workers, the negatives are those of the whole step. Each worker gathers all vectors without gradient,
substitutes its own, which have one, and differentiates the loss of the whole step. This gives the full gradient
through its own texts, also where they are negatives of another worker's queries. Each text belongs to one worker,
so the workers' gradients sum, unscaled, to that of a single worker with all texts. No collective runs in the
backward pass. A worker reports the loss of its own queries; these sum up as well.
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
from mongars.training.data.sampler import worker_batches
from mongars.training.loop import Outputs, PassLoss
from mongars.training.objectives.precision import states_of

Gather = Callable[[Tensor], Tensor]
KEY_BYTES = 8  # of an int64


@dataclass(frozen=True)
class PairBatch:
    """Pairs of texts, padded or packed: all queries, then their positives in the same order, then hard negatives.

    `negatives`, int64 [hard negatives], is the pair of each hard negative, or None if pairs cannot have any.
    `keys`, int64 [2 or 3, pairs], identify the texts of queries, positives and negatives: equal texts have equal
    keys. A pair without a negative has the key of its positive there.
    """

    rows: TokenRows
    keys: Tensor
    negatives: Tensor | None = None

    @property
    def targets(self) -> int:
        """Its number of pairs."""
        return self.keys.shape[1]

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on a device."""
        negatives = None if self.negatives is None else self.negatives.to(device)
        return PairBatch(self.rows.to(device), self.keys.to(device), negatives)

    def by_pair(self, vectors: Tensor) -> list[Tensor]:
        """Split the vectors of all rows into those of queries, positives and negatives, [pairs, hidden] each.

        A pair without a negative has zeros there.
        """
        parts = list(vectors[: 2 * self.targets].chunk(2))
        if self.negatives is not None:
            zeros = vectors.new_zeros(self.targets, vectors.shape[1])
            parts.append(zeros.index_copy(0, self.negatives, vectors[2 * self.targets :]))
        return parts


class EmbeddingModel(nn.Module):
    """A bidirectional encoder with the pooling of `Neurons`, which serves it."""

    def __init__(self, encoder: nn.Module, *, packing: bool = False, precision: Precision = "fp32") -> None:
        super().__init__()
        self.encoder = encoder
        self._packing, self._precision = packing, precision

    def forward(self, batch: PairBatch) -> tuple[Tensor]:
        """Return the unit vector of each text, float32 [texts, hidden]."""
        states = states_of(self.encoder, batch.rows, self._precision)
        return (normalise(mean_of_each(states, batch.rows.lengths)),)

    def smallest_batch(self) -> PairBatch:
        """Return a minimal batch of arbitrary tokens, on the CPU."""
        return PairBatch(lay_out([[0], [0]], packing=self._packing), keys=torch.zeros(2, 1, dtype=torch.long))


class ContrastiveObjective:
    """The objective of stage 2 for one worker. `gather` concatenates the workers' tensors, by rank."""

    def __init__(self, config: ContrastiveConfig, rows: PairTable, rank: int = 0, *, gather: Gather) -> None:
        self._config, self._rows, self._rank, self._gather = config, rows, rank, gather
        self._lengths = rows.lengths
        # Pairs of each worker: the sampler gives the remainder to the first ones.
        self._counts = [len(range(each, config.batch, config.workers)) for each in range(config.workers)]

    def model(self, encoder: nn.Module) -> EmbeddingModel:
        """Return the encoder with pooling and the recipe's attention dropout.

        Raises TrainingError if the architecture does not support that dropout, texts of `max_tokens`, or packing
        where the recipe asks for it.
        """
        config: Any = encoder.config
        if self._config.max_tokens > config.max_position_embeddings:
            raise TrainingError(
                f"Texts of {self._config.max_tokens} tokens do not fit the context of this {config.model_type}.",
                remedy=f"Set max_tokens to {config.max_position_embeddings} or less.",
            )
        set_attention_dropout(encoder, self._config.dropout)
        if self._config.packing:
            allow_packing(encoder, self._config.max_tokens)
        return EmbeddingModel(encoder, packing=self._config.packing, precision=self._config.precision)

    def batches(self, step: int) -> list[PairBatch]:
        """Return the worker's pairs of a step as one batch."""
        tables = (self._rows.queries, self._rows.positives, self._rows.negatives)
        return [
            collate_pairs(
                *([table.row(ref.row) for ref in refs] for table in tables if table is not None),
                packing=self._config.packing,
            )
            for refs in worker_batches(self._config, step, self._lengths, self._rank)
        ]

    def loss(self, outputs: Outputs, batch: PairBatch) -> PassLoss:
        """Return the loss of the whole step to differentiate, and the part of this worker's queries in it."""
        (vectors,) = outputs
        queries, *documents = map(self._gather_vectors, batch.by_pair(vectors))
        negatives = true_negatives(*self._gather_rows(batch.keys.T.contiguous()).T)
        losses, correct = info_nce(queries, torch.cat(documents), negatives, self._config.temperature)
        own = self._own_pairs()
        own_loss = float(losses[own].detach().sum())
        return PassLoss(losses.sum(), own_loss, float(correct[own].sum()), batch.targets)

    def _gather_vectors(self, own: Tensor) -> Tensor:
        """Return all workers' vectors, [pairs of the step, hidden]; only this worker's have a gradient."""
        gathered, pairs = self._gather_rows(own.detach()), self._own_pairs()
        return torch.cat([gathered[: pairs.start], own, gathered[pairs.stop :]])

    def _gather_rows(self, own: Tensor) -> Tensor:
        """Return all workers' rows, by rank. Workers with one row less are padded for the collective."""
        size = self._config.worker_batch
        padded = torch.cat([own, own.new_zeros(size - len(own), *own.shape[1:])])
        parts = zip(torch.split(self._gather(padded), size), self._counts, strict=True)
        return torch.cat([part[:count] for part, count in parts])

    def _own_pairs(self) -> slice:
        """Return the indices of this worker's pairs among all of a step."""
        start = sum(self._counts[: self._rank])
        return slice(start, start + self._counts[self._rank])


def info_nce(queries: Tensor, documents: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of each query in nats, [pairs], and whether its positive scores highest, bool [pairs].

    `queries` are unit vectors [pairs, hidden], `documents` [pairs or more, hidden]; document i is the positive of
    query i. `negatives`, bool [pairs, documents], selects the negatives of each query, which has loss 0 without
    any.
    """
    positives = torch.arange(len(queries), device=queries.device)
    counted = negatives | torch.eye(*negatives.shape, dtype=torch.bool, device=queries.device)
    scores = (queries @ documents.T / temperature).masked_fill(~counted, -torch.inf)
    return nn.functional.cross_entropy(scores, positives, reduction="none"), scores.argmax(dim=1) == positives


def true_negatives(query_keys: Tensor, positive_keys: Tensor, negative_keys: Tensor | None = None) -> Tensor:
    """Return which documents are negatives of which query, bool [queries, documents], from keys [pairs] of texts.

    The documents are the positives, followed by the hard negatives if there are any. A positive is no negative of
    a query if it equals the query or its positive, or if it belongs to a query of the same text. A hard negative
    is one for every query, unless it equals the query or its positive.
    """
    query, positive = query_keys.unsqueeze(1), positive_keys.unsqueeze(1)
    in_batch = (positive_keys != positive) & (query != positive_keys) & (query != query_keys)
    if negative_keys is None:
        return in_batch
    exists = negative_keys != positive_keys  # a pair without a hard negative has the key of its positive
    return torch.cat([in_batch, exists & (negative_keys != positive) & (query != negative_keys)], dim=1)


def collate_pairs(
    queries: Sequence[np.ndarray],
    positives: Sequence[np.ndarray],
    negatives: Sequence[np.ndarray] | None = None,
    *,
    packing: bool = False,
) -> PairBatch:
    """Return pairs of texts, int32 [tokens] each, as a batch: at least one pair, and no empty text.

    `negatives` has a text for each pair, which is empty for pairs without a hard negative.
    """
    keys = [list(map(_key, queries)), list(map(_key, positives))]
    if negatives is None:
        return PairBatch(lay_out([*queries, *positives], packing=packing), torch.tensor(keys))
    hard = [pair for pair, ids in enumerate(negatives) if len(ids)]
    keys.append([_key(ids) if len(ids) else keys[1][pair] for pair, ids in enumerate(negatives)])
    texts = [*queries, *positives, *(negatives[pair] for pair in hard)]
    return PairBatch(lay_out(texts, packing=packing), torch.tensor(keys), torch.tensor(hard, dtype=torch.long))


def set_attention_dropout(encoder: nn.Module, share: float) -> None:
    """Set the dropout probability of every attention module, during training.

    Raises TrainingError for an architecture without attention dropout in transformers.
    """
    attentions: list[Any] = [module for module in encoder.modules() if hasattr(module, "attention_dropout")]
    if share and not attentions:
        config: Any = encoder.config
        raise TrainingError(
            f"{config.model_type} has no attention dropout.", remedy="Set dropout to 0 and lora_dropout above 0."
        )
    for attention in attentions:
        attention.attention_dropout = share


def _key(ids: np.ndarray) -> int:
    digest = hashlib.blake2b(np.asarray(ids, dtype=np.int32).tobytes(), digest_size=KEY_BYTES).digest()
    return int.from_bytes(digest, "little", signed=True)
