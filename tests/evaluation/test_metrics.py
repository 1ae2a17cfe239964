"""Figures as values: means over items, and what is told of what was not measured."""

import pytest

from mongars.evaluation.metrics import LABELS, Evaluation, ItemMeans, Spread, TurnSearch, compared


def test_a_mean_weighs_conversations_by_their_items():
    means = ItemMeans({"long": (90.0, 90), "short": (0.0, 10)})
    assert (means.items, means.value) == (100, 0.9)


def test_every_figure_has_its_label_and_what_was_not_measured_is_none():
    bare = Evaluation(ItemMeans({"a": (6.0, 2)}), 0.25)
    assert bare.figures() == dict.fromkeys(LABELS) | {"held_out_loss": 3.0, "held_out_accuracy": 0.25}
    search = TurnSearch(ItemMeans({"a": (1.0, 2)}), ItemMeans({"a": (0.5, 2)}))
    whole = Evaluation(bare.loss, 0.25, search, Spread(0.7, -1.5, 80.0), 0.0)
    assert whole.figures() == {
        "held_out_loss": 3.0,
        "held_out_accuracy": 0.25,
        "recall_at_10": 0.5,
        "ndcg_at_10": 0.25,
        "alignment": 0.7,
        "uniformity": -1.5,
        "effective_rank": 80.0,
        "sts_spearman": 0.0,
    }
    assert list(whole.figures()) == list(LABELS)


def test_two_evaluations_are_told_side_by_side_and_never_a_zero_for_what_was_not_measured():
    before, after = Evaluation(ItemMeans({"a": (6.0, 2)}), 0.25), Evaluation(ItemMeans({"a": (5.0, 2)}), 0.0)
    told = dict(compared(before.figures(), after.figures()))
    assert told["held-out loss"] == "3.000 -> 2.500"
    assert told["held-out accuracy"] == "0.250 -> 0.000"
    assert told["STS, Spearman"] == "not measured"


def test_a_cycle_that_measured_nothing_has_no_rows():
    assert compared({}, {}) == []


def test_what_only_one_of_them_could_measure_is_told():
    figures = {"sts_spearman": None}, {"sts_spearman": 0.5}
    assert compared(*figures) == [("STS, Spearman", "not measured -> 0.500")]


@pytest.mark.parametrize("value", [0.1, -1.25])
def test_equal_figures_are_told_as_two(value):
    assert compared({"uniformity": value}, {"uniformity": value}) == [
        ("uniformity", f"{value:.3f} -> {value:.3f}")
    ]
