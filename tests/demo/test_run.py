"""The demo's cycle: the resources of its training, and load without pauses from the gate on."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mongars.demo import run
from mongars.settings import Settings
from mongars.workflows.self_train import CyclePlan


class Silent:
    """Progress that keeps the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, label: str) -> None:
        self.stages.append(label)

    def update(self, *_: object) -> None:
        pass

    def warn(self, _message: str) -> None:
        pass


def test_the_cycle_has_the_resources_asked_for_and_load_at_the_swap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, pauses_dropped_at = Silent(), list[str]()
    load = SimpleNamespace(drop_pauses=lambda: pauses_dropped_at.append(progress.stages[-1]))

    def cycle(_settings: Settings, plan: CyclePlan, progress) -> CyclePlan:
        for stage in ("train", "gate", "publish"):
            progress.stage(stage)
        return plan

    monkeypatch.setattr(run, "run_cycle", cycle)
    options = run.DemoOptions(gpu=True, retries=7)
    clock = run._Clock(progress)
    plan = run._run_cycle(Settings(home=tmp_path), options, load, clock)
    assert (plan.run.gpu, plan.run.retries) == (True, 7)
    assert plan.recipes()[0].steps == 40
    assert pauses_dropped_at == ["gate"]
    clock.end()
    assert list(clock.seconds) == progress.stages == ["train", "gate", "publish"]
