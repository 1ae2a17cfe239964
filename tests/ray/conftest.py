"""One Ray for the session, and the adapter run that most training tests compare with.

No test depends on the order of the files.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from mongars.serving.cluster import SERVE_ENVIRONMENT
from tests.ray.adapter_runs import CONFIG, Progress, RunPlace, WholeRun, publish_chats

FAST_RAY = {
    # Ray Train polls its workers every two seconds by default: most of a small run would be that wait.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # On a busy machine two workers need more than the minute that Ray Train gives them to start.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    # An actor for each group of workers, which watches for nodes that a cloud takes back.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # By default workers run at a low priority, and starve next to whatever else a developer's machine runs.
    "RAY_worker_niceness": "0",
}


@pytest.fixture(scope="session")
def ray_session(s3_environment: dict[str, str]) -> Iterator[Cluster]:
    """Start a head with four logical CPUs, connect to it, and return its cluster, to which a test may add nodes.

    Ray's processes inherit the variables of Serve's processes in production, and the address and keys of the S3
    server. A test that creates named actors or deploys an application does so under names of its own.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name, value in FAST_RAY.items():
            environment.setenv(name, value)
        with environment.context() as inherited:
            for name, value in (s3_environment | SERVE_ENVIRONMENT).items():
                inherited.setenv(name, value)
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        ray.init(address=cluster.address, namespace="mongars", log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="session")
def job_environment(ray_session) -> dict[str, str]:
    """Return the environment of a job that runs on the session's Ray."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MONGARS_")}
    return inherited | {"RAY_ADDRESS": ray_session.address}


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty MLflow database. Its migrations take seconds, a copy of it none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def place(base_folder, tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path):
    """Return place(home) -> RunPlace: a folder for adapter runs on the base and the dataset of the session."""
    catalog = publish_chats(tmp_path_factory.mktemp("models") / "datasets")

    def build(home: Path) -> RunPlace:
        shutil.copy(mlflow_database, home / "mlflow.db")
        return RunPlace(home, catalog, base_folder)

    return build


@pytest.fixture(scope="session")
def whole(ray_session, place, tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """Return an undisturbed run of CONFIG by two workers."""
    progress, home = Progress(), place(tmp_path_factory.mktemp("whole"))
    return WholeRun(home, home.trainer(CONFIG, progress).train(), progress)
