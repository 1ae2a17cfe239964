"""Share of good dialogue that the quality rules keep, and of planted junk that they drop, by class.

    python benchmarks/quality.py --data FOLDER [--limit 500] [--seed 0]

FOLDER holds `topical_chat_valid.jsonl.gz`, `sgd_dev.jsonl.gz` and `sgd_train.jsonl.gz`, human conversations. Junk
replaces one turn of a real conversation, one class at a time; it counts as dropped when the turn or the
conversation is dropped. For foreign languages all turns are replaced, and the recipe's language detector decides.
"""

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import markdown, run
from benchmarks.planted_junk import GOOD, JUNK, OTHER_LANGUAGES, Generator
from mongars.cli.output import Stages
from mongars.curation.filters.language import UNDETERMINED, detect_language
from mongars.curation.filters.quality import judge
from mongars.errors import InputError
from mongars.records import Turn

SOURCES = ("topical_chat_valid.jsonl.gz", "sgd_dev.jsonl.gz", "sgd_train.jsonl.gz")
LANGUAGE = "en"
MIN_TURNS_TO_PLANT_IN = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the kept share of each file, and the dropped share of each class of planted turns."""
    kept: dict[str, dict[str, Any]] = {}
    for name in SOURCES:
        progress.stage(name)
        conversations = read(flags.data / name)
        kept[name] = keep(conversations)
        if name == SOURCES[0]:
            hosts = [each for each in conversations if len(each) >= MIN_TURNS_TO_PLANT_IN][: flags.limit]
    progress.stage("plant")
    if not hosts:
        raise InputError(f"{SOURCES[0]} has no conversation to plant in.", remedy="See benchmarks/README.md.")
    return {
        "kept": kept,
        "junk": {name: plant(make, hosts, flags.seed) for name, make in JUNK.items()},
        "good": {name: plant(make, hosts, flags.seed) for name, make in GOOD.items()},
        "languages": {name: translate(make, hosts, flags.seed) for name, make in OTHER_LANGUAGES.items()},
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the tables: files, then classes."""
    files = [
        [
            name,
            each["conversations"],
            _share(each["kept_conversations"], each["conversations"]),
            each["turns"],
            _share(each["kept_turns"], each["turns"]),
            ", ".join(f"{reason} {count}" for reason, count in each["reasons"].items()) or "none",
        ]
        for name, each in result["kept"].items()
    ]
    classes = [
        [wanted, name, each["planted"], _share(each["dropped"], each["planted"])]
        for wanted, group in (("drop", "junk"), ("drop", "languages"), ("keep", "good"))
        for name, each in result[group].items()
    ]
    mean = fmean(each["dropped"] / each["planted"] for each in result["junk"].values())
    return "\n".join(
        [
            markdown(["file", "conversations", "kept", "turns", "kept", "dropped turns by reason"], files),
            markdown(["wanted", "class", "planted", "dropped"], classes),
            f"Junk, mean over classes: {mean:.3f} dropped.\n",
        ]
    )


def read(path: Path) -> list[list[Turn]]:
    """Return the turns of each conversation of a file. Raises InputError."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            rows = [json.loads(line) for line in stream]
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}.", remedy="See benchmarks/README.md.") from error
    return [[Turn(each["role"], each["content"]) for each in row["messages"]] for row in rows]


def keep(conversations: Sequence[Sequence[Turn]]) -> dict[str, Any]:
    """Return the number of conversations and turns, of those kept, and the reasons of dropped turns."""
    judged = [judge(turns) for turns in conversations]
    reasons = sum((Counter(each.dropped) for each in judged), Counter())
    return {
        "conversations": len(conversations),
        "kept_conversations": sum(each.reason is None for each in judged),
        "turns": sum(map(len, conversations)),
        "kept_turns": sum(len(each.turns) for each in judged),
        "reasons": {str(reason): count for reason, count in reasons.items()},
    }


def plant(make: Generator, hosts: Sequence[Sequence[Turn]], seed: int) -> dict[str, int]:
    """Replace one turn in each conversation by a planted one; return how many of these are dropped."""
    rng = random.Random(seed)
    dropped = 0
    for turns in hosts:
        place = rng.randrange(len(turns))
        planted = replace(turns[place], content=make(rng, turns[place].content))
        left = judge([*turns[:place], planted, *turns[place + 1 :]]).turns
        dropped += not any(turn is planted for turn in left)
    return {"planted": len(hosts), "dropped": dropped}


def translate(make: Generator, hosts: Sequence[Sequence[Turn]], seed: int) -> dict[str, int]:
    """Replace all turns by another language; return how many conversations the detector rejects."""
    rng = random.Random(seed)
    dropped = 0
    for turns in hosts:
        texts = [make(rng, turn.content) for turn in turns]
        dropped += detect_language(texts, [LANGUAGE]) not in (LANGUAGE, UNDETERMINED)
    return {"planted": len(hosts), "dropped": dropped}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else ""


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--limit", type=int, default=500, help="number of conversations that junk is planted in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
