"""Tables of the index: writes, compaction, and the incomplete tables that a crash leaves."""

from pathlib import Path

import pyarrow as pa
import pytest

from mongars.memory.index.index_tables import COMPACT_EVERY, IndexTables

SCHEMA = pa.schema([("id", pa.string()), ("user", pa.string()), ("text", pa.string())])


@pytest.fixture
def tables(tmp_path: Path) -> IndexTables:
    return IndexTables(str(tmp_path / "index"), language="English")


def rows(*ids: str, user: str = "anna") -> pa.Table:
    return pa.Table.from_pylist([{"id": each, "user": user, "text": f"text {each}"} for each in ids], SCHEMA)


def left_by_a_crash(folder: Path, name: str) -> Path:
    """Create what a killed process leaves: the data of a table without its first manifest."""
    data = folder / f"{name}.lance" / "data" / "rows.lance"
    data.parent.mkdir(parents=True)
    data.write_bytes(b"secret")
    return data


def test_an_incomplete_table_counts_as_missing_and_is_created_again(tables: IndexTables, tmp_path: Path) -> None:
    """LanceDB lists a table before it can be opened, so a recall may meet one."""
    left_by_a_crash(tmp_path / "index", "half")
    assert tables.names() == ["half"]
    assert tables.opened("half") is tables.opened("none") is None
    tables.insert("half", rows("1"))
    assert tables.opened("half").count_rows() == 1


def test_an_erasure_drops_incomplete_tables(tables: IndexTables, tmp_path: Path) -> None:
    tables.insert("whole", rows("1", "2"))
    data = left_by_a_crash(tmp_path / "index", "half")
    assert tables.remove("id = '1'") == {"whole": 1}
    assert not data.exists()
    assert tables.names() == ["whole"]


def test_a_table_is_compacted_after_its_own_writes_only(tables: IndexTables) -> None:
    tables.insert("idle", rows("1"))
    idle = tables.opened("idle").version
    for number in range(COMPACT_EVERY):
        tables.insert("busy", rows(str(number)))
    assert tables.opened("busy").stats()["fragment_stats"]["num_fragments"] == 1
    assert tables.opened("idle").version == idle


def test_tables_are_ordered_by_their_last_write(tables: IndexTables, tmp_path: Path) -> None:
    tables.insert("one", rows("1"))
    tables.insert("two", rows("1"))
    assert tables.written_at("one") < tables.written_at("two")
    tables.insert("one", rows("2"))
    assert tables.written_at("one") > tables.written_at("two")
    left_by_a_crash(tmp_path / "index", "half")
    assert tables.written_at("half") < tables.written_at("two")


def test_a_dropped_table_leaves_the_disk_and_can_be_created_again(tables: IndexTables, tmp_path: Path) -> None:
    tables.insert("one", rows("1"))
    tables.drop(["one"])
    assert not (tmp_path / "index" / "one.lance").exists()
    tables.insert("one", rows("2"))
    assert tables.opened("one").count_rows() == 1
