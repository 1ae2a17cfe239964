from pathlib import Path

import pytest

from mongars.errors import UnavailableError
from mongars.training.tracking import RunTracker

VALUES = {"loss": 3.5, "masked_accuracy": None, "tokens_per_second": 100.0}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('home') / 'mlflow' / 'mlflow.db'}"


def client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_a_run_keeps_its_parameters_tags_metrics_and_artifacts(uri: str, tmp_path: Path):
    (tmp_path / "card.json").write_text("{}")
    tracker = RunTracker(uri, "trials", name="r", params={"steps": 2}, tags={"dataset_digest": "d" * 64})
    tracker.metrics(1, VALUES)
    tracker.finish({"adapter": tmp_path})
    run = client(uri).get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert client(uri).get_experiment(run.info.experiment_id).name == "trials"
    assert run.data.params == {"steps": "2"}
    assert run.data.tags["dataset_digest"] == "d" * 64
    assert run.data.metrics == {"loss": 3.5, "tokens_per_second": 100.0}
    assert [file.path for file in client(uri).list_artifacts(tracker.run_id, "adapter")] == ["adapter/card.json"]


def test_artifacts_lie_beside_the_database_not_in_the_working_directory(uri: str):
    tracker = RunTracker(uri, "trials", name="r", params={}, tags={})
    place = client(uri).get_run(tracker.run_id).info.artifact_uri
    assert place.startswith(Path(uri.removeprefix("sqlite:///")).parent.as_uri())


def test_a_failed_run_is_marked(uri: str):
    tracker = RunTracker(uri, "trials", name="r", params={}, tags={})
    tracker.fail()
    assert client(uri).get_run(tracker.run_id).info.status == "FAILED"


def test_a_store_that_cannot_be_used_names_the_setting(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="MONGARS_MLFLOW_TRACKING_URI"):
        RunTracker(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "trials", name="r", params={}, tags={})
