"""The differences of two versions."""

import dataclasses

import pytest

from mongars.curation.catalog.diff import diff
from mongars.errors import DatasetRefusedError
from tests.curation.conftest import PROVENANCE


def test_rows_are_compared_by_id_and_options_by_name(catalog, make_rows):
    def publish(rows, **recipe):
        with catalog.open_draft("chats") as draft:
            for row in rows:
                draft.append(row)
            provenance = dataclasses.replace(PROVENANCE, recipe=recipe, recipe_hash=str(recipe))
            return catalog.publish(draft, provenance)[0]

    one = publish([make_rows("gone", "kept", "moved")], rules=1, split_seed=0)
    other = publish([make_rows("kept", "new"), make_rows("moved", split="test")], rules=2, split_seed=0, extra=3)
    found = diff(catalog, one, other)
    assert (found.added, found.removed, found.changed, found.unchanged) == (("new",), ("gone",), ("moved",), 1)
    assert found.recipe == {"rules": (1, 2), "extra": (None, 3)}
    back = diff(catalog, other, one)
    assert (back.added, back.removed) == (found.removed, found.added)


def test_a_version_does_not_differ_from_itself(catalog, publish):
    ref, _ = publish("a", "b")
    found = diff(catalog, ref, ref)
    assert (found.added, found.removed, found.changed, found.unchanged, found.recipe) == ((), (), (), 2, {})


def test_an_erased_version_cannot_be_compared(catalog, publish):
    ref, _ = publish("a")
    catalog.remove_rows(ref)
    with pytest.raises(DatasetRefusedError, match="is erased"):
        diff(catalog, ref, ref)
