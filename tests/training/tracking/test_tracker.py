"""Runs in a real SQLite store of MLflow, and what a server that is down does to them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mongars.errors import UnavailableError
from mongars.training.tracking.mlflow_store import MlflowStore
from mongars.training.tracking.tracker import MAX_METRICS, RunTracker, mlflow_run_id

VALUES = {"loss": 3.5, "masked_accuracy": None, "tokens_per_second": 100.0}


def tracker(uri: str, place: Path, **tags: str) -> RunTracker:
    return RunTracker(uri, "trials", params={"steps": 2}, tags=tags, place=place)


def run_of(client, place: Path):
    return client.get_run(mlflow_run_id(place))


def history(client, place: Path) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(mlflow_run_id(place), "loss")]


def files(runs: Path) -> set[str]:
    return {path.name for path in runs.iterdir() if path.suffix != ".lock"}


def journal(runs: Path, name: str) -> list[str]:
    """Return the names of the events that wait."""
    return [json.loads(line)["event"] for line in (runs / f"{name}.journal.jsonl").read_text().splitlines()]


@pytest.fixture
def refusing() -> Iterator[str]:
    """Return the URI of a server that answers every request with 403."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Flaky(MlflowStore):
    """A store that logs nothing while it is `down`."""

    down = False
    calls = 0

    def log(self, run_id: str, **values: Any) -> None:
        Flaky.calls += 1
        if Flaky.down:
            raise ConnectionError
        super().log(run_id, **values)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    """Make every store a flaky one that is tried again without a pause."""
    monkeypatch.setattr(Flaky, "down", False)
    monkeypatch.setattr(Flaky, "calls", 0)
    monkeypatch.setattr("mongars.training.tracking.tracker.MlflowStore", Flaky)
    monkeypatch.setattr("mongars.training.tracking.tracker.PAUSE_S", 0.0)
    return Flaky


def test_a_run_has_its_parameters_tags_metrics_dataset_and_artifacts(client, uri, runs):
    made = runs / "key"
    made.mkdir()
    (made / "card.json").write_text("{}")
    run = tracker(uri, made, dataset_digest="d" * 64)
    run.dataset("chats", "v1", "d" * 64)
    run.metrics(1, VALUES)
    run.end("FINISHED", "adapter", made)
    found = run_of(client, made)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "key")
    assert client.get_experiment(found.info.experiment_id).name == "trials"
    assert found.data.params == {"steps": "2"}
    assert found.data.tags["dataset_digest"] == "d" * 64
    assert found.data.metrics == {"loss": 3.5, "tokens_per_second": 100.0}
    (used,) = found.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("chats", "d" * 36)
    assert "d" * 64 in used.dataset.source
    assert [file.path for file in client.list_artifacts(found.info.run_id, "adapter")] == ["adapter/card.json"]
    assert files(runs) == {"key", "key.run.json"}


def test_artifacts_of_a_sqlite_store_are_next_to_its_file(client, uri, runs):
    tracker(uri, runs / "key")
    place = run_of(client, runs / "key").info.artifact_uri
    assert place.startswith(Path(uri.removeprefix("sqlite:///")).parent.as_uri())


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_run_that_failed_or_was_stopped_resumes_as_the_same_run(client, uri, runs, status):
    run = tracker(uri, runs / "key")
    run.metrics(1, VALUES)
    run.end(status)
    run_id = mlflow_run_id(runs / "key")
    assert client.get_run(run_id).info.status == status
    tracker(uri, runs / "key").metrics(2, VALUES)
    assert mlflow_run_id(runs / "key") == run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    assert history(client, runs / "key") == [(1, 3.5), (2, 3.5)]


@pytest.mark.parametrize("known", ["deleted", "of another store"])
def test_a_run_that_the_store_lacks_is_created_again(client, uri, runs, known):
    tracker(uri, runs / "key")
    before = mlflow_run_id(runs / "key")
    if known == "deleted":
        client.delete_run(before)
    else:
        (runs / "key.run.json").write_text(json.dumps({"run_id": "f" * 32}))
    tracker(uri, runs / "key")
    assert mlflow_run_id(runs / "key") not in (before, "f" * 32)


def test_a_run_without_a_server_is_sent_by_its_next_start(client, down, uri, runs):
    run = tracker(down, runs / "key", dataset_digest="d" * 64)
    run.metrics(1, VALUES)
    run.end("KILLED")
    assert mlflow_run_id(runs / "key") is None
    assert files(runs) == {"key.journal.jsonl"}
    resumed = tracker(uri, runs / "key")
    resumed.metrics(2, VALUES)
    resumed.end("FINISHED")
    assert history(client, runs / "key") == [(1, 3.5), (2, 3.5)]
    assert run_of(client, runs / "key").info.status == "FINISHED"
    assert files(runs) == {"key.run.json"}


def test_a_run_that_ended_without_a_server_is_sent_by_the_next_run(client, down, uri, runs):
    ended = tracker(down, runs / "ended")
    ended.metrics(1, VALUES)
    ended.end("FINISHED", "adapter", runs / "deleted-since")
    tracker(down, runs / "running").metrics(1, VALUES)  # its process may still write
    tracker(uri, runs / "next")
    assert run_of(client, runs / "ended").info.status == "FINISHED"
    assert history(client, runs / "ended") == [(1, 3.5)]
    assert files(runs) == {"ended.run.json", "next.run.json", "running.journal.jsonl"}


def test_a_server_that_fails_during_a_run_gets_everything_once_it_answers(client, uri, runs, flaky):
    run = tracker(uri, runs / "key")
    flaky.down = True
    for step in range(1, 11):
        run.metrics(step, VALUES)
    assert history(client, runs / "key") == []
    flaky.down = False
    run.end("FINISHED")
    assert history(client, runs / "key") == [(step, 3.5) for step in range(1, 11)]
    assert run_of(client, runs / "key").info.status == "FINISHED"
    assert files(runs) == {"key.run.json"}


def test_a_server_that_failed_is_not_called_for_a_minute_until_the_end(uri, runs, flaky, monkeypatch):
    monkeypatch.setattr("mongars.training.tracking.tracker.PAUSE_S", 60.0)
    run = tracker(uri, runs / "key")
    flaky.down, before = True, flaky.calls
    for step in range(1, 11):
        run.metrics(step, VALUES)
    assert flaky.calls == before + 1
    run.end("FINISHED")
    assert flaky.calls == before + 2
    assert journal(runs, "key") == ["log", "end"]


def test_the_end_of_a_run_is_sent_within_the_pause_after_a_failure(client, uri, runs, flaky, monkeypatch):
    monkeypatch.setattr("mongars.training.tracking.tracker.PAUSE_S", 60.0)
    run = tracker(uri, runs / "key")
    flaky.down = True
    run.metrics(1, VALUES)
    flaky.down = False
    run.end("FINISHED")
    assert run_of(client, runs / "key").info.status == "FINISHED"
    assert history(client, runs / "key") == [(1, 3.5)]
    assert files(runs) == {"key.run.json"}


def test_an_end_that_is_interrupted_during_its_delivery_is_sent_later(client, uri, runs, monkeypatch):
    def hang(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run = tracker(uri, runs / "key")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowStore, "end", hang)
        run.end("FINISHED")
    assert journal(runs, "key") == ["end"]
    tracker(uri, runs / "next")
    assert run_of(client, runs / "key").info.status == "FINISHED"
    assert files(runs) == {"key.run.json", "next.run.json"}


def test_waiting_metrics_take_few_requests(client, uri, runs, flaky, monkeypatch):
    run = tracker(uri, runs / "key")
    monkeypatch.setattr("mongars.training.tracking.tracker.PAUSE_S", 60.0)
    flaky.down = True
    steps = MAX_METRICS // 2 + 200  # of two metrics each
    for step in range(1, steps + 1):
        run.metrics(step, VALUES)
    run.end("FINISHED")
    flaky.down, before = False, flaky.calls
    tracker(uri, runs / "next")
    assert flaky.calls == before + 3  # two of metrics, and the parameters of the next run
    assert len(history(client, runs / "key")) == steps


def test_a_deleted_run_does_not_keep_others_from_being_sent(client, uri, runs, flaky):
    deleted, other = tracker(uri, runs / "deleted"), tracker(uri, runs / "other")
    flaky.down = True
    for run in (deleted, other):
        run.metrics(1, VALUES)
        run.end("FINISHED")
    flaky.down = False
    client.delete_run(mlflow_run_id(runs / "deleted"))
    tracker(uri, runs / "next")
    assert run_of(client, runs / "other").info.status == "FINISHED"
    assert {name for name in files(runs) if "journal" in name} == set()


def test_a_line_that_a_crash_cut_off_costs_that_event_only(client, down, uri, runs):
    tracker(down, runs / "key").metrics(1, VALUES)
    with (runs / "key.journal.jsonl").open("a") as journal:
        journal.write('{"event": "log", "met')
    tracker(uri, runs / "key").metrics(3, VALUES)
    assert history(client, runs / "key") == [(1, 3.5), (3, 3.5)]
    assert files(runs) == {"key.run.json"}


@pytest.mark.parametrize(
    "line", ['{"event": "renamed"}', '{"event": "end", "artifacts": {}}', '{"name": "key"}', "[]", "{", "\x80"]
)
def test_an_unreadable_journal_is_set_aside_and_blocks_nothing(client, down, uri, runs, caplog, line):
    tracker(down, runs / "other").end("FINISHED")
    caplog.clear()
    (runs / "an-older.journal.jsonl").write_text(line + "\n", encoding="latin-1")
    (runs / "key.journal.jsonl").write_text(line + "\n", encoding="latin-1")
    tracker(uri, runs / "key").end("FINISHED")
    assert files(runs) == {
        "an-older.journal.jsonl.unreadable",
        "key.journal.jsonl.unreadable",
        "key.run.json",
        "other.run.json",
    }
    assert run_of(client, runs / "key").info.status == run_of(client, runs / "other").info.status == "FINISHED"
    assert (runs / "key.journal.jsonl.unreadable").read_text("latin-1") == line + "\n"
    warned = [record.getMessage() for record in caplog.records if record.name.startswith("mongars")]
    assert [message.partition(" ")[0] for message in warned] == ["key.journal.jsonl", "an-older.journal.jsonl"]


def test_a_value_that_mlflow_refuses_is_dropped_with_a_warning(uri, runs, caplog):
    run = tracker(uri, runs / "key")
    run.params({"steps": "sesame"})
    (warned,) = (record.getMessage() for record in caplog.records if record.name.startswith("mongars"))
    assert "log" in warned
    assert "INVALID_PARAMETER_VALUE" in warned
    assert "sesame" not in warned
    assert files(runs) == {"key.run.json"}


def test_a_resumed_run_gets_the_tags_of_its_latest_start(client, uri, runs):
    tracker(uri, runs / "key", commit="a", gpu="no")
    tracker(uri, runs / "key", commit="b")
    tags = run_of(client, runs / "key").data.tags
    assert (tags["commit"], tags["gpu"]) == ("b", "no")


@pytest.mark.parametrize("wrong", ["foo://nowhere", "http://127.0.0.1:not-a-port", "not a folder"])
def test_a_uri_that_cannot_be_right_names_the_setting(tmp_path, runs, wrong):
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}" if wrong == "not a folder" else wrong
    with pytest.raises(UnavailableError, match="MONGARS_MLFLOW_TRACKING_URI"):
        tracker(uri, runs / "key")
    assert files(runs) == set()


def test_a_server_that_refuses_at_the_start_names_the_setting(refusing, runs):
    with pytest.raises(UnavailableError, match="MONGARS_MLFLOW_TRACKING_URI"):
        tracker(refusing, runs / "key")


def test_neither_logs_nor_errors_have_the_password_of_a_uri(down, refusing, runs, caplog):
    with_password = {uri: uri.replace("http://", "http://anna:sesame@") for uri in (down, refusing)}
    tracker(with_password[down], runs / "key").end("FAILED")
    assert "MLflow failed" in caplog.text
    assert "sesame" not in caplog.text
    with pytest.raises(UnavailableError) as failure:
        tracker(with_password[refusing], runs / "other")
    assert "sesame" not in str(failure.value)
