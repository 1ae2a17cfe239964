"""What a run does when its workers keep dying; what a single death does is in test_resume_on_ray.py."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mongars.errors import TrainingError
from mongars.training.runtime.ray_train import Workers, fit

pytestmark = pytest.mark.ray


def die(options: dict[str, Any]) -> None:
    with Path(options["attempts"]).open("a") as attempts:
        attempts.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_keep_dying_end_the_run_with_an_error_after_the_retries(ray_session, tmp_path: Path):
    notes = tmp_path / "attempts"
    with pytest.raises(TrainingError, match="A training worker failed") as caught:
        fit(die, {"attempts": str(notes)}, name="trial", folder=tmp_path, workers=Workers(1, cpus=0.5, retries=1))
    assert notes.stat().st_size == 2
    assert "Traceback" not in str(caught.value)
