"""The contrastive loss against its formula, and its split over workers."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from mongars.errors import TrainingError
from mongars.lm.packing import allow_packing
from mongars.lm.tokenize import tokenize
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.training.config import ContrastiveConfig
from mongars.training.data.pairs import PairTable
from mongars.training.data.tokenize import TokenTable
from mongars.training.objectives.contrastive import (
    ContrastiveObjective,
    EmbeddingModel,
    collate_pairs,
    info_nce,
    set_attention_dropout,
    true_negatives,
)

OPTIONS = {
    "pairs": "turns",
    "lora_rank": 4,
    "lora_dropout": 0.0,
    "dropout": 0.0,
    "learning_rate": 1e-2,
    "max_tokens": 32,
    "batch_pairs": 8,
    "steps": 6,
    "workers": 1,
}


def unit(rows: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture
def train(train_with, pair_rows):
    """Return train(rows=..., **options) -> (reports, engine of rank 0)."""

    def run(*arguments, rows=pair_rows, **options):
        def objective(config, base, rank, workers):
            def gather(own):
                return workers.gather(rank, own)

            return ContrastiveObjective(config, rows, rank, gather=gather)

        return train_with(ContrastiveConfig(**(OPTIONS | options)), objective, *arguments)

    return run


def test_the_loss_equals_the_formula():
    queries, documents = unit(4, seed=0), unit(4, seed=1)
    negatives = torch.ones(4, 4, dtype=torch.bool)
    negatives[0, 2] = negatives[3, 1] = False
    losses, correct = info_nce(queries, documents, negatives, temperature=0.05)
    for i in range(4):
        scores = {j: float(queries[i] @ documents[j]) / 0.05 for j in range(4) if j == i or negatives[i, j]}
        expected = -math.log(math.exp(scores[i]) / sum(map(math.exp, scores.values())))
        assert float(losses[i]) == pytest.approx(expected, rel=1e-9)
        assert bool(correct[i]) == (max(scores, key=scores.get) == i)


def test_a_query_without_a_negative_has_loss_0():
    losses, correct = info_nce(unit(2, 0), unit(2, 1), torch.zeros(2, 2, dtype=torch.bool), 0.05)
    assert losses.tolist() == [0, 0]
    assert correct.all()


def test_equal_texts_and_answers_to_equal_queries_are_no_negatives():
    # pairs (1, 10), (2, 10), (1, 30), (30, 40), (5, 5)
    negatives = true_negatives(torch.tensor([1, 2, 1, 30, 5]), torch.tensor([10, 10, 30, 40, 5]))
    assert negatives.long().tolist() == [
        [0, 0, 0, 1, 1],  # 10 is its own answer, twice; 30 answers the same query
        [0, 0, 1, 1, 1],
        [0, 1, 0, 1, 1],
        [1, 1, 0, 0, 1],  # 30 is its own text
        [1, 1, 1, 1, 0],
    ]


def test_a_hard_negative_counts_for_every_query_that_it_does_not_equal_or_answer():
    # pairs (1, 10) with 20 as a bad answer, (2, 30) without one, (20, 40) with 10, (1, 50) with 60
    negatives = true_negatives(
        torch.tensor([1, 2, 20, 1]), torch.tensor([10, 30, 40, 50]), torch.tensor([20, 30, 10, 60])
    )
    assert negatives[:, :4].equal(true_negatives(torch.tensor([1, 2, 20, 1]), torch.tensor([10, 30, 40, 50])))
    assert negatives[:, 4:].long().tolist() == [
        [1, 0, 0, 1],  # 10 is its own answer; 60 is a bad answer to the same query
        [1, 0, 1, 1],
        [0, 0, 1, 1],  # 20 is its own text
        [1, 0, 1, 1],
    ]


def test_a_pair_without_a_hard_negative_adds_no_row_to_the_forward_pass():
    texts = [np.array(ids, dtype=np.int32) for ids in ([1, 2], [3], [4, 5, 6], [7])]
    batch = collate_pairs(texts[:2], texts[2:], [np.array([8, 9], dtype=np.int32), np.array([], dtype=np.int32)])
    assert batch.rows.lengths == (2, 1, 3, 1, 2)
    assert batch.targets == 2
    assert batch.keys[2, 1] == batch.keys[1, 1]
    vectors = torch.arange(1.0, 6.0).view(5, 1)
    parts = batch.by_pair(vectors)
    assert [part.flatten().tolist() for part in parts] == [[1, 2], [3, 4], [5, 0]]


def test_the_loss_with_hard_negatives_equals_the_formula():
    queries, documents = unit(2, seed=0), unit(4, seed=1)
    negatives = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 0]], dtype=torch.bool)
    losses, _ = info_nce(queries, documents, negatives, temperature=0.5)
    for i, counted in enumerate(([0, 1, 2, 3], [0, 1, 2])):
        scores = [float(queries[i] @ documents[j]) / 0.5 for j in counted]
        expected = math.log(sum(map(math.exp, scores))) - float(queries[i] @ documents[i]) / 0.5
        assert float(losses[i]) == pytest.approx(expected, rel=1e-9)


def test_texts_have_equal_keys_exactly_if_their_tokens_are_equal():
    first, second = np.array([3, 4], dtype=np.int32), np.array([3, 4, 0], dtype=np.int32)
    batch = collate_pairs([first, second], [second, first])
    queries, positives = batch.keys.tolist()
    assert queries == positives[::-1]
    assert queries[0] != queries[1]
    assert batch.targets == 2
    assert batch.rows.lengths == (2, 3, 3, 2)


@pytest.mark.parametrize("packing", [False, True])
def test_training_computes_the_vectors_of_serving(base, packing):
    texts = ["how are you today?", "hello there"]  # the longer one first, which packing puts last
    ids = [np.array(row, dtype=np.int32) for row in tokenize(base.tokenizer, texts)]
    encoder = bidirectional_encoder(base)
    if packing:
        allow_packing(encoder, max_tokens=512)
    with torch.no_grad():
        batch = collate_pairs(ids[:1], ids[1:], packing=packing)
        (vectors,) = EmbeddingModel(encoder).eval()(batch)
    served, _ = Neurons(bidirectional_encoder(base), base.tokenizer).encode(texts)
    np.testing.assert_allclose(vectors.numpy(), served, atol=1e-6)


def test_attention_dropout_is_active_only_in_training_and_not_in_the_base(base):
    encoder = bidirectional_encoder(base)
    set_attention_dropout(encoder, 0.3)
    text = np.arange(3, 20, dtype=np.int32)
    for training, equal in ((True, False), (False, True)):
        with torch.no_grad():
            (vectors,) = EmbeddingModel(encoder).train(training)(collate_pairs([text], [text]))
        assert torch.allclose(*vectors, atol=1e-6) == equal
    shares = {getattr(module, "attention_dropout", 0.0) for module in base.model.modules()}
    assert shares == {0.0}


def test_attention_dropout_is_refused_for_an_encoder_without_it():
    encoder = torch.nn.Module()
    encoder.config = type("Config", (), {"model_type": "odd"})
    set_attention_dropout(encoder, 0.0)
    with pytest.raises(TrainingError, match="odd has no attention dropout"):
        set_attention_dropout(encoder, 0.3)


def test_texts_longer_than_the_context_are_refused(base, pair_rows):
    objective = ContrastiveObjective(ContrastiveConfig(max_tokens=513), pair_rows, gather=lambda own: own)
    with pytest.raises(TrainingError, match="Set max_tokens to 512 or less"):
        objective.model(bidirectional_encoder(base))


def gathered_rows(whole: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Return the result of a collective over workers with `sizes` rows, padded to one size."""
    parts = [torch.cat([part, part.new_zeros(max(sizes), *part.shape[1:])]) for part in whole.split(sizes)]
    return torch.cat([part[: max(sizes)] for part in parts])


def test_gradients_and_losses_of_workers_sum_to_those_of_one_worker():
    """Without an optimizer, which would hide a wrong scale."""
    queries, documents, keys = (
        unit(6, 2),
        unit(6, 3),
        torch.tensor([[1, 7], [2, 8], [3, 9], [1, 5], [4, 8], [6, 0]]),
    )
    results = {}
    for world in (1, 2, 3, 4):  # four workers have 2, 2, 1 and 1 pairs
        gradients, loss, correct = [], 0.0, 0.0
        sizes = [len(range(rank, 6, world)) for rank in range(world)]
        every = [gathered_rows(whole, sizes) for whole in (queries, documents, keys)]
        for rank, size in enumerate(sizes):
            own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
            vectors = torch.cat([queries[own], documents[own]]).requires_grad_()
            batch = collate_pairs([np.ones(1)] * size, [np.ones(1)] * size)
            batch = type(batch)(batch.rows, keys[own].T)
            gathered = iter(every)
            objective = ContrastiveObjective(
                ContrastiveConfig(**(OPTIONS | {"batch_pairs": 6, "workers": world})),
                PairTable.of([]),
                rank,
                gather=lambda _, gathered=gathered: next(gathered),
            )
            found = objective.loss((vectors,), batch)
            (gradient,) = torch.autograd.grad(found.differentiable, vectors)
            gradients.append(gradient.view(2, size, -1))
            loss, correct = loss + found.loss, correct + found.correct
        results[world] = torch.cat(gradients, dim=1), loss, correct
    whole, expected, found = results[1]
    assert whole.abs().max() > 0.1
    for gradient, loss, correct in (results[2], results[3], results[4]):
        torch.testing.assert_close(gradient, whole)
        assert (loss, correct) == (pytest.approx(expected), found)


def test_the_loss_falls_and_more_positives_are_ranked_first(train):
    reports, _ = train(steps=30)
    first, last = reports[:5], reports[-5:]
    assert sum(report.loss for report in last) < 0.8 * sum(report.loss for report in first)
    assert sum(report.accuracy for report in last) > sum(report.accuracy for report in first)


def test_the_simcse_loss_falls_with_dropout_as_the_only_difference(train):
    reports, _ = train(steps=30, pairs="simcse", dropout=0.3)
    assert sum(report.loss for report in reports[-5:]) < sum(report.loss for report in reports[:5])


def test_only_lora_weights_change(train):
    models, before = [], {}

    def prepare(model):
        models.append(model)
        before.update({name: each.clone() for name, each in model.named_parameters()})

    train(prepare)
    changed = [n for n, each in models[0].named_parameters() if not torch.equal(each, before[n])]
    assert changed
    assert all("lora_" in name for name in changed)


def test_two_and_three_workers_have_the_losses_and_weights_of_one(train):
    (one, engine), *others = train(workers=1), train(workers=2), train(workers=3)  # three have uneven shares
    for reports, other in others:
        assert [report.loss for report in reports] == pytest.approx([report.loss for report in one], abs=1e-4)
        assert [report.accuracy for report in reports] == [report.accuracy for report in one]
        for mine, its in zip(engine.trained, other.trained, strict=True):
            torch.testing.assert_close(mine, its, atol=1e-4, rtol=0)


@pytest.fixture
def with_negatives(pair_rows):
    """The pairs, every third with a hard negative: the reversed positive of the pair five further on."""
    count = len(pair_rows)
    negatives = [pair_rows.positives.row((index + 5) % count)[::-1].tolist() for index in range(count)]
    return PairTable(
        pair_rows.queries,
        pair_rows.positives,
        TokenTable.of(
            (name, [] if index % 3 else negatives[index]) for index, name in enumerate(pair_rows.queries.ids)
        ),
    )


@pytest.mark.parametrize("packing", [False, True])
def test_workers_have_the_losses_and_weights_of_one_with_hard_negatives(train, with_negatives, packing):
    (one, engine), *others = (
        train(rows=with_negatives, pairs="feedback", packing=packing, workers=workers) for workers in (1, 2, 3)
    )
    plain, _ = train(pairs="feedback", packing=packing)
    assert one[0].loss > plain[0].loss, "a query has more negatives"
    for reports, other in others:
        assert [report.loss for report in reports] == pytest.approx([report.loss for report in one], abs=1e-4)
        for mine, its in zip(engine.trained, other.trained, strict=True):
            torch.testing.assert_close(mine, its, atol=1e-4, rtol=0)


def test_training_moves_bad_answers_away_from_their_queries(train, with_negatives, base):
    models = []
    train(models.append, rows=with_negatives, pairs="feedback", packing=False, steps=30)
    hard = list(range(0, len(with_negatives), 3))
    assert with_negatives.negatives

    def similarity(model):
        batch = collate_pairs(
            [with_negatives.queries.row(index) for index in hard],
            [with_negatives.negatives.row(index) for index in hard],
        )
        with torch.no_grad():
            queries, bad = model.eval()(batch)[0].chunk(2)
        return float((queries * bad).sum(dim=1).mean())

    assert similarity(models[0]) < similarity(EmbeddingModel(bidirectional_encoder(base))) - 0.1


def test_workers_see_every_pair_once_in_an_epoch(pair_rows):
    config = ContrastiveConfig(**(OPTIONS | {"workers": 2}))
    keys = Counter()
    for rank in range(2):
        objective = ContrastiveObjective(config, pair_rows, rank, gather=lambda own: own)
        for step in range(len(pair_rows) // config.batch_pairs):
            (batch,) = objective.batches(step)
            keys.update(zip(*batch.keys.tolist(), strict=True))
    rows = range(len(pair_rows))
    every = collate_pairs([pair_rows.queries.row(i) for i in rows], [pair_rows.positives.row(i) for i in rows])
    assert keys == Counter(zip(*every.keys.tolist(), strict=True))


def test_the_batch_of_a_step_depends_on_the_seed(pair_rows):
    def keys(seed: int, step: int) -> list[list[int]]:
        config = ContrastiveConfig(**OPTIONS, seed=seed)
        objective = ContrastiveObjective(config, pair_rows, gather=lambda own: own)
        return objective.batches(step)[0].keys.tolist()

    assert keys(0, 3) == keys(0, 3)
    assert keys(0, 3) != keys(1, 3)
    assert keys(0, 3) != keys(0, 8), "the next epoch has another order"
