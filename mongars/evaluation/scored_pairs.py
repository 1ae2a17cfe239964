"""Pairs of sentences that people scored for similarity, read from a CSV file without a header."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mongars.errors import InputError

REMEDY = "A line is: sentence,sentence,score."


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs (left[i], right[i]) and their scores, float64 [pairs]; higher is more similar."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    scores: np.ndarray


def read_scored_pairs(path: Path) -> ScoredPairs:
    """Return the pairs of a file; blank lines are skipped.

    Raises InputError for an unreadable file, a line in another format, and scores that are not finite or all
    equal.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if row]
        pairs = [(first.strip(), second.strip(), float(score)) for first, second, score in rows]
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.", remedy=REMEDY) from error
    except (ValueError, csv.Error):  # invalid UTF-8 is a ValueError
        raise InputError(f"{path} has a line that is not: sentence, sentence, score.") from None
    scores = np.array([score for _, _, score in pairs], dtype=np.float64)
    if not all(first and second for first, second, _ in pairs):
        raise InputError(f"{path} has a pair without a sentence.", remedy=REMEDY)
    if not np.isfinite(scores).all() or len(np.unique(scores)) < 2:  # noqa: PLR2004 (else no ranks)
        raise InputError(f"{path} has no two pairs with different scores.", remedy=REMEDY)
    return ScoredPairs(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs), scores)
