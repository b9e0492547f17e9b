"""Muon: its step has the gradient's directions and singular values near one, and it lowers a loss."""

import pytest
import torch

from train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(32, 96), (96, 32), (48, 48)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonal(1e-3 * matrix)
    assert found.shape == matrix.shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.3
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    alike = torch.nn.functional.cosine_similarity(found.flatten(), (u @ v).flatten(), dim=0)
    assert alike > 0.97


def test_it_finds_a_linear_map():
    torch.manual_seed(0)
    target, inputs = torch.randn(16, 32) / 6, torch.randn(256, 32)
    weights = torch.nn.Parameter(torch.zeros(16, 32))
    optimizer = Muon([weights], lr=0.02, weight_decay=0.0)
    losses = []
    for _ in range(150):
        loss = (inputs @ (weights - target).T).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_a_matrix_without_a_gradient_stays():
    weights = torch.nn.Parameter(torch.ones(4, 4))
    Muon([weights], lr=1.0).step()
    assert torch.equal(weights, torch.ones(4, 4))
