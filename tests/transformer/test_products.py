"""Products by either of torch's libraries for a CPU."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from residscope.transformer.products import _has_faster, multiply

D_IN, D_OUT = 512, 640
STRIDES: dict[str, Callable[[], Tensor]] = {
    "rows": lambda: torch.randn(D_OUT, D_IN),
    "columns": lambda: torch.randn(D_IN, D_OUT).T,
    "some columns": lambda: torch.randn(D_IN, 3 * D_OUT)[:, D_OUT : 2 * D_OUT].T,
    "some of rows": lambda: torch.randn(D_OUT, D_IN + 3)[:, 1:-2],
    "no whole line": lambda: torch.randn(D_OUT * D_IN + 3)[3:].view(D_OUT, D_IN),
}
ROWS: dict[str, Callable[[], Tensor]] = {
    "one": lambda: torch.randn(1, D_IN),
    "a vector": lambda: torch.randn(D_IN),
    "batches": lambda: torch.randn(2, 3, D_IN),
    "none": lambda: torch.randn(0, D_IN),
    "repeated": lambda: torch.randn(1, D_IN).expand(5, -1),
    "turned": lambda: torch.randn(D_IN, 5).T,
    "every second": lambda: torch.randn(7, 2 * D_IN)[:, ::2],
}


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("strides", STRIDES)
def test_it_is_the_product(strides: str, rows: str, with_bias: bool) -> None:
    torch.manual_seed(0)
    weight, x, bias = STRIDES[strides](), ROWS[rows](), torch.randn(D_OUT) if with_bias else None
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(multiply(x, weight, bias).double(), exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("strides", "n_rows", "fast"), [
    ("rows", 1, True), ("rows", 40, True), ("columns", 40, True), ("columns", 1, False), ("some columns", 40, False),
])  # fmt: skip
def test_what_is_slow_in_it_is_left_to_torch(strides: str, n_rows: int, fast: bool) -> None:
    assert _has_faster(torch.randn(n_rows, D_IN), STRIDES[strides]()) == fast


def test_gradients_go_through() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(D_OUT, D_IN), torch.randn(4, D_IN, requires_grad=True)
    (found,) = torch.autograd.grad(multiply(x, weight).sum(), x)
    torch.testing.assert_close(found, weight.sum(0).expand(4, -1), rtol=1e-4, atol=1e-4)
