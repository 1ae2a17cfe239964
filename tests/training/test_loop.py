import pytest
import torch

from mongars.errors import TrainingError, TrainingStoppedError
from mongars.training.runtime.job import Progress


def losses(reports) -> list[float]:
    return [report.loss for report in reports]


def test_the_loss_falls(train):
    reports, _ = train(steps=30)
    assert sum(losses(reports)[-5:]) < 0.8 * sum(losses(reports)[:5])
    assert [report.step for report in reports] == list(range(1, 31))


def test_two_workers_have_the_losses_of_one_worker(train):
    one, _ = train(workers=1)
    two, _ = train(workers=2)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert [report.accuracy for report in two] == [report.accuracy for report in one]


def test_accumulated_passes_have_the_losses_of_a_single_pass(train):
    whole, _ = train()
    passes, _ = train(micro_rows=2)
    assert losses(passes) == pytest.approx(losses(whole), rel=1e-4)


def test_the_same_seed_gives_the_same_weights_to_the_bit(train):
    torch.manual_seed(99)
    (first, engine), (second, other) = train(lora_dropout=0.1), train(lora_dropout=0.1)
    assert losses(first) == losses(second)
    assert all(torch.equal(a, b) for a, b in zip(engine.trained, other.trained, strict=True))


def test_a_non_finite_loss_stops_before_the_update(train):
    engines = []

    def poison(model):
        engines.append(model)
        with torch.no_grad():
            next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))

    with pytest.raises(TrainingError, match="step 1"):
        train(poison)
    trained = [p for p in engines[0].parameters() if p.requires_grad]
    assert sum(bool(p.isnan().any()) for p in trained) == 1


def test_only_lora_weights_are_trainable(train):
    _, engine = train(steps=2)
    names = [name for name, p in engine.model.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)


def test_checkpoints_are_written_at_their_interval_but_not_at_the_end(train):
    saved: list[Progress] = []
    train(loop={"save": saved.append}, steps=9, checkpoint_steps=3)
    assert [progress.step for progress in saved] == [3, 6]


def test_a_stop_on_one_worker_makes_every_worker_write_a_checkpoint(train):
    saved: list[Progress] = []
    asked = iter([False] * 9 + [True])  # two workers, each asked once a step: true for one of them in the fifth
    with pytest.raises(TrainingStoppedError, match="after step 4 of 12"):
        train(loop={"save": saved.append, "should_stop": lambda: next(asked)}, workers=2, checkpoint_steps=3)
    assert [progress.step for progress in saved] == [3, 3, 4, 4]


def test_a_stop_right_after_a_checkpoint_writes_no_second_one(train):
    saved: list[Progress] = []
    asked = iter([False] * 3 + [True])
    with pytest.raises(TrainingStoppedError):
        train(loop={"save": saved.append, "should_stop": lambda: next(asked)}, checkpoint_steps=3)
    assert [progress.step for progress in saved] == [3]


def test_a_resumed_run_starts_with_the_next_step(train):
    reports, _ = train(loop={"start": Progress(10, {"loss_first": 5.0})})
    assert [report.step for report in reports] == [11, 12]


def test_progress_over_a_resumption_equals_that_of_an_uninterrupted_run(train):
    reports, _ = train()
    whole = resumed = Progress()
    for report in reports:
        whole = whole.advanced(report)
    for part in (reports[:5], reports[5:]):
        resumed = Progress(resumed.step, dict(resumed.metrics))
        for report in part:
            resumed = resumed.advanced(report)
    assert whole == resumed
    assert (whole.step, whole.metrics["loss_first"]) == (12, reports[0].loss)
    assert whole.metrics["loss_last"] == reports[-1].loss


def test_a_non_finite_loss_names_the_last_checkpoint(train):
    models = []

    def poison(progress):
        if progress.step == 6:
            with torch.no_grad():
                next(p for p in models[0].parameters() if p.requires_grad).fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"at step 7; .* checkpoint after step 6 is kept"):
        train(models.append, loop={"save": poison}, checkpoint_steps=3)
