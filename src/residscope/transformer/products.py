"""Products with large weights, by the faster of the two libraries that torch carries for a CPU."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_LARGE = 2**18  # entries of a weight, from which on it is worth to make a kernel for each new shape
_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def multiply(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """`x @ weight.T + bias`, as torch's `linear`, which in float32 on a CPU takes MKL even where oneDNN is faster.

    Holds:
      As exact as torch's own; whatever the strides; and differentiable.
    """
    if _has_faster(x, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """Torch's, by `multiply`."""

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return multiply(x, self.weight, self.bias)


def _has_faster(x: Tensor, weight: Tensor) -> bool:
    if not _ONEDNN or weight.numel() < _LARGE or x.device.type != "cpu" or x.dtype != torch.float32 or not x.numel():
        return False
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    # Of other strides it has no fast kernel; and of a single row MKL reads columns faster.
    return weight.is_contiguous() or (weight.T.is_contiguous() and x.numel() > x.shape[-1])
