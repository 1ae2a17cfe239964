"""Rows and a catalog for the tests of curation."""

import pyarrow as pa
import pytest

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA

PROVENANCE = Provenance(recipe={"rules": 1}, recipe_hash="r" * 8, rows_read=3, dropped={"near_duplicate": 1})


@pytest.fixture
def make_rows():
    """Return a function that returns a ROW_SCHEMA table of conversations with the given ids."""

    def make(*ids, subject="sub_1", split="train"):
        return pa.Table.from_pylist(
            [
                {
                    "id": identity,
                    "subject": subject,
                    "split": split,
                    "source": "test",
                    "language": "en",
                    "messages": [{"role": "user", "content": f"Hello from {identity}"}],
                }
                for identity in ids
            ],
            schema=ROW_SCHEMA,
        )

    return make


@pytest.fixture
def catalog(tmp_path):
    return DatasetCatalog(tmp_path / "datasets")


@pytest.fixture
def publish(catalog, make_rows):
    """Return a function that publishes a version of `chats` with the given ids."""

    def make(*ids, provenance=PROVENANCE):
        with catalog.open_draft("chats") as draft:
            draft.append(make_rows(*ids))
            return catalog.publish(draft, provenance)

    return make
