"""Compares the load's answers with the vectors that the versions they claim give offline."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mongars.demo.load import Answer, Claim

Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]
"""Texts to their vectors, float32 [n, d], by one version, offline."""

TOLERANCE = 1e-4
"""Largest difference of an element: batches of other shapes add in another order."""
SHOWN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of the answers. `by_generation` counts correct ones; `failures` are the first distinct messages."""

    chats: int
    embeddings: int
    failed: int
    mixed: int
    by_generation: Mapping[int, int]
    failures: tuple[str, ...] = ()


def tally(answers: Iterable[Answer], encoders: Mapping[str | None, Encode], known: frozenset[Claim]) -> Tally:
    """Count the answers.

    `encoders` gives the offline encoder of each digest (None is the base); `known` are the claims that the
    registry's history allows. An answer is mixed when it claims two versions or a version that never existed, or
    has vectors that the claimed version does not give.
    """
    answers = list(answers)
    expected = _Expected(encoders, answers)
    failed = [answer for answer in answers if answer.failure is not None]
    mixed = 0
    by_generation: dict[int, int] = {}
    for answer in answers:
        if answer.failure is not None:
            continue
        if _is_mixed(answer, expected, known):
            mixed += 1
        else:
            generation = answer.claims[0][0]
            by_generation[generation] = by_generation.get(generation, 0) + 1
    return Tally(
        chats=sum(answer.kind == "chat" for answer in answers),
        embeddings=sum(answer.kind == "embedding" for answer in answers),
        failed=len(failed),
        mixed=mixed,
        by_generation=dict(sorted(by_generation.items())),
        failures=tuple(dict.fromkeys(answer.failure or "" for answer in failed))[:SHOWN_FAILURES],
    )


class _Expected:
    """The offline vectors of all embedded texts, by version."""

    def __init__(self, encoders: Mapping[str | None, Encode], answers: Sequence[Answer]) -> None:
        texts = sorted({text for answer in answers if answer.kind == "embedding" for text in answer.texts})
        self._place = {text: place for place, text in enumerate(texts)}
        self._rows = {digest: encode(texts) for digest, encode in encoders.items()} if texts else {}

    def of(self, digest: str | None, texts: Sequence[str]) -> Vectors | None:
        rows = self._rows.get(digest)
        return None if rows is None else rows[[self._place[text] for text in texts]]


def _is_mixed(answer: Answer, expected: _Expected, known: frozenset[Claim]) -> bool:
    if len(answer.claims) != 1:
        return True
    generation, digest = answer.claims[0]
    if answer.kind == "chat":
        # The demo publishes no chat adapter: every chat is the base's, at a generation that existed.
        return digest is not None or generation not in {claim[0] for claim in known}
    if (generation, digest) not in known:
        return True
    wanted = expected.of(digest, answer.texts)
    given = np.asarray(answer.vectors, dtype=np.float32)
    return wanted is None or given.shape != wanted.shape or bool(np.abs(given - wanted).max() > TOLERANCE)
