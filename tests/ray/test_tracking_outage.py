"""A real MLflow server that is killed while a run goes on, and started again for the next one."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mongars.records import DatasetRef
from mongars.storage.digests import folder_digest
from mongars.training.config import MNTPConfig
from mongars.training.tracking.model_versions import CANDIDATE, CHAMPION, DIGEST, MODEL, VERDICT
from mongars.training.tracking.outcomes import Outcomes
from mongars.training.tracking.run_id import told_run_id
from mongars.training.trainer import MNTPTrainer

pytestmark = pytest.mark.ray

CONFIG = MNTPConfig(lora_rank=4, lora_dropout=0.0, max_tokens=32, batch_rows=8, steps=20, workers=1)
DATASET = DatasetRef("chats", "1", "d" * 64, "ready", 24)


class Server:
    """An MLflow server on a port of its own, in a process group that can be killed whole."""

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
        self._process = subprocess.Popen(
            command, cwd=self._folder, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "Uvicorn running on" in line:
                return
        pytest.fail("".join(said))

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


def test_a_server_that_is_killed_does_not_end_the_run_and_is_told_when_the_next_one_starts(
    local_ray, server, base_folder, tmp_path
):
    from mlflow import MlflowClient

    rows = [
        {"id": f"row-{index:02d}", "split": "train", "messages": [{"role": "user", "content": "hello there"}]}
        for index in range(24)
    ]
    part = tmp_path / "part.parquet"
    pq.write_table(pa.Table.from_pylist(rows), part)

    def train(config: MNTPConfig, on_progress=None):
        return MNTPTrainer(config, [part], DATASET, base_folder, tmp_path / "out", server.uri, on_progress).train()

    trained = train(CONFIG, lambda step, *_: server.kill() if step == 10 else None)
    journal = trained.folder.with_name(f"{trained.folder.name}.journal.jsonl")
    assert journal.exists()
    digest, run = folder_digest(trained.folder), trained.folder.name
    Outcomes(server.uri, trained.folder.parent).judged(run, digest, "promoted", "lower", {"gate_low": -0.5})

    server.start()
    newer = train(CONFIG.model_copy(update={"steps": 2}))
    assert not journal.exists()
    Outcomes(server.uri, trained.folder.parent).served(newer.folder.name, digest, 1)
    assert list(trained.folder.parent.glob("*.jsonl")) == []
    client = MlflowClient(tracking_uri=server.uri)
    champion, candidate = (client.get_model_version_by_alias(MODEL, alias) for alias in (CHAMPION, CANDIDATE))
    assert (champion.tags[DIGEST], champion.tags[VERDICT]) == (digest, "promoted")
    assert candidate.tags[DIGEST] == folder_digest(newer.folder)
    run = client.get_run(told_run_id(trained.folder))
    assert run.data.metrics["gate_low"] == -0.5
    assert run.info.status == "FINISHED"
    assert run.inputs.dataset_inputs[0].dataset.name == "chats"
    assert [metric.step for metric in client.get_metric_history(trained.run_id, "loss")] == list(range(1, 21))
    assert run.data.metrics["learning_rate"] == CONFIG.learning_rate
    names = {file.path for file in client.list_artifacts(trained.run_id, "adapter")}
    assert "adapter/adapter_model.safetensors" in names
