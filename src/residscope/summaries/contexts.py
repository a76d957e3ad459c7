"""The places in much text where a value is largest, from parts that merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest


@dataclass(frozen=True, order=True)
class Context:
    """A token among its neighbours.

    Attributes:
      value: Of the token.
      text: Number of its text.
      pos: Its position there.
      pieces: The tokens around it, as people read them.
      at: Which of them it is.
    """

    value: float
    text: int
    pos: int
    pieces: tuple[str, ...]
    at: int


@dataclass(frozen=True)
class TopContexts:
    """The `n` contexts of largest value, one of a text at most, largest first.

    Holds:
      Merging those of parts gives those of the whole, in any order, as long as every text is in one part.
    """

    n: int
    found: tuple[Context, ...] = ()

    def merge(self, other: "TopContexts") -> "TopContexts":
        """Of the texts of both."""
        return TopContexts(self.n, tuple(nlargest(self.n, (*self.found, *other.found))))

    @classmethod
    def of(cls, n: int, text: int, values: Sequence[float], pieces: Sequence[str], around: int) -> "TopContexts":
        """Of one text.

        Args:
          n: How many are kept.
          text: Its number.
          values: Of every token; NaN where it does not count.
          pieces: The tokens.
          around: How many are shown on each side.
        """
        counted = [(value, pos) for pos, value in enumerate(values) if value == value]  # NaN is not
        if not counted:
            return cls(n)
        value, pos = max(counted)
        start = max(0, pos - around)
        return cls(n, (Context(value, text, pos, tuple(pieces[start : pos + around + 1]), pos - start),))
