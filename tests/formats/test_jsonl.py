"""The file form of conversations: everything readable is read, everything else is named by its line."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.errors import InputError
from mongars.formats.jsonl import (
    BadLine,
    Text,
    numbered_lines,
    parse_line,
    read_conversations,
    read_texts,
    write_conversations,
)
from mongars.records import ROLES, Conversation, Opinion, Profile, Turn

GOOD = {"id": "c1", "messages": [{"role": "user", "content": "Hello"}]}

texts = st.text(st.characters(exclude_categories=["Cs"]))
times = st.none() | st.datetimes(timezones=st.just(UTC))
turns = st.builds(Turn, st.sampled_from(ROLES), texts, times)
conversations = st.builds(
    Conversation,
    id=texts.filter(bool),
    user=texts.filter(bool),
    turns=st.lists(turns, max_size=4).map(tuple),
    source=texts.filter(bool),
    consent=st.booleans(),
    created_at=st.datetimes(timezones=st.just(UTC)),
    opinions=st.lists(st.builds(Opinion, texts, texts, st.booleans()), max_size=2).map(tuple),
    profile=st.builds(
        Profile,
        *(
            st.lists(st.from_regex(form, fullmatch=True), max_size=2, unique=True).map(tuple)
            for form in (r"[A-Zé]{2,9} [a-z0-9-]{1,9}", r"[a-z.]{1,9}@[a-z]{1,9}", r"\+?[0-9]{7,12}")
        ),
    ),
)


def read(tmp_path, *lines, name="in.jsonl"):
    path = tmp_path / name
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return list(read_conversations(path))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "c1", "messages"', "not JSON"),
        (b'{"id": "caf\xe9", "messages": []}', "not UTF-8 at byte 12"),
        (b'{"id": "c1\x00", "messages": []}', "a null byte"),
        (b'{"id": "c1\x07", "messages": []}', "not JSON: Invalid control character"),
        (b"\xef\xbb\xbf{}", "not JSON: Unexpected UTF-8 BOM"),
        ([1, 2], "not a JSON object"),
        ({"messages": []}, "no `id`"),
        ({"id": True, "messages": []}, "`id` is not"),
        ({"id": "c1"}, "no list `messages`"),
        ({"id": "c1", "messages": ["hello"]}, "message 1 is not an object"),
        ({"id": "c1", "messages": [{"role": "tool", "content": "x"}]}, "message 1 has no role"),
        ({"id": "c1", "messages": [{"role": "user"}]}, "message 1 has no text"),
        ({"id": "c1", "messages": [{"role": "user", "content": "\ud800"}]}, "half a surrogate"),
        ({"id": "c1", "messages": [], "consent": "yes"}, "`consent`"),
        ({"id": "c1", "messages": [], "created_at": "yesterday"}, "not an ISO 8601 time"),
        ({"id": "c1", "messages": [], "opinions": {}}, "`opinions` is not a list"),
        ({"id": "c1", "messages": [], "profile": ["Anna"]}, "`profile` is not an object"),
        (
            {"id": "c1", "messages": [], "profile": {"emails": ["me"]}},
            "the profile has an impossible value among its emails",
        ),
        (
            {"id": "c1", "messages": [], "profile": {"names": "Anna"}},
            "`names` of the profile is not a list of texts",
        ),
        (
            {"id": "c1", "messages": [], "profile": {"phones": [5]}},
            "`phones` of the profile is not a list of texts",
        ),
        ({"id": "c1", "messages": [], "opinions": [1]}, "opinion 1 is not an object"),
        ({"id": "c1", "messages": [], "opinions": [{"query": "a", "text": "b"}]}, "opinion 1 has no texts"),
        (b"[" * 100_000, "nested too deep"),
        (b"9" * 10_000, "a number is too long"),
    ],
)
def test_a_bad_line_has_a_reason_and_the_rest_is_read(tmp_path, line, reason):
    first, bad, last = read(tmp_path, GOOD, line, GOOD)
    assert isinstance(first, Conversation)
    assert isinstance(last, Conversation)
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert reason in bad.reason


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_texts_are_read_in_order_with_line_numbers_and_bad_lines(tmp_path, name):
    lines = [
        {"id": "a", "text": "one"},
        {"id": "b"},
        {"id": "c", "text": " \n"},
        {"id": "d", "text": ["two"]},
        {"text": "three"},
        {"id": "e", "text": "\ud800"},
        {"id": 7, "text": "four"},
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    first, *bad, last = read_texts(path)
    assert (first, last) == (Text(str(path), 1, "a", "one"), Text(str(path), 7, "7", "four"))
    assert [(each.line, each.reason) for each in bad] == [
        (2, "no `text`"),
        (3, "an empty `text`"),
        (4, "`text` is not a text"),
        (5, "no `id`"),
        (6, "half a surrogate pair in a text"),
    ]


def test_a_reason_never_contains_text_of_a_message(tmp_path):
    (bad,) = read(tmp_path, b'{"id": "c1", "messages": [{"role": "user", "content": "my secret words" oops}]}')
    assert "secret" not in bad.reason


def test_user_defaults_to_the_id_and_consent_to_true(tmp_path):
    (conversation,) = read(tmp_path, GOOD)
    assert conversation.user == "c1"
    assert conversation.consent is True


def test_refused_consent_is_kept(tmp_path):
    (conversation,) = read(tmp_path, GOOD | {"consent": False})
    assert conversation.consent is False


def test_the_first_dated_message_dates_a_conversation(tmp_path):
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b", "created_at": 0}]
    (conversation,) = read(tmp_path, {"id": 7, "messages": messages})
    assert conversation.id == "7"
    assert conversation.created_at == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_byte_order_mark_and_blank_lines_are_ignored(tmp_path):
    assert len(read(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"", b"  ", GOOD)) == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_line_of_a_utf16_file_is_bad(tmp_path, encoding):
    path = tmp_path / "in.jsonl"
    path.write_bytes("".join(json.dumps(GOOD | {"id": n}) + "\n" for n in range(3)).encode(encoding))
    bad = list(read_conversations(path))
    assert all(isinstance(each, BadLine) for each in bad)
    assert len(bad) >= 3
    assert "UTF-16" in bad[0].reason


def test_an_overlong_line_is_bad_and_the_rest_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mongars.formats.jsonl.MAX_LINE_BYTES", 1_000)
    long = GOOD | {"messages": [{"role": "user", "content": "x" * 10_000}]}
    first, bad, last = read(tmp_path, GOOD, long, GOOD | {"id": "c2"})
    assert (first.id, last.id) == ("c1", "c2")
    assert (bad.line, bad.reason) == (2, "longer than 1000 bytes")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"{}", mtime=0), "is gzip but is not named"),
        (b"PAR1.....PAR1", "is Parquet, not JSON Lines"),
    ],
)
def test_a_file_with_the_wrong_extension_is_refused(tmp_path, data, message):
    path = tmp_path / "in.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_conversations(path)


def test_a_truncated_gzip_file_is_read_up_to_its_end(tmp_path):
    whole = gzip.compress(b"".join(json.dumps(GOOD | {"id": i}).encode() + b"\n" for i in range(20_000)))
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    items = list(read_conversations(path))
    assert len(items) > 1000
    assert isinstance(items[-1], BadLine)
    assert "damaged" in items[-1].reason


def test_a_missing_file_is_refused_at_once_with_a_remedy(tmp_path):
    with pytest.raises(InputError, match="Give the path"):
        read_conversations(tmp_path / "missing.jsonl")


def test_a_gz_file_that_is_not_gzip_is_refused(tmp_path):
    path = tmp_path / "in.jsonl.gz"
    path.write_text("{}")
    with pytest.raises(InputError, match="is not gzip"):
        read_conversations(path)


@given(st.lists(conversations, max_size=4), st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_written_conversations_are_read_unchanged(tmp_path_factory, written, name):
    path = tmp_path_factory.mktemp("sources") / name
    assert write_conversations(path, written) == len(written)
    assert list(read_conversations(path)) == written


def test_a_failed_write_leaves_the_file_unchanged(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("before")

    def broken():
        yield Conversation("c1", "u", ())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_conversations(path, broken())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@given(st.integers(1, 5), st.integers(0, 400))
def test_stripes_together_are_the_whole_file(tmp_path_factory, stripes, lines):
    path = tmp_path_factory.mktemp("stripes") / "a.jsonl"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(1, lines + 1)))
    parts = [list(numbered_lines(path, stripe=stripe, stripes=stripes)) for stripe in range(stripes)]
    assert sorted(item for part in parts for item in part) == [(n, b"%d\n" % n) for n in range(1, lines + 1)]


@given(st.binary(max_size=200))
def test_any_bytes_give_a_conversation_or_bad_line_or_nothing(line):
    result = parse_line("x", 1, line)
    assert result is None or isinstance(result, Conversation | BadLine)
