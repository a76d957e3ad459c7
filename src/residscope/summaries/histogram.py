"""How often values fall into bins of one width, from parts that merge."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts in bins from `low` to `high`; what lies outside is in the first or last.

    Holds:
      Merging those of parts gives that of the whole, in any order.
    """

    low: float
    high: float
    counts: Int[Tensor, " bin"]

    @classmethod
    def of(cls, values: Float[Tensor, " n"], low: float, high: float, n_bins: int) -> "Histogram":
        """Of these values."""
        bins = ((values.double() - low) / (high - low) * n_bins).floor().clamp(0, n_bins - 1).long()
        return cls(low, high, torch.bincount(bins, minlength=n_bins))

    def merge(self, other: "Histogram") -> "Histogram":
        """Of the values of both, whose bins are the same.

        Raises:
          ValueError: They are not.
        """
        if (self.low, self.high, len(self.counts)) != (other.low, other.high, len(other.counts)):
            raise ValueError("the bins differ")
        return Histogram(self.low, self.high, self.counts + other.counts)

    @property
    def edges(self) -> Float[Tensor, " edge"]:
        """Where bins begin, and the last one ends."""
        return torch.linspace(self.low, self.high, len(self.counts) + 1, dtype=torch.float64)
