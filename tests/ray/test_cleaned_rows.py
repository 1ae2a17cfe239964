"""Rows in blocks that a real Ray holds: all of them, in one order, whatever the blocks and the portions."""

import random

import numpy as np
import pytest
import ray

from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.curation.cleaned_rows import CleanedRows
from mongars.curation.cleaning import CLEAN_SCHEMA, KEPT, Cleaned, as_table
from mongars.curation.dedup.fingerprint import row_shingles
from mongars.curation.dedup.minhash import shingle_hashes

pytestmark = pytest.mark.ray
COUNT = 20


def row(key):
    said = [{"role": "user", "content": f"this was said in the conversation number {key}"}]
    # Of three rows in turn, two share an id: as duplicates do.
    identity = f"c{key // 3 * 3 + key % 3 // 2:03d}"
    shingles = shingle_hashes(said[0]["content"])
    return Cleaned(key, KEPT, id=identity, digest=bytes([key]) * 32, messages=said, shingles=shingles)


@pytest.fixture
def tables():
    rows = [row(key) for key in range(COUNT)]
    random.Random(7).shuffle(rows)
    return [as_table(rows[start : start + 6]) for start in range(0, COUNT, 6)]


@pytest.fixture
def cleaned(tables, ray_session):
    return CleanedRows([ray.put(table) for table in tables], portion_rows=4)


def test_the_index_has_every_row_and_no_text(cleaned):
    assert sorted(cleaned.index["key"].to_pylist()) == list(range(COUNT))
    assert set(CLEAN_SCHEMA.names) - set(cleaned.index.column_names) == {"messages", "opinions"}


def test_rows_come_in_order_of_ids_and_equal_ids_by_content(cleaned):
    keys = np.array([key for key in range(COUNT) if key % 5])
    splits = np.where(keys % 2 == 0, "train", "test")
    portions = list(cleaned.in_order(keys, splits))
    assert [portion.num_rows for portion in portions] == [4, 4, 4, 4]
    assert all(portion.schema.equals(ROW_SCHEMA) for portion in portions)
    found = [each for portion in portions for each in portion.to_pylist()]
    expected = sorted(keys.tolist(), key=lambda key: (row(key).id, key))
    assert [int(each["messages"][0]["content"].split()[-1]) for each in found] == expected
    assert [each["split"] for each in found] == ["test" if key % 2 else "train" for key in expected]


def test_no_keys_are_no_rows(cleaned):
    assert list(cleaned.in_order(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.str_))) == []


def test_shingles_are_those_of_the_rows_that_are_named(cleaned):
    found = cleaned.shingles([3, 17, -1])
    assert found.keys() == {3, 17}
    assert all(np.array_equal(found[key], row_shingles({"messages": row(key).messages})) for key in found)


def test_no_blocks_are_no_rows(ray_session):
    assert CleanedRows([]).index.num_rows == 0
