import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.errors import InputError
from mongars.lm.base import Base
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons


@pytest.fixture(scope="module")
def neurons(base: Base) -> Neurons:
    return Neurons(bidirectional_encoder(base), base.tokenizer, token_budget=64)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=6))
def test_a_vector_does_not_depend_on_the_rest_of_the_call(neurons: Neurons, texts: list[str]):
    together, tokens = neurons.encode(texts)
    alone = [neurons.encode([text]) for text in texts]
    np.testing.assert_allclose(together, np.concatenate([vectors for vectors, _ in alone]), atol=1e-5)
    assert tokens == sum(count for _, count in alone)


def test_vectors_are_float32_of_length_one(neurons: Neurons):
    vectors, tokens = neurons.encode(["hello", "a longer text"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert tokens == len("hello") + len("a longer text")


def test_fewer_dimensions_are_the_first_ones_at_length_one(neurons: Neurons):
    full, _ = neurons.encode(["hello"])
    short, _ = neurons.encode(["hello"], dimensions=8)
    np.testing.assert_allclose(short, full[:, :8] / np.linalg.norm(full[:, :8]), atol=1e-6)


def test_a_text_longer_than_the_window_is_embedded_completely(neurons: Neurons):
    first, tokens = neurons.encode(["a" * 100 + "b"])
    second, _ = neurons.encode(["a" * 100 + "c"])
    assert tokens == 101
    assert not np.allclose(first, second)


def test_no_texts_give_no_vectors(neurons: Neurons):
    vectors, tokens = neurons.encode([])
    assert vectors.shape == (0, neurons.dimensions)
    assert tokens == 0


def test_a_text_without_tokens_is_refused_by_its_number(neurons: Neurons):
    with pytest.raises(InputError, match="Text 1"):
        neurons.encode(["hello", ""])


def test_texts_without_tokens_are_found_in_advance(neurons: Neurons):
    assert neurons.without_tokens(["", "hello", ""]) == {0, 2}
    assert neurons.without_tokens([]) == set()


@pytest.mark.parametrize("dimensions", [0, 33])
def test_impossible_dimensions_are_refused(neurons: Neurons, dimensions: int):
    with pytest.raises(InputError, match="1 to 32"):
        neurons.encode(["hello"], dimensions=dimensions)
