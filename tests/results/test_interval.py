"""Bootstrap intervals: those of scipy, and as wide as theory says."""

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from residscope.errors import BadArgument
from residscope.results.interval import bootstrap_interval


def test_it_is_scipys_percentile_interval() -> None:
    values = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).double().exp()
    found = bootstrap_interval(values, 0.9)
    for row, ends in zip(values, found, strict=True):
        theirs = bootstrap(
            (row.numpy(),), np.mean, confidence_level=0.9, method="percentile", n_resamples=20_000, rng=1
        ).confidence_interval
        width = theirs.high - theirs.low
        assert abs(ends[0] - theirs.low) < 0.06 * width
        assert abs(ends[1] - theirs.high) < 0.06 * width


def test_it_holds_the_mean_and_narrows() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1))
    wide, narrow = bootstrap_interval(values[:25], 0.95), bootstrap_interval(values, 0.95)
    assert narrow[0] < values.mean() < narrow[1]
    assert 3 < (wide[1] - wide[0]) / (narrow[1] - narrow[0]) < 5  # four times fewer deviations of the mean
    assert torch.equal(bootstrap_interval(values, 0.95), narrow)
    assert torch.equal(bootstrap_interval(torch.ones(3), 0.95), torch.ones(2).double())
    assert bootstrap_interval(torch.ones(5000), 0.95).tolist() == [
        1.0,
        1.0,
    ]  # in memory for 5000 texts, not their pairs


@pytest.mark.parametrize(("n", "level"), [(1, 0.95), (5, 0.0), (5, 1.0), (5, 95.0)])
def test_what_has_no_interval(n: int, level: float) -> None:
    with pytest.raises(BadArgument, match="interval"):
        bootstrap_interval(torch.ones(n), level)
