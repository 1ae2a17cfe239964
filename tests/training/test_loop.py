import pytest
import torch

from mongars.errors import TrainingError


def losses(reports) -> list[float]:
    return [report.loss for report in reports]


def test_the_loss_falls(train):
    reports, _ = train(steps=30)
    assert sum(losses(reports)[-5:]) < 0.8 * sum(losses(reports)[:5])
    assert [report.step for report in reports] == list(range(1, 31))


def test_two_workers_have_the_losses_of_one(train):
    one, _ = train(workers=1)
    two, _ = train(workers=2)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert [report.accuracy for report in two] == [report.accuracy for report in one]


def test_accumulated_passes_have_the_losses_of_one_pass(train):
    whole, _ = train()
    passes, _ = train(micro_rows=2)
    assert losses(passes) == pytest.approx(losses(whole), rel=1e-4)


def test_the_same_seed_gives_the_same_weights_to_the_bit(train):
    torch.manual_seed(99)
    (first, engine), (second, other) = train(lora_dropout=0.1), train(lora_dropout=0.1)
    assert losses(first) == losses(second)
    assert all(torch.equal(a, b) for a, b in zip(engine.trained, other.trained, strict=True))


def test_a_loss_that_is_not_finite_stops_before_the_update(train):
    engines = []

    def poison(model):
        engines.append(model)
        with torch.no_grad():
            next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))

    with pytest.raises(TrainingError, match="step 1"):
        train(poison)
    trained = [p for p in engines[0].parameters() if p.requires_grad]
    assert sum(bool(p.isnan().any()) for p in trained) == 1


def test_only_the_adapter_learns(train):
    _, engine = train(steps=2)
    names = [name for name, p in engine.model.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
