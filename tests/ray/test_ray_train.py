"""What Ray Train's workers do when one dies, and when one says what is wrong."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mongars.errors import InputError, TrainingError
from mongars.training.runtime.ray_train import Workers, fit

pytestmark = pytest.mark.ray


def work(told: dict[str, Any]) -> None:
    """Note an attempt, and end as the test wants it."""
    with Path(told["attempts"]).open("a") as attempts:
        attempts.write("x")
    count = Path(told["attempts"]).stat().st_size
    if told["fails"] == "typed":
        raise InputError("Damaged text.", remedy="Look at it.")
    if told["fails"] == "always" or (told["fails"] == "first" and count == 1):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def attempt(local_ray, tmp_path: Path):
    """Return attempt(fails) -> attempts that were made, with one retry allowed."""
    notes = tmp_path / "attempts"

    def run(fails: str) -> None:
        told = {"attempts": str(notes), "fails": fails}
        fit(work, told, name="trial", folder=tmp_path, workers=Workers(1, cpus=0.5, retries=1))

    return run, lambda: notes.stat().st_size


def test_a_worker_that_died_is_started_again(attempt):
    run, attempts = attempt
    run("first")
    assert attempts() == 2


def test_workers_that_keep_dying_end_in_an_error(attempt):
    run, attempts = attempt
    with pytest.raises(TrainingError, match="A training worker failed"):
        run("always")
    assert attempts() == 2


def test_an_error_that_a_worker_names_is_final(attempt):
    run, attempts = attempt
    with pytest.raises(InputError, match="Damaged text"):
        run("typed")
    assert attempts() == 1
