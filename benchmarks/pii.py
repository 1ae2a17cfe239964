"""Recall, precision and throughput of personal-data detection, against Presidio in the same run.

    python benchmarks/pii.py --data FOLDER [--presidio PYTHON] [--repeats 5]

FOLDER holds `pii_generated_large.json` of presidio-research (texts with gold spans), `sgd_dev_slots.jsonl.gz`
(utterances with annotated phone numbers) and `wnut17_dev.conll` (named entities in noisy text). A gold span counts
as found when a span of its type overlaps it by at least half of their union; a span without such a gold span is a
false positive. Presidio runs in a separate environment, whose Python is given by `--presidio`, with a blank spaCy
model. Rounds are interleaved over the same texts, on one core each, and times are processor time.
"""

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import markdown, rate_and_ratio, run
from mongars.cli.output import Stages
from mongars.curation.pii import PiiType, find_pii
from mongars.curation.pii.person_names.tagger import PersonTagger, load_tagger
from mongars.errors import InputError, UnavailableError

PEER = Path(__file__).with_name("peers") / "presidio_pii.py"
SAME_PLACE = 0.5
# The structured gold types: our name, Presidio's name. Gold also has names, places and organisations.
STRUCTURED: Mapping[str, tuple[PiiType, str]] = {
    "CREDIT_CARD": (PiiType.CARD, "CREDIT_CARD"),
    "PHONE_NUMBER": (PiiType.PHONE, "PHONE_NUMBER"),
    "EMAIL_ADDRESS": (PiiType.EMAIL, "EMAIL_ADDRESS"),
    "US_SSN": (PiiType.SSN, "US_SSN"),
    "IBAN_CODE": (PiiType.IBAN, "IBAN_CODE"),
    "IP_ADDRESS": (PiiType.IP, "IP_ADDRESS"),
    "US_DRIVER_LICENSE": (PiiType.DOCUMENT, "US_DRIVER_LICENSE"),
    "DOMAIN_NAME": (PiiType.SITE, "URL"),
}
PHONE_SLOT = "phone_number"
Place = tuple[int, int, str]
Found = Sequence[Sequence[Place]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the counts by type of each contender, and the rates in texts per second on one core."""
    progress.stage("read")
    texts, gold = labelled(flags.data / "pii_generated_large.json")
    spoken, slots = utterances(flags.data / "sgd_dev_slots.jsonl.gz")
    sentences, people = tagged(flags.data / "wnut17_dev.conll")
    tagger = load_tagger()
    ways: dict[str, Callable[[], float]] = {
        "ours": lambda: _seconds(lambda: [find_pii(text) for text in texts]),
        "ours with person names": lambda: _seconds(lambda: [find_pii(text, (), tagger.find) for text in texts]),
        "ours with person names, cold cache": lambda: _with_new_words(tagger, texts),
    }
    counts = {"ours": count(_ours(texts), _as(gold, 0), [str(ours) for ours, _ in STRUCTURED.values()])}
    with presidio(flags.presidio, texts) as peer:
        if peer:
            ways["Presidio"] = lambda: float(peer("time"))
            counts["Presidio"] = count(peer("find"), _as(gold, 1), [theirs for _, theirs in STRUCTURED.values()])
        rates = _rates(ways, len(texts), flags.repeats, progress)
    progress.stage("dialogues and names")
    return {
        "texts": len(texts),
        "rates": rates,
        "structured": counts,
        "phones": count(_ours(spoken), slots, ["PHONE"])["PHONE"] | {"utterances": len(spoken)},
        "names": count([_places(tagger.find(text)) for text in sentences], people, ["PERSON"])["PERSON"]
        | {"sentences": len(sentences)},
    }


def show(result: dict[str, Any]) -> str:
    """Return the tables: types, rates, phones in dialogues, names."""
    ours, theirs = result["structured"]["ours"], result["structured"].get("Presidio", {})
    rows = [
        [
            gold,
            ours[mine]["gold"],
            *_scores(ours[mine]),
            *(_scores(theirs[other]) if theirs else ("", "")),
        ]
        for gold, (mine, other) in STRUCTURED.items()
    ]
    rows.append(
        ["all", _total(ours)["gold"], *_scores(_total(ours)), *(_scores(_total(theirs)) if theirs else ("", ""))]
    )
    rates = [[name, *rate_and_ratio(result["rates"], name)] for name in result["rates"]]
    rest = [
        ["phones in dialogues", result["phones"]["gold"], *_scores(result["phones"])],
        ["person names in noisy text", result["names"]["gold"], *_scores(result["names"])],
    ]
    return "\n".join(
        [
            markdown(["type", "spans", "recall", "precision", "Presidio: recall", "precision"], rows),
            markdown(["contender", "texts/s per core", "ratio of ours"], rates),
            markdown(["", "spans", "recall", "precision"], rest),
        ]
    )


def labelled(path: Path) -> tuple[list[str], list[list[Place]]]:
    """Return texts and gold spans in the format of presidio-research."""
    rows = json.loads(_opened(path))
    places = [
        [(span["start_position"], span["end_position"], span["entity_type"]) for span in row["spans"]]
        for row in rows
    ]
    return [row["full_text"] for row in rows], places


def utterances(path: Path) -> tuple[list[str], list[list[Place]]]:
    """Return utterances and their phone numbers."""
    rows = [json.loads(line) for line in _opened(path).splitlines() if line.strip()]
    places = [
        [(each["start"], each["end"], "PHONE") for each in row["spans"] if each["type"] == PHONE_SLOT]
        for row in rows
    ]
    return [row["text"] for row in rows], places


def tagged(path: Path) -> tuple[list[str], list[list[Place]]]:
    """Return the sentences of a CoNLL file, tokens joined by spaces, and the spans of persons in them."""
    sentences: list[str] = []
    places: list[list[Place]] = []
    for block in _opened(path).replace("\t\n", "\n").replace("\n\t", "\n").split("\n\n"):
        text, found = "", list[Place]()
        for line in filter(str.strip, block.split("\n")):
            token, _, label = line.partition("\t")
            start = len(text) + bool(text)
            text = f"{text} {token}" if text else token
            if label.strip() == "B-person":
                found.append((start, len(text), "PERSON"))
            elif label.strip() == "I-person" and found:
                found[-1] = (found[-1][0], len(text), "PERSON")
        if text:
            sentences.append(text)
            places.append(found)
    return sentences, places


def count(found: Found, gold: Found, types: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return by type the number of gold spans, of those found, and of false positives."""
    counts = {kind: Counter(gold=0, found=0, false=0) for kind in types}
    for spans, places in zip(found, gold, strict=True):
        for kind, counter in counts.items():
            ours = [span for span in spans if span[2] == kind]
            wanted = [place for place in places if place[2] == kind]
            counter["gold"] += len(wanted)
            counter["found"] += sum(
                any(map(lambda span, place=place: _same(span, place), ours)) for place in wanted
            )
            counter["false"] += sum(
                not any(map(lambda place, span=span: _same(span, place), wanted)) for span in ours
            )
    return {kind: dict(counter) for kind, counter in counts.items()}


def _same(span: Place, place: Place) -> bool:
    common = min(span[1], place[1]) - max(span[0], place[0])
    return common >= SAME_PLACE * (max(span[1], place[1]) - min(span[0], place[0]))


@contextmanager
def presidio(python: str | None, texts: Sequence[str]) -> Iterator[Callable[[str], Any] | None]:
    """Yield ask(request) -> answer of a Presidio process with the texts loaded, or None without a Python."""
    if not python:
        yield None
        return
    process = subprocess.Popen([python, str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    requests, answers = process.stdin, process.stdout
    assert requests
    assert answers

    def ask(request: str) -> Any:
        try:
            requests.write(request + "\n")
            requests.flush()
            return json.loads(answers.readline())
        except (OSError, ValueError) as error:
            raise UnavailableError("Presidio failed.", remedy="See benchmarks/README.md.") from error

    try:
        ask(json.dumps({"texts": list(texts)}))
        yield ask
    finally:
        # A peer that ended early leaves its request in the buffer, and closing tries to write it again.
        with suppress(BrokenPipeError):
            requests.close()
        answers.close()
        process.wait()


def _rates(
    ways: Mapping[str, Callable[[], float]], amount: int, repeats: int, progress: Stages
) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        progress.stage(f"repeat {repeat} of {repeats}")
        for name, way in ways.items():
            seconds = way()
            if repeat:
                rates[name].append(amount / seconds)
    return rates


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _with_new_words(tagger: PersonTagger, texts: Sequence[str]) -> float:
    """Measure with an empty word cache: `tagger` has seen these texts in the previous round."""
    fresh = replace(tagger)
    return _seconds(lambda: [find_pii(text, (), fresh.find) for text in texts])


def _ours(texts: Sequence[str]) -> Found:
    return [_places(find_pii(text)) for text in texts]


def _places(spans: Iterable[Any]) -> list[Place]:
    return [(span.start, span.end, str(span.type)) for span in spans]


def _as(gold: Found, whose: int) -> Found:
    names = {kind: str(names[whose]) for kind, names in STRUCTURED.items()}
    return [[(start, end, names[kind]) for start, end, kind in places if kind in names] for places in gold]


def _total(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(each) for each in counts.values()), Counter()))


def _scores(counts: Mapping[str, int]) -> tuple[str, str]:
    found, false = counts.get("found", 0), counts.get("false", 0)
    return _share(found, counts["gold"]), _share(found, found + false)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else ""


def _opened(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}.", remedy="See benchmarks/README.md.") from error
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--presidio", help="Python of an environment with presidio-analyzer")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
