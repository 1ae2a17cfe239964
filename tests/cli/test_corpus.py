"""`mongars corpus` on tiny data sets of invented text."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mongars.formats.jsonl import parse_line
from mongars.pretraining.corpus.build import ACCOUNT, DATA_SETS
from mongars.records import Conversation
from mongars.storage.digests import file_digest

ROOT = Path(__file__).parents[2]
HELD_OUT = ("sgd_dev.jsonl.gz", "qmsum_val.jsonl.gz", "stsb_en_dev.csv", "stsb_en_train.csv", "wnut17_train.conll")
# Prints every file of the data that the job opens; in its own process, because an audit hook cannot be removed.
WATCHED = """
import runpy, sys
data = sys.argv[sys.argv.index("--data") + 1]
def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(data):
        sys.stderr.write(f"opened {arguments[0]}\\n")
sys.addaudithook(watch)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def packed(*values: Any) -> bytes:
    return gzip.compress("".join(json.dumps(value) + "\n" for value in values).encode())


def talks(source: str, first: str) -> bytes:
    other = "assistant" if first == "user" else "user"
    return packed(
        *(
            {
                "id": f"{source}-{number}",
                "source": source,
                "messages": [
                    {"role": first, "content": f"Is gate {number} open?"},
                    {"role": other, "content": f"Gate {number} is shut."},
                ],
            }
            for number in range(60)
        )
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    turns = [{"speaker": "Miller", "content": "The wheel turns ."}]
    queries = [{"query": "What turns ?", "answer": "The wheel ."}]
    contents = {
        "sgd_train.jsonl.gz": talks("gates", "user"),
        "self_dialogue.jsonl.gz": talks("alone", "assistant"),
        "topical_chat_valid.jsonl.gz": talks("topics", "user"),
        "gsm8k_train.jsonl.gz": packed({"question": "One and one?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}),
        "qmsum_train.jsonl.gz": packed(
            {"meeting_transcripts": turns, "general_query_list": queries, "specific_query_list": []}
        ),
        "wikitext2_valid_test.txt.gz": gzip.compress(b" = Mills = \n \n Mills grind corn .\n"),
        "banking77_train.csv": b"text,category\nMy card is bent,bent_card\n",
        "clinc_small_train.json": json.dumps({"train": [["sing to me", "song"]], "oos_train": []}).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name in HELD_OUT:
        (folder / name).write_bytes(b"held out")
    return folder


@pytest.fixture
def corpus(mongars, data: Path, tmp_path: Path):
    """Return corpus(output, *flags) -> Result, which gathers the text of the data sets."""
    return lambda output, *flags: mongars("corpus", "--data", str(data), "--output", str(output), "--json", *flags)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())}


def test_each_source_becomes_a_file_and_no_held_out_file_is_opened(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "corpus"
    job = [sys.executable, "-c", WATCHED, "jobs/nano_corpus.py", "--data", str(data), "--output", str(output)]
    result = subprocess.run(job, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    opened = {line.removeprefix("opened ") for line in result.stderr.splitlines() if line.startswith("opened ")}
    assert opened == {str(data / each.file) for each in DATA_SETS}
    accounts = json.loads(result.stdout)
    assert json.loads((output / ACCOUNT).read_bytes()) == accounts
    assert set(digests(output)) == {ACCOUNT, *(f"{each.name}.jsonl.gz" for each in DATA_SETS)}
    system_turns = 0
    for account in accounts:
        path = output / account["output"]
        documents = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        assert account["documents"] == len(documents)
        assert account["input_sha256"] == file_digest(data / account["input"])
        assert account["output_sha256"] == file_digest(path)
        assert account["upstream"]
        assert account["licence"]
        for document in documents:
            if "text" in document:
                assert set(document) == {"id", "source", "text"}
                continue
            assert set(document) == {"id", "source", "messages"}
            found = parse_line(path, 2, json.dumps(document).encode())
            assert isinstance(found, Conversation)
            system_turns += found.turns[0].role == "system"
    assert system_turns == sum(account["system_turns"] for account in accounts) > 20


def test_the_account_counts_words_and_characters(corpus, tmp_path: Path) -> None:
    accounts = {each["name"]: each for each in json.loads(corpus(tmp_path / "corpus").stdout)}
    text = "Mills\nMills grind corn."
    assert accounts["wikitext2"]["words"] == len(text.split())
    assert accounts["wikitext2"]["characters"] == len(text)
    assert accounts["gsm8k"]["left_out"] == {"calculator annotations": 1}


def test_the_table_has_the_licences_and_the_total(mongars, data: Path, tmp_path: Path) -> None:
    shown = mongars("corpus", "--data", str(data), "--output", str(tmp_path / "corpus")).stdout
    assert all(each.licence in shown for each in DATA_SETS)
    assert "all " in shown


def test_equal_data_and_seed_give_equal_bytes_and_another_seed_does_not(corpus, tmp_path: Path) -> None:
    outputs = [tmp_path / name for name in ("once", "twice", "other")]
    for output, seed in zip(outputs, ("0", "0", "1"), strict=True):
        assert corpus(output, "--seed", seed).exit_code == 0
    once, twice, other = map(digests, outputs)
    assert once == twice
    changed = {name for name in once if once[name] != other[name]}
    assert changed == {ACCOUNT, "sgd.jsonl.gz", "self_dialogue.jsonl.gz", "topical_chat.jsonl.gz"}


def test_a_missing_file_is_reported_before_anything_is_written(corpus, data: Path, tmp_path: Path) -> None:
    (data / "gsm8k_train.jsonl.gz").unlink()
    result = corpus(tmp_path / "corpus")
    assert result.exit_code == 2
    assert "gsm8k_train.jsonl.gz" in result.stderr
    assert not (tmp_path / "corpus").exists()


def test_a_malformed_file_leaves_no_account(corpus, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "corpus"
    assert corpus(output).exit_code == 0
    (data / "clinc_small_train.json").write_text("{}")
    result = corpus(output)
    assert result.exit_code == 2
    assert "clinc_small_train.json" in result.stderr
    assert result.stdout == ""
    assert not (output / ACCOUNT).exists()
