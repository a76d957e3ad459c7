"""How sure a mean over texts is."""

from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument, count

N_DRAWS = 2000


def bootstrap_interval(
    values: Float[Tensor, "*rest batch"],
    level: float,
    seed: int = 0,
    *,
    over: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "*rest 2"]:
    """The percentile interval of the mean over texts, from texts drawn anew with replacement.

    Args:
      values: One number for each text.
      level: The share of drawn means that lies within, as 0.95.
      seed: Of the draws, which are the same for all of `rest`.
      over: Of the same texts, what the mean is divided by the mean of.
    Returns:
      Its lower and upper end.
    Raises:
      BadArgument: The level is not between 0 and 1, or there are fewer than two texts.
    """
    n = values.shape[-1]
    if not isinstance(level, Real) or not 0 < level < 1 or n < 2:
        raise BadArgument(
            f"An interval of {level!r} over {count(n, 'text')} was asked for.",
            "Take a level like 0.95, and two texts at least.",
        )
    drawn = torch.randint(n, (N_DRAWS, n), generator=torch.Generator().manual_seed(seed))
    counts = torch.zeros(N_DRAWS, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(N_DRAWS, n).double())
    means = values.double().cpu() @ counts.T / (n if over is None else counts @ over.double().cpu())
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    return means.quantile(ends, dim=-1).movedim(0, -1)
