"""Compiles the text of mongars-nano from public data sets into JSON Lines, with a record of sources and licences.

Opens only the files that are named here, because held-out files are in the same folder.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from mongars.errors import InputError
from mongars.formats.jsonl import write_lines
from mongars.pretraining.corpus import sources as nano_sources
from mongars.pretraining.corpus.sources import Document, Reader
from mongars.storage.atomic import write_atomically
from mongars.storage.digests import file_digest

ACCOUNT = "SOURCES.json"


@dataclass(frozen=True, slots=True)
class DataSet:
    """A public data set: its file, its origin and licence, and the reader of its format."""

    name: str
    file: str
    upstream: str
    licence: str
    reader: Reader


DATA_SETS = (
    DataSet(
        "sgd",
        "sgd_train.jsonl.gz",
        "google-research-datasets/dstc8-schema-guided-dialogue",
        "CC BY-SA 4.0",
        nano_sources.conversations,
    ),
    DataSet(
        "self_dialogue",
        "self_dialogue.jsonl.gz",
        "jfainberg/self_dialogue_corpus",
        "BSD 3-Clause",
        nano_sources.conversations,
    ),
    DataSet(
        "topical_chat",
        "topical_chat_valid.jsonl.gz",
        "alexa/Topical-Chat",
        "CDLA-Sharing 1.0",
        nano_sources.conversations,
    ),
    DataSet("gsm8k", "gsm8k_train.jsonl.gz", "openai/grade-school-math", "MIT", nano_sources.problems),
    DataSet("qmsum", "qmsum_train.jsonl.gz", "Yale-LILY/QMSum", "MIT", nano_sources.meetings),
    DataSet(
        "wikitext2",
        "wikitext2_valid_test.txt.gz",
        "pytorch/examples, wikitext-2",
        "CC BY-SA 3.0",
        nano_sources.articles,
    ),
    DataSet(
        "banking77",
        "banking77_train.csv",
        "PolyAI-LDN/task-specific-datasets",
        "CC BY 4.0",
        nano_sources.banking77,
    ),
    DataSet("clinc150", "clinc_small_train.json", "clinc/oos-eval", "CC BY 3.0", nano_sources.clinc),
)


@dataclass(frozen=True, slots=True)
class Account:
    """Statistics of one data set's text. Words are split at whitespace; all counts include system turns."""

    name: str
    upstream: str
    licence: str
    input: str
    input_sha256: str
    output: str
    output_sha256: str
    documents: int
    words: int
    characters: int
    system_turns: int
    left_out: dict[str, int]


def gather(
    data: Path, output: Path, *, seed: int = 0, on_source: Callable[[Account], None] | None = None
) -> list[Account]:
    """Write each data set in the folder `data` to `output/<name>.jsonl.gz`, and statistics to SOURCES.json.

    Equal files and seeds give equal bytes. Raises InputError, before it writes SOURCES.json, for a file that is
    missing or not in its format.
    """
    missing = [each.file for each in DATA_SETS if not (data / each.file).is_file()]
    if missing:
        raise InputError(
            f"{data} lacks {', '.join(missing)}.",
            remedy="Put the files of the public data sets into the folder --data, under these names.",
            param="data",
        )
    (output / ACCOUNT).unlink(missing_ok=True)
    accounts = []
    for each in DATA_SETS:
        account = _write(each, data / each.file, output / f"{each.name}.jsonl.gz", seed)
        accounts.append(account)
        if on_source:
            on_source(account)
    text = json.dumps([asdict(account) for account in accounts], indent=2, ensure_ascii=False)
    write_atomically(output / ACCOUNT, text.encode("utf-8") + b"\n")
    return accounts


def _write(each: DataSet, source: Path, target: Path, seed: int) -> Account:
    left_out: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    rng = Random(f"{seed}:{each.name}")  # noqa: S311 (a reproducible choice, not a secret)
    documents = write_lines(target, _counted(each.reader(source, rng, left_out), counts))
    return Account(
        name=each.name,
        upstream=each.upstream,
        licence=each.licence,
        input=source.name,
        input_sha256=file_digest(source),
        output=target.name,
        output_sha256=file_digest(target),
        documents=documents,
        words=counts["words"],
        characters=counts["characters"],
        system_turns=counts["system turns"],
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
    )


def _counted(documents: Iterable[Document], counts: Counter[str]) -> Iterator[Document]:
    for document in documents:
        messages = document.get("messages", [])
        texts = [document["text"]] if "text" in document else [message["content"] for message in messages]
        counts["words"] += sum(len(text.split()) for text in texts)
        counts["characters"] += sum(map(len, texts))
        counts["system turns"] += sum(message["role"] == "system" for message in messages)
        yield document
