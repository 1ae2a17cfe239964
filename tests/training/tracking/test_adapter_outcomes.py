"""Candidate and champion in a real SQLite store of MLflow, with a server that is down at times."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mongars.training.tracking.mlflow_store import (
    CANDIDATE,
    CHAMPION,
    DIGEST,
    MADE_AT,
    MODEL,
    REASON,
    VERDICT,
    MlflowStore,
)
from mongars.training.tracking.tracker import AdapterOutcomes, RunTracker, mlflow_run_id

FIGURES = {"held_out_loss": 2.5, "gate_low": -0.2}
Train = Callable[..., None]


@pytest.fixture
def train(uri: str, runs: Path) -> Train:
    """Return train(name, uri), which records a finished run."""

    def train(name: str, uri: str = uri) -> None:
        folder = runs / name
        folder.mkdir()
        (folder / "card.json").write_text("{}")
        run = RunTracker(uri, "trials", params={}, tags={}, place=folder)
        run.end("FINISHED", "adapter", folder, digest=digest(name))

    return train


@pytest.fixture
def outcomes(uri: str, runs: Path) -> AdapterOutcomes:
    return AdapterOutcomes(uri, runs)


def digest(name: str) -> str:
    return name.ljust(64, "0")


def aliases(client) -> dict[str, str]:
    """Return the adapter of each alias."""
    found = client.get_registered_model(MODEL).aliases
    return {
        alias: client.get_model_version(MODEL, version).tags[DIGEST].rstrip("0")
        for alias, version in found.items()
    }


def version(client, name: str):
    (found,) = client.search_model_versions(f"tags.`{DIGEST}` = '{digest(name)}'")
    return found


def waiting(runs: Path) -> list[str]:
    return [path.name for path in runs.glob("*.jsonl")]


def test_a_finished_run_is_a_model_version_and_the_candidate(client, train, runs):
    train("a")
    assert aliases(client) == {CANDIDATE: "a"}
    made = version(client, "a")
    assert made.run_id == mlflow_run_id(runs / "a")
    assert [file.path for file in client.list_artifacts(made.run_id, "adapter")] == ["adapter/card.json"]
    assert made.source == f"{client.get_run(made.run_id).info.artifact_uri}/adapter"


def test_a_promoted_candidate_becomes_champion_and_its_run_has_the_figures(client, train, outcomes, runs):
    train("a")
    outcomes.judged("a", digest("a"), "promoted", "loss is lower", FIGURES)
    outcomes.served("a", digest("a"), 1)
    assert aliases(client) == {CHAMPION: "a"}
    made = version(client, "a")
    assert (made.tags[VERDICT], made.tags[REASON]) == ("promoted", "loss is lower")
    run = client.get_run(made.run_id)
    assert run.data.metrics == FIGURES
    assert run.data.tags[VERDICT] == "promoted"
    assert waiting(runs) == []


def test_a_rejected_candidate_loses_the_alias_and_the_champion_stays(client, train, outcomes):
    train("a")
    outcomes.judged("a", digest("a"), "promoted", "", {})
    outcomes.served("a", digest("a"), 1)
    train("b")
    assert aliases(client) == {CANDIDATE: "b", CHAMPION: "a"}
    outcomes.judged("b", digest("b"), "rejected", "worse", FIGURES)
    outcomes.served("b", digest("a"), 2)
    assert aliases(client) == {CHAMPION: "a"}
    assert version(client, "b").tags[VERDICT] == "rejected"


def test_a_rollback_makes_the_earlier_adapter_champion_again(client, train, outcomes):
    train("a")
    train("b")
    outcomes.served("a", digest("a"), 1)
    outcomes.served("b", digest("b"), 2)
    outcomes.served("b", digest("a"), 3)
    assert aliases(client)[CHAMPION] == "a"


def test_outcomes_without_a_server_are_sent_by_the_next_run(client, train, down, outcomes, runs):
    train("a", down)
    without_server = AdapterOutcomes(down, runs)
    without_server.judged("a", digest("a"), "promoted", "lower", FIGURES)
    without_server.served("a", digest("a"), 1)
    assert waiting(runs) == ["a.journal.jsonl"]
    train("b")
    outcomes.judged("b", digest("b"), "rejected", "worse", {})
    assert aliases(client) == {CHAMPION: "a"}
    assert client.get_run(mlflow_run_id(runs / "a")).data.metrics == FIGURES
    assert waiting(runs) == []


def test_a_late_or_repeated_call_takes_no_alias_from_a_newer_adapter(client, train, outcomes, uri):
    train("a")
    outcomes.judged("a", digest("a"), "promoted", "", FIGURES)
    train("b")
    outcomes.served("b", digest("b"), 2)
    outcomes.served("a", digest("a"), 1)
    outcomes.judged("a", digest("a"), "promoted", "", FIGURES)
    made = version(client, "a")
    at = int(made.tags[MADE_AT])
    MlflowStore(uri).end(made.run_id, "FINISHED", at, "adapter", "", digest("a"))
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2
    MlflowStore(uri).end(made.run_id, "FINISHED", at, "adapter", "", digest("older"))
    assert aliases(client) == {CANDIDATE: "b", CHAMPION: "b"}


def test_an_adapter_that_the_store_never_saw_changes_nothing(client, train, outcomes, runs):
    train("a")
    outcomes.served("a", digest("imported"), 4)
    outcomes.judged("gone", digest("gone"), "rejected", "", FIGURES)
    outcomes.judged("a", digest("a"), "rejected", "", {})
    assert aliases(client) == {}
    assert waiting(runs) == []


def test_a_verdict_reaches_the_version_of_a_deleted_run(client, train, outcomes, runs):
    train("a")
    client.delete_run(mlflow_run_id(runs / "a"))
    outcomes.judged("a", digest("a"), "rejected", "worse", FIGURES)
    assert version(client, "a").tags[VERDICT] == "rejected"
    assert waiting(runs) == []


def test_an_outcome_that_is_interrupted_during_its_delivery_is_sent_later(
    client, train, outcomes, runs, monkeypatch
):
    def hang(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    train("a")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowStore, "judged", hang)
        outcomes.judged("a", digest("a"), "promoted", "", FIGURES)
    assert waiting(runs) == ["a.journal.jsonl"]
    train("b")
    assert version(client, "a").tags[VERDICT] == "promoted"
    assert waiting(runs) == []


def test_an_outcome_during_another_process_s_delivery_is_not_lost(client, train, down, runs, monkeypatch):
    train("a", down)
    late = AdapterOutcomes(down, runs)
    late.judged("gone", digest("gone"), "rejected", "", {})  # it fails: the next outcome is appended only
    judging = threading.Thread(target=late.judged, args=("a", digest("a"), "promoted", "", FIGURES))
    end = MlflowStore.end

    def end_meanwhile(store: MlflowStore, *arguments: Any, **named: Any) -> None:
        if judging.ident is None:
            judging.start()
            judging.join(0.5)  # it waits for the end of this delivery
        end(store, *arguments, **named)

    monkeypatch.setattr(MlflowStore, "end", end_meanwhile)
    train("b")
    judging.join()
    train("c")
    assert version(client, "a").tags[VERDICT] == "promoted"
    assert waiting(runs) == []
