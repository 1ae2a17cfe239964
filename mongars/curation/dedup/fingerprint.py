"""What a row is compared by: its own digest, the hash of its content, and its shingles.

Owns the one way to take them, from a conversation that is curated and from a row that was published. Must not know
files, Ray or the rules that compare.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mongars.curation.dedup.minhash import Hashes, content_hash, normalise, shingle_hashes
from mongars.storage.digests import canonical_json


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`digest` (32 bytes) names the whole row, `content` (16 bytes) its normalised text, `shingles` are of that.

    The bands of shingles (`dedup.band_hashes`) are taken for many rows at once, in a quarter of the time.
    """

    digest: bytes
    content: bytes
    shingles: Hashes


def fingerprint_of_row(row: Mapping[str, Any]) -> Fingerprint:
    """Return the fingerprint of a published row, the same that it had when it was curated."""
    return fingerprint_of(
        row["id"], row["subject"], row["source"], row["language"], row["messages"], row["opinions"] or ()
    )


def row_shingles(row: Mapping[str, Any]) -> Hashes:
    """Return the shingles of what was said in a row."""
    return shingle_hashes(_said(row["messages"]))


def fingerprint_of(
    identity: str,
    subject: str,
    source: str,
    language: str,
    messages: Sequence[Mapping[str, str]],
    opinions: Sequence[Mapping[str, Any]],
) -> Fingerprint:
    """Return the fingerprint of a row, of the texts as they are published; opinions are no part of its content."""
    text = _said(messages)
    whole = canonical_json([identity, subject, source, language, list(messages), list(opinions)])
    return Fingerprint(
        digest=hashlib.sha256(whole).digest(),
        content=content_hash(text),
        shingles=shingle_hashes(text),
    )


def _said(messages: Sequence[Mapping[str, str]]) -> str:
    return normalise([message["content"] for message in messages])
