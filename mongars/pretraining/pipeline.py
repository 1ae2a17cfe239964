"""Prepares text for pretraining on Ray Data: `tokenizer/`, `rows.npy` and `heldout.npy` in the run's folder.

Existing files are reused, so a resumed run does not tokenise again.
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
from mongars.pretraining.documents import (
    GROUPS,
    document_ids,
    document_order,
    document_texts,
    pack,
    read_document,
)
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
_TABLE_DOCUMENTS = 256  # some 100,000 tokens of chat


@dataclass(frozen=True, slots=True)
class Prepared:
    """The prepared files of a run, and the lines that could not be read."""

    tokenizer: Path
    rows: Path  # int32 [rows, context]
    heldout: Path | None
    bad_lines: tuple[BadLine, ...]


def prepare(inputs: Sequence[Path], heldout: Path | None, config: PretrainConfig, folder: Path) -> Prepared:
    """Return the files of a run, and create those that `folder` lacks.

    Equal input files give equal bytes. Raises InputError for an unreadable file and for too little text.
    """
    tokenizer = folder / "tokenizer"
    if not tokenizer.exists():
        texts = (text for path in inputs for text in _texts(path))
        trained = train_tokenizer(texts, vocab_size=config.vocab_size, max_tokens=config.context)
        with new_folder(tokenizer) as created:
            trained.save_pretrained(created)
    rows = folder / "rows.npy"
    problems = _pack_once(inputs, tokenizer, config, rows)
    if heldout is None:
        return Prepared(tokenizer, rows, None, tuple(problems))
    heldout_rows = folder / "heldout.npy"
    problems += _pack_once([heldout], tokenizer, config, heldout_rows)
    return Prepared(tokenizer, rows, heldout_rows, tuple(problems))


def _texts(path: Path) -> Iterator[str]:
    check_readable(path)
    for number, line in numbered_lines(path):
        document = read_document(path, number, line)
        if document is not None and not isinstance(document, BadLine):
            yield from document_texts(document)


def _pack_once(paths: Sequence[Path], tokenizer: Path, config: PretrainConfig, target: Path) -> list[BadLine]:
    """Write the packed rows of the files to `target`, unless it exists; return the lines that were not read."""
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
    """Return the packed rows of the files, and the lines that could not be read."""
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
    # Ray's default of 200 partitions would start 200 tasks.
    packed = tokenised.groupby("group", num_partitions=min(cpus, GROUPS)).map_groups(
        pack_group, batch_format="pyarrow", fn_kwargs={"context": config.context}
    )
    rows = _in_order(_tables(packed), config.context)
    if not len(rows):
        raise InputError(
            f"Too little text for one row of {config.context} tokens.", remedy="Give more conversations."
        )
    return rows, _bad_lines(_tables(tokenised.select_columns(["key", "problem"])), paths)


def tokenise_shards(table: pa.Table, *, tokenizer: str, seed: int) -> Iterator[pa.Table]:
    """Yield the documents of a table of shards as tokens, and the problems of lines that are none."""
    loaded = load_tokenizer(tokenizer)
    for shard in (Shard(**row) for row in table.to_pylist()):
        rows: list[dict[str, Any]] = []
        for number, line in shard.lines():
            document = read_document(Path(shard.path), number, line)
            if document is None:
                continue
            rows.append(_row(shard.key(number), document, loaded, seed))
            if len(rows) == _TABLE_DOCUMENTS:
                yield pa.Table.from_pylist(rows, schema=_TOKENISED)
                rows = []
        yield pa.Table.from_pylist(rows, schema=_TOKENISED)


def _row(key: int, document: Any, tokenizer: Any, seed: int) -> dict[str, Any]:
    position = document_order(seed, key)
    row = {"key": key, "group": position % GROUPS, "order": position, "tokens": [], "problem": None}
    if isinstance(document, BadLine):
        return row | {"problem": document.reason}
    return row | {"tokens": document_ids(tokenizer, document)}


def pack_group(group: pa.Table, *, context: int) -> pa.Table:
    """Return the packed rows of one group of documents."""
    ordered = group.sort_by([("order", "ascending"), ("key", "ascending")])
    rows = pack(ordered["tokens"].to_pylist(), context)
    return pa.table(
        {
            "group": pa.array([group["group"][0].as_py()] * len(rows), pa.int32()),
            "index": pa.array(range(len(rows)), pa.int32()),
            "tokens": pa.array(list(rows), pa.list_(pa.int32())),
        }
    )


def _in_order(tables: Sequence[pa.Table], context: int) -> np.ndarray:
    if not tables:  # no group had a complete row
        return np.zeros((0, context), dtype=np.int32)
    rows = pa.concat_tables(tables).sort_by([("group", "ascending"), ("index", "ascending")])
    tokens: np.ndarray = rows["tokens"].combine_chunks().values.to_numpy()
    return tokens.reshape(-1, context)


def _tables(dataset: Any) -> list[pa.Table]:
    tables: list[pa.Table] = ray.get(dataset.to_arrow_refs())
    return [table for table in tables if table.num_columns]


def _bad_lines(tables: Iterable[pa.Table], paths: Sequence[Path]) -> list[BadLine]:
    rows = pa.concat_tables(tables).to_pylist()
    found = sorted((row["key"], row["problem"]) for row in rows if row["problem"])
    positions = ((place_of(key), problem) for key, problem in found)
    return [BadLine(str(paths[file]), line, problem) for (file, line), problem in positions]
