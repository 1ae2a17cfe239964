"""A file of vectors is complete or absent, in the order of its texts, and names its origin."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, Text
from mongars.lm.base import Base
from mongars.neurons import vector_file
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.neurons.vector_file import Origin, Written, write_vectors

ORIGIN = Origin("tiny", "b" * 64, None, "bidirectional")
WORDS = ["one", "a much longer text than the others", "three", "four", "five"]
TEXTS = [Text("t.jsonl", number, f"id-{number}", word) for number, word in enumerate(WORDS, start=1)]


@pytest.fixture(scope="module")
def neurons(base: Base) -> Neurons:
    return Neurons(bidirectional_encoder(base), base.tokenizer)


def test_every_text_has_its_vector_in_order_whatever_the_chunk(neurons: Neurons, tmp_path: Path):
    output = tmp_path / "new" / "v.parquet"
    seen: list[Written] = []
    written = write_vectors(neurons, TEXTS, output, ORIGIN, on_chunk=seen.append, chunk_texts=2)
    table = pq.read_table(output)
    vectors, tokens = neurons.encode(WORDS)
    assert table["id"].to_pylist() == [text.id for text in TEXTS]
    np.testing.assert_allclose(np.array(table["vector"].to_pylist(), dtype=np.float32), vectors, atol=1e-5)
    assert written == Written(rows=5, tokens=tokens)
    assert [each.rows for each in seen] == [2, 4, 5]
    assert pq.read_metadata(output).num_row_groups == 3


@pytest.mark.parametrize(("adapter", "stored"), [(None, b"none"), ("a" * 64, b"a" * 64)])
def test_the_metadata_of_a_file_names_its_origin(
    neurons: Neurons, tmp_path: Path, adapter: str | None, stored: bytes
):
    output = tmp_path / "v.parquet"
    write_vectors(neurons, TEXTS, output, Origin("tiny", "b" * 64, adapter, "bidirectional"))
    schema = pq.read_schema(output)
    assert schema.field("id").type == pa.string()
    assert schema.field("vector").type == pa.list_(pa.float32(), 32)
    assert {key: value for key, value in schema.metadata.items() if key.startswith(b"mongars.")} == {
        b"mongars.base": b"tiny",
        b"mongars.base_digest": b"b" * 64,
        b"mongars.adapter": stored,
        b"mongars.attention": b"bidirectional",
        b"mongars.dimensions": b"32",
    }


def test_no_texts_give_a_file_without_rows(neurons: Neurons, tmp_path: Path):
    assert write_vectors(neurons, [], tmp_path / "v.parquet", ORIGIN) == Written()
    assert pq.read_table(tmp_path / "v.parquet").num_rows == 0


def test_bad_lines_and_texts_without_tokens_are_reported_and_left_out(
    neurons: Neurons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Like a tokenizer that drops every character of `four`.
    monkeypatch.setattr(
        neurons, "without_tokens", lambda texts: {i for i, text in enumerate(texts) if text == "four"}
    )
    broken = BadLine("t.jsonl", 9, "not JSON")
    reported: list[BadLine] = []
    written = write_vectors(neurons, [broken, *TEXTS], tmp_path / "v.parquet", ORIGIN, on_bad=reported.append)
    assert (written.rows, written.bad_lines) == (4, 2)
    assert pq.read_table(tmp_path / "v.parquet")["id"].to_pylist() == ["id-1", "id-2", "id-3", "id-5"]
    assert [(bad.line, "four" in bad.reason) for bad in reported] == [(9, False), (4, False)]


@pytest.mark.parametrize("characters", [10**9, 30])
def test_no_more_than_a_chunk_is_read_ahead(
    neurons: Neurons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: int
):
    monkeypatch.setattr(vector_file, "CHUNK_CHARACTERS", characters)
    taken: list[int] = []

    def texts() -> Iterator[Text]:
        for text in TEXTS:
            taken.append(text.line)
            yield text

    ahead: list[int] = []
    write_vectors(
        neurons,
        texts(),
        tmp_path / "v.parquet",
        ORIGIN,
        on_chunk=lambda done: ahead.append(len(taken) - done.rows),
        chunk_texts=3,
    )
    assert ahead == [0, 0]
    # by count after the third text, by length after the long second one
    assert pq.read_metadata(tmp_path / "v.parquet").row_group(0).num_rows == (3 if characters > 100 else 2)


@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_keeps_the_old_file_and_leaves_no_other(
    neurons: Neurons, tmp_path: Path, problem: type[BaseException]
):
    output = tmp_path / "v.parquet"
    output.write_bytes(b"old")

    def stop(_: Written) -> None:
        raise problem

    with pytest.raises(problem):
        write_vectors(neurons, TEXTS, output, ORIGIN, on_chunk=stop, chunk_texts=2)
    assert output.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [output]


def test_a_path_that_cannot_be_written_is_named(neurons: Neurons, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="Cannot write"):
        write_vectors(neurons, TEXTS, tmp_path / "file" / "v.parquet", ORIGIN)
