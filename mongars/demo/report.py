"""The demo's report: one record, as JSON and as tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mongars.demo.generator import Gold
from mongars.demo.verify import Tally
from mongars.records import as_json
from mongars.storage.atomic import write_atomically
from mongars.storage.digests import canonical_json
from mongars.workflows.self_train import compared

Rows = list[tuple[str, object]]


@dataclass(frozen=True, slots=True)
class GoldReport:
    """How many faults were planted, and how many the published version still has: zero if curation found all."""

    personal_planted: int
    personal_left: int
    junk_planted: int
    junk_left: int
    duplicates_planted: int
    duplicates_left: int
    without_consent_planted: int
    without_consent_left: int


@dataclass(frozen=True, slots=True)
class DemoReport:
    """A run of the demo. Losses are in nats per target, times in seconds.

    `champion` and `candidate` are the cycle's figures by name, None for a figure that could not be measured.
    """

    source: str
    outcome: str
    new_conversations: int
    without_consent: int
    unreadable_lines: int
    dataset: str
    dataset_digest: str
    rows_read: int
    rows_kept: int
    dropped: Mapping[str, int]
    personal_data: Mapping[str, int]
    gold: GoldReport | None
    adapter: str
    loss_first: float
    loss_last: float
    champion: Mapping[str, float | None]
    candidate: Mapping[str, float | None]
    gate: str | None
    generation_before: int
    generation: int
    replicas: Mapping[str, int]
    replicas_restarted: int
    requests: Tally
    seconds: Mapping[str, float]

    @property
    def healthy(self) -> bool:
        """Return whether no request failed or was mixed, and every replica serves the newest generation."""
        outdated = any(generation != self.generation for generation in self.replicas.values())
        return not (self.requests.failed or self.requests.mixed or outdated or self.replicas_restarted)


def write_report(report: DemoReport, path: Path) -> None:
    """Write the report as JSON, atomically."""
    write_atomically(path, canonical_json(as_json(report)) + b"\n")


def check_gold(gold: Gold, rows: Iterable[Mapping[str, Any]]) -> GoldReport:
    """Look for every planted fault in the rows of a version."""
    ids: set[str] = set()
    texts: list[str] = []
    for row in rows:
        ids.add(row["id"])
        texts += [message["content"] for message in row["messages"]]
    text = "\n".join(texts)
    planted = {value for values in gold.personal.values() for value in values}
    return GoldReport(
        personal_planted=len(planted),
        personal_left=sum(value in text for value in planted),
        junk_planted=len(gold.junk),
        junk_left=len(gold.junk & ids),
        duplicates_planted=len(gold.duplicates),
        duplicates_left=len(gold.duplicates & ids),
        without_consent_planted=len(gold.no_consent),
        without_consent_left=len(gold.no_consent & ids),
    )


def sections(report: DemoReport) -> list[tuple[str, Rows]]:
    """Return the report as titled two-column tables."""
    return [
        ("Curation", _curation(report)),
        ("Training", _training(report)),
        ("Swap under load", _swap(report)),
        ("Seconds", [(stage, f"{seconds:.1f}") for stage, seconds in report.seconds.items()]),
    ]


def _curation(report: DemoReport) -> Rows:
    rows: Rows = [
        ("conversations from", report.source),
        ("new in the repository", report.new_conversations),
        ("unreadable lines", report.unreadable_lines),
        ("without consent, not used", report.without_consent),
        ("rows in", report.rows_read),
        ("rows kept", report.rows_kept),
        *((f"dropped: {reason}", count) for reason, count in report.dropped.items()),
        *((f"personal data replaced: {kind}", count) for kind, count in report.personal_data.items()),
    ]
    if gold := report.gold:
        rows += [
            ("planted personal values left", f"{gold.personal_left} of {gold.personal_planted}"),
            ("planted junk left", f"{gold.junk_left} of {gold.junk_planted}"),
            ("planted duplicates left", f"{gold.duplicates_left} of {gold.duplicates_planted}"),
            ("without consent, left", f"{gold.without_consent_left} of {gold.without_consent_planted}"),
        ]
    return [*rows, ("dataset version", f"{report.dataset} ({report.dataset_digest[:12]})")]


def _training(report: DemoReport) -> Rows:
    rows: Rows = [
        ("adapter", report.adapter[:12]),
        ("loss, first step", f"{report.loss_first:.3f}"),
        ("loss, last step", f"{report.loss_last:.3f}"),
    ]
    return [
        *rows,
        *compared(report.champion, report.candidate),
        ("gate", report.gate or "skipped: judged in an earlier run"),
        ("outcome", report.outcome),
    ]


def _swap(report: DemoReport) -> Rows:
    requests = report.requests
    return [
        ("generation", f"{report.generation_before} -> {report.generation}"),
        *((f"replica {name}", f"generation {generation}") for name, generation in report.replicas.items()),
        ("replicas restarted", report.replicas_restarted),
        ("requests sent", f"{requests.chats} chats, {requests.embeddings} embeddings"),
        *((f"answered by generation {generation}", count) for generation, count in requests.by_generation.items()),
        ("failed", requests.failed),
        *(("  a failure", failure) for failure in requests.failures),
        ("mixed", requests.mixed),
    ]
