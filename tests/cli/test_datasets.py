"""`mongars datasets diff`, `prune` and `erase`, on two versions of a dataset."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pytest

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.curation.pii.pseudonyms import load_or_create_secret, subject_id
from mongars.curation.recipe import CurationRecipe

RECIPE = CurationRecipe()


@pytest.fixture
def catalog(tmp_path: Path) -> DatasetCatalog:
    """Versions v1 and v2 of `chats`: Ana's and Ben's conversations, then one more of Ben's."""
    secret = load_or_create_secret(tmp_path / "var" / "pseudonyms.key")
    catalog = DatasetCatalog(tmp_path / "models" / "datasets")
    talks = [("a1", "ana", "Where is the pier?"), ("b1", "ben", "Is it raining?"), ("b2", "ben", "Cats purr.")]
    for count in (2, 3):
        rows = [
            {"id": row, "subject": subject_id(secret, user), "split": "train", "source": "", "language": "en"}
            | {"messages": [{"role": "user", "content": text}]}
            for row, user, text in talks[:count]
        ]
        with catalog.open_draft("chats") as draft:
            draft.append(pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
            catalog.publish(draft, Provenance(recipe=RECIPE.as_json(), recipe_hash=RECIPE.digest()))
    return catalog


def states(catalog: DatasetCatalog) -> list[tuple[str, str, int]]:
    return [(ref.version, ref.state, ref.rows) for ref in catalog.list()]


def test_diff_lists_the_added_rows(mongars, catalog: DatasetCatalog) -> None:
    found = json.loads(mongars("datasets", "diff", "chats", "v1", "--json").stdout)
    assert (found["other"]["version"], found["added"], found["removed"]) == ("v2", ["b2"], [])
    assert "unchanged" in mongars("datasets", "diff", "chats", "v1", "v2").stdout


def test_erase_lists_versions_and_removes_rows_only_with_yes(mongars, catalog: DatasetCatalog) -> None:
    before = states(catalog)
    shown = mongars("datasets", "erase", "ana")
    assert shown.exit_code == 0, shown.stderr
    assert "duplicates readmitted" in shown.stdout
    assert "add --yes" in shown.stderr
    assert states(catalog) == before == [("v1", "ready", 2), ("v2", "ready", 3)]
    done = json.loads(mongars("datasets", "erase", "ana", "--yes", "--json").stdout)
    assert [each["removed"] for each in done["datasets"]["successors"]] == [1]
    assert done["adapters"] == []
    assert states(catalog) == [("v1", "erased", 2), ("v2", "erased", 3), ("v3", "ready", 2)]


def test_prune_lists_versions_and_removes_rows_only_with_yes(mongars, catalog: DatasetCatalog) -> None:
    shown = mongars("datasets", "prune", "--keep", "1")
    assert ("Would be removed" in shown.stdout, "add --yes" in shown.stderr) == (True, True)
    assert states(catalog) == [("v1", "ready", 2), ("v2", "ready", 3)]
    assert json.loads(mongars("datasets", "prune", "--keep", "0", "--older-than", "1", "--json").stdout) == {
        "removed": False,
        "versions": [],
    }
    done = json.loads(mongars("datasets", "prune", "--keep", "1", "--yes", "--json").stdout)
    assert (done["removed"], [ref["version"] for ref in done["versions"]]) == (True, ["v1"])
    assert states(catalog) == [("v1", "erased", 2), ("v2", "ready", 3)]
    assert mongars("datasets", "prune", "--keep", "-1").exit_code == 2


def test_erase_without_the_secret_of_the_subject_ids_is_refused(
    mongars, catalog: DatasetCatalog, tmp_path: Path
) -> None:
    (tmp_path / "var" / "pseudonyms.key").unlink()
    before = states(catalog)
    refused = mongars("datasets", "erase", "ana", "--yes")
    assert refused.exit_code != 0
    assert "Cannot read the secret" in refused.stderr
    assert states(catalog) == before
    assert dataclasses.asdict(catalog.get("chats"))["state"] == "ready"
