"""Files of JSON Lines or Parquet, cut into shards that parallel tasks read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mongars.formats.jsonl import BadLine, check_readable, numbered_lines, parse_line
from mongars.formats.parquet import check_parquet, is_parquet, numbered_rows, parquet_rows
from mongars.records import Conversation

# The key of a line: the position of its file among the sources, then its line number, below 2^40.
_LINE_BITS = 40
# Smaller shards do not pay for a task of their own: this is about 200 conversations.
MIN_SHARD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Shard:
    """One task's part of the `file`-th source: every `stripes`-th group of its lines."""

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
        """Yield (key, conversation or bad line) of lines or rows. Raises as `check_source` does."""
        path = Path(self.path)
        if is_parquet(path):
            for number, item in numbered_rows(path, stripe=self.stripe, stripes=self.stripes):
                yield self.key(number), item
            return
        for number, line in self.lines():
            parsed = parse_line(path, number, line)
            if parsed is not None:
                yield self.key(number), parsed

    def key(self, number: int) -> int:
        """Return the key of a line: an integer that orders all lines of all sources."""
        return self.file << _LINE_BITS | number


def check_source(path: Path) -> None:
    """Raise InputError when `path` is no readable file of JSON Lines or, named .parquet, of Parquet."""
    if is_parquet(path):
        check_parquet(path)
    else:
        check_readable(path)


def file_shards(paths: Sequence[Path], *, tasks: int) -> list[Shard]:
    """Cut each file into shards of at least MIN_SHARD_BYTES, at most `tasks` of them."""
    shards = []
    for file, path in enumerate(paths):
        stripes = max(1, min(tasks, path.stat().st_size // MIN_SHARD_BYTES))
        shards += [Shard(str(path), file, stripe, stripes) for stripe in range(stripes)]
    return shards


def count_lines(path: Path) -> int:
    """Return the number of lines or rows up to the first damage, blank lines included."""
    if is_parquet(path):
        return parquet_rows(path)
    return sum(1 for _ in numbered_lines(path))


def place_of(key: int) -> tuple[int, int]:
    """Return the position of the file among the sources, and the line number, of a key."""
    return key >> _LINE_BITS, key & ((1 << _LINE_BITS) - 1)
