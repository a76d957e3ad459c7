"""Moments merge: exact and in any order, up to rounding."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from residscope.summaries.moments import Moments


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    shift=st.floats(-1e4, 1e4),
    seed=st.integers(0, 10**6),
)
def test_merged_parts_equal_the_whole_in_any_order(sizes: list[int], shift: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = [torch.from_numpy(shift + generator.standard_normal((n, 3))) for n in sizes]
    whole = Moments.of(torch.cat(parts))
    for order in (parts, parts[::-1]):
        merged = Moments.empty(3)
        for part in order:
            merged = merged.merge(Moments.of(part))
        assert merged.n == whole.n
        torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-9)
        torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-8, atol=1e-8)


def test_covariance_equals_numpys() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    expected = np.cov(rows.double().numpy().T)
    np.testing.assert_allclose(Moments.of(rows).covariance, expected, rtol=1e-12)


def test_nothing_merges_with_nothing() -> None:
    assert Moments.empty(2).merge(Moments.empty(2)).n == 0
