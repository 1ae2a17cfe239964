"""Candidate and champion in a real SQLite store of MLflow, with a server that is away at times."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mongars.training.tracking.mlflow_store import MlflowStore
from mongars.training.tracking.model_versions import CANDIDATE, CHAMPION, DIGEST, MODEL, REASON, VERDICT
from mongars.training.tracking.outcomes import Outcomes
from mongars.training.tracking.run_id import told_run_id
from mongars.training.tracking.tracker import RunTracker

FIGURES = {"held_out_loss": 2.5, "gate_low": -0.2}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of an empty store: its migrations take seconds."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file.read_bytes()


@pytest.fixture
def world(tmp_path: Path, migrated: bytes) -> SimpleNamespace:
    """Return a store of its own for the test, by URI and client, and the folder of the runs."""
    from mlflow import MlflowClient

    (tmp_path / "mlflow.db").write_bytes(migrated)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return SimpleNamespace(uri=uri, runs=tmp_path / "runs", client=MlflowClient(uri, uri))


@pytest.fixture
def nobody() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def digest(name: str) -> str:
    return name.ljust(64, "0")


def trained(world: SimpleNamespace, name: str, uri: str | None = None) -> None:
    """Have a finished run `name`, told to the store at `uri`."""
    folder = world.runs / name
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    run = RunTracker(uri or world.uri, "trials", name=name, params={}, tags={}, place=folder)
    run.finish({"adapter": folder}, model=("adapter", digest(name)))


def aliases(world: SimpleNamespace) -> dict[str, str]:
    """Return the adapter that each alias names."""
    found = world.client.get_registered_model(MODEL).aliases
    return {
        alias: world.client.get_model_version(MODEL, version).tags[DIGEST].rstrip("0")
        for alias, version in found.items()
    }


def version(world: SimpleNamespace, name: str):
    (found,) = world.client.search_model_versions(f"tags.`{DIGEST}` = '{digest(name)}'")
    return found


def kept(world: SimpleNamespace) -> list[str]:
    return [path.name for path in world.runs.glob("*.jsonl")]


def test_a_finished_run_is_a_model_version_and_the_candidate(world: SimpleNamespace) -> None:
    trained(world, "a")
    assert aliases(world) == {CANDIDATE: "a"}
    made = version(world, "a")
    assert made.run_id == told_run_id(world.runs / "a")
    files = [file.path for file in world.client.list_artifacts(made.run_id, "adapter")]
    assert files == ["adapter/card.json"]
    assert made.source == f"{world.client.get_run(made.run_id).info.artifact_uri}/adapter"


def test_a_promoted_candidate_becomes_the_champion_and_its_run_has_the_gates_figures(
    world: SimpleNamespace,
) -> None:
    trained(world, "a")
    outcomes = Outcomes(world.uri, world.runs)
    outcomes.judged("a", digest("a"), "promoted", "loss is lower", FIGURES)
    outcomes.served("a", digest("a"), 1)
    assert aliases(world) == {CHAMPION: "a"}
    made = version(world, "a")
    assert (made.tags[VERDICT], made.tags[REASON]) == ("promoted", "loss is lower")
    run = world.client.get_run(made.run_id)
    assert run.data.metrics == FIGURES
    assert run.data.tags[VERDICT] == "promoted"
    assert kept(world) == []


def test_a_rejected_candidate_loses_the_alias_and_the_champion_stays(world: SimpleNamespace) -> None:
    trained(world, "a")
    outcomes = Outcomes(world.uri, world.runs)
    outcomes.judged("a", digest("a"), "promoted", "", {})
    outcomes.served("a", digest("a"), 1)
    trained(world, "b")
    assert aliases(world) == {CANDIDATE: "b", CHAMPION: "a"}
    outcomes.judged("b", digest("b"), "rejected", "worse", FIGURES)
    outcomes.served("b", digest("a"), 2)
    assert aliases(world) == {CHAMPION: "a"}
    assert version(world, "b").tags[VERDICT] == "rejected"


def test_a_rollback_gives_the_alias_back_under_its_newer_generation(world: SimpleNamespace) -> None:
    trained(world, "a")
    trained(world, "b")
    outcomes = Outcomes(world.uri, world.runs)
    outcomes.served("a", digest("a"), 1)
    outcomes.served("b", digest("b"), 2)
    outcomes.served("b", digest("a"), 3)
    assert aliases(world)[CHAMPION] == "a"


def test_what_a_dead_server_missed_is_told_later_in_order(world: SimpleNamespace, nobody: str) -> None:
    trained(world, "a", nobody)
    away = Outcomes(nobody, world.runs)
    away.judged("a", digest("a"), "promoted", "lower", FIGURES)
    away.served("a", digest("a"), 1)
    assert len(kept(world)) == 3
    trained(world, "b")  # the run of `a` is told by it
    outcomes = Outcomes(world.uri, world.runs)
    outcomes.judged("b", digest("b"), "rejected", "worse", {})
    assert aliases(world) == {CHAMPION: "a"}
    assert world.client.get_run(told_run_id(world.runs / "a")).data.metrics == FIGURES
    assert kept(world) == []


def test_a_report_that_comes_late_or_twice_takes_no_alias_from_a_newer_adapter(world: SimpleNamespace) -> None:
    trained(world, "a")
    stale = Outcomes(world.uri, world.runs)
    stale.judged("a", digest("a"), "promoted", "", FIGURES)
    trained(world, "b")
    stale.served("b", digest("b"), 2)
    stale.served("a", digest("a"), 1)
    stale.judged("a", digest("a"), "promoted", "", FIGURES)
    made = version(world, "a")
    end = {"event": "end", "status": "FINISHED", "at": int(made.tags["mongars.made_at"]), "artifacts": {}}
    MlflowStore(world.uri).tell(end | {"model": ["adapter", digest("a")]}, made.run_id)
    assert aliases(world) == {CANDIDATE: "b", CHAMPION: "b"}
    assert len(world.client.search_model_versions(f"name = '{MODEL}'")) == 2


def test_an_adapter_that_the_store_never_saw_is_told_to_nobody_and_harms_nothing(world: SimpleNamespace) -> None:
    trained(world, "a")
    outcomes = Outcomes(world.uri, world.runs)
    outcomes.served("a", digest("imported"), 4)
    outcomes.judged("gone", digest("gone"), "rejected", "", FIGURES)
    outcomes.judged("a", digest("a"), "rejected", "", {})
    assert aliases(world) == {}
    assert kept(world) == []
