"""Recall, precision and throughput of near-duplicate detection, against brute force and datasketch.

    python benchmarks/near_duplicates.py --data FILE [FILE ...] [--rows 1500] [--datasketch PYTHON] [--repeats 3]

FILE is JSON Lines of conversations, plain or gzip. Every fifth of `--rows` conversations, sampled with the seed,
gets two near copies, in which 5 % and 15 % of the words are replaced, deleted, doubled or swapped with the next
one. Brute force gives the ground truth: the Jaccard similarity of every pair over the same character shingles. The
rate covers the whole job, from normalised texts to verified pairs, in one thread; datasketch runs in a separate
environment. For the rate, twice as many texts without planted copies are compared.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import markdown, peer_rates, rate_and_ratio, run, take_turns
from mongars.cli.output import Stages
from mongars.curation.dedup.minhash import (
    PERMUTATIONS,
    SHINGLE_CHARS,
    Hashes,
    band_hashes,
    candidate_pairs,
    jaccard,
    normalise,
    shingle_hashes,
)
from mongars.curation.recipe import CurationRecipe
from mongars.errors import InputError
from mongars.formats.jsonl import read_conversations
from mongars.records import Conversation

PEER = Path(__file__).with_name("peers") / "datasketch_near.py"
EDITS = (0.05, 0.15)
COPIED_EVERY = 5
Pairs = set[tuple[int, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the true and the found near pairs, of all and of the planted ones, and the rates."""
    progress.stage("read")
    pool = _texts(flags.data)
    rng = random.Random(flags.seed)
    if len(pool) < 3 * flags.rows:
        raise InputError(
            f"{len(pool)} conversations are too few.", remedy=f"Give {3 * flags.rows}, or lower --rows."
        )
    drawn = rng.sample(pool, 3 * flags.rows)
    texts, planted = plant(drawn[: flags.rows], rng)
    threshold = CurationRecipe().near_duplicate_jaccard
    progress.stage("brute force")
    near = brute_force([shingle_hashes(text) for text in texts], threshold, progress)
    found = near_pairs(texts, threshold)
    clean = drawn[flags.rows :]
    rates = take_turns(
        {"ours": lambda: near_pairs(clean, threshold)}, len(clean), flags.repeats, progress, f"{len(clean)} texts"
    )
    if flags.datasketch:
        progress.stage("datasketch")
        task = {"texts": clean, "threshold": threshold, "repeats": flags.repeats}
        task |= {"shingle_chars": SHINGLE_CHARS, "permutations": PERMUTATIONS}
        rates["datasketch"] = peer_rates(flags.datasketch, PEER, task, "datasketch")
    return {
        "texts": len(texts),
        "characters": round(float(np.mean([len(text) for text in texts]))),
        "threshold": threshold,
        "near": len(near),
        "found": len(found),
        "right": len(near & found),
        "planted": {
            share: {"pairs": len(pairs), "near": len(pairs & near), "found": len(pairs & near & found)}
            for share, pairs in planted.items()
        },
        "rates": rates,
    }


def show(result: dict[str, Any]) -> str:
    """Return the tables: recall of the true near pairs, and the rates."""
    rows = [["all pairs", "", result["near"], _share(result["right"], result["near"])]]
    for share, counts in result["planted"].items():
        name = f"planted, {float(share):.0%} of the words edited"
        rows.append([name, counts["pairs"], counts["near"], _share(counts["found"], counts["near"])])
    rates = [[name, *rate_and_ratio(result["rates"], name)] for name in result["rates"]]
    return "\n".join(
        [
            markdown(["", "pairs", f"truly near ({result['threshold']})", "recall of these"], rows),
            f"Precision {_share(result['right'], result['found'])}, of {result['found']} pairs that were found. "
            f"{result['texts']} texts of {result['characters']} characters on average.\n",
            markdown(["way", "texts/s", "ratio of ours"], rates),
        ]
    )


def plant(texts: Sequence[str], rng: random.Random) -> tuple[list[str], dict[float, Pairs]]:
    """Return the texts followed by the planted copies, and the planted pairs by share of edits."""
    mixed, planted = list(texts), {share: Pairs() for share in EDITS}
    for place in range(0, len(texts), COPIED_EVERY):
        for share in EDITS:
            planted[share].add((place, len(mixed)))
            mixed.append(edited(texts[place], share, rng))
    return mixed, planted


def edited(text: str, share: float, rng: random.Random) -> str:
    """Return the text with a share of its words, at least one, replaced, deleted, doubled or swapped."""
    words = text.split()
    others = rng.sample(words, len(words))
    for place in sorted(rng.sample(range(len(words)), max(1, round(share * len(words)))), reverse=True):
        match rng.choice(("replace", "delete", "double", "swap")):
            case "replace":
                words[place] = others[place]
            case "delete":
                del words[place]
            case "double":
                words.insert(place, words[place])
            case "swap" if place + 1 < len(words):
                words[place : place + 2] = words[place + 1], words[place]
    return " ".join(words)


def near_pairs(texts: Sequence[str], threshold: float) -> Pairs:
    """Return the pairs at or above the threshold as curation finds them."""
    shingles = [shingle_hashes(text) for text in texts]
    proposed = candidate_pairs(band_hashes(shingles).T).tolist()
    return {(one, other) for one, other in proposed if jaccard(shingles[one], shingles[other]) >= threshold}


def brute_force(shingles: Sequence[Hashes], threshold: float, progress: Stages) -> Pairs:
    """Return the pairs at or above the threshold by brute force, skipping pairs whose sizes rule it out."""
    sizes = np.array(list(map(len, shingles)))
    near = Pairs()
    for one, own in enumerate(shingles):
        bound = np.minimum(sizes[one + 1 :], len(own)) >= threshold * np.maximum(sizes[one + 1 :], len(own))
        others = (np.flatnonzero(bound) + one + 1).tolist()
        near |= {(one, other) for other in others if jaccard(own, shingles[other]) >= threshold}
        progress.update(one + 1, len(shingles))
    return near


def _texts(paths: Sequence[Path]) -> list[str]:
    """Return the distinct conversations as curation compares them: exact duplicates are not near duplicates."""
    items = (item for path in paths for item in read_conversations(path))
    return list(dict.fromkeys(_normalised(items)))


def _normalised(items: Iterator[Any]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Conversation) and any(turn.content.strip() for turn in item.turns):
            yield normalise([turn.content for turn in item.turns])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "none"


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure near-duplicate detection against brute force and datasketch."
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="JSON Lines of conversations")
    parser.add_argument("--rows", type=int, default=1500, help="conversations in which copies are planted")
    parser.add_argument("--datasketch", metavar="PYTHON", help="Python of an environment with datasketch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
