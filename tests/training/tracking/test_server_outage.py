"""A real MLflow server that is killed during a run and restarted for the next one."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mongars.training.tracking.mlflow_store import CANDIDATE, CHAMPION, DIGEST, MODEL, VERDICT
from mongars.training.tracking.tracker import AdapterOutcomes, RunTracker, mlflow_run_id

FIRST, SECOND = "a" * 64, "b" * 64


class Server:
    """An MLflow server on its own port, in its own process group."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._folder = folder
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        stores = ["--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}"]
        stores += ["--artifacts-destination", str(self._folder / "artifacts")]
        command = [sys.executable, "-m", "mlflow", "server", *stores, "--workers", "1", "--port", str(self._port)]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # its processes slow the start
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        output = []
        for line in self._process.stderr:
            output.append(line)
            if "Uvicorn running on" in line:
                return
        pytest.fail("".join(output))

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.kill()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a slow machine answer: every call but those to a killed server may take long."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")


def record(server: Server, place: Path, digest: str, *, killed_at: int | None = None) -> None:
    """Record a run of 20 steps with an adapter, whose server may be killed at a step."""
    place.mkdir()
    (place / "adapter_model.safetensors").write_bytes(b"weights")
    run = RunTracker(server.uri, "trials", params={"steps": 20}, tags={}, place=place)
    run.dataset("chats", "1", "d" * 64)
    for step in range(1, 21):
        run.metrics(step, {"loss": 1 / step})
        if step == killed_at:
            server.kill()
    run.end("FINISHED", "adapter", place, digest=digest)


def test_a_run_survives_its_server_and_the_next_run_sends_its_record(server, patient, runs):
    first, second = runs / "first", runs / "second"
    record(server, first, FIRST, killed_at=10)
    AdapterOutcomes(server.uri, runs).judged("first", FIRST, "promoted", "lower", {"gate_low": -0.5})
    assert [path.name for path in runs.glob("*.jsonl")] == ["first.journal.jsonl"]

    server.start()
    record(server, second, SECOND)
    AdapterOutcomes(server.uri, runs).served("second", FIRST, 1)
    assert list(runs.glob("*.jsonl")) == []
    client = MlflowClient(server.uri, server.uri)
    champion, candidate = (client.get_model_version_by_alias(MODEL, alias) for alias in (CHAMPION, CANDIDATE))
    assert (champion.tags[DIGEST], champion.tags[VERDICT]) == (FIRST, "promoted")
    assert candidate.tags[DIGEST] == SECOND
    run_id = mlflow_run_id(first)
    run = client.get_run(run_id)
    assert run.data.metrics["gate_low"] == -0.5
    assert run.info.status == "FINISHED"
    assert run.inputs.dataset_inputs[0].dataset.name == "chats"
    assert [metric.step for metric in client.get_metric_history(run_id, "loss")] == list(range(1, 21))
    names = {file.path for file in client.list_artifacts(run_id, "adapter")}
    assert names == {"adapter/adapter_model.safetensors"}
