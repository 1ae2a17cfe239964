"""Many answers at once, each held against what the model says when it is asked alone."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.records import Sampling
from mongars.serving.generation import llama
from mongars.serving.generation.batch import ContinuousBatch
from mongars.serving.generation.kv_cache import padded_tokens
from mongars.serving.generation.sequence import TokenSequence

ENDS = frozenset({2})
PLENTY = 2**30
TOKEN_BYTES = 2 * 2 * 2 * 8 * 4  # of the tiny base: keys and values, layers, heads, head size, float32


class Asked:
    """An answer with what it said."""

    def __init__(self, base, prompt: list[int], **sampling) -> None:
        self.said: list[str] = []
        options = {"max_tokens": 8, **sampling}
        self.answer = TokenSequence(
            prompt,
            Sampling(**options),
            max_new_tokens=100,
            eos_ids=ENDS,
            tokenizer=base.tokenizer,
            emit=self.said.append,
        )

    @property
    def tokens(self) -> list[int]:
        return self.answer.tokens[self.answer.prompt_tokens :]


def alone(base, prompt: list[int], count: int) -> list[int]:
    """Return the greedy continuation by full forward passes without a cache."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(base.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] in ENDS:
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
    return ContinuousBatch(base.model, rows=4, prefill_tokens=24, cache_bytes=PLENTY)


def test_answers_of_any_length_together_are_those_of_each_alone(base, batch):
    asked = [Asked(base, prompt(n, 3 + 5 * n), max_tokens=4 + 3 * n) for n in range(7)]
    for one in asked:
        batch.add(one.answer)
    finish(batch)
    for n, one in enumerate(asked):
        assert one.tokens == alone(base, prompt(n, 3 + 5 * n), 4 + 3 * n)
        reason, usage = one.answer.result.result(timeout=0)
        assert reason == ("stop" if one.tokens[-1] in ENDS else "length")
        assert (usage.prompt_tokens, usage.completion_tokens) == (3 + 5 * n, len(one.tokens))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(0, 12)), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(4, 40),
    st.integers(0, 600),
    st.booleans(),
)
def test_whoever_comes_and_goes_an_answer_stays_its_own(
    base, arrivals, rows, prefill_tokens, cache_tokens, by_products
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama, "product_attention_is_faster", lambda _: by_products)
        batch = ContinuousBatch(
            base.model, rows=rows, prefill_tokens=prefill_tokens, cache_bytes=cache_tokens * TOKEN_BYTES
        )
    asked = [
        (Asked(base, prompt(n, length), max_tokens=most), at) for n, (length, most, at) in enumerate(arrivals)
    ]
    for step in range(13):
        for one, at in asked:
            if at == step:
                batch.add(one.answer)
        batch.step()
        assert batch._cache.bytes <= max(cache_tokens, padded_tokens(1, 69)) * TOKEN_BYTES
    finish(batch)
    for one, _ in asked:
        assert one.tokens == alone(base, one.answer.tokens[: one.answer.prompt_tokens], len(one.tokens))


def test_a_long_prompt_does_not_silence_the_answers_beside_it(base, batch):
    quick, long = Asked(base, prompt(1, 4), max_tokens=20), Asked(base, prompt(2, 100), max_tokens=2)
    batch.add(quick.answer)
    batch.step()
    batch.add(long.answer)
    for _ in range(4):  # 100 tokens in passes of 24
        before = len(quick.tokens)
        batch.step()
        assert len(quick.tokens) == before + 1
        assert not long.tokens
    batch.step()
    assert long.tokens
    finish(batch)
    assert long.tokens == alone(base, prompt(2, 100), 2)


def test_an_answer_that_nobody_waits_for_leaves_at_the_next_pass_and_makes_room(base, batch):
    asked = [Asked(base, prompt(n, 5), max_tokens=50) for n in range(5)]
    for one in asked:
        batch.add(one.answer)
    batch.step()
    assert not asked[4].tokens
    asked[1].answer.cancelled.set()
    told = len(asked[1].tokens)
    batch.step()
    assert len(asked[1].tokens) == told
    assert asked[1].answer.result.cancelled()
    assert asked[4].tokens
    finish(batch)
    assert asked[3].tokens == alone(base, prompt(3, 5), 50)


@pytest.mark.parametrize("where", ["waiting", "reading"])
def test_one_that_leaves_before_its_first_token_is_dropped(base, where):
    batch = ContinuousBatch(base.model, rows=1 if where == "waiting" else 2, prefill_tokens=8, cache_bytes=PLENTY)
    other, leaving = Asked(base, prompt(0, 4), max_tokens=6), Asked(base, prompt(1, 30))
    batch.add(other.answer)
    batch.add(leaving.answer)
    batch.step()
    batch.step()
    assert leaving.answer.num_cached == (0 if where == "waiting" else 8)
    leaving.answer.cancelled.set()
    finish(batch)
    assert not leaving.tokens
    assert leaving.answer.result.cancelled()
    assert other.tokens == alone(base, prompt(0, 4), 6)


def test_a_seed_gives_the_same_answer_whatever_runs_beside_it(base, batch):
    sampling = {"temperature": 1.2, "top_p": 0.9, "seed": 7, "max_tokens": 10}
    single = Asked(base, prompt(1, 6), **sampling)
    batch.add(single.answer)
    finish(batch)
    crowd = [Asked(base, prompt(n, 4 + n), temperature=1.0, seed=n) for n in range(3)]
    again = Asked(base, prompt(1, 6), **sampling)
    for one in (*crowd, again):
        batch.add(one.answer)
    finish(batch)
    assert again.tokens == single.tokens
    assert single.tokens != alone(base, prompt(1, 6), 10)


def test_what_goes_wrong_in_one_answer_ends_no_other(base, batch):
    def broken(_text: str) -> None:
        raise RuntimeError("the loop is closed")

    bad, good = Asked(base, prompt(1, 5)), Asked(base, prompt(2, 5))
    bad.answer._emit = broken
    batch.add(bad.answer)
    batch.add(good.answer)
    finish(batch)
    with pytest.raises(RuntimeError, match="closed"):
        bad.answer.result.result(timeout=0)
    assert good.tokens == alone(base, prompt(2, 5), 8)


def test_memory_bounds_the_rows_and_one_answer_always_runs(base):
    batch = ContinuousBatch(
        base.model, rows=4, prefill_tokens=200, cache_bytes=2 * padded_tokens(1, 150) * TOKEN_BYTES
    )
    asked = [Asked(base, prompt(n, 140), max_tokens=10) for n in range(3)]
    huge = Asked(base, prompt(7, 400), max_tokens=3)
    for one in (*asked, huge):
        batch.add(one.answer)
    batch.step()
    batch.step()
    assert [bool(one.tokens) for one in asked] == [True, True, False]
    finish(batch)
    assert all(one.tokens == alone(base, prompt(n, 140), len(one.tokens)) for n, one in enumerate(asked))
    assert huge.tokens == alone(base, prompt(7, 400), len(huge.tokens))


def test_after_a_long_answer_many_short_ones_take_no_more_memory_than_allowed(base):
    allowed = padded_tokens(4, 128) * TOKEN_BYTES
    batch = ContinuousBatch(base.model, rows=4, prefill_tokens=512, cache_bytes=allowed)
    batch.add(Asked(base, prompt(1, 300), max_tokens=4).answer)
    short = [Asked(base, prompt(n, 20), max_tokens=30) for n in range(4)]
    batch.step()
    for one in short:
        batch.add(one.answer)
    while batch.busy:
        batch.step()
        assert batch._cache.bytes <= allowed
    assert all(one.tokens == alone(base, prompt(n, 20), len(one.tokens)) for n, one in enumerate(short))


def test_memory_is_given_back_when_nobody_is_left(base, batch):
    batch.add(Asked(base, prompt(1, 5)).answer)
    batch.step()
    assert batch._cache.bytes > 0
    finish(batch)
    assert batch._cache.bytes == 0
