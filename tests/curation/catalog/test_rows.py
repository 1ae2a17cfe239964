"""The content digest of rows, independent of their order."""

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.curation.catalog.rows import ROW_SCHEMA, content_digest, row_digests

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture keeps no state
@given(ids, st.data())
def test_the_digest_does_not_depend_on_the_order_of_rows(make_rows, some, data):
    mixed = data.draw(st.permutations(some))
    assert content_digest(row_digests(make_rows(*some))) == content_digest(row_digests(make_rows(*mixed)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture keeps no state
@given(ids, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_another_row_gives_another_digest(make_rows, some, other):
    more = make_rows(*some, other)
    assert content_digest(row_digests(make_rows(*some))) != content_digest(row_digests(more))


def test_the_digest_depends_on_every_column(make_rows):
    tables = [make_rows("a"), make_rows("a", subject="sub_2"), make_rows("a", split="test")]
    assert len({content_digest(row_digests(table)) for table in tables}) == 3


def test_the_digest_depends_on_opinions(make_rows):
    rows = make_rows("a").to_pylist()
    opinions = [
        None,
        [],
        [{"query": "q", "text": "t", "good": True}],
        [{"query": "q", "text": "t", "good": False}],
    ]
    tables = [pa.Table.from_pylist([rows[0] | {"opinions": each}], schema=ROW_SCHEMA) for each in opinions]
    none, empty, *others = (content_digest(row_digests(table)) for table in tables)
    assert none == empty
    assert len({none, *others}) == 3
