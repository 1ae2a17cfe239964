import json
import socket
from pathlib import Path
from typing import Any

import pytest

from mongars.errors import UnavailableError
from mongars.training.tracking.mlflow_store import MlflowStore, batched
from mongars.training.tracking.tracker import RunTracker

VALUES = {"loss": 3.5, "masked_accuracy": None, "tokens_per_second": 100.0}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('home') / 'mlflow' / 'mlflow.db'}"


@pytest.fixture
def nobody() -> str:
    """Return the address of a server that is not there: the port is bound, so that no other program takes it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def tracker(uri: str, place: Path, **tags: str) -> RunTracker:
    return RunTracker(uri, "trials", name="r", params={"steps": 2}, tags=tags, place=place)


def history(uri: str, run_id: str | None, key: str = "loss") -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client(uri).get_metric_history(run_id, key)]


def test_a_run_keeps_its_parameters_tags_metrics_dataset_and_artifacts(uri: str, tmp_path: Path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "card.json").write_text("{}")
    run = tracker(uri, tmp_path / "key", dataset_digest="d" * 64)
    run.dataset("chats", "v1", "d" * 64)
    run.metrics(1, VALUES)
    run.finish({"adapter": tmp_path / "made"})
    told = client(uri).get_run(run.run_id)
    assert told.info.status == "FINISHED"
    assert client(uri).get_experiment(told.info.experiment_id).name == "trials"
    assert told.data.params == {"steps": "2"}
    assert told.data.tags["dataset_digest"] == "d" * 64
    assert told.data.metrics == {"loss": 3.5, "tokens_per_second": 100.0}
    (used,) = told.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("chats", "d" * 36)
    assert "d" * 64 in used.dataset.source
    assert [file.path for file in client(uri).list_artifacts(run.run_id, "adapter")] == ["adapter/card.json"]
    assert {path.name for path in tmp_path.iterdir()} == {"made", "key.run.json"}


def test_artifacts_lie_beside_the_database_not_in_the_working_directory(uri: str, tmp_path: Path):
    place = client(uri).get_run(tracker(uri, tmp_path / "key").run_id).info.artifact_uri
    assert place.startswith(Path(uri.removeprefix("sqlite:///")).parent.as_uri())


@pytest.mark.parametrize(("end", "status"), [("fail", "FAILED"), ("stop", "KILLED")])
def test_a_run_that_failed_or_was_stopped_is_marked_and_goes_on_as_the_same_run(
    uri: str, tmp_path: Path, end: str, status: str
):
    first = tracker(uri, tmp_path / "key")
    first.metrics(1, VALUES)
    getattr(first, end)()
    assert client(uri).get_run(first.run_id).info.status == status
    again = tracker(uri, tmp_path / "key")
    assert again.run_id == first.run_id
    assert client(uri).get_run(again.run_id).info.status == "RUNNING"
    again.metrics(2, VALUES)
    assert history(uri, again.run_id) == [(1, 3.5), (2, 3.5)]


@pytest.mark.parametrize("known", ["deleted", "of another store"])
def test_a_run_that_the_store_does_not_have_any_longer_is_begun_anew(uri: str, tmp_path: Path, known: str):
    first = tracker(uri, tmp_path / "key")
    if known == "deleted":
        client(uri).delete_run(first.run_id)
    else:
        (tmp_path / "key.run.json").write_text(json.dumps({"run_id": "f" * 32}))
    assert tracker(uri, tmp_path / "key").run_id not in (first.run_id, "f" * 32)


def test_a_server_that_is_away_from_the_start_costs_nothing_and_is_told_by_the_next_start(
    nobody: str, uri: str, tmp_path: Path
):
    run = tracker(nobody, tmp_path / "key", dataset_digest="d" * 64)
    run.metrics(1, VALUES)
    run.stop()
    assert run.run_id is None
    assert (tmp_path / "key.journal.jsonl").exists()
    again = tracker(uri, tmp_path / "key")
    again.metrics(2, VALUES)
    again.finish({})
    assert history(uri, again.run_id) == [(1, 3.5), (2, 3.5)]
    assert client(uri).get_run(again.run_id).info.status == "FINISHED"
    assert {path.name for path in tmp_path.iterdir()} == {"key.run.json"}


def test_a_run_that_ended_while_the_server_was_away_is_told_by_the_next_run_beside_it(
    nobody: str, uri: str, tmp_path: Path
):
    (tmp_path / "done").mkdir()
    ended = tracker(nobody, tmp_path / "done")
    ended.metrics(1, VALUES)
    ended.finish({"adapter": tmp_path / "done"})
    tracker(nobody, tmp_path / "open").metrics(1, VALUES)  # of a process that may still write
    tracker(uri, tmp_path / "next")
    told = json.loads((tmp_path / "done.run.json").read_text())["run_id"]
    assert client(uri).get_run(told).info.status == "FINISHED"
    assert history(uri, told) == [(1, 3.5)]
    assert [path.name for path in tmp_path.glob("*.journal.jsonl")] == ["open.journal.jsonl"]


class Flaky(MlflowStore):
    """A store that does not take anything while `away`."""

    away = False
    calls = 0

    def tell(self, event: Any, run_id: str) -> None:
        self.calls += 1
        if self.away:
            raise ConnectionError
        super().tell(event, run_id)


def test_a_server_that_goes_away_is_left_alone_and_has_everything_in_the_end(
    uri: str, tmp_path: Path, monkeypatch
):
    stores: list[Flaky] = []

    def make(uri: str) -> Flaky:
        stores.append(Flaky(uri))
        return stores[0]

    monkeypatch.setattr("mongars.training.tracking.tracker.MlflowStore", make)
    run = tracker(uri, tmp_path / "key")
    stores[0].away, before = True, stores[0].calls
    for step in range(1, 11):
        run.metrics(step, VALUES)
    assert stores[0].calls == before + 1, "one attempt, then a pause"
    assert history(uri, run.run_id) == []
    stores[0].away = False
    run.finish({})
    assert history(uri, run.run_id) == [(step, 3.5) for step in range(1, 11)]
    assert client(uri).get_run(run.run_id).info.status == "FINISHED"
    assert not (tmp_path / "key.journal.jsonl").exists()


def test_what_is_told_later_takes_few_requests():
    metric = {"event": "metrics", "metrics": [["loss", 1.0, 0, 0], ["rate", 1.0, 0, 0]]}
    events = batched([metric] * 700 + [{"event": "params", "values": {}}] + [metric])
    assert [len(event.get("metrics", [])) for event in events] == [1000, 400, 0, 2]


@pytest.mark.parametrize("wrong", ["foo://nowhere", "http://127.0.0.1:not-a-port", "file"])
def test_an_uri_that_cannot_be_right_names_the_setting(tmp_path: Path, wrong: str):
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}" if wrong == "file" else wrong
    with pytest.raises(UnavailableError, match="MONGARS_MLFLOW_TRACKING_URI"):
        tracker(uri, tmp_path / "key")
