"""The demo's report: its health, its tables and the planted faults that curation missed."""

from dataclasses import replace

import pytest

from mongars.demo.generator import Gold
from mongars.demo.report import DemoReport, check_gold, sections
from mongars.demo.verify import Tally

SOUND = DemoReport(
    source="generated",
    outcome="promoted",
    new_conversations=3,
    without_consent=0,
    unreadable_lines=0,
    dataset="demo@v1",
    dataset_digest="d" * 64,
    rows_read=3,
    rows_kept=2,
    dropped={"exact_duplicate": 1},
    personal_data={"EMAIL": 1},
    gold=None,
    adapter="a" * 64,
    loss_first=3.0,
    loss_last=2.0,
    champion={"held_out_loss": 3.0, "ndcg_at_10": 0.15, "sts_spearman": None},
    candidate={"held_out_loss": 2.5, "ndcg_at_10": 0.2, "sts_spearman": None},
    gate="significantly better",
    generation_before=0,
    generation=1,
    replicas={"one": 1, "two": 1},
    replicas_restarted=0,
    requests=Tally(chats=4, embeddings=4, failed=0, mixed=0, by_generation={0: 4, 1: 4}),
    seconds={"train": 1.0},
)


@pytest.mark.parametrize(
    "fault",
    [
        {"requests": replace(SOUND.requests, failed=1)},
        {"requests": replace(SOUND.requests, mixed=1)},
        {"replicas": {"one": 1, "two": 0}},
        {"replicas_restarted": 1},
    ],
)
def test_a_fault_makes_the_report_unhealthy(fault):
    assert SOUND.healthy
    assert not replace(SOUND, **fault).healthy


def test_the_tables_show_the_counts():
    shown = {name: str(value) for _, rows in sections(SOUND) for name, value in rows}
    assert shown["dropped: exact_duplicate"] == "1"
    assert shown["generation"] == "0 -> 1"
    assert (shown["failed"], shown["mixed"]) == ("0", "0")
    assert shown["held-out loss"] == "3.000 -> 2.500"
    assert shown["turn retrieval, nDCG@10"] == "0.150 -> 0.200"
    assert shown["STS, Spearman"] == "not measured"


def test_planted_faults_that_curation_missed_are_counted():
    rows = [
        {"id": "kept", "messages": [{"role": "user", "content": "write to a@example.com"}]},
        {"id": "junk", "messages": [{"role": "user", "content": "aaaa"}]},
    ]
    gold = Gold(
        personal={"email": ("a@example.com", "b@example.com")},
        junk=frozenset({"junk", "gone"}),
        duplicates=frozenset({"copy"}),
        no_consent=frozenset({"kept"}),
    )
    found = check_gold(gold, rows)
    assert (found.personal_planted, found.personal_left) == (2, 1)
    assert (found.junk_planted, found.junk_left) == (2, 1)
    assert (found.duplicates_left, found.without_consent_left) == (0, 1)
