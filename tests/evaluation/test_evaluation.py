import numpy as np
import pytest

from mongars.errors import DatasetRefusedError
from mongars.evaluation import turn_retrieval
from mongars.evaluation.evaluation import evaluate_encoder
from mongars.evaluation.scored_pairs import ScoredPairs
from mongars.lm.adapters import attach_adapter
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.training.config import MNTPConfig
from mongars.training.data.tokenize import Row

ROWS = [
    Row(
        f"r{index}",
        [
            {"role": "user", "content": f"{index} hello there, how are you today?"[: 8 + index].strip()},
            {"role": "assistant", "content": f"today you are {index}"},
        ],
    )
    for index in range(12)
]
CONFIG = MNTPConfig(max_tokens=64)
PAIRS = ScoredPairs(("hello", "how", "are"), ("hello!", "today", "there, are you"), np.array([5.0, 1.0, 3.0]))


def items(means):
    """Return the number of items of each conversation."""
    return {name: count for name, (_, count) in means.by_conversation.items()}


@pytest.fixture
def small_corpora(monkeypatch):
    """Let twelve documents be enough."""
    monkeypatch.setattr(turn_retrieval, "MIN_DOCUMENTS", 12)


def test_every_conversation_has_a_loss(base_folder):
    evaluation = evaluate_encoder(base_folder, None, ROWS, CONFIG)
    assert set(evaluation.loss.by_conversation) == {row.id for row in ROWS}
    assert 0 <= evaluation.accuracy <= 1


@pytest.mark.usefixtures("small_corpora")
def test_an_evaluation_does_not_depend_on_the_order_of_rows(base_folder):
    first, second = (evaluate_encoder(base_folder, None, rows, CONFIG, PAIRS) for rows in (ROWS, ROWS[::-1]))
    assert first == second
    assert None not in first.metrics().values()


@pytest.mark.usefixtures("small_corpora")
def test_an_adapter_has_the_targets_and_queries_of_the_base_and_other_metrics(base_folder, make_adapter):
    without = evaluate_encoder(base_folder, None, ROWS, CONFIG, PAIRS)
    adapted = evaluate_encoder(base_folder, make_adapter(3).folder, ROWS, CONFIG, PAIRS)
    assert without.loss != adapted.loss
    assert without.spread != adapted.spread
    assert items(without.loss) == items(adapted.loss)
    assert items(without.search.ndcg_at_10) == items(adapted.search.ndcg_at_10)


@pytest.mark.usefixtures("small_corpora")
def test_turns_are_ranked_by_the_vectors_that_serving_returns(base, base_folder, make_adapter):
    folder = make_adapter(3).folder
    served = Neurons(attach_adapter(bidirectional_encoder(base), folder), base.tokenizer)
    queries, answers = ([row.messages[index]["content"] for row in ROWS] for index in (0, 1))
    scores = served.encode(queries)[0] @ served.encode(answers)[0].T
    ranks = {row.id: int((scores[i] >= scores[i, i]).sum()) for i, row in enumerate(ROWS)}
    found = evaluate_encoder(base_folder, folder, ROWS, CONFIG).search
    assert len(set(ranks.values())) > 1
    for name, rank in ranks.items():
        assert found.recall_at_10.by_conversation[name] == (float(rank <= 10), 1)
        assert found.ndcg_at_10.by_conversation[name][0] == pytest.approx((rank <= 10) / np.log2(1 + rank))


def test_retrieval_and_similarity_are_none_where_they_cannot_be_measured(base_folder):
    evaluation = evaluate_encoder(base_folder, None, ROWS, CONFIG)
    assert (evaluation.search, evaluation.sts_spearman) == (None, None)
    assert evaluation.spread is not None


def test_a_pair_with_a_turn_of_no_tokens_is_left_out(base_folder, monkeypatch):
    monkeypatch.setattr(turn_retrieval, "MIN_DOCUMENTS", 11)
    monkeypatch.setattr(Neurons, "without_tokens", lambda _, texts: {texts.index("today you are 3")})
    search = evaluate_encoder(base_folder, None, ROWS, CONFIG).search
    assert set(search.ndcg_at_10.by_conversation) == {row.id for row in ROWS} - {"r3"}


def test_without_answers_only_the_loss_is_measured(base_folder):
    rows = [Row(row.id, row.messages[:1]) for row in ROWS]
    evaluation = evaluate_encoder(base_folder, None, rows, CONFIG)
    assert (evaluation.search, evaluation.spread) == (None, None)
    assert evaluation.loss.value > 0


@pytest.mark.usefixtures("small_corpora")
def test_a_collapsed_encoder_finds_nothing_and_has_rank_1(base_folder, monkeypatch):
    def one_point(neurons, texts):
        return np.eye(1, neurons.dimensions, dtype=np.float32).repeat(len(texts), axis=0), 0

    monkeypatch.setattr(Neurons, "encode", one_point)
    evaluation = evaluate_encoder(base_folder, None, ROWS, CONFIG, PAIRS)
    assert (evaluation.search.recall_at_10.value, evaluation.search.ndcg_at_10.value) == (0, 0)
    assert evaluation.spread.uniformity == pytest.approx(0)
    assert evaluation.spread.effective_rank == pytest.approx(1)
    assert evaluation.sts_spearman is None  # equal cosines have no ranks


def test_rows_without_a_target_are_refused(base_folder):
    with pytest.raises(DatasetRefusedError):
        evaluate_encoder(base_folder, None, [], CONFIG)
