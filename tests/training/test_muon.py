"""Muon in float32 is torch's, but for its rounding, and its steps are orthogonal."""

import pytest
import torch
from training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
def test_steps_are_torchs(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    begin = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(begin.clone()) for _ in range(2))
    both = (
        (ours, Muon([ours], lr=0.05, weight_decay=0.1)),
        (theirs, torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")),
    )
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        for parameter, optimizer in both:
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (ours - begin).norm()
    assert float((ours - theirs).norm() / moved) < 0.02  # theirs rounds to bfloat16
    assert float(moved) > 0.1


def test_an_orthogonal_matrix_has_singular_values_near_one() -> None:
    matrix = torch.randn(16, 40, generator=torch.Generator().manual_seed(2)) * 1e3
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert 0.6 < float(values.min()) < float(values.max()) < 1.3
    torch.testing.assert_close(orthogonalize(matrix.T), orthogonalize(matrix).T)
    assert bool(orthogonalize(torch.zeros(3, 4)).isfinite().all())
