"""What rows are compared by: a digest of the whole row, a hash of its content, and its shingles."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mongars.curation.dedup.minhash import Hashes, content_hash, normalise, shingle_hashes
from mongars.storage.digests import canonical_json


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`digest` is of the whole row, `content` and `shingles` of its normalised text.

    The bands of shingles are not here: `minhash.band_hashes` is much faster for many rows at once.
    """

    digest: bytes
    content: bytes
    shingles: Hashes


def fingerprint_of_row(row: Mapping[str, Any]) -> Fingerprint:
    """Return the fingerprint of a published row, equal to the one it had when it was curated."""
    return fingerprint_of(
        row["id"], row["subject"], row["source"], row["language"], row["messages"], row["opinions"] or ()
    )


def row_shingles(row: Mapping[str, Any]) -> Hashes:
    """Return the shingles of a row's messages."""
    return shingle_hashes(_joined(row["messages"]))


def fingerprint_of(
    identity: str,
    subject: str,
    source: str,
    language: str,
    messages: Sequence[Mapping[str, str]],
    opinions: Sequence[Mapping[str, Any]],
) -> Fingerprint:
    """Return the fingerprint of a row; `content` and `shingles` leave opinions out."""
    text = _joined(messages)
    whole = canonical_json([identity, subject, source, language, list(messages), list(opinions)])
    return Fingerprint(
        digest=hashlib.sha256(whole).digest(),
        content=content_hash(text),
        shingles=shingle_hashes(text),
    )


def _joined(messages: Sequence[Mapping[str, str]]) -> str:
    return normalise([message["content"] for message in messages])
