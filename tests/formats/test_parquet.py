"""Conversations in Parquet: read as those of JSON Lines are, bad rows named, nothing in a file is ever run."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.errors import InputError
from mongars.formats.jsonl import BadLine
from mongars.formats.parquet import check_parquet, numbered_rows
from mongars.formats.schema import as_conversation
from mongars.records import ROLES, Conversation, Opinion, Profile, Turn

MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "in.parquet"


def write(path, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def read(path, **shares):
    return [item for _, item in numbered_rows(path, **shares)]


def test_a_row_equals_the_same_object_in_json_lines(path):
    row = {"id": "c1", "user": "anna", "source": "shop", "consent": False, "created_at": "2026-01-02T03:04:05"}
    given = {"opinions": [{"query": "Hello", "text": "Good day", "good": True}], "more": 1}
    given |= {"profile": {"names": ["Anna Moreau"], "phones": None}}
    assert read(write(path, [row | {"messages": MESSAGES} | given])) == [
        Conversation(
            "c1",
            "anna",
            (Turn("user", "Hello"), Turn("assistant", "Good day")),
            "shop",
            consent=False,
            created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            opinions=(Opinion("Hello", "Good day", good=True),),
            profile=Profile(names=("Anna Moreau",)),
        )
    ]


def test_optional_columns_may_be_absent(path):
    (conversation,) = read(write(path, [{"id": 7, "messages": MESSAGES}]))
    assert (conversation.id, conversation.user, conversation.source) == ("7", "7", "file")
    assert conversation.consent is True
    assert conversation.created_at is None


def test_a_null_in_the_consent_column_is_not_consent(path):
    given, omitted = read(
        write(path, [{"id": n, "messages": MESSAGES, "consent": n or None} for n in (True, False)])
    )
    assert isinstance(given, BadLine)  # an id is no boolean
    assert isinstance(omitted, BadLine)
    rows = [{"id": "a", "messages": MESSAGES, "consent": True}, {"id": "b", "messages": MESSAGES, "consent": None}]
    given, omitted = read(write(path, rows))
    assert given.consent is True
    assert omitted == BadLine(str(path), 2, "`consent` is not true or false")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_timestamps_of_any_unit_and_zone_are_read(path, unit, zone):
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    column = pa.array([int(time.timestamp())], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(unit, zone))
    pq.write_table(pa.table({"id": ["a"], "messages": [MESSAGES], "created_at": column}), path)
    (conversation,) = read(path)
    assert conversation.created_at == time
    assert type(conversation.created_at) is datetime


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": None, "messages": MESSAGES}, "no `id`"),
        ({"id": "c", "messages": None}, "no list `messages`"),
        ({"id": "c", "messages": [None]}, "message 1 is not an object"),
        ({"id": "c", "messages": [{"role": "tool", "content": "x"}]}, "message 1 has no role"),
        ({"id": "c", "messages": [{"role": "user", "content": None}]}, "message 1 has no text"),
    ],
)
def test_a_bad_row_has_a_reason_and_the_rest_is_read(path, row, reason):
    good = {"id": "a", "messages": MESSAGES}
    first, bad, last = read(write(path, [good, row, good]))
    assert isinstance(first, Conversation)
    assert isinstance(last, Conversation)
    assert (bad.path, bad.line) == (str(path), 2)
    assert reason in bad.reason


def test_text_that_is_not_utf8_and_times_out_of_range_are_bad_rows(path):
    ids = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"]).buffers())
    times = pa.array([0, 0, 2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"id": ids, "messages": [MESSAGES] * 3, "created_at": times}), path)
    good, unreadable, timeless = read(path)
    assert good.created_at == datetime(1970, 1, 1, tzinfo=UTC)
    assert unreadable.reason == "a text is not UTF-8"
    assert timeless.reason.startswith("a time")


def test_an_overlong_row_is_bad(path, monkeypatch):
    rows = [{"id": str(n), "messages": [{"role": "user", "content": "x" * n}]} for n in (10, 10_000, 10)]
    monkeypatch.setattr("mongars.formats.parquet.MAX_LINE_BYTES", 5_000)
    assert [isinstance(item, BadLine) for item in read(write(path, rows))] == [False, True, False]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 300), st.integers(1, 5), st.sampled_from([1, 7, 64, 1000]), st.sampled_from([20, 10_000, 2**30])
)
def test_stripes_together_have_every_row_once(tmp_path_factory, rows, stripes, group, batch_bytes):
    path = tmp_path_factory.mktemp("parquet") / "in.parquet"
    table = pa.table(
        {"id": [f"c{n}" for n in range(1, rows + 1)], "messages": [MESSAGES] * rows},
        schema=pa.schema([("id", pa.string()), ("messages", pa.list_(MESSAGE))]),
    )
    pq.write_table(table, path, row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mongars.formats.parquet.BATCH_BYTES", batch_bytes)
        found = [each for n in range(stripes) for each in numbered_rows(path, stripe=n, stripes=stripes)]
    assert sorted((number, item.id) for number, item in found) == [(n, f"c{n}") for n in range(1, rows + 1)]


texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(texts, st.lists(st.tuples(st.sampled_from([*ROLES, "x"]), texts), max_size=3)), max_size=4)
)
def test_every_row_equals_its_object(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("parquet") / "in.parquet"
    values = [{"id": i, "messages": [{"role": r, "content": c} for r, c in turns]} for i, turns in rows]
    schema = pa.schema([("id", pa.string()), ("messages", pa.list_(MESSAGE))])
    pq.write_table(pa.Table.from_pylist(values, schema=schema), path)
    for value, item in zip(values, read(path), strict=True):
        if isinstance(item, BadLine):
            with pytest.raises(ValueError, match=r"."):
                as_conversation(value)
        else:
            assert item == as_conversation(value)


def test_a_damaged_row_group_is_one_bad_row_that_names_the_lost_rows(path):
    rows = [{"id": f"c{n}", "messages": [{"role": "user", "content": f"number {n}"}]} for n in range(30)]
    write(path, rows, row_group_size=10, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(2)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    found = [read(path, stripe=n, stripes=2) for n in range(2)]
    bad = [item for share in found for item in share if isinstance(item, BadLine)]
    assert [(each.line, each.reason) for each in bad] == [(11, "the data of the rows 11 to 20 is damaged")]
    assert sum(map(len, found)) == 21


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"messages": [MESSAGES]}, "lacks a column.*: `id`"),
        ({"text": ["a"]}, "`id`, `messages`"),
        ({"id": ["a"], "messages": ["hello"]}, "`messages` of .* is string"),
        ({"id": ["a"], "messages": [["hello"]]}, "is list<"),
        ({"id": ["a"], "messages": [[{"role": "user"}]]}, "is list<"),
    ],
)
def test_a_file_without_required_columns_is_refused(path, columns, message):
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=message):
        check_parquet(path)


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1" * 3, b"{}\n" * 9, b"PAR1xxxx\x04\0\0\0PAR1", b"PAR1\xff\0\0\0PAR1"]
)
def test_a_file_that_is_not_parquet_is_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a Parquet file"):
        check_parquet(path)


def test_a_missing_file_is_refused_with_a_remedy(path):
    with pytest.raises(InputError, match=r"Give the path of a \.parquet file"):
        check_parquet(path)


class Spy(pa.ExtensionType):
    """A type whose deserialiser records its call, where that of Ray Data would load a pickle."""

    ran = False

    def __init__(self, name="mongars.tests.pickled"):  # not of Ray Data, which other tests may have loaded
        super().__init__(pa.string(), name)

    def __arrow_ext_serialize__(self):
        return b"a pickle"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        cls.ran = True
        return cls()


@pytest.fixture
def spied():
    """Register the spy, as importing Ray Data registers its types in the process."""
    kind = Spy()
    pa.register_extension_type(kind)
    yield kind
    pa.unregister_extension_type(kind.extension_name)
    Spy.ran = False


def with_extension(path, kind):
    values = pa.ExtensionArray.from_storage(kind, pa.array(["x"]))
    pq.write_table(pa.table({"id": ["a"], "messages": [MESSAGES], "hidden": values}), path)
    Spy.ran = False


def test_a_file_with_an_extension_type_is_refused_before_its_deserialiser_runs(path, spied):
    with_extension(path, spied)
    with pytest.raises(InputError, match="Write it again with plain columns only"):
        check_parquet(path)
    with pytest.raises(InputError, match="extension types"):
        list(numbered_rows(path))
    assert not Spy.ran
    pq.ParquetFile(path).close()
    assert Spy.ran, "opening the file runs it: without the look before, the test above would prove nothing"


@pytest.mark.parametrize(
    "name", ["ray.data.arrow_tensor", "ray.data.arrow_tensor_v2", "arrow.py_extension_type", "any.thing"]
)
def test_extension_types_are_refused_whether_registered_or_not(path, name):
    with_extension(path, Spy(name))
    with pytest.raises(InputError, match="extension types"):
        check_parquet(path)


def test_an_unreadable_arrow_schema_is_refused(path):
    pq.write_table(pa.table({"id": ["a"], "messages": [MESSAGES]}), path)
    schema = pq.read_metadata(path).metadata[b"ARROW:schema"]
    path.write_bytes(path.read_bytes().replace(schema, b"!" * len(schema)))
    with pytest.raises(InputError, match="not a Parquet file"):
        check_parquet(path)


def test_a_second_arrow_schema_after_a_harmless_one_is_refused(path, spied):
    with_extension(path, spied)
    evil = pq.read_metadata(path).metadata[b"ARROW:schema"]
    Spy.ran = False
    table = pa.table({"id": ["a"], "messages": [MESSAGES]})
    for keys in ({"ARROW:schemb": evil}, {"a": "b", "ARROW:schemb": evil}):
        pq.write_table(table.replace_schema_metadata(keys), path)
        data = path.read_bytes()
        path.write_bytes(data.replace(b"ARROW:schemb", b"ARROW:schema"))
        with pytest.raises(InputError):
            check_parquet(path)
    assert not Spy.ran


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_footer_with_any_changed_byte_is_read_or_refused(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("parquet") / "in.parquet"
    write(path, [{"id": "a", "messages": MESSAGES}])
    data = bytearray(path.read_bytes())
    data[-1 - place % (len(data) - 4)] = byte
    path.write_bytes(data)
    try:
        found = read(path)
    except InputError:
        return
    assert len(found) <= 2


def test_a_file_written_through_pandas_is_read(path):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"id": ["a"], "messages": [MESSAGES]}).to_parquet(path)
    (conversation,) = read(path)
    assert json.loads(pq.read_metadata(path).metadata[b"pandas"])
    assert conversation.turns[0].content == "Hello"
