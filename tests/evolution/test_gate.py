"""The gate promotes a candidate that is significantly better, and no other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.errors import InputError, SettingsError
from mongars.evaluation.metrics import Evaluation, ItemMeans, Spread, TurnSearch
from mongars.evolution.gate import Gate, GateConfig

WIDE = Spread(alignment=0.6, uniformity=-1.4, effective_rank=88.0)


def means(values: list[float], items: int = 10) -> ItemMeans:
    return ItemMeans({f"c{index:03}": (value * items, items) for index, value in enumerate(values)})


def of_losses(by_conversation: dict[str, tuple[float, int]]) -> Evaluation:
    return Evaluation(ItemMeans(by_conversation), accuracy=0.5)


def measured(losses: list[float], ndcg: list[float] | None = None, spread: Spread | None = None) -> Evaluation:
    search = None if ndcg is None else TurnSearch(recall_at_10=means(ndcg, 3), ndcg_at_10=means(ndcg, 3))
    return Evaluation(means(losses), 0.5, search, spread)


def noisy(mean: float, noise: float = 0.5, count: int = 60, seed: int = 1) -> list[float]:
    return list(mean + noise * np.random.default_rng(seed).normal(size=count))


def test_a_candidate_that_is_better_everywhere_is_promoted() -> None:
    before = noisy(3.0)
    verdict = Gate().judge(measured(before), measured([loss - 0.2 for loss in before]))
    assert verdict.promote
    assert verdict.loss.effect == pytest.approx(-0.2)
    assert verdict.loss.low <= verdict.loss.effect <= verdict.loss.high < 0


def test_an_insignificant_difference_is_not_promoted() -> None:
    verdict = Gate().judge(measured(noisy(3.0, seed=1)), measured(noisy(2.98, seed=2)))
    assert not verdict.promote
    assert verdict.loss.low < 0 < verdict.loss.high


def test_the_margin_must_be_exceeded() -> None:
    before = noisy(3.0)
    after = [loss - 0.2 for loss in before]
    assert Gate(GateConfig(margin=0.1)).judge(measured(before), measured(after)).promote
    assert not Gate(GateConfig(margin=0.3)).judge(measured(before), measured(after)).promote


def test_the_same_adapter_is_not_better() -> None:
    verdict = Gate().judge(measured(noisy(3.0)), measured(noisy(3.0)))
    assert not verdict.promote
    assert (verdict.loss.effect, verdict.loss.low, verdict.loss.high) == (0.0, 0.0, 0.0)


def test_too_few_conversations_promote_nothing() -> None:
    verdict = Gate().judge(measured([3.0] * 9), measured([1.0] * 9))
    assert not verdict.promote
    assert "over 9 conversations: at least 10 are needed" in verdict.reason


def test_the_effect_weights_conversations_by_their_targets() -> None:
    before = of_losses({"long": (90.0, 90), "short": (10.0, 10)})
    after = of_losses({"long": (0.0, 90), "short": (20.0, 10)})
    assert Gate().judge(before, after).loss.effect == pytest.approx(-0.8)


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
        Gate().judge(of_losses({"a": (1.0, 10), "b": (1.0, 10)}), of_losses(other))


@pytest.mark.parametrize(
    "option",
    [
        {"confidence": 1.0},
        {"margin": -0.1},
        {"tolerance": -0.1},
        {"sts_tolerance": -0.1},
        {"resamples": 0},
        {"min_conversations": 0},
    ],
)
def test_an_option_out_of_range_is_refused(option: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        GateConfig(**option)


BETTER = noisy(3.0), [loss - 0.2 for loss in noisy(3.0)]
FOUND = noisy(0.3, noise=0.1, seed=5)


def shifted(by: float) -> list[float]:
    """Retrieval changed by about `by` in each conversation, with noise that the pairing does not remove."""
    noise = np.random.default_rng(9).normal(size=len(FOUND))
    return [score + by + 0.05 * each for score, each in zip(FOUND, noise, strict=True)]


@pytest.mark.parametrize(
    ("by", "promoted", "finding"),
    [
        (0.05, True, "significantly better"),
        (0.0, True, "not significantly worse"),
        (-0.05, False, "significantly worse by more than 0"),
    ],
)
def test_a_better_loss_does_not_make_up_for_significantly_worse_retrieval(
    by: float, promoted: bool, finding: str
) -> None:
    before, after = BETTER
    verdict = Gate().judge(measured(before, FOUND), measured(after, shifted(by)))
    assert verdict.promote == promoted
    retrieval = verdict.reason.split("; ")[1]
    assert retrieval.endswith(f": {finding}") or f": {finding} by" in retrieval
    change = verdict.ndcg_at_10
    assert change is not None
    assert change.low < change.effect < change.high
    assert change.effect == pytest.approx(change.after - change.before)
    assert f"{change.effect:+.4f} [{change.low:+.4f}, {change.high:+.4f}], recall@10 " in retrieval
    assert "over 60 conversations" in retrieval


def test_better_retrieval_does_not_make_up_for_an_insignificant_loss() -> None:
    before, _ = BETTER
    verdict = Gate().judge(measured(before, FOUND), measured(before, shifted(0.05)))
    assert not verdict.promote
    loss, retrieval, _ = verdict.reason.split("; ")
    assert loss.endswith("not significantly better by more than 0")
    assert retrieval.endswith(": significantly better")


def test_retrieval_may_fall_by_the_tolerance() -> None:
    before, after = BETTER
    found = measured(before, FOUND), measured(after, shifted(-0.05))
    assert Gate(GateConfig(tolerance=0.1)).judge(*found).promote
    assert not Gate(GateConfig(tolerance=0.02)).judge(*found).promote


def test_metrics_that_were_not_measured_are_named_and_refuse_nothing() -> None:
    before, after = BETTER
    verdict = Gate().judge(measured(before), measured(after))
    assert verdict.promote
    assert verdict.ndcg_at_10 is None
    assert "retrieval not measured" in verdict.reason
    assert "spread not measured" in verdict.reason


def test_retrieval_over_too_few_conversations_is_not_judged() -> None:
    before, after = BETTER
    found = measured(before, FOUND[:9]), measured(after, [score - 0.2 for score in FOUND[:9]])
    verdict = Gate().judge(*found)
    assert verdict.promote
    assert "with a query: not judged, at least 10 are needed" in verdict.reason


@pytest.mark.parametrize(
    "narrow",
    [Spread(0.1, uniformity=-0.6, effective_rank=80.0), Spread(0.1, uniformity=-1.4, effective_rank=43.0)],
)
def test_a_candidate_that_lost_over_half_of_its_spread_is_refused(narrow: Spread) -> None:
    before, after = BETTER
    verdict = Gate().judge(measured(before, FOUND, WIDE), measured(after, shifted(0.05), narrow))
    assert not verdict.promote
    assert f"effective rank 88.0 -> {narrow.effective_rank:.1f}" in verdict.reason
    assert verdict.reason.endswith(": collapsed")


def test_a_little_less_spread_is_no_collapse() -> None:
    before, after = BETTER
    verdict = Gate().judge(measured(before, FOUND, WIDE), measured(after, FOUND, Spread(0.5, -1.1, 79.0)))
    assert verdict.promote
    assert verdict.reason.endswith("uniformity -1.40 -> -1.10: not collapsed")


def test_a_spread_equal_to_the_champions_is_no_collapse_however_narrow() -> None:
    before, after = BETTER
    point = Spread(0.0, uniformity=0.0, effective_rank=1.0)
    assert Gate().judge(measured(before, FOUND, point), measured(after, FOUND, point)).promote


@pytest.mark.parametrize("part", ["search", "spread"])
def test_a_metric_that_only_one_evaluation_has_is_refused(part: str) -> None:
    bare = measured(BETTER[1])
    whole = measured(BETTER[0], FOUND if part == "search" else None, WIDE if part == "spread" else None)
    for pair in ((whole, bare), (bare, whole)):
        with pytest.raises(InputError, match="same turns"):
            Gate().judge(*pair)


def test_queries_of_other_conversations_are_refused() -> None:
    with pytest.raises(InputError):
        Gate().judge(measured(BETTER[0], FOUND), measured(BETTER[1], FOUND[:59]))


def test_metrics_of_a_verdict_name_loss_and_retrieval() -> None:
    before, after = BETTER
    verdict = Gate().judge(measured(before, FOUND), measured(after, shifted(0.05)))
    kept = verdict.metrics()
    assert kept["gate_effect"] == verdict.loss.effect
    assert kept["gate_ndcg_at_10_high"] == verdict.ndcg_at_10.high
    assert len(kept) == 6
    assert set(Gate().judge(measured(before), measured(after)).metrics()) == {
        "gate_effect",
        "gate_low",
        "gate_high",
    }


RETRIEVAL = GateConfig(criterion="retrieval")
WORSE_LOSS = [loss + 1.0 for loss in noisy(3.0)]


def similar(found: list[float], sts: float | None, losses: list[float] = WORSE_LOSS) -> Evaluation:
    return replace(measured(losses, found, WIDE), sts_spearman=sts)


@pytest.mark.parametrize(("by", "promoted"), [(0.05, True), (0.0, False), (-0.05, False)])
def test_after_stage_2_retrieval_decides_and_the_loss_is_only_reported(by: float, promoted: bool) -> None:
    verdict = Gate(RETRIEVAL).judge(similar(FOUND, 0.5, noisy(3.0)), similar(shifted(by), 0.5))
    assert verdict.promote == promoted
    retrieval, _, _, loss = verdict.reason.split("; ")
    assert retrieval.endswith(f"{'' if promoted else 'not '}significantly better by more than 0")
    assert loss.startswith("loss 2.9") or loss.startswith("loss 3.0")
    assert loss.endswith("not judged")
    assert verdict.loss.effect == pytest.approx(1.0)


def test_a_lower_loss_does_not_promote_after_stage_2() -> None:
    verdict = Gate(RETRIEVAL).judge(similar(FOUND, 0.5), similar(FOUND, 0.5, noisy(3.0)))
    assert verdict.loss.high < 0
    assert not verdict.promote


def test_after_stage_2_the_margin_applies_to_retrieval() -> None:
    found = similar(FOUND, None), similar(shifted(0.05), None)
    assert Gate(replace(RETRIEVAL, margin=0.02)).judge(*found).promote
    assert not Gate(replace(RETRIEVAL, margin=0.1)).judge(*found).promote


def test_after_stage_2_too_little_measured_retrieval_promotes_nothing() -> None:
    assert not Gate(RETRIEVAL).judge(measured(BETTER[0]), measured(BETTER[1])).promote
    few = measured(BETTER[0], FOUND[:9]), measured(BETTER[1], [score + 0.3 for score in FOUND[:9]])
    verdict = Gate(RETRIEVAL).judge(*few)
    assert not verdict.promote
    assert "over 9 conversations with a query: at least 10 are needed" in verdict.reason


def test_after_stage_2_a_collapse_is_refused_despite_better_retrieval() -> None:
    collapsed = replace(similar(shifted(0.05), 0.5), spread=Spread(0.1, uniformity=-0.6, effective_rank=80.0))
    verdict = Gate(RETRIEVAL).judge(similar(FOUND, 0.5), collapsed)
    assert not verdict.promote
    assert ": collapsed" in verdict.reason


@pytest.mark.parametrize(
    ("before", "after", "promoted"),
    [(0.5, 0.6, True), (0.5, 0.49, True), (0.5, 0.47, False), (0.5, None, False), (None, None, True)],
)
def test_after_stage_2_similarity_must_not_be_lower_if_measured(
    before: float | None, after: float | None, promoted: bool
) -> None:
    verdict = Gate(RETRIEVAL).judge(similar(FOUND, before), similar(shifted(0.05), after))
    assert verdict.promote == promoted
    assert "STS" in verdict.reason


@settings(max_examples=30)
@given(losses=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10), st.integers(1, 50)), min_size=1, max_size=30))
def test_a_verdict_is_repeatable_and_flips_sign_when_sides_are_swapped(
    losses: list[tuple[float, float, int]],
) -> None:
    before = of_losses({f"c{i}": (a * n, n) for i, (a, _, n) in enumerate(losses)})
    after = of_losses({f"c{i}": (b * n, n) for i, (_, b, n) in enumerate(losses)})
    gate = Gate(GateConfig(resamples=200))
    verdict = gate.judge(before, after)
    assert verdict == gate.judge(before, after)
    assert verdict.loss.low <= verdict.loss.high
    assert verdict.promote == (verdict.loss.high < 0 and len(losses) >= 10)
    assert gate.judge(after, before).loss.effect == pytest.approx(-verdict.loss.effect)
    assert not (verdict.promote and gate.judge(after, before).promote)
