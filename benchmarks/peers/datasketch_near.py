"""The datasketch peer of benchmarks/near_duplicates.py; runs in a separate environment without mongars.

Reads {"texts", "threshold", "shingle_chars", "permutations", "repeats"} as JSON from stdin; the last line of
stdout is the list of rates. The job equals ours: shingles, MinHash, LSH for the threshold, and the true Jaccard
similarity of the candidates.
"""

import json
import sys
import time

from datasketch import MinHash, MinHashLSH


def near_pairs(task: dict) -> list[tuple[int, int]]:
    """Return the pairs at or above the threshold, by index."""
    width = task["shingle_chars"]
    sets = [
        {text[place : place + width] for place in range(max(1, len(text) - width + 1))} for text in task["texts"]
    ]
    lsh, found = MinHashLSH(threshold=task["threshold"], num_perm=task["permutations"]), []
    for place, shingles in enumerate(sets):
        minhash = MinHash(num_perm=task["permutations"])
        minhash.update_batch([shingle.encode() for shingle in shingles])
        for other in lsh.query(minhash):
            common = len(shingles & sets[other])
            if common >= task["threshold"] * (len(shingles) + len(sets[other]) - common):
                found.append((other, place))
        lsh.insert(place, minhash)
    return found


def measure(task: dict) -> list[float]:
    """Return the rates, in texts per second."""
    rates = []
    for repeat in range(task["repeats"] + 1):
        started = time.perf_counter()
        near_pairs(task)
        if repeat:
            rates.append(len(task["texts"]) / (time.perf_counter() - started))
    return rates


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))), flush=True)
