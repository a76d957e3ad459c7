"""A dictionary as a target: what its features are in the prompt, and what they become."""

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.graphs.edges import Edges
from residscope.graphs.levels import MEASURED, Level, read_stream
from residscope.running.run import Run

_MANY = 128  # rows, from which on it pays to leave features out
_PARTS = (64, 8)  # of all features, one in so many; more are read all


class Reader:
    """A dictionary as a target.

    Args:
      run: Of the prompt.
      level: Of the dictionary.
      number: The level's.
      positions: Where it is read.
      competition: Whether features of a top-k dictionary make room for others.
      n_parts: Of an edge.
    """

    def __init__(
        self,
        run: Run,
        level: Level,
        number: int,
        positions: Int[Tensor, " pos"],
        competition: bool,
        n_parts: int,
    ) -> None:
        self.level, self.number, self._n_parts = level, number, n_parts
        self.x = read_stream(run, level.read, positions)
        dictionary = level.dictionary
        self._projected = dictionary.project(self.x)
        self.features = dictionary.activate(self._projected)
        self._room = None if competition else dictionary.find_room(self._projected)

    @cached_property
    def _reach(self) -> Float[Tensor, "pos feature"] | None:
        """How far the input has to move before a feature can be active; None where that is not known.

        A feature moves by at most its column's length times the input's move (Cauchy-Schwarz). Where features compete,
        those that are among the largest come down by at most as much; where each is held against what it had to reach
        exactly, rounding alone decides, and all are read. Rounding is on the safe side.
        """
        dictionary, kinds = self.level.dictionary, ("relu", "jumprelu", "topk")
        if dictionary.scaling in MEASURED or dictionary.activation not in kinds or self._room is not None:
            return None
        before, lengths = self._projected, dictionary.encoder_norms
        limit, falls = torch.zeros_like(before[:, :1]), torch.zeros_like(before[:, :1])
        if dictionary.activation == "topk":
            assert dictionary.k is not None
            largest = before.topk(dictionary.k, dim=-1)
            limit = largest.values[:, -1:]
            falls = lengths[largest.indices].amax(-1, keepdim=True)
        elif dictionary.activation == "jumprelu":
            assert dictionary.threshold is not None
            limit = dictionary.threshold.clamp(min=0)
        rounding = torch.finfo(before.dtype).eps * (limit.abs() + before.abs() + dictionary.encoder_bias.abs())
        return (limit - before - 8 * rounding) / (lengths + falls).clamp(min=torch.finfo(before.dtype).tiny)

    def divide(
        self, x: Float[Tensor, "row d"], slots: Int[Tensor, " row"]
    ) -> Iterator[tuple[Int[Tensor, " some"], Int[Tensor, " few"] | None]]:
        """Rows in groups, each with the features that can be active in it or in the prompt; None is all.

        Holds:
          What is left out is zero in the prompt and in each of the rows.
        """
        every = torch.arange(len(x), device=x.device)
        if len(x) < _MANY or self._reach is None:
            yield every, None
            return
        base, size = self.x[slots], self.x.norm(dim=-1)[slots] + self.level.dictionary.decoder_bias.norm()
        dtype = self._reach.dtype
        rounding = 8 * x.shape[1] * torch.finfo(dtype).eps
        moved = (x - base).to(dtype).norm(dim=-1) * (1 + rounding) + rounding * size.to(dtype)
        left = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for slot, reach in enumerate(self._reach):
            at = slots == slot
            for part in _PARTS:
                n = max(1, len(reach) // part)
                rows = (at & left & (moved < reach.kthvalue(n).values)).nonzero()[:, 0]
                if len(rows):
                    left[rows] = False
                    yield rows, (reach <= moved[rows].max()).nonzero()[:, 0]
        if bool(left.any()):
            yield left.nonzero()[:, 0], None

    def compare(
        self, x: Float[Tensor, "row d"], rows: Int[Tensor, "row 2"], few: Int[Tensor, " few"] | None = None
    ) -> Edges:
        """Features that differ from the prompt's; each row is a source's number and a slot.

        Args:
          x: What is read.
          rows: Of it.
          few: Features of which alone any can differ; None is all.
        """
        slots, dictionary = rows[:, 1], self.level.dictionary
        dictionary = dictionary if few is None else dictionary.narrow(few)
        own, own_projected = (self._pick(every, slots, few) for every in (self.features, self._projected))
        projected = dictionary.project(x)
        weights = own - dictionary.activate(projected, None if self._room is None else self._room[slots])
        row, feature = weights.nonzero(as_tuple=True)
        before = own_projected[row, feature] - projected[row, feature]
        before = before if dictionary.magnitude is None else before * dictionary.magnitude[feature]
        numbers = feature if few is None else few[feature]
        ends = rows[row, 0], torch.full_like(row, self.number), slots[row], numbers
        return Edges(
            *(one.cpu() for one in (*ends, weights[row, feature], before, before.new_zeros(len(row), self._n_parts)))
        )

    def _pick(self, every: Tensor, slots: Int[Tensor, " row"], few: Int[Tensor, " few"] | None) -> Tensor:
        """Of what is there in the prompt, a row for each slot; nothing is copied where there is one position."""
        every = every if few is None else every[:, few]
        return every.expand(len(slots), -1) if len(every) == 1 else every[slots]

    def compare_all(self, x: Float[Tensor, "source pos d"]) -> Float[Tensor, "source pos feature"]:
        """The prompt's features less these."""
        projected = self.level.dictionary.project(x)
        return self.features - self.level.dictionary.activate(projected, self._room)

    def read_out(self, features: Int[Tensor, " n"], slots: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """How what makes each of some features grows with the input."""
        dictionary = self.level.dictionary
        readout = dictionary.readout(features, self.x[slots].to(dictionary.decoder))
        return readout if dictionary.magnitude is None else readout * dictionary.magnitude[features, None]
