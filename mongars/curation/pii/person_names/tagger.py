"""A small tagger of person names that are not known values.

It considers capitalised words, and common names in lower case. Its weights are in `weights/`, whose README.md has
its precision and recall; `train.py` makes them.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from mongars.curation.pii.person_names.features import BUCKETS, FEATURES, Word, read_matches, word_at
from mongars.curation.pii.person_names.scoring import NameScores
from mongars.curation.pii.spans import PiiType, Span
from mongars.errors import InputError

FOLDER = Path(__file__).with_name("weights")
WEIGHTS, TENSOR = "person_names.safetensors", "weights"


@dataclass(frozen=True)
class PersonTagger:
    """Logistic regression over the words of a text, with one weight for each bucket of features."""

    weights: Sequence[float] = field(repr=False)
    threshold: float
    """The minimum score of the best word of a name."""
    follows: float = 0.2
    """The minimum score of the other words of a name, such as Okafor in Anna Okafor."""

    def find(self, text: str) -> Iterator[Span]:
        """Yield the names in a text. Adjacent words are one name, also with the dot of an initial between."""
        sums = self._sums.of(text)
        # Most texts have no word above the threshold, and need no positions.
        if not sums or _score(max(sums.values())) < self.threshold:
            return
        run: list[tuple[Word, float]] = []
        for place, match in enumerate(read_matches(text)):
            if place not in sums and not run:
                continue
            word, score = word_at(match), _score(sums[place]) if place in sums else 0.0
            if run and self._is_over(run[-1][0], word, score, text):
                yield from self._span(run)
                run = []
            if score >= self.follows:
                run.append((word, score))
        yield from self._span(run)

    @cached_property
    def _sums(self) -> NameScores:
        return NameScores(self.weights)

    def _is_over(self, last: Word, word: Word, score: float, text: str) -> bool:
        """Report whether a name ends before `word`; the dot of an initial does not end it."""
        if word.text == "." and len(last.text) == 1:
            return False
        return score < self.follows or text[last.end : word.start] not in (" ", ". ", "")

    def _span(self, run: Sequence[tuple[Word, float]]) -> Iterator[Span]:
        best = max((score for _, score in run), default=0.0)
        if best >= self.threshold:
            yield Span(run[0][0].start, run[-1][0].end, PiiType.PERSON, best)


def _score(total: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, total))))


@lru_cache(maxsize=2)
def load_tagger(folder: Path = FOLDER) -> PersonTagger:
    """Return the tagger in `folder`. Raises InputError when it is missing, damaged or of another version."""
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    remedy = "Install the package again, or train one with jobs/train_name_tagger.py."
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["mongars"])
            weights = file.get_tensor(TENSOR)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"Cannot read the tagger of person names in {path}.", remedy=remedy) from error
    if metadata["features"] != FEATURES or weights.shape != (BUCKETS,):
        raise InputError(f"The tagger in {path} was trained on other features.", remedy=remedy)
    return PersonTagger(weights.astype("float64").tolist(), metadata["threshold"])
