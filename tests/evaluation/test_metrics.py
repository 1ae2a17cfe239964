"""Metrics as values: means over items, and the comparison of two evaluations."""

import pytest

from mongars.evaluation.metrics import LABELS, Evaluation, ItemMeans, Spread, TurnSearch, compared


def test_mean_weights_conversations_by_their_items():
    means = ItemMeans({"long": (90.0, 90), "short": (0.0, 10)})
    assert (means.items, means.value) == (100, 0.9)


def test_every_metric_has_a_label_and_is_none_if_not_measured():
    bare = Evaluation(ItemMeans({"a": (6.0, 2)}), 0.25)
    assert bare.metrics() == dict.fromkeys(LABELS) | {"held_out_loss": 3.0, "held_out_accuracy": 0.25}
    search = TurnSearch(ItemMeans({"a": (1.0, 2)}), ItemMeans({"a": (0.5, 2)}))
    whole = Evaluation(bare.loss, 0.25, search, Spread(0.7, -1.5, 80.0), 0.0)
    assert whole.metrics() == {
        "held_out_loss": 3.0,
        "held_out_accuracy": 0.25,
        "recall_at_10": 0.5,
        "ndcg_at_10": 0.25,
        "alignment": 0.7,
        "uniformity": -1.5,
        "effective_rank": 80.0,
        "sts_spearman": 0.0,
    }
    assert list(whole.metrics()) == list(LABELS)


def test_comparison_shows_values_side_by_side_and_never_0_for_not_measured():
    before, after = Evaluation(ItemMeans({"a": (6.0, 2)}), 0.25), Evaluation(ItemMeans({"a": (5.0, 2)}), 0.0)
    rows = dict(compared(before.metrics(), after.metrics()))
    assert rows["held-out loss"] == "3.000 -> 2.500"
    assert rows["held-out accuracy"] == "0.250 -> 0.000"
    assert rows["STS, Spearman"] == "not measured"


def test_comparison_of_nothing_has_no_rows():
    assert compared({}, {}) == []


def test_comparison_shows_a_metric_that_only_one_evaluation_has():
    metrics = {"sts_spearman": None}, {"sts_spearman": 0.5}
    assert compared(*metrics) == [("STS, Spearman", "not measured -> 0.500")]


@pytest.mark.parametrize("value", [0.1, -1.25])
def test_comparison_shows_equal_values_twice(value):
    assert compared({"uniformity": value}, {"uniformity": value}) == [
        ("uniformity", f"{value:.3f} -> {value:.3f}")
    ]
