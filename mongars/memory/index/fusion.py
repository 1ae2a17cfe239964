"""Hybrid ranking: the scores of the lexical and the dense retriever in one order."""

from collections.abc import Mapping

# A convex combination of min-max normalised scores; better here than reciprocal rank fusion, in which a weak dense
# retriever drags the lexical one down (Bruch, Gai and Ingber, arXiv 2210.11934).
LEXICAL_WEIGHT = 0.6
DENSE_WEIGHT = 0.4


def fuse(lexical: Mapping[str, float], dense: Mapping[str, float]) -> list[tuple[str, float, dict[str, float]]]:
    """Return (key, score, scores by retriever) of every candidate, best first; all scores are 0 to 1.

    `lexical` has BM25 scores: a candidate that is missing shares no word with the query and scores 0. `dense` has
    cosines. A candidate that is missing there has no vector yet, and its lexical score counts in full.
    """
    by_words = _by_maximum(lexical)
    by_meaning = _by_range(dense)
    fused = []
    for key in by_words.keys() | by_meaning.keys():
        word_score = by_words.get(key, 0.0)
        if key in by_meaning:
            score = LEXICAL_WEIGHT * word_score + DENSE_WEIGHT * by_meaning[key]
            parts = {"lexical": word_score, "dense": by_meaning[key]}
        else:
            score, parts = word_score, {"lexical": word_score}
        fused.append((key, score, parts))
    # The raw lexical score breaks ties between scores that round to the same number.
    return sorted(fused, key=lambda candidate: (-candidate[1], -lexical.get(candidate[0], 0.0), candidate[0]))


def _by_maximum(scores: Mapping[str, float]) -> dict[str, float]:
    """Divide by the largest: BM25 has a natural zero but no natural maximum."""
    top = max(scores.values(), default=0.0)
    return {key: score / top if top > 0 else 0.0 for key, score in scores.items()}


def _by_range(scores: Mapping[str, float]) -> dict[str, float]:
    """Stretch to 0 to 1: cosines of a language model's states crowd together near 1. Equal ones all become 1."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    return {key: (score - low) / (high - low) if high > low else 1.0 for key, score in scores.items()}
