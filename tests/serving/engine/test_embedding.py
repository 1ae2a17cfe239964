"""Texts of several requests share batches, with the vectors that the encoder gives each alone."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.errors import UnavailableError
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons, TokenWindows
from mongars.serving.engine.embedding import BATCH_S, LEAST_TOKENS, MEASURED_TOKENS, EmbeddingScheduler, Pace

TEXTS = ["hello there", "how are you today, and what is new?", "x", "hello " * 30]


@pytest.fixture
def neurons(base):
    return Neurons(bidirectional_encoder(base), base.tokenizer)


@pytest.fixture
def scheduler():
    scheduler = EmbeddingScheduler()
    yield scheduler
    scheduler.close()


class Gate:
    """Blocks the first batch of an encoder until it is opened, and records every batch."""

    def __init__(self, neurons, monkeypatch):
        self.batches, self.reached, self.opened = [], threading.Event(), threading.Event()
        means = neurons.means

        def gated(windows):
            self.batches.append([len(ids) for ids in windows])
            self.reached.set()
            assert self.opened.wait(60)
            return means(windows)

        monkeypatch.setattr(neurons, "means", gated)


def test_each_request_gets_its_own_vectors_in_its_own_order(scheduler, neurons, base):
    other = Neurons(bidirectional_encoder(base), base.tokenizer)
    requests = [TEXTS, TEXTS[::-1], TEXTS[1:3]]
    futures = [
        scheduler.submit(encoder, encoder.tokenize(texts), dimensions)
        for texts, encoder, dimensions in zip(requests, (neurons, neurons, other), (None, 8, None), strict=True)
    ]
    for texts, dimensions, future in zip(requests, (None, 8, None), futures, strict=True):
        vectors, tokens = future.result(timeout=60)
        expected, count = neurons.encode(texts, dimensions=dimensions)
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        assert tokens == count


def test_waiting_requests_share_a_batch(scheduler, neurons, monkeypatch):
    gate = Gate(neurons, monkeypatch)
    first = scheduler.submit(neurons, neurons.tokenize(["x"]), None)
    assert gate.reached.wait(60)
    others = [scheduler.submit(neurons, neurons.tokenize([text]), None) for text in ("hello", "hallo", "hullo")]
    gate.opened.set()
    for future in (first, *others):
        future.result(timeout=60)
    assert [len(batch) for batch in gate.batches] == [1, 3]


def test_a_batch_keeps_to_the_token_budget_and_starts_with_the_oldest_text(scheduler, base, monkeypatch):
    neurons = Neurons(bidirectional_encoder(base), base.tokenizer, token_budget=64)
    gate = Gate(neurons, monkeypatch)
    texts = ["ab" * size for size in (12, 1, 2, 3, 11, 10, 4)]
    blocker = scheduler.submit(neurons, neurons.tokenize(["x"]), None)
    assert gate.reached.wait(60)
    future = scheduler.submit(neurons, neurons.tokenize(texts), None)
    gate.opened.set()
    blocker.result(timeout=60)
    vectors, _ = future.result(timeout=60)
    lengths = [len(ids) for _, ids in neurons.tokenize(texts).windows]
    assert gate.batches[1][0] == lengths[0]
    assert all(max(batch) * len(batch) <= 64 for batch in gate.batches if len(batch) > 1)
    assert sorted(length for batch in gate.batches[1:] for length in batch) == sorted(lengths)
    np.testing.assert_allclose(vectors, neurons.encode(texts)[0], atol=1e-5)


def test_the_pace_of_one_batch_sets_the_budget_of_the_next(base, monkeypatch):
    ticks = iter(range(100))
    seconds = 20 * BATCH_S  # for each batch, whatever its size
    scheduler = EmbeddingScheduler(clock=lambda: next(ticks) * seconds)
    neurons = Neurons(bidirectional_encoder(base), base.tokenizer, token_budget=4 * LEAST_TOKENS)
    gate = Gate(neurons, monkeypatch)
    gate.opened.set()
    ids = list(range(20, 28))
    texts = TokenWindows(LEAST_TOKENS, [(place, ids) for place in range(LEAST_TOKENS)])
    try:
        scheduler.submit(neurons, texts, None).result(timeout=60)
        assert [sum(batch) for batch in gate.batches] == [LEAST_TOKENS] * len(ids)  # too slow for more
        scheduler._clock = lambda: next(ticks) * BATCH_S / 3
        gate.batches.clear()
        scheduler.submit(neurons, texts, None).result(timeout=60)
        assert [sum(batch) for batch in gate.batches] == [LEAST_TOKENS, 384, 512]  # 3 times, then the limit
    finally:
        scheduler.close()


@pytest.mark.parametrize("length", [1, 20, 43, 50, 64, 65, 127])
def test_the_pace_is_measured_by_texts_of_any_length(length, scheduler, base, monkeypatch):
    ticks = iter(range(1_000))
    scheduler._clock = lambda: next(ticks) * BATCH_S / 100  # fast enough for the limit
    neurons = Neurons(bidirectional_encoder(base), base.tokenizer, token_budget=8 * LEAST_TOKENS)
    gate = Gate(neurons, monkeypatch)
    gate.opened.set()
    windows = [(place, [20] * length) for place in range(12 * LEAST_TOKENS // length)]
    scheduler.submit(neurons, TokenWindows(len(windows), windows), None).result(timeout=60)
    first, second, *_ = [sum(batch) for batch in gate.batches]
    assert first <= LEAST_TOKENS
    assert 8 * LEAST_TOKENS - length < second <= 8 * LEAST_TOKENS


@given(tokens=st.integers(0, 10_000), seconds=st.floats(0, 100), limit=st.integers(1, 4_096))
def test_a_budget_takes_the_seconds_of_a_batch_within_its_bounds(tokens, seconds, limit):
    pace = Pace()
    assert pace.budget(limit) == min(limit, LEAST_TOKENS)
    pace.learn(tokens, seconds)
    budget = pace.budget(limit)
    assert min(limit, LEAST_TOKENS) <= budget <= limit
    if LEAST_TOKENS < budget < limit:
        assert budget / tokens * seconds == pytest.approx(BATCH_S, abs=seconds / tokens)


def test_a_batch_of_few_tokens_does_not_change_the_budget():
    pace = Pace()
    pace.learn(2_000, BATCH_S)
    pace.learn(MEASURED_TOKENS, 10.0)
    assert pace.budget(4_096) == 2_000


def test_a_small_request_and_a_large_one_alternate(scheduler, base, monkeypatch):
    neurons = Neurons(bidirectional_encoder(base), base.tokenizer, token_budget=16)
    gate = Gate(neurons, monkeypatch)
    blocker = scheduler.submit(neurons, neurons.tokenize(["x"]), None)
    assert gate.reached.wait(60)
    texts = ["how are you? " * 8, "hello", "hallo " * 3]
    large = scheduler.submit(neurons, neurons.tokenize(texts[:1] * 4), None)
    small = [scheduler.submit(neurons, neurons.tokenize([text]), None) for text in texts[1:]]
    gate.opened.set()
    for future in (blocker, large, *small):
        future.result(timeout=60)
    long, short, middle = (len(ids) for _, ids in neurons.tokenize(texts).windows)
    assert gate.batches[1:] == [[short], [long], [middle], [long], [long], [long]]


def test_a_cancelled_request_is_dropped(scheduler, neurons, monkeypatch):
    gate = Gate(neurons, monkeypatch)
    first = scheduler.submit(neurons, neurons.tokenize(["x"]), None)
    assert gate.reached.wait(60)
    cancelled = scheduler.submit(neurons, neurons.tokenize(["hello"]), None)
    assert cancelled.cancel()
    gate.opened.set()
    first.result(timeout=60)
    assert scheduler.submit(neurons, neurons.tokenize(["hello there"]), None).result(timeout=60)
    assert [len(batch) for batch in gate.batches] == [1, 1]


def test_a_batch_that_fails_ends_only_its_own_requests(scheduler, neurons, base, monkeypatch):
    broken = Neurons(bidirectional_encoder(base), base.tokenizer)

    def fail(_windows):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(broken, "means", fail)
    bad = scheduler.submit(broken, broken.tokenize(TEXTS), None)
    good = scheduler.submit(neurons, neurons.tokenize(TEXTS), None)
    with pytest.raises(RuntimeError, match="out of memory"):
        bad.result(timeout=60)
    assert good.result(timeout=60)[0].shape == (4, neurons.dimensions)


def test_a_request_without_texts_is_answered_at_once(scheduler, neurons):
    vectors, tokens = scheduler.submit(neurons, neurons.tokenize([]), None).result(timeout=0)
    assert vectors.shape == (0, neurons.dimensions)
    assert tokens == 0


def test_closing_ends_waiting_requests_with_an_error(neurons, monkeypatch):
    scheduler, gate = EmbeddingScheduler(), Gate(neurons, monkeypatch)
    running = scheduler.submit(neurons, neurons.tokenize(["x"]), None)
    assert gate.reached.wait(60)
    waiting = scheduler.submit(neurons, neurons.tokenize(["hello"]), None)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not scheduler._closed:
        time.sleep(0)
    gate.opened.set()
    closing.join()
    assert running.result(timeout=60)
    for future in (waiting, scheduler.submit(neurons, neurons.tokenize(["late"]), None)):
        with pytest.raises(UnavailableError):
            future.result(timeout=0)
