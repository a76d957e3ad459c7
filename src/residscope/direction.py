"""A direction of the residual stream: a unit vector with a past."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from residscope.sites import Site


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at a site, and the mean it is centred on. The value of a stream `x` is `(x - mean) . vector`.

    Attributes:
      name: For people, as "PCA 4 of resid_pre.3".
      site: Where it lives.
      vector: [d_model] of length one, float64.
      mean: [d_model], float64; None where it was made without data.
      deviation: Standard deviation of the site along it; None where unknown, or nothing varies.
      left_out: Positions that its making left out.
      history: How it was made.
      python: The expression that makes it again, and the lines before it.
    """

    name: str
    site: Site
    vector: Float[Tensor, " d_model"] = field(repr=False)
    mean: Float[Tensor, " d_model"] | None = field(default=None, repr=False)
    deviation: float | None = None
    left_out: tuple[int, ...] = ()
    history: Mapping[str, Any] = field(default_factory=dict)
    python: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def offset(self) -> float:
        """`mean . vector`: what the value of an uncentred stream has too much."""
        return float(self.mean @ self.vector) if self.mean is not None else 0.0
