import pytest
import torch

from mongars.pretraining.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_singular_values_of_an_update_are_near_one(shape: tuple[int, int]):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    update = orthogonal(matrix)
    assert update.shape == shape
    assert torch.linalg.svdvals(matrix).max() / torch.linalg.svdvals(matrix).min() > 2
    # The bounds of the quintic iteration with these coefficients, from the post.
    assert 0.6 < torch.linalg.svdvals(update).min() <= torch.linalg.svdvals(update).max() < 1.3


def test_the_update_keeps_the_singular_vectors():
    matrix = torch.randn(12, 20, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    rotated = left.T @ orthogonal(matrix) @ right.T
    assert torch.allclose(rotated, torch.diag(rotated.diagonal()), atol=1e-4)


def test_updates_agree_with_torch_within_the_precision_of_bf16():
    start = torch.randn(16, 32, generator=torch.Generator().manual_seed(2))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = [
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(5):
        gradient = torch.randn(16, 32, generator=torch.Generator().manual_seed(3 + step))
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (ours - start).norm()
    assert moved > 0.3
    assert (ours - theirs).norm() < 0.02 * moved


def test_weight_decay_alone_shrinks_the_weights():
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    Muon([parameter], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(parameter, torch.full((4, 4), 0.95))
