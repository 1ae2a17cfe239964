"""Old versions lose their rows and keep their manifest; new ones and other datasets keep both."""

from datetime import UTC, datetime, timedelta

import pytest

from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.retention import prunable, prune
from mongars.curation.recipe import CurationRecipe
from mongars.errors import InputError

NOW = datetime.now(UTC) + timedelta(hours=1)
RECIPE = CurationRecipe()


@pytest.fixture
def versions(catalog, make_rows):
    """Three versions of `chats`, two of `mails`."""
    for name, count in (("chats", 3), ("mails", 2)):
        for number in range(count):
            with catalog.open_draft(name) as draft:
                draft.append(make_rows(f"{name}-{number}", subject="sub_a"))
                catalog.publish(draft, Provenance(recipe=RECIPE.as_json(), recipe_hash=RECIPE.digest()))
    return catalog


def named(refs):
    return [f"{ref.name}@{ref.version}" for ref in refs]


def test_the_newest_versions_of_each_dataset_keep_their_rows(versions):
    assert named(prunable(versions, keep=1, now=NOW)) == ["chats@v1", "chats@v2", "mails@v1"]
    assert named(prunable(versions, keep=3, now=NOW)) == []


def test_only_old_versions_are_pruned(versions):
    assert prunable(versions, keep=0, now=NOW, older_than_days=1) == ()
    later = NOW + timedelta(days=1)
    assert len(prunable(versions, keep=0, now=later, older_than_days=1)) == 5


def test_pruning_removes_rows_and_keeps_manifests(versions):
    assert named(prune(versions, keep=2, now=NOW)) == ["chats@v1"]
    old, *rest = versions.list()
    assert (old.version, old.state, versions.parts(old)) == ("v1", "erased", ())
    assert versions.manifest(old).subjects == ["sub_a"]
    assert "it was pruned" in (versions.root / "chats" / "v1" / "README.md").read_text()
    assert not list((versions.root / "chats" / "v1").glob("*.parquet"))
    assert all(ref.state == "ready" for ref in rest)
    assert prune(versions, keep=2, now=NOW) == ()


def test_the_next_call_finishes_a_killed_removal(versions, monkeypatch):
    def kill(_path):
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr("pathlib.Path.unlink", kill)
        with pytest.raises(KeyboardInterrupt):
            prune(versions, keep=2, now=NOW)
    old = versions.list()[0]
    assert (old.state, versions.has_rows(old)) == ("erased", True)
    assert named(prune(versions, keep=2, now=NOW)) == ["chats@v1"]
    assert not versions.has_rows(old)


@pytest.mark.parametrize("wrong", [{"keep": -1}, {"keep": 1, "older_than_days": -1}])
def test_numbers_below_zero_are_refused(catalog, wrong):
    with pytest.raises(InputError):
        prunable(catalog, now=NOW, **wrong)
