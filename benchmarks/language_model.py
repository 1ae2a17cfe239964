"""Perplexity of a base on held-out text, against a unigram model of the same tokens.

    python benchmarks/language_model.py --base PATH --train FILE [--train FILE ...] --heldout FILE

Both models predict the same tokens of the held-out file: the content of each message and the `<|end|>` that closes
it. The start token, the role markers and the end of the document are context and not scored. The unigram model is
estimated on all training files.
FILEs are JSON Lines, plain or gzip, of conversations (`messages`) or texts (`text`). With a base whose chat
template writes roles as ordinary words (ChatML), both models are scored on those words too.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import markdown, run
from mongars.cli.output import Stages
from mongars.errors import InputError
from mongars.evaluation.bootstrap import Estimate, ratio_estimate
from mongars.formats.jsonl import BadLine, check_readable, numbered_lines
from mongars.lm.base import load_base
from mongars.lm.base_files import base_name
from mongars.pretraining.documents import Document, document_ids, document_texts, read_document
from mongars.pretraining.tokenizer import END
from mongars.records import as_json
from mongars.training.data.tokenize import special_token_ids

# Logits of a batch: 64 MiB in float32.
BATCH_LOGITS = 1 << 24
UNIGRAM = "unigram"
UNIGRAM_PRIOR = 0.5  # pseudo-count of each token: Jeffreys' prior


@dataclass(frozen=True)
class Texts:
    """The documents of a file: token ids, which of them are scored (never the first), the bytes of what is said.

    int32 [tokens] and bool [tokens] for each document; int64 [documents].
    """

    ids: list[np.ndarray]
    scored: list[np.ndarray]
    bytes: np.ndarray
    bad_lines: int

    @property
    def tokens(self) -> int:
        """How many tokens are scored."""
        return sum(int(each.sum()) for each in self.scored)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the loss of both models on the same tokens, and the data it was measured on."""
    torch.set_num_threads(flags.threads)
    for path in (*flags.train, flags.heldout):
        check_readable(path)
    base = load_base(flags.base)
    vocabulary = int(base.model.config.vocab_size)  # type: ignore[union-attr,arg-type] # of PreTrainedModel
    progress.stage("read")
    heldout = read_texts(flags.heldout, base.tokenizer, flags.limit)
    if not heldout.tokens:
        raise InputError(f"{flags.heldout} has no text to predict.", param="heldout")
    trained = [(path.name, read_texts(path, base.tokenizer)) for path in flags.train]
    peer = unigram_logs([texts for _, texts in trained], vocabulary)
    losses = {UNIGRAM: _by_document(np.concatenate([peer[ids[1:]] for ids in heldout.ids]), heldout)}
    progress.stage("base")
    losses[base_name(flags.base)] = _by_document(model_logs(base.model, heldout, progress), heldout)
    rows = [_row(name, nats, losses[UNIGRAM], heldout, flags.seed) for name, nats in losses.items()]
    return {
        "base": {"name": base_name(flags.base), "digest": base.digest},
        "heldout": {"file": flags.heldout.name, **_counts(heldout)},
        "train": [{"file": name, **_counts(texts)} for name, texts in trained],
        "vocabulary": vocabulary,
        "seed": flags.seed,
        "rows": rows,
    }


def show(result: dict[str, Any]) -> str:
    """Return the table, and below it the data it was measured on."""
    rows = [
        [
            row["model"],
            f"{row['perplexity']:.2f}",
            f"{row['bits_per_byte']:.3f}",
            Estimate(**row["ratio"]),
        ]
        for row in result["rows"]
    ]
    columns = ["", "perplexity per token", "bits per byte", "ratio to the unigram model"]
    base, heldout = result["base"], result["heldout"]
    trained = "; ".join(
        f"{each['file']}: {each['documents']} documents, {each['tokens']} tokens" for each in result["train"]
    )
    return "\n".join(
        [
            markdown(columns, rows),
            f"Base {base['name']}, digest {base['digest']}, vocabulary {result['vocabulary']}.  ",
            f"Held out: {heldout['file']}: {heldout['documents']} documents, {heldout['tokens']} tokens scored, "
            f"{heldout['bytes']} bytes.  ",
            f"Unigram model estimated on: {trained}.  ",
            f"In brackets, 95 % intervals of a bootstrap over documents, seed {result['seed']}.\n",
        ]
    )


def read_texts(path: Path, tokenizer: Any, limit: int | None = None) -> Texts:
    """Return the first `limit` documents of a file as token ids; lines that cannot be read are counted."""
    special = np.array(sorted(special_token_ids(tokenizer)))
    closing = tokenizer.convert_tokens_to_ids(END)
    ids: list[np.ndarray] = []
    scored, sizes, bad = [], [], 0
    for number, line in numbered_lines(path):
        if limit is not None and len(ids) == limit:
            break
        document = read_document(path, number, line)
        if isinstance(document, BadLine):
            bad += 1
        elif document:
            ids.append(np.array(document_ids(tokenizer, document), dtype=np.int32))
            scored.append(_scored(ids[-1], special, closing))
            sizes.append(_bytes(document))
    return Texts(ids, scored, np.array(sizes, dtype=np.int64), bad)


@torch.inference_mode()
def model_logs(model: Any, texts: Texts, progress: Stages) -> np.ndarray:
    """Return log P of every token but each document's first, by the causal model: float64, natural, in order.

    A document longer than the model's window is read in windows that overlap by half, and a token is taken from
    the window where it has more context: at least half a window of it.
    """
    window = int(model.config.max_position_embeddings)
    budget = max(1, BATCH_LOGITS // int(model.config.vocab_size))
    logs = [np.zeros(len(ids)) for ids in texts.ids]
    pieces = [
        (index, start, first) for index, ids in enumerate(texts.ids) for start, first in windows(len(ids), window)
    ]
    done = 0
    for batch in _batches(pieces, texts.ids, window, budget):
        rows = [texts.ids[index][start : start + window] for index, start, _ in batch]
        for (index, start, first), row in zip(batch, _row_logs(model, rows), strict=True):
            logs[index][start + first : start + 1 + len(row)] = row[first - 1 :]
        done += len(batch)
        progress.update(done, len(pieces))
    return np.concatenate([each[1:] for each in logs])


def windows(length: int, window: int) -> Iterator[tuple[int, int]]:
    """Yield (start, first place in it to take) of the windows over a document of `length` tokens."""
    yield 0, 1
    half = window // 2
    for start in range(window - half, length - half, window - half):
        yield start, half


def _row_logs(model: Any, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return log P of each row's tokens after the first, float64 [tokens - 1]."""
    input_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for place, row in enumerate(rows):
        input_ids[place, : len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[place, : len(row)] = 1
    input_ids, mask = input_ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    picked = logits.gather(2, input_ids[:, 1:, None]).squeeze(2) - logits.logsumexp(dim=2)
    return [picked[place, : len(row) - 1].double().cpu().numpy() for place, row in enumerate(rows)]


def _batches(
    pieces: Sequence[tuple[int, int, int]], ids: Sequence[np.ndarray], window: int, budget: int
) -> Iterator[list[tuple[int, int, int]]]:
    """Yield batches of like length, each of longest x count within the budget, or of one row."""

    def size(piece: tuple[int, int, int]) -> int:
        return min(window, len(ids[piece[0]]) - piece[1])

    batch: list[tuple[int, int, int]] = []
    for piece in sorted(pieces, key=size, reverse=True):
        if batch and size(batch[0]) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def unigram_logs(trained: Sequence[Texts], vocabulary: int) -> np.ndarray:
    """Return log P of every token under a unigram model of the scored tokens: float64 [vocabulary], natural."""
    counts = np.full(vocabulary, UNIGRAM_PRIOR)
    for texts in trained:
        for ids, mask in zip(texts.ids, texts.scored, strict=True):
            counts += np.bincount(ids[mask], minlength=vocabulary)
    return np.log(counts / counts.sum())


def _by_document(logs: np.ndarray, texts: Texts) -> np.ndarray:
    """Return the nats of each document's scored tokens, float64 [documents]."""
    scored = np.concatenate([mask[1:] for mask in texts.scored])
    ends = np.cumsum([len(mask) - 1 for mask in texts.scored])
    sums = np.concatenate([[0.0], np.cumsum(np.where(scored, -logs, 0.0))])
    return np.diff(sums[np.concatenate([[0], ends])])


def _row(name: str, nats: np.ndarray, peer: np.ndarray, texts: Texts, seed: int) -> dict[str, Any]:
    tokens = np.array([int(mask.sum()) for mask in texts.scored])
    total = float(nats.sum())
    return {
        "model": name,
        "perplexity": math.exp(total / tokens.sum()),
        "bits_per_byte": total / math.log(2) / int(texts.bytes.sum()),
        "ratio": as_json(perplexity_ratio(nats, peer, tokens, seed)),
    }


def perplexity_ratio(nats: np.ndarray, peer: np.ndarray, tokens: np.ndarray, seed: int) -> Estimate:
    """Return the perplexity over the peer's, with its interval: documents are resampled whole.

    All are [documents]: nats of either model and the count of scored tokens, at least one in all.
    """
    scored = tokens > 0
    ratio = ratio_estimate((nats - peer)[scored], tokens[scored].astype(np.float64), seed=seed)
    return Estimate(math.exp(ratio.value), math.exp(ratio.low), math.exp(ratio.high))


def _scored(ids: np.ndarray, special: np.ndarray, closing: int | None) -> np.ndarray:
    scored = ~np.isin(ids, special)
    if closing is not None:
        scored |= ids == closing
    scored[0] = False
    return scored


def _bytes(document: Document) -> int:
    return sum(len(text.encode("utf-8")) for text in document_texts(document))


def _counts(texts: Texts) -> dict[str, int]:
    size = int(texts.bytes.sum())
    return {"documents": len(texts.ids), "tokens": texts.tokens, "bytes": size, "bad_lines": texts.bad_lines}


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure a base's perplexity against a unigram model.")
    parser.add_argument("--base", required=True, metavar="PATH", help="folder or hub id of a base model")
    parser.add_argument(
        "--train", type=Path, action="append", required=True, metavar="FILE", help="may be repeated"
    )
    parser.add_argument("--heldout", type=Path, required=True, metavar="FILE")
    parser.add_argument("--limit", type=int, help="number of held-out documents to read; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
