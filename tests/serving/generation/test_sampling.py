import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.records import Sampling
from mongars.serving.generation import sampling
from mongars.serving.generation.sampling import TokenSampler, in_nucleus, nucleus, sample


def sampler(**options) -> TokenSampler:
    return TokenSampler(Sampling(**options))


def test_temperature_zero_is_greedy_in_any_batch():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.1, 0.0], [5.0, 0.0, 0.0]])
    tokens = sample(logits, [sampler(), sampler(temperature=2.0, seed=1), sampler()])
    assert (tokens[0], tokens[2]) == (1, 0)


def test_samples_follow_the_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    one = sampler(temperature=1.0, seed=1)
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[sample(logits, [one])[0]] += 1
    torch.testing.assert_close(counts / 4000, logits.softmax(-1)[0], atol=0.03, rtol=0)


def test_every_token_of_the_nucleus_and_no_other_is_sampled():
    logits = torch.tensor([[4.0, 3.9, 0.0, -1.0]])
    one = sampler(temperature=1.0, top_p=0.9, seed=1)
    assert {sample(logits, [one])[0] for _ in range(200)} == {0, 1}


def test_samples_of_a_nucleus_follow_its_softmax_with_and_without_sorting(monkeypatch):
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0, 2.5, -1.0]])
    # Two tokens have 0.74 of the mass, three 0.91.
    inside = logits.softmax(-1)[0] * torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    for tries in (sampling.TRIES, 0):
        monkeypatch.setattr(sampling, "TRIES", tries)
        one, counts = sampler(temperature=1.0, top_p=0.8, seed=3), torch.zeros(6)
        for _ in range(4000):
            counts[sample(logits, [one])[0]] += 1
        torch.testing.assert_close(counts / 4000, inside / inside.sum(), atol=0.03, rtol=0)


@settings(deadline=None)
@given(st.integers(2, 700), st.floats(0.01, 0.999), st.floats(0.01, 8), st.integers(0, 999))
def test_the_nucleus_is_the_smallest_that_has_the_mass(size, top_p, spread, seed):
    # Of float64, so that no two are the same.
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread
    probs = logits.softmax(-1)
    tokens = nucleus(probs, top_p)
    mass = probs[tokens]
    assert len(set(tokens.tolist())) == len(tokens)
    assert mass.sum() > top_p - 1e-9
    assert mass.sum() - mass.min() < top_p + 1e-9
    outside = torch.ones(size, dtype=torch.bool)
    outside[tokens] = False
    assert not outside.any() or logits[outside].max() <= logits[tokens].min()
    every = torch.arange(size)
    inside = in_nucleus(probs.expand(size, -1), every, [top_p] * size)
    assert every[torch.tensor(inside)].tolist() == sorted(tokens.tolist())


@pytest.mark.parametrize(("top_p", "tokens"), [(0.3, [1]), (0.5, [0, 1, 3]), (0.95, [0, 1, 2, 3, 4])])
def test_ties_with_the_last_token_of_a_nucleus_are_in_it(top_p, tokens):
    probs = torch.tensor([0.2, 0.3, 0.15, 0.2, 0.15])
    assert nucleus(probs, top_p).tolist() == tokens
    inside = in_nucleus(probs.expand(5, -1), torch.arange(5), [top_p] * 5)
    assert [token for token, is_inside in enumerate(inside) if is_inside] == tokens


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1e-6, 0.5, 1.0, 2.0]), st.sampled_from([0.05, 0.5, 0.9, 1.0])), min_size=1
    ),
    st.integers(0, 99),
)
def test_a_sample_is_the_same_alone_and_in_any_batch(wanted, seed):
    logits = torch.randn(len(wanted), 60, generator=torch.Generator().manual_seed(seed))
    together, alone = (
        [sampler(temperature=temperature, top_p=top_p, seed=n) for n, (temperature, top_p) in enumerate(wanted)]
        for _ in range(2)
    )
    for _ in range(3):
        tokens = sample(logits, together)
        assert tokens == [sample(row[None], [one])[0] for row, one in zip(logits, alone, strict=True)]


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (1 - 2**-24, 3)])
def test_the_extreme_random_numbers_give_tokens_with_probability(monkeypatch, uniform, token):
    never = -torch.inf
    monkeypatch.setattr(TokenSampler, "uniform", lambda _: uniform)
    logits = torch.tensor([[never, 0.0, 0.0, 0.0, never, never]])
    assert sample(logits, [sampler(temperature=1.0)]) == [token]


@pytest.mark.parametrize("temperature", [1e-45, 1e-6])
def test_a_temperature_near_zero_is_greedy(temperature):
    logits = torch.tensor([[10.0, 30.0, 29.0]])
    assert {sample(logits, [sampler(temperature=temperature, seed=seed)])[0] for seed in range(20)} == {1}


@pytest.mark.parametrize("top_p", [5e-324, 1e-300, 1e-40, 1e-20])
@pytest.mark.parametrize("tries", [0, 8])
def test_a_nucleus_of_nearly_nothing_is_the_likeliest_token(monkeypatch, top_p, tries):
    monkeypatch.setattr(sampling, "TRIES", tries)
    logits = torch.tensor([[0.0, 2.0, 1.0]]).repeat(2, 1)
    others = sampler(temperature=1.0, seed=1)
    assert sample(logits, [sampler(temperature=1.0, top_p=top_p, seed=0), others])[0] == 1


def test_nan_logits_give_a_token_and_affect_no_other_row():
    logits = torch.tensor([[torch.nan, 0.0, 1.0], [0.0, 50.0, 0.0]])
    tokens = sample(logits, [sampler(temperature=1.0, top_p=0.5), sampler(temperature=1.0)])
    assert 0 <= tokens[0] < 3
    assert tokens[1] == 1


def test_a_seed_repeats_and_another_differs():
    logits = torch.zeros(1, 500)
    drawn = [sample(logits, [sampler(temperature=1.0, seed=seed)])[0] for seed in (4, 4, 5)]
    assert drawn[0] == drawn[1] != drawn[2]
