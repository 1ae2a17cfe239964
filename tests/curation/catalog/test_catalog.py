"""The catalog: a version is whole or absent, equal content exists once, damage is detected."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.errors import DatasetNotFoundError, DatasetRefusedError, InputError


def test_a_published_version_can_be_listed_read_and_verified(catalog, publish):
    ref, reused = publish("a", "b")
    assert (ref.name, ref.version, ref.state, ref.rows, reused) == ("chats", "v1", "ready", 2, False)
    assert catalog.list() == (ref,)
    assert catalog.get("chats") == catalog.get("chats", "v1") == ref
    catalog.verify(ref)
    assert catalog.require_ready(ref).dropped == {"near_duplicate": 1}
    (part,) = catalog.parts(ref)
    assert pq.read_table(part)["id"].to_pylist() == ["a", "b"]
    assert "# chats v1" in (part.parent / "README.md").read_text()


def test_equal_rows_in_another_order_reuse_the_existing_version(catalog, publish):
    first, _ = publish("a", "b")
    again, reused = publish("b", "a")
    assert (again, reused) == (first, True)
    assert catalog.list() == (first,)


def test_other_rows_or_another_recipe_make_a_new_version(catalog, publish):
    publish("a")
    publish("b")
    recipe = dataclasses.replace(catalog_provenance(catalog), recipe_hash="other")
    ref, reused = publish("b", provenance=recipe)
    assert (ref.version, reused) == ("v3", False)
    assert catalog.get("chats").version == "v3"


def catalog_provenance(catalog):
    from mongars.curation.catalog.manifest import Provenance

    manifest = catalog.manifest(catalog.get("chats"))
    return Provenance(recipe=manifest.recipe, recipe_hash=manifest.recipe_hash)


def test_versions_are_ordered_by_number(catalog, publish):
    for number in range(11):
        publish(f"row-{number}")
    assert catalog.get("chats").version == "v11"
    assert [ref.version for ref in catalog.list()] == [f"v{number}" for number in range(1, 12)]


def test_an_error_for_an_unknown_version_lists_the_existing_ones(catalog, publish):
    publish("a")
    with pytest.raises(DatasetNotFoundError, match=r"versions of it: v1.*mongars curate"):
        catalog.get("chats", "v9")
    with pytest.raises(DatasetNotFoundError):
        catalog.get("../chats")
    assert DatasetCatalog(catalog.root / "nowhere").list() == ()


@pytest.mark.parametrize("name", ["", "..", "a/b", "Chats", ".hidden", "a" * 65])
def test_an_invalid_name_is_refused(catalog, name):
    with pytest.raises(InputError), catalog.open_draft(name):
        pass


def test_a_version_with_a_leak_is_quarantined_and_not_trained_on(catalog, publish):
    publish("a")
    leaky = dataclasses.replace(catalog_provenance(catalog), recipe_hash="x", leaks={"EMAIL": 1})
    ref, _ = publish("b", provenance=leaky)
    assert ref.state == "quarantined"
    with pytest.raises(DatasetRefusedError, match="leak check"):
        catalog.require_ready(ref)


def test_a_version_without_rows_is_published_and_not_trained_on(catalog, publish):
    ref, _ = publish()
    catalog.verify(ref)
    with pytest.raises(DatasetRefusedError, match="no rows"):
        catalog.require_ready(ref)


def test_a_changed_row_is_detected(catalog, publish, make_rows):
    ref, _ = publish("a", "b")
    (part,) = catalog.parts(ref)
    pq.write_table(make_rows("a", "c"), part)
    with pytest.raises(DatasetRefusedError, match="do not match its digest"):
        catalog.verify(ref)


def test_a_missing_row_or_column_and_a_truncated_file_are_detected(catalog, publish, make_rows):
    ref, _ = publish("a", "b")
    (part,) = catalog.parts(ref)
    pq.write_table(make_rows("a"), part)
    with pytest.raises(DatasetRefusedError, match="has 1 rows"):
        catalog.verify(ref)
    pq.write_table(make_rows("a", "b").drop(["split"]), part)
    with pytest.raises(DatasetRefusedError, match="other columns"):
        catalog.verify(ref)
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DatasetRefusedError, match="cannot be read"):
        catalog.verify(ref)


def test_a_damaged_manifest_is_refused(catalog, publish):
    ref, _ = publish("a")
    path = catalog.manifest_path(ref)
    good = json.loads(path.read_text())
    for bad in (good | {"row": 1}, good | {"rows": "1"}, good | {"schema": 3}, {"schema": 1}):
        path.write_text(json.dumps(bad))
        with pytest.raises(DatasetRefusedError, match="is damaged"):
            catalog.get("chats")
    path.unlink()
    with pytest.raises(DatasetRefusedError, match="cannot be read"):
        catalog.get("chats")


def test_an_unpublished_draft_leaves_nothing(catalog, make_rows):
    with pytest.raises(RuntimeError), catalog.open_draft("chats") as draft:
        draft.append(make_rows("a"))
        raise RuntimeError
    assert catalog.list() == ()
    assert [path.name for path in (catalog.root / "chats").iterdir()] == [".lock"]


# Publishes a version of 20 rows in child processes. The n-th child is killed at the n-th of the calls that make a
# version durable, until one of them gets through; the children are forks, so that imports happen once.
KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa
from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA

root, call = Path(sys.argv[1]), sys.argv[2]
row = {"id": "a", "subject": "s", "split": "train", "source": "t", "language": "en",
       "messages": [{"role": "user", "content": "Hello"}]}
real, calls = getattr(os, call), 0

def publish(at):
    def killing(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    catalog = DatasetCatalog(root / str(at))
    with catalog.open_draft("chats") as draft:
        draft.append(pa.Table.from_pylist([row | {"id": str(n)} for n in range(20)], schema=ROW_SCHEMA))
        setattr(os, call, killing)
        catalog.publish(draft, Provenance(recipe={}, recipe_hash="r"))

for at in range(1, 10):
    child = os.fork()
    if not child:
        publish(at)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status)
    if status == 0:
        break
"""


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_publication_killed_at_any_step_leaves_a_whole_version_or_none(tmp_path, call):
    command = [sys.executable, "-c", KILLED, str(tmp_path), call]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *killed, last = map(int, done.stdout.split())
    assert last == 0, "the publication was never let through"
    assert set(killed) == {-signal.SIGKILL}, done.stderr
    seen = set()
    for at in range(1, len(killed) + 2):
        root = tmp_path / str(at)
        catalog = DatasetCatalog(root)
        for ref in catalog.list():
            catalog.verify(ref)
        seen.add(len(catalog.list()))
        with catalog.open_draft("chats"):
            left = [path.name for path in (root / "chats").iterdir() if path.is_dir()]
        assert sum(name.startswith(".draft-") for name in left) == 1, "a killed draft was not swept"
        assert not [name for name in left if name.endswith(".tmp")]
    assert seen == {0, 1}


def test_a_draft_of_a_running_process_is_not_swept(catalog, make_rows):
    with catalog.open_draft("chats") as mine:
        mine.append(make_rows("a"))
        code = "import sys; from pathlib import Path\n"
        code += "from mongars.curation.catalog.catalog import DatasetCatalog\n"
        code += "with DatasetCatalog(Path(sys.argv[1])).open_draft('chats'): pass"
        subprocess.run([sys.executable, "-c", code, str(catalog.root)], check=True, env=dict(os.environ))
        assert mine.folder.is_dir()


def test_a_version_without_the_column_opinions_is_read_and_verified(catalog, publish):
    ref, _ = publish("a", "b")
    (part,) = catalog.parts(ref)
    pq.write_table(pq.read_table(part).drop_columns(["opinions"]), part)
    catalog.verify(ref)
    (table,) = catalog.read(ref, [part])
    assert table.schema.equals(ROW_SCHEMA)
    assert table["opinions"].to_pylist() == [None, None]
    pq.write_table(pq.read_table(part).drop_columns(["language"]), part)
    with pytest.raises(DatasetRefusedError, match="other columns"):
        catalog.verify(ref)
