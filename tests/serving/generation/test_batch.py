"""Many sequences in a batch, each compared with the model's own greedy continuation."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.records import Sampling
from mongars.serving.generation import llama
from mongars.serving.generation.batch import ContinuousBatch
from mongars.serving.generation.kv_cache import padded_tokens
from mongars.serving.generation.sequence import TokenSequence

EOS_IDS = frozenset({2})
AMPLE_BYTES = 2**30
TOKEN_BYTES = 2 * 2 * 2 * 8 * 4  # of the tiny base: keys and values, layers, heads, head size, float32


class Request:
    """A sequence with its text."""

    def __init__(self, base, prompt: list[int], **sampling) -> None:
        self.texts: list[str] = []
        options = {"max_tokens": 8, **sampling}
        self.sequence = TokenSequence(
            prompt,
            Sampling(**options),
            max_new_tokens=100,
            eos_ids=EOS_IDS,
            tokenizer=base.tokenizer,
            emit=self.texts.append,
        )

    @property
    def tokens(self) -> list[int]:
        return self.sequence.tokens[self.sequence.prompt_tokens :]


def continuation(base, prompt: list[int], count: int) -> list[int]:
    """Return the greedy continuation by full forward passes without a cache."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(base.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] in EOS_IDS:
                break
    return tokens[len(prompt) :]


def finish(batch: ContinuousBatch) -> int:
    passes = 0
    while batch.busy:
        batch.step()
        passes += 1
        assert passes < 500
    return passes


def prompt(seed: int, length: int) -> list[int]:
    return torch.randint(10, 260, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture
def batch(base) -> ContinuousBatch:
    return ContinuousBatch(base.model, rows=4, prefill_tokens=24, cache_bytes=AMPLE_BYTES)


def test_sequences_of_any_length_in_a_batch_equal_each_alone(base, batch):
    requests = [Request(base, prompt(n, 3 + 5 * n), max_tokens=4 + 3 * n) for n in range(7)]
    for one in requests:
        batch.add(one.sequence)
    finish(batch)
    for n, one in enumerate(requests):
        assert one.tokens == continuation(base, prompt(n, 3 + 5 * n), 4 + 3 * n)
        reason, usage = one.sequence.result.result(timeout=0)
        assert reason == ("stop" if one.tokens[-1] in EOS_IDS else "length")
        assert (usage.prompt_tokens, usage.completion_tokens) == (3 + 5 * n, len(one.tokens))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(0, 12)), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(4, 40),
    st.integers(0, 600),
    st.booleans(),
)
def test_a_sequence_is_independent_of_arrivals_and_departures(
    base, arrivals, rows, prefill_tokens, cache_tokens, by_products
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama, "product_attention_is_faster", lambda _: by_products)
        batch = ContinuousBatch(
            base.model, rows=rows, prefill_tokens=prefill_tokens, cache_bytes=cache_tokens * TOKEN_BYTES
        )
    requests = [
        (Request(base, prompt(n, length), max_tokens=most), at) for n, (length, most, at) in enumerate(arrivals)
    ]
    for step in range(13):
        for one, at in requests:
            if at == step:
                batch.add(one.sequence)
        batch.step()
        assert batch._cache.bytes <= max(cache_tokens, padded_tokens(1, 69)) * TOKEN_BYTES
    finish(batch)
    for one, _ in requests:
        assert one.tokens == continuation(base, one.sequence.tokens[: one.sequence.prompt_tokens], len(one.tokens))


def test_a_long_prompt_does_not_stall_other_sequences(base, batch):
    quick, long = Request(base, prompt(1, 4), max_tokens=20), Request(base, prompt(2, 100), max_tokens=2)
    batch.add(quick.sequence)
    batch.step()
    batch.add(long.sequence)
    for _ in range(4):  # 100 tokens in passes of 24
        before = len(quick.tokens)
        batch.step()
        assert len(quick.tokens) == before + 1
        assert not long.tokens
    batch.step()
    assert long.tokens
    finish(batch)
    assert long.tokens == continuation(base, prompt(2, 100), 2)


def test_a_cancelled_sequence_frees_its_row_at_the_next_pass(base, batch):
    requests = [Request(base, prompt(n, 5), max_tokens=50) for n in range(5)]
    for one in requests:
        batch.add(one.sequence)
    batch.step()
    assert not requests[4].tokens
    requests[1].sequence.cancelled.set()
    before = len(requests[1].tokens)
    batch.step()
    assert len(requests[1].tokens) == before
    assert requests[1].sequence.result.cancelled()
    assert requests[4].tokens
    finish(batch)
    assert requests[3].tokens == continuation(base, prompt(3, 5), 50)


@pytest.mark.parametrize("where", ["waiting", "prefilling"])
def test_a_sequence_cancelled_before_its_first_token_is_dropped(base, where):
    batch = ContinuousBatch(
        base.model, rows=1 if where == "waiting" else 2, prefill_tokens=8, cache_bytes=AMPLE_BYTES
    )
    other, leaving = Request(base, prompt(0, 4), max_tokens=6), Request(base, prompt(1, 30))
    batch.add(other.sequence)
    batch.add(leaving.sequence)
    batch.step()
    batch.step()
    assert leaving.sequence.num_cached == (0 if where == "waiting" else 8)
    leaving.sequence.cancelled.set()
    finish(batch)
    assert not leaving.tokens
    assert leaving.sequence.result.cancelled()
    assert other.tokens == continuation(base, prompt(0, 4), 6)


def test_a_seed_gives_the_same_tokens_in_any_batch(base, batch):
    sampling = {"temperature": 1.2, "top_p": 0.9, "seed": 7, "max_tokens": 10}
    single = Request(base, prompt(1, 6), **sampling)
    batch.add(single.sequence)
    finish(batch)
    crowd = [Request(base, prompt(n, 4 + n), temperature=1.0, seed=n) for n in range(3)]
    again = Request(base, prompt(1, 6), **sampling)
    for one in (*crowd, again):
        batch.add(one.sequence)
    finish(batch)
    assert again.tokens == single.tokens
    assert single.tokens != continuation(base, prompt(1, 6), 10)


def test_an_error_in_one_sequence_ends_no_other(base, batch):
    def broken(_text: str) -> None:
        raise RuntimeError("the loop is closed")

    bad, good = Request(base, prompt(1, 5)), Request(base, prompt(2, 5))
    bad.sequence._emit = broken
    batch.add(bad.sequence)
    batch.add(good.sequence)
    finish(batch)
    with pytest.raises(RuntimeError, match="closed"):
        bad.sequence.result.result(timeout=0)
    assert good.tokens == continuation(base, prompt(2, 5), 8)


def test_memory_bounds_the_rows_and_one_sequence_always_runs(base):
    batch = ContinuousBatch(
        base.model, rows=4, prefill_tokens=200, cache_bytes=2 * padded_tokens(1, 150) * TOKEN_BYTES
    )
    requests = [Request(base, prompt(n, 140), max_tokens=10) for n in range(3)]
    huge = Request(base, prompt(7, 400), max_tokens=3)
    for one in (*requests, huge):
        batch.add(one.sequence)
    batch.step()
    batch.step()
    assert [bool(one.tokens) for one in requests] == [True, True, False]
    finish(batch)
    assert all(one.tokens == continuation(base, prompt(n, 140), len(one.tokens)) for n, one in enumerate(requests))
    assert huge.tokens == continuation(base, prompt(7, 400), len(huge.tokens))


def test_short_sequences_after_a_long_one_keep_to_the_memory_limit(base):
    allowed = padded_tokens(4, 128) * TOKEN_BYTES
    batch = ContinuousBatch(base.model, rows=4, prefill_tokens=512, cache_bytes=allowed)
    batch.add(Request(base, prompt(1, 300), max_tokens=4).sequence)
    short = [Request(base, prompt(n, 20), max_tokens=30) for n in range(4)]
    batch.step()
    for one in short:
        batch.add(one.sequence)
    while batch.busy:
        batch.step()
        assert batch._cache.bytes <= allowed
    assert all(one.tokens == continuation(base, prompt(n, 20), len(one.tokens)) for n, one in enumerate(short))


def test_memory_is_freed_after_the_last_sequence(base, batch):
    batch.add(Request(base, prompt(1, 5)).sequence)
    batch.step()
    assert batch._cache.bytes > 0
    finish(batch)
    assert batch._cache.bytes == 0
