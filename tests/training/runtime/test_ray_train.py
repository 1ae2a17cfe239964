"""How often a failed fit of Ray Train is retried; tests/ray kills real workers."""

from pathlib import Path

import pytest
from ray.train import WorkerGroupError

from mongars.errors import InputError, MongarsError, TrainingError
from mongars.training.runtime import ray_train
from mongars.training.runtime.ray_train import Workers, fit


class Fits:
    """Stands in for Ray Train's trainer: fits that fail with an error of a worker, and then one that does not."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    def __call__(self, *_: object, **__: object) -> "Fits":
        return self

    def fit(self) -> None:
        self.count += 1
        if self.errors:
            raise WorkerGroupError("Traceback (most recent call last)", {0: self.errors.pop(0)})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return run(fits): a run with one retry."""
    monkeypatch.setattr(Workers, "warn_if_insufficient", lambda self: None)

    def run(fits: Fits) -> None:
        monkeypatch.setattr(ray_train, "TorchTrainer", fits)
        fit(lambda config: None, {}, name="trial", folder=tmp_path, workers=Workers(1, retries=1))

    return run


def test_a_run_whose_worker_died_is_retried(run, tmp_path: Path):
    fits = Fits(RuntimeError("killed"))
    run(fits)
    assert fits.count == 2
    assert list(tmp_path.iterdir()) == [], "the storage of the run is removed"


@pytest.mark.parametrize(
    ("error", "raised", "message", "count"),
    [
        (RuntimeError("killed"), TrainingError, "A training worker failed: RuntimeError: killed", 2),
        (InputError("Damaged text.", remedy="Look at it."), InputError, "Damaged text", 1),
    ],
    ids=["the last retry is used up", "a typed error is final"],
)
def test_a_failure_is_raised_without_a_traceback(
    run, error: Exception, raised: type[MongarsError], message: str, count: int
):
    fits = Fits(error, error)
    with pytest.raises(raised, match=message) as caught:
        run(fits)
    assert fits.count == count
    assert "Traceback" not in str(caught.value)
