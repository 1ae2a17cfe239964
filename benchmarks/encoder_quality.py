"""Quality of a base as an encoder, and what an adapter adds.

    python benchmarks/encoder_quality.py --base models/base/mongars-nano --data FOLDER [--adapter DIGEST]

Two measures. STS-b dev (`stsb_en_dev.csv`: two sentences and a score from 0 to 5): Spearman's correlation between
cosine and score. Turn retrieval (`sgd_dev.jsonl.gz`: held-out dialogues): find the reply that follows a user's
turn among `--pool` replies, one pair from each of as many conversations. Replies are distinct, so exactly one is
relevant. BM25 (English stemming and stop words) ranks the same replies. Ties count against every ranker.

The encoders take the mean over the last hidden states: of the causal base, of the untrained bidirectional base,
and of the bidirectional base with the adapter.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import markdown, run
from mongars.cli.output import Stages
from mongars.errors import InputError, UnavailableError
from mongars.evaluation.bootstrap import Estimate
from mongars.evaluation.embedding_quality import retrieval, sts_spearman_estimate
from mongars.evaluation.scored_pairs import ScoredPairs, read_scored_pairs
from mongars.evaluation.turn_retrieval import answered_turns
from mongars.formats.jsonl import BadLine, read_conversations
from mongars.lm.adapters import attach_adapter
from mongars.lm.base import Base, load_base
from mongars.lm.base_files import base_name
from mongars.neurons.bidirectional import bidirectional_encoder, causal_encoder
from mongars.neurons.neurons import Neurons
from mongars.records import AdapterRef, Conversation, as_json
from mongars.registry.lookup import find_adapter
from mongars.registry.registry import AdapterRegistry
from mongars.settings import load_settings

STS = "stsb_en_dev.csv"
DIALOGUES = "sgd_dev.jsonl.gz"
METRICS = {
    "sts_spearman": "STS-b dev Spearman",
    "recall_at_1": "recall@1",
    "recall_at_10": "recall@10",
    "mrr": "MRR",
    "ndcg_at_10": "nDCG@10",
}
Pairs = tuple[list[str], list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


@dataclass(frozen=True)
class Measure:
    """The data on which every encoder is measured."""

    sts: ScoredPairs
    queries: Sequence[str]
    replies: Sequence[str]
    seed: int
    conversations: int
    bad_lines: int

    @classmethod
    def of(cls, data: Path, pool: int, seed: int) -> "Measure":
        """Read both files. Raises InputError for a missing file or one too small for the pool."""
        sts = read_scored_pairs(data / STS)
        conversations, bad = _read_dialogues(data / DIALOGUES)
        queries, replies = turn_pairs(conversations, pool, seed)
        return cls(sts, queries, replies, seed, len(conversations), bad)

    def bm25(self) -> dict[str, Any]:
        """Return the figures of retrieval by BM25, each with its interval."""
        return self._retrieval(bm25_scores(self.queries, self.replies))

    def encoder(self, neurons: Neurons) -> dict[str, Any]:
        """Return every figure of an encoder, each with its interval."""
        texts = (self.sts.left, self.sts.right, self.queries, self.replies)
        first, second, asked, answered = (neurons.encode(each)[0] for each in texts)
        spearman = sts_spearman_estimate(first, second, self.sts.scores, self.seed)
        return {"sts_spearman": as_json(spearman)} | self._retrieval(asked @ answered.T)

    def _retrieval(self, scores: np.ndarray) -> dict[str, Any]:
        found = retrieval(scores, np.arange(len(scores)))  # reply i answers query i
        return {metric: as_json(value) for metric, value in found.estimates(self.seed).items()}


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return every figure with its interval, and the data it was measured on."""
    measured = Measure.of(flags.data, flags.pool, flags.seed)
    base = load_base(flags.base)
    adapter = None
    if flags.adapter is not None:
        registry = open_registry(flags.encoders)
        # an adapter that the gate refused may be measured as well
        adapter = find_adapter(registry, flags.adapter, base_digest=base.digest, without=("revoked", "pruned"))
    progress.stage("bm25")
    rows = [{"encoder": "BM25"} | measured.bm25()]
    for name, encoder in _encoders(base, adapter):
        progress.stage(name)
        rows.append({"encoder": name} | measured.encoder(Neurons(encoder, base.tokenizer)))
    return {
        "base": {"name": base_name(flags.base), "digest": base.digest},
        "adapter": None if adapter is None else {"name": adapter[0].name, "digest": adapter[0].digest},
        "seed": flags.seed,
        "sts_pairs": len(measured.sts.scores),
        "pool": len(measured.queries),
        "conversations": measured.conversations,
        "bad_lines": measured.bad_lines,
        "rows": rows,
    }


def show(result: dict[str, Any]) -> str:
    """Return the table, and below it the data it was measured on."""
    rows = [
        [row["encoder"], *(Estimate(**row[name]) if name in row else "" for name in METRICS)]
        for row in result["rows"]
    ]
    base, adapter, found = result["base"], result["adapter"], result["conversations"]
    return "\n".join(
        [
            markdown(["", *METRICS.values()], rows),
            f"Base {base['name']}, digest {base['digest']}.  ",
            f"Adapter {adapter['name']}, digest {adapter['digest']}.  " if adapter else "No adapter.  ",
            f"STS-b dev: {result['sts_pairs']} pairs. Turn retrieval: {result['pool']} pairs of a user's turn and "
            f"the reply, one from each conversation, drawn from {found} with seed {result['seed']}; "
            f"replies are distinct, ties count against. In brackets, 95 % bootstrap intervals.\n",
        ]
    )


def turn_pairs(conversations: Sequence[Conversation], pool: int, seed: int) -> Pairs:
    """Return `pool` user turns and the replies that follow them, one pair from each of as many conversations.

    Conversations come in a seeded order; of each, a seeded choice among the pairs whose reply is still unused.
    Raises InputError when there are too few.
    """
    if pool < 1:
        raise InputError(f"A pool of {pool} replies has none.", param="pool")
    random = np.random.default_rng(seed)
    queries: list[str] = []
    replies: dict[str, None] = {}
    for index in random.permutation(len(conversations)):
        pairs = [pair for pair in _pairs(conversations[index]) if pair[1] not in replies]
        if pairs and len(queries) < pool:
            query, reply = pairs[random.integers(len(pairs))]
            queries.append(query)
            replies[reply] = None
    if len(queries) < pool:
        raise InputError(
            f"The dialogues give {len(queries)} pairs with distinct replies, not {pool}.",
            remedy=f"Use --pool {len(queries)}, or more dialogues.",
            param="pool",
        )
    return queries, list(replies)


def bm25_scores(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Return BM25 scores [queries, documents]: Lucene's variant, k1 1.5, b 0.75, stemmed, no stop words.

    Raises UnavailableError when bm25s is not installed.
    """
    try:
        import bm25s
        import Stemmer
    except ImportError as error:
        raise UnavailableError(
            f"{error.name} is not installed.", remedy="Run: pip install 'mongars[bench]'"
        ) from error
    stemmer = Stemmer.Stemmer("english")
    words, asked = (
        bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
        for texts in (documents, queries)
    )
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    known = set(index.vocab_dict)
    scores = np.zeros((len(queries), len(documents)))
    for row, tokens in enumerate(asked):
        if found := [token for token in tokens if token in known]:
            scores[row] = index.get_scores(found)
    return scores


def open_registry(encoders: Path | None) -> AdapterRegistry:
    """Return the registry of a folder, by default the one of the settings."""
    if encoders is not None:
        return AdapterRegistry(encoders)
    settings = load_settings()
    return AdapterRegistry(settings.encoders_dir, settings.encoders_url)


def _encoders(base: Base, adapter: tuple[AdapterRef, Path] | None) -> Iterator[tuple[str, Any]]:
    """Yield (name, encoder), each with its own module tree over the base's tensors."""
    yield "causal", causal_encoder(base)
    yield "bidirectional, untrained", bidirectional_encoder(base)
    if adapter is not None:
        ref, folder = adapter
        yield f"bidirectional + {ref.name}", attach_adapter(bidirectional_encoder(base), folder)


def _read_dialogues(path: Path) -> tuple[list[Conversation], int]:
    found = list(read_conversations(path))
    conversations = [each for each in found if not isinstance(each, BadLine)]
    return conversations, len(found) - len(conversations)


def _pairs(conversation: Conversation) -> list[tuple[str, str]]:
    return list(answered_turns((turn.role, turn.content) for turn in conversation.turns))


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure a base as an encoder, against BM25.")
    parser.add_argument("--base", required=True, metavar="PATH", help="folder or hub id of a base model")
    parser.add_argument(
        "--adapter", metavar="DIGEST", help="an encoder adapter, by its digest or at least its first 8 digits"
    )
    parser.add_argument("--encoders", type=Path, help="folder of the adapters; by default the one of the settings")
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {STS} and {DIALOGUES}")
    parser.add_argument("--pool", type=int, default=1000, help="number of replies to choose from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
