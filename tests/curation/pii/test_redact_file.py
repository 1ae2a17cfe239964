"""Redacted files: offsets into the original text, pseudonyms per id, bad lines reported."""

from hypothesis import given
from hypothesis import strategies as st

from mongars.curation.pii import Mode
from mongars.curation.pii.redact_file import Redaction
from mongars.formats.jsonl import BadLine, Text

SECRET = b"s" * 32


def lines(*items, mode=Mode.PSEUDONYM, known=()):
    bad = []
    redaction = Redaction(mode, SECRET, known)
    return list(redaction.lines(items, bad.append)), redaction, bad


def text(identity, content):
    return Text("in.jsonl", 1, identity, content)


def test_spans_are_offsets_into_the_original_text():
    content = "Write to anna@example.com, or call (514) 555-0123."
    ((line,), redaction, _) = lines(text("a", content), mode=Mode.TAG)
    assert line["text"] == "Write to <EMAIL>, or call <PHONE>."
    assert [(content[s["start"] : s["end"]], s["type"]) for s in line["spans"]] == [
        ("anna@example.com", "EMAIL"),
        ("(514) 555-0123", "PHONE"),
    ]
    assert (redaction.texts, redaction.spans) == (1, {"EMAIL": 1, "PHONE": 1})


def test_a_value_has_one_pseudonym_per_id():
    ((one, two, other), _, _) = lines(text("a", "x@y.org"), text("a", "X@y.org"), text("b", "x@y.org"))
    assert one["text"] == two["text"] != other["text"]


def test_a_bad_line_is_reported_and_the_rest_is_redacted():
    bad_line = BadLine("in.jsonl", 2, "not JSON")
    (done, redaction, bad) = lines(text("a", "hello"), bad_line, text("b", "there"))
    assert [line["id"] for line in done] == ["a", "b"]
    assert (bad, redaction.bad_lines) == ([bad_line], 1)


def test_known_values_are_redacted_and_never_in_the_repr():
    ((line,), redaction, _) = lines(text("a", "it is Zorb Quux"), known=("Zorb Quux",), mode=Mode.MASK)
    assert line["text"] == "it is █████████"
    assert "Zorb" not in repr(redaction)
    assert "ssss" not in repr(redaction)


@given(st.lists(st.sampled_from(["a@b.io", "4242 4242 4242 4242", "é", "\U0001f600", " ", "x"])).map("".join))
def test_spans_and_the_text_between_them_give_the_redacted_text(content):
    ((line,), _, _) = lines(text("a", content), mode=Mode.TAG)
    rest, end = "", 0
    for span in line["spans"]:
        rest += content[end : span["start"]] + f"<{span['type']}>"
        end = span["end"]
    assert line["text"] == rest + content[end:]
