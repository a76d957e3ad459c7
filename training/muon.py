"""Muon in float32: torch's own rounds to bfloat16, which a processor without it multiplies fifty times slower."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

_MOMENTUM = 0.95
_ROUNDS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_AS_ADAMW = 0.2  # the usual size of AdamW's steps, by entry


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal; after Jordan et al. (2024), Liu et al. (2025).

    Args:
      matrices: What is trained, two axes each.
      lr: Of a step whose entries are as large as AdamW's.
      weight_decay: Share of the matrix that `lr` takes away.
    """

    def __init__(self, matrices: Iterable[Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one, with Nesterov's momentum."""
        for group in self.param_groups:
            for matrix in group["params"]:
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - _MOMENTUM)
                step = orthogonalize(matrix.grad.lerp(momentum, _MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(step, alpha=group["lr"] * _AS_ADAMW * max(matrix.shape) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near one, by Newton-Schulz's iteration."""
    a, b, c = _COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    found: Tensor = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = found @ found.T
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found if wide is matrix else found.T
