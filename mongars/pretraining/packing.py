"""Documents to training rows: one stream of tokens, cut.

Owns the order of documents and the cutting. Must not know Ray, tokenizers or models. Documents are ordered by a
hash of their place and the seed, in groups that are packed one by one: many tasks can pack at once, and the rows
still do not depend on which task read what.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

GROUPS = 16  # a group's last, incomplete row is left out: at most GROUPS x context tokens of the whole text


def order(seed: int, key: int) -> int:
    """Return a document's place in the order, 63 bits; `key` is that of its line."""
    digest = hashlib.blake2b(key.to_bytes(8, "big"), digest_size=8, key=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") >> 1


def pack(documents: Sequence[Sequence[int]], context: int) -> np.ndarray:
    """Return the documents, one after the other, cut into rows: int32 [rows, context]."""
    tokens = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in documents] or [np.zeros(0, np.int32)])
    rows = len(tokens) // context
    return tokens[: rows * context].reshape(rows, context)
