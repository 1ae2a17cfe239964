"""The gate: promotes what is surely better, and nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.errors import InputError, SettingsError
from mongars.evolution.gate import Gate, GateConfig


@dataclass(frozen=True)
class Measured:
    per_conversation: dict[str, tuple[float, int]]


def measured(losses: list[float], targets: int = 10) -> Measured:
    return Measured({f"c{index:03}": (loss * targets, targets) for index, loss in enumerate(losses)})


def noisy(mean: float, noise: float = 0.5, count: int = 60, seed: int = 1) -> list[float]:
    return list(mean + noise * np.random.default_rng(seed).normal(size=count))


def test_a_candidate_that_is_better_everywhere_is_promoted() -> None:
    before = noisy(3.0)
    verdict = Gate().judge(measured(before), measured([loss - 0.2 for loss in before]))
    assert verdict.promote
    assert verdict.effect == pytest.approx(-0.2)
    assert verdict.low <= verdict.effect <= verdict.high < 0


def test_a_difference_that_may_be_chance_is_not_promoted() -> None:
    verdict = Gate().judge(measured(noisy(3.0, seed=1)), measured(noisy(2.98, seed=2)))
    assert not verdict.promote
    assert verdict.low < 0 < verdict.high


def test_the_margin_must_be_exceeded() -> None:
    before = noisy(3.0)
    after = [loss - 0.2 for loss in before]
    assert Gate(GateConfig(margin=0.1)).judge(measured(before), measured(after)).promote
    assert not Gate(GateConfig(margin=0.3)).judge(measured(before), measured(after)).promote


def test_the_same_adapter_again_is_not_better() -> None:
    verdict = Gate().judge(measured(noisy(3.0)), measured(noisy(3.0)))
    assert not verdict.promote
    assert (verdict.effect, verdict.low, verdict.high) == (0.0, 0.0, 0.0)


def test_too_few_conversations_promote_nothing() -> None:
    verdict = Gate().judge(measured([3.0] * 9), measured([1.0] * 9))
    assert not verdict.promote
    assert "fewer than the 10" in verdict.reason


def test_the_effect_weighs_conversations_by_their_targets() -> None:
    before = Measured({"long": (90.0, 90), "short": (10.0, 10)})
    after = Measured({"long": (0.0, 90), "short": (20.0, 10)})
    assert Gate().judge(before, after).effect == pytest.approx(-0.8)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"a": (1.0, 10)},
        {"b": (1.0, 10)},
        {"a": (1.0, 9), "b": (1.0, 10)},
        {"a": (float("nan"), 10), "b": (1, 10)},
    ],
)
def test_evaluations_of_other_targets_are_refused(other: dict[str, tuple[float, int]]) -> None:
    with pytest.raises(InputError):
        Gate().judge(Measured({"a": (1.0, 10), "b": (1.0, 10)}), Measured(other))


def test_an_impossible_gate_is_refused() -> None:
    with pytest.raises(SettingsError):
        GateConfig(confidence=1.0)


@settings(max_examples=30, deadline=None)
@given(losses=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.integers(1, 50)), min_size=1, max_size=30))
def test_a_verdict_is_ordered_repeatable_and_the_reverse_of_its_reverse(
    losses: list[tuple[float, float, int]],
) -> None:
    before = Measured({f"c{i}": (a * n, n) for i, (a, _, n) in enumerate(losses)})
    after = Measured({f"c{i}": (b * n, n) for i, (_, b, n) in enumerate(losses)})
    gate = Gate(GateConfig(resamples=200))
    verdict = gate.judge(before, after)
    assert verdict == gate.judge(before, after)
    assert verdict.low <= verdict.high
    assert verdict.promote == (verdict.high < 0 and len(losses) >= 10)
    assert gate.judge(after, before).effect == pytest.approx(-verdict.effect)
    assert not (verdict.promote and gate.judge(after, before).promote)
