import torch

from mongars.neurons.pooling import mean_of_each, normalise


def test_each_text_has_the_mean_of_its_own_states():
    states = torch.tensor([[1.0], [3.0], [99.0], [4.0], [6.0]])
    assert torch.equal(mean_of_each(states, [2, 1, 2]), torch.tensor([[2.0], [99.0], [5.0]]))


def test_vectors_get_length_one_and_a_zero_vector_stays_zero():
    vectors = normalise(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert torch.allclose(vectors, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
