"""Files of JSON Lines or Parquet, cut into parts that tasks read beside one another.

Owns who reads which lines or rows, and the key that puts all of them, of all files, in one order. Must not know
what one holds, nor Ray.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mongars.formats.jsonl import BadLine, check_readable, numbered_lines, parse_line
from mongars.formats.parquet import check_parquet, is_parquet, numbered_rows, parquet_rows
from mongars.records import Conversation

# A line's key: its file's place among the sources, and its number. A file has at most 2^40 lines.
_LINE_BITS = 40
# A task of its own pays from about so many bytes of (compressed) chat: some 200 conversations.
MIN_SHARE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Share:
    """One task's part of a file: every `stripes`-th group of its lines. `file` is its place among the sources."""

    path: str
    file: int
    stripe: int
    stripes: int

    def lines(self) -> Iterator[tuple[int, bytes | BadLine]]:
        """Yield (number from 1, raw line). Raises InputError when this machine cannot read the file."""
        path = Path(self.path)
        check_readable(path)
        return numbered_lines(path, stripe=self.stripe, stripes=self.stripes)

    def conversations(self) -> Iterator[tuple[int, Conversation | BadLine]]:
        """Yield (number from 1, conversation or bad line) of lines or rows. Raises as `check_source` does."""
        path = Path(self.path)
        if is_parquet(path):
            yield from numbered_rows(path, stripe=self.stripe, stripes=self.stripes)
            return
        for number, line in self.lines():
            item = parse_line(path, number, line)
            if item is not None:
                yield number, item

    def key(self, number: int) -> int:
        """Return the key of a line: a whole number that orders all lines of all sources."""
        return self.file << _LINE_BITS | number


def check_source(path: Path) -> None:
    """Raise InputError when `path` is no readable file of JSON Lines or, named .parquet, of Parquet."""
    if is_parquet(path):
        check_parquet(path)
    else:
        check_readable(path)


def shares(paths: Sequence[Path], *, tasks: int) -> list[Share]:
    """Cut each file into as many shares as its size is worth, at most one for each task that can run."""
    cut = []
    for file, path in enumerate(paths):
        stripes = max(1, min(tasks, path.stat().st_size // MIN_SHARE_BYTES))
        cut += [Share(str(path), file, stripe, stripes) for stripe in range(stripes)]
    return cut


def count_lines(path: Path) -> int:
    """Return how many lines or rows a file has, as far as it can be read; blank ones count."""
    if is_parquet(path):
        return parquet_rows(path)
    return sum(1 for _ in numbered_lines(path))


def place_of(key: int) -> tuple[int, int]:
    """Return the file's place among the sources, and the line's number, of a key."""
    return key >> _LINE_BITS, key & ((1 << _LINE_BITS) - 1)
