"""Training of the tagger of person names from labelled sentences.

Training is deterministic: the same files and seed give the same bytes on the same machine. The weights contain no
text, because features are hashed.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mongars.curation.pii.person_names.features import BUCKETS, EDGES, FEATURES, features, read_facts, read_matches
from mongars.curation.pii.person_names.tagger import TENSOR, WEIGHTS, PersonTagger
from mongars.curation.pii.person_names.templates import sentences
from mongars.errors import InputError
from mongars.storage.atomic import write_atomically

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text and the (start, end) of each person name in it."""

    text: str
    names: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """Counts of true names, found spans, and found spans that are exactly a name."""

    names: int
    found: int
    right: int

    @property
    def recall(self) -> float:
        """Return the share of names that were found."""
        return self.right / max(1, self.names)

    @property
    def precision(self) -> float:
        """Return the share of found spans that are names."""
        return self.right / max(1, self.found)


@dataclass(frozen=True, slots=True)
class TaggerRecipe:
    """Hyperparameters of a training."""

    templates: int = 6_000
    template_weight: float = 0.05
    l2: float = 0.05
    iterations: int = 60
    held_out: int = 5
    """Every n-th labelled sentence is held out to choose the threshold."""
    precision: float = 0.65
    """The threshold is the lowest with this precision on the held-out sentences."""
    seed: int = 0


def read_conll(path: Path) -> list[Sentence]:
    """Read sentences of `token<TAB>label` lines, as in WNUT17. Raises InputError for a file without names."""
    try:
        blocks = path.read_text(encoding="utf-8").replace("\t\n", "\n").split("\n\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}.", remedy="Give a CoNLL file in UTF-8.") from error
    found = [_sentence(block) for block in blocks if block.strip()]
    if not any(sentence.names for sentence in found):
        raise InputError(f"{path} labels no person.", remedy="Give a CoNLL file with B-person and I-person.")
    return found


def _sentence(block: str) -> Sentence:
    text, names = "", list[tuple[int, int]]()
    for line in block.splitlines():
        token, _, label = line.partition("\t")
        if not token.strip():
            continue
        start = len(text) + bool(text)
        text = f"{text} {token}" if text else token
        if label.strip() == "B-person":
            names.append((start, len(text)))
        elif label.strip() == "I-person" and names:
            names[-1] = (names[-1][0], len(text))
    return Sentence(text, tuple(names))


def templates(recipe: TaggerRecipe) -> list[Sentence]:
    """Return the synthetic sentences."""
    made = []
    for pieces in sentences(recipe.templates, seed=recipe.seed):
        text, names = "", list[tuple[int, int]]()
        for piece, named in pieces:
            if named:
                names.append((len(text), len(text) + len(piece)))
            text += piece
        made.append(Sentence(text, tuple(names)))
    return made


def train(labelled: Sequence[Sentence], recipe: TaggerRecipe) -> PersonTagger:
    """Fit without the held-out sentences to choose the threshold, then fit on all sentences."""
    made = templates(recipe)
    held_out = labelled[:: recipe.held_out]
    rest = [sentence for place, sentence in enumerate(labelled) if place % recipe.held_out]
    trial = _fit(rest, made, recipe).tolist()
    thresholds = [step / 20 for step in range(6, 20)]
    good = [t for t in thresholds if measure(PersonTagger(trial, t), held_out).precision >= recipe.precision]
    return PersonTagger(_fit(labelled, made, recipe).tolist(), good[0] if good else thresholds[-1])


def measure(tagger: PersonTagger, labelled: Iterable[Sentence]) -> Quality:
    """Count names, found spans, and spans with both ends right."""
    names = found = right = 0
    for sentence in labelled:
        spans = {(span.start, span.end) for span in tagger.find(sentence.text)}
        names, found, right = (
            names + len(sentence.names),
            found + len(spans),
            right + len(spans & {*sentence.names}),
        )
    return Quality(names, found, right)


def _fit(labelled: Sequence[Sentence], made: Sequence[Sentence], recipe: TaggerRecipe) -> Floats:
    """Fit a logistic regression with an L2 penalty by L-BFGS; return its weights rounded to float16."""
    from scipy.optimize import minimize
    from scipy.sparse import csr_matrix

    rows, labels, weights = _examples(labelled, made, recipe.template_weight)
    ends = np.cumsum([0, *map(len, rows)])
    matrix = csr_matrix((np.ones(ends[-1]), np.concatenate(rows), ends), shape=(len(rows), BUCKETS))
    signs = np.where(labels, 1.0, -1.0)

    def loss(values: Floats) -> tuple[float, Floats]:
        margins = signs * (matrix @ values)
        slope = -signs * weights / (1 + np.exp(np.clip(margins, -30, 30)))
        return (
            float(weights @ np.logaddexp(0, -margins) + recipe.l2 / 2 * values @ values),
            matrix.T @ slope + recipe.l2 * values,
        )

    fitted = minimize(loss, np.zeros(BUCKETS), jac=True, method="L-BFGS-B", options={"maxiter": recipe.iterations})
    rounded: Floats = fitted.x.astype(np.float16).astype(np.float64)
    return rounded


def _examples(
    labelled: Sequence[Sentence], made: Sequence[Sentence], made_weight: float
) -> tuple[list[tuple[int, ...]], np.ndarray[Any, np.dtype[np.bool_]], Floats]:
    rows, labels, weights = list[tuple[int, ...]](), list[bool](), list[float]()
    for sentence, weight in [*((each, 1.0) for each in labelled), *((each, made_weight) for each in made)]:
        facts = read_facts(sentence.text)
        for place, match in enumerate(read_matches(sentence.text), EDGES):
            if facts[place].is_candidate:
                rows.append(features(facts, place))
                labels.append(any(start <= match.start() < end for start, end in sentence.names))
                weights.append(weight)
    return rows, np.array(labels), np.array(weights)


def save(tagger: PersonTagger, folder: Path, recipe: TaggerRecipe) -> None:
    """Write the weights as float16, with their metadata."""
    from safetensors.numpy import save as as_safetensors

    metadata = {"features": FEATURES, "threshold": tagger.threshold, "recipe": asdict(recipe)}
    weights = np.array(tagger.weights, dtype=np.float16)
    data = as_safetensors({TENSOR: weights}, metadata={"mongars": json.dumps(metadata, sort_keys=True)})
    write_atomically(folder / WEIGHTS, data)
