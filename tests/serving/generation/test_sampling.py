import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.records import Sampling
from mongars.serving.generation.sampling import NUCLEUS_TOKENS, TokenSampler, choose, nucleus


def sampler(**options) -> TokenSampler:
    return TokenSampler(Sampling(**options))


def test_temperature_zero_is_the_greedy_token_whoever_is_beside_it():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.1, 0.0], [5.0, 0.0, 0.0]])
    tokens = choose(logits, [sampler(), sampler(temperature=2.0, seed=1), sampler()])
    assert (tokens[0], tokens[2]) == (1, 0)


def test_samples_follow_the_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    one = sampler(temperature=1.0, seed=1)
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[choose(logits, [one])[0]] += 1
    torch.testing.assert_close(counts / 4000, logits.softmax(-1)[0], atol=0.03, rtol=0)


def test_outside_the_nucleus_nothing_is_sampled_and_inside_it_everything():
    logits = torch.tensor([[4.0, 3.9, 0.0, -1.0]])
    one = sampler(temperature=1.0, top_p=0.9, seed=1)
    assert {choose(logits, [one])[0] for _ in range(200)} == {0, 1}


@settings(deadline=None)
@given(st.integers(2, 3 * NUCLEUS_TOKENS), st.floats(0.01, 0.999), st.floats(0.01, 8), st.integers(0, 999))
def test_the_nucleus_is_the_smallest_that_has_the_mass(size, top_p, spread, seed):
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread
    tokens = nucleus(logits, top_p)
    mass = logits.double().softmax(-1)[tokens]
    assert len(set(tokens.tolist())) == len(tokens)
    assert mass.sum() > top_p - 1e-5
    assert mass.sum() - mass.min() < top_p + 1e-5
    outside = torch.ones(size, dtype=torch.bool)
    outside[tokens] = False
    assert not outside.any() or logits[outside].max() <= logits[tokens].min()


def test_a_seed_repeats_and_another_differs():
    logits = torch.zeros(1, 500)
    drawn = [choose(logits, [sampler(temperature=1.0, seed=seed)])[0] for seed in (4, 4, 5)]
    assert drawn[0] == drawn[1] != drawn[2]
