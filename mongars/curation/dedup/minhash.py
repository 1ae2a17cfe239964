"""Duplicates: exact ones by a content hash, near ones by MinHash, verified Jaccard and connected components.

The caller sorts its rows by preference: the first row of a group of duplicates is the one to keep.

MinHash (Broder 1997) with banding (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4) proposes
pairs; the exact Jaccard similarity of their shingles decides. Shingles are of characters, because word n-grams
miss too many copies in which single words were changed.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from rensa import RMinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mongars.curation.pii.pseudonyms import TAG

Hashes = npt.NDArray[np.uint64]
Bands = npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]

SHINGLE_CHARS = 5
PERMUTATIONS = 128
# A pair that shares two of 32 bands of 4 rows is proposed. With similarity s a band is shared with probability
# s^4, so nearly all pairs at 0.7 are proposed and few at 0.3; a single shared band would propose far more of
# those.
BANDS = 32
MIN_SHARED_BANDS = 2
MINHASH_SEED = 42
# In each band a row is compared with at most this many followers, so that a bucket of boilerplate costs linear
# time.
WINDOW = 32
# One for each character of a shingle: multilinear hashing (Carter and Wegman 1979), the primes of xxHash64.
_FACTORS = np.array(
    [0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5],
    dtype=np.uint64,
)


def normalise(texts: Sequence[str]) -> str:
    """Return the messages as one text in which copies are equal: one case, single spaces, tags without their key.

    A tag's key differs between subjects, so with it the same sentence of two people would differ.
    """
    joined = TAG.sub(lambda match: match.group()[:-6] + ">", "\n".join(texts))
    plain = joined if joined.isascii() else unicodedata.normalize("NFKC", joined)
    return " ".join(plain.casefold().split())


def content_hash(text: str) -> bytes:
    """Return 16 bytes that name a normalised text."""
    return hashlib.sha256(text.encode()).digest()[:16]


def shingle_hashes(text: str) -> Hashes:
    """Return the sorted distinct 64-bit hashes of the text's character 5-grams; a shorter text is one shingle."""
    points = np.frombuffer(text.ljust(SHINGLE_CHARS).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    count = len(points) - SHINGLE_CHARS + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for place, factor in enumerate(_FACTORS):
        hashes += points[place : place + count] * factor
    hashes = _mix(hashes)
    hashes.sort()  # faster than np.unique, which uses a hash table
    return hashes[np.concatenate(([True], hashes[1:] != hashes[:-1]))]


def band_hashes(shingles: Sequence[Hashes]) -> Bands:
    """Return the hashes of each row's MinHash bands, [rows, BANDS]; an equal hash in a band proposes a pair.

    Of 32 bits: a band of n rows proposes about n^2 / 2^33 pairs by chance, which the exact comparison rejects.
    """
    if not shingles:
        return np.zeros((0, BANDS), dtype=np.uint32)
    offsets = np.cumsum([0, *map(len, shingles)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(shingles), offsets, PERMUTATIONS, MINHASH_SEED
    )
    digests = np.asarray(matrix.to_rows(), dtype=np.uint64).reshape(len(shingles), BANDS, PERMUTATIONS // BANDS)
    bands = np.zeros((len(shingles), BANDS), dtype=np.uint64)
    for row in range(digests.shape[2]):
        bands = _mix(bands ^ digests[:, :, row])
    return (bands >> np.uint64(32)).astype(np.uint32)


def candidate_pairs(bands: Iterable[Bands]) -> Indices:
    """Return distinct pairs (i, j), i < j, that share MIN_SHARED_BANDS, [pairs, 2], in order; a band is [rows]."""
    codes, count = [np.zeros(0, dtype=np.int64)], 1
    for band in bands:
        count = len(band)
        order = np.argsort(band, kind="stable")
        sorted_band = band[order]
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            same = sorted_band[step:] == sorted_band[:-step]
            if not same.any():
                break
            codes.append(order[:-step][same] * count + order[step:][same])
    pairs, shared = np.unique(np.concatenate(codes), return_counts=True)
    return np.column_stack(np.divmod(pairs[shared >= MIN_SHARED_BANDS], count))


def jaccard(one: Hashes, other: Hashes) -> float:
    """Return the Jaccard similarity of two sorted sets, 0 to 1; two empty sets are equal."""
    both = np.concatenate((one, other))
    both.sort()
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common) if len(both) else 1.0


def components(count: int, pairs: npt.ArrayLike) -> Indices:
    """Return for each of `count` rows the smallest row that it is connected to by pairs."""
    one, other = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    smallest: Indices = first[labels].astype(np.int64)
    return smallest


def _mix(values: Hashes) -> Hashes:
    """Apply the finaliser of SplitMix64 (Steele, Lea and Flood 2014), which spreads each bit over all 64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
