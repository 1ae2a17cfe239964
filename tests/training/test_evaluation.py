import pytest

from mongars.errors import DatasetRefusedError
from mongars.training.config import MNTPConfig
from mongars.training.evaluation import evaluate_mntp
from mongars.training.text import Row

ROWS = [
    Row(f"r{index}", [{"role": "user", "content": "hello there, how are you today?"[: 8 + index]}])
    for index in range(9)
]
CONFIG = MNTPConfig(max_tokens=64)


def test_the_totals_are_those_of_the_conversations(base_folder):
    evaluation = evaluate_mntp(base_folder, None, ROWS, CONFIG)
    assert set(evaluation.per_conversation) == {row.id for row in ROWS}
    loss, count = (sum(part) for part in zip(*evaluation.per_conversation.values(), strict=True))
    assert evaluation.loss == pytest.approx(loss / count)
    assert 0 <= evaluation.accuracy <= 1


def test_an_evaluation_can_be_repeated_in_any_order(base_folder):
    assert evaluate_mntp(base_folder, None, ROWS, CONFIG) == evaluate_mntp(base_folder, None, ROWS[::-1], CONFIG)


def test_an_adapter_is_judged_on_the_same_targets_with_another_loss(base_folder, make_adapter):
    without = evaluate_mntp(base_folder, None, ROWS, CONFIG)
    adapted = evaluate_mntp(base_folder, make_adapter(3).folder, ROWS, CONFIG)
    assert adapted.loss != without.loss
    counts = [{key: count for key, (_, count) in one.per_conversation.items()} for one in (without, adapted)]
    assert counts[0] == counts[1]


def test_nothing_to_predict_is_refused(base_folder):
    with pytest.raises(DatasetRefusedError):
        evaluate_mntp(base_folder, None, [], CONFIG)
