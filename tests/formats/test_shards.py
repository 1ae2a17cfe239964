"""Shards of files: JSON Lines and Parquet give the same conversations, once each, under unique keys."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mongars.errors import InputError
from mongars.formats.jsonl import BadLine
from mongars.formats.shards import Shard, check_source, count_lines, place_of

ROWS = [{"id": f"c{n}", "messages": [{"role": "user", "content": f"number {n}"}]} for n in range(200)]


def write(folder, name):
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


@pytest.mark.parametrize("stripes", [1, 3])
def test_both_formats_give_the_same_conversations_under_the_same_keys(tmp_path, stripes):
    found = []
    for name in ("in.jsonl", "in.parquet"):
        path = write(tmp_path, name)
        shards = [Shard(str(path), 5, stripe, stripes) for stripe in range(stripes)]
        found.append(sorted((key, item.id) for shard in shards for key, item in shard.conversations()))
    assert found[0] == found[1]
    assert [place_of(key) for key, _ in found[0]] == [(5, number) for number in range(1, 201)]


def test_blank_lines_are_skipped_and_bad_ones_reported(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(f"\n{json.dumps(ROWS[0])}\nbroken\n")
    (two, good), (three, bad) = Shard(str(path), 0, 0, 1).conversations()
    assert (two, good.id, three) == (2, "c0", 3)
    assert isinstance(bad, BadLine)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("in.jsonl", b"PAR1....", "is Parquet, not JSON Lines"),
        ("in.jsonl", b"\x1f\x8b....", r"Rename it to \.jsonl\.gz"),
        ("in.parquet", b"{}\n{}\n{}\n", "not a Parquet file"),
    ],
)
def test_a_file_with_the_wrong_extension_is_refused(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        check_source(path)


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_lines_are_counted_before_anything_is_read(tmp_path, name):
    assert count_lines(write(tmp_path, name)) == len(ROWS)
