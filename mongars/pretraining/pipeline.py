"""Text to a tokenizer and packed rows, on Ray Data.

Owns the distribution of that work and the files that the workers read: `tokenizer/`, `rows.npy`, `heldout.npy`.
Must not know models. What is there already is not made again: a run that goes on does not tokenise.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, check_readable, numbered_lines
from mongars.formats.shards import Shard, file_shards, place_of
from mongars.pretraining.config import PretrainConfig
from mongars.pretraining.documents import document_ids, document_texts, read_document
from mongars.pretraining.packing import GROUPS, order, pack
from mongars.pretraining.tokenizer import train_tokenizer
from mongars.storage.atomic import new_folder, replacing, write_atomically
from mongars.storage.digests import canonical_json
from mongars.training.data.tokenize import load_tokenizer

_TOKENISED = pa.schema(
    [
        ("key", pa.int64()),
        ("group", pa.int32()),
        ("order", pa.int64()),
        ("tokens", pa.list_(pa.int32())),
        ("problem", pa.string()),
    ]
)
_DOCUMENTS = 256  # in a table of tokens: some 100,000 tokens of chat


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run trains on: the files of `folder`, and the lines that could not be read."""

    tokenizer: Path
    rows: Path  # int32 [rows, context]
    heldout: Path | None
    bad_lines: tuple[BadLine, ...]


def prepare(inputs: Sequence[Path], heldout: Path | None, config: PretrainConfig, folder: Path) -> Prepared:
    """Return the files of a run, made in `folder` where they are not there yet.

    The same lines in the same files give the same bytes. Raises InputError for a file that cannot be read or for
    too little text.
    """
    tokenizer = folder / "tokenizer"
    if not tokenizer.exists():
        with new_folder(tokenizer) as made:
            texts = (text for path in inputs for text in _texts(path))
            train_tokenizer(texts, vocab_size=config.vocab_size, max_tokens=config.context).save_pretrained(made)
    rows = folder / "rows.npy"
    problems = _packed(inputs, tokenizer, config, rows)
    if heldout is None:
        return Prepared(tokenizer, rows, None, tuple(problems))
    measured = folder / "heldout.npy"
    problems += _packed([heldout], tokenizer, config, measured)
    return Prepared(tokenizer, rows, measured, tuple(problems))


def _texts(path: Path) -> Iterator[str]:
    check_readable(path)
    for number, line in numbered_lines(path):
        document = read_document(path, number, line)
        if document is not None and not isinstance(document, BadLine):
            yield from document_texts(document)


def _packed(paths: Sequence[Path], tokenizer: Path, config: PretrainConfig, target: Path) -> list[BadLine]:
    """Return the lines of some files that could not be read, once the packed rows of the rest are in `target`."""
    problems = target.with_suffix(".bad_lines.json")
    if not target.exists():
        rows, found = _pack_files(paths, tokenizer, config)
        write_atomically(problems, canonical_json([asdict(line) for line in found]))
        with replacing(target) as stream:
            np.save(stream, rows, allow_pickle=False)
    return [BadLine(**line) for line in json.loads(problems.read_text(encoding="utf-8"))]


def _pack_files(
    paths: Sequence[Path], tokenizer: Path, config: PretrainConfig
) -> tuple[np.ndarray, list[BadLine]]:
    """Return the packed rows of some files, and the lines that could not be read."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    tasks = file_shards(paths, tasks=cpus)
    dataset = ray.data.from_items([asdict(shard) for shard in tasks], override_num_blocks=len(tasks))
    dataset.context.enable_progress_bars = False
    tokenised = dataset.map_batches(
        tokenise_shards,
        batch_format="pyarrow",
        batch_size=1,
        fn_kwargs={"tokenizer": str(tokenizer), "seed": config.seed},
    ).materialize()
    # Ray's 200 partitions would be as many tasks: a quarter of a minute for nothing.
    packed = tokenised.groupby("group", num_partitions=min(cpus, GROUPS)).map_groups(
        pack_group, batch_format="pyarrow", fn_kwargs={"context": config.context}
    )
    rows = _in_order(_tables(packed), config.context)
    if not len(rows):
        raise InputError(
            f"Too little text: not one row of {config.context} tokens.", remedy="Give more conversations."
        )
    return rows, _bad_lines(_tables(tokenised.select_columns(["key", "problem"])), paths)


def tokenise_shards(table: pa.Table, *, tokenizer: str, seed: int) -> Iterator[pa.Table]:
    """Yield the documents of a table of shards as tokens, or as the problem of a line."""
    loaded = load_tokenizer(tokenizer)
    for shard in (Shard(**row) for row in table.to_pylist()):
        rows: list[dict[str, Any]] = []
        for number, line in shard.lines():
            document = read_document(Path(shard.path), number, line)
            if document is None:
                continue
            rows.append(_row(shard.key(number), document, loaded, seed))
            if len(rows) == _DOCUMENTS:
                yield pa.Table.from_pylist(rows, schema=_TOKENISED)
                rows = []
        yield pa.Table.from_pylist(rows, schema=_TOKENISED)


def _row(key: int, document: Any, tokenizer: Any, seed: int) -> dict[str, Any]:
    place = order(seed, key)
    row = {"key": key, "group": place % GROUPS, "order": place, "tokens": [], "problem": None}
    if isinstance(document, BadLine):
        return row | {"problem": document.reason}
    return row | {"tokens": document_ids(tokenizer, document)}


def pack_group(group: pa.Table, *, context: int) -> pa.Table:
    """Return the rows of one group: its documents in their order, cut."""
    ordered = group.sort_by([("order", "ascending"), ("key", "ascending")])
    rows = pack(ordered["tokens"].to_pylist(), context)
    return pa.table(
        {
            "group": pa.array([group["group"][0].as_py()] * len(rows), pa.int32()),
            "place": pa.array(range(len(rows)), pa.int32()),
            "tokens": pa.array(list(rows), pa.list_(pa.int32())),
        }
    )


def _in_order(tables: Sequence[pa.Table], context: int) -> np.ndarray:
    if not tables:  # no group had a whole row
        return np.zeros((0, context), dtype=np.int32)
    rows = pa.concat_tables(tables).sort_by([("group", "ascending"), ("place", "ascending")])
    tokens: np.ndarray = rows["tokens"].combine_chunks().values.to_numpy()
    return tokens.reshape(-1, context)


def _tables(dataset: Any) -> list[pa.Table]:
    tables: list[pa.Table] = ray.get(dataset.to_arrow_refs())
    return [table for table in tables if table.num_columns]


def _bad_lines(tables: Iterable[pa.Table], paths: Sequence[Path]) -> list[BadLine]:
    rows = pa.concat_tables(tables).to_pylist()
    found = sorted((row["key"], row["problem"]) for row in rows if row["problem"])
    places = ((place_of(key), problem) for key, problem in found)
    return [BadLine(str(paths[file]), line, problem) for (file, line), problem in places]
