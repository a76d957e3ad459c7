"""Mean and covariance of much data, from parts that merge."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and scatter of rows, in float64.

    Attributes:
      n: Rows.
      mean: [d]
      scatter: [d d] Sum of the outer products of what differs from the mean.
    Holds:
      Merging the moments of parts gives those of the whole, in any order, up to rounding.
    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    n: int
    mean: Float[Tensor, " d"]
    scatter: Float[Tensor, "d d"]

    @staticmethod
    def empty(d: int) -> "Moments":
        """Of no rows."""
        return Moments(0, torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64))

    @staticmethod
    def of(rows: Float[Tensor, "n d"]) -> "Moments":
        """Of these rows, one at least, on any device; the moments are on the CPU."""
        wide = rows.double()
        mean = wide.mean(0)
        centred = wide - mean
        return Moments(len(rows), mean.cpu(), (centred.T @ centred).cpu())

    def merge(self, other: "Moments") -> "Moments":
        """Of the rows of both."""
        n = self.n + other.n
        if n == 0:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.n / n)
        scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.n * other.n / n)
        return Moments(n, mean, scatter)

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Unbiased: divided by `n - 1`."""
        return self.scatter / (self.n - 1)
