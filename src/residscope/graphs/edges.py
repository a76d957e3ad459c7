"""Edges of a graph while it is traced: found source by source, and thinned before the next are."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges from sources of one place.

    Attributes:
      sources: [edge] Numbers among those of all places.
      levels, slots, features: [edge] Of the targets.
      weights: [edge] Base less ablated activation.
      before: [edge] The same before threshold and competition.
      parts: [edge part] How that comes about.
    """

    sources: Int[Tensor, " edge"]
    levels: Int[Tensor, " edge"]
    slots: Int[Tensor, " edge"]
    features: Int[Tensor, " edge"]
    weights: Float[Tensor, " edge"]
    before: Float[Tensor, " edge"]
    parts: Float[Tensor, "edge part"]

    def __len__(self) -> int:
        return len(self.weights)

    def take(self, which: Tensor) -> "Edges":
        """Some of them."""
        return Edges(*(getattr(self, one.name)[which] for one in fields(self)))

    @classmethod
    def join(cls, parts: "Sequence[Edges]") -> "Edges":
        """All of some, at least one."""
        return cls(*(torch.cat([getattr(part, one.name) for part in parts]) for one in fields(cls)))


@dataclass(frozen=True)
class Rule:
    """Which edges are kept; one of these is not None.

    Attributes:
      top: So many of each source, the largest.
      threshold: Of at least this size.
      share: The fewest that have this share of the summed size.
    """

    top: int | None = None
    threshold: float | None = None
    share: float | None = None

    def thin(self, edges: Edges, held: Bool[Tensor, " edge"]) -> Edges:
        """Those that may be kept, of all edges of some sources; what is held is."""
        if self.top is not None:
            return edges.take((rank_within(edges.weights, edges.sources) < self.top) | held)
        return edges if self.threshold is None else edges.take((edges.weights.abs() >= self.threshold) | held)

    def finish(self, edges: Edges, held: Bool[Tensor, " edge"]) -> Edges:
        """Those that are kept, of what was thinned."""
        return edges if self.share is None else edges.take(find_largest(edges.weights, self.share) | held)


def rank_within(weights: Float[Tensor, " edge"], groups: Int[Tensor, " edge"]) -> Int[Tensor, " edge"]:
    """How many edges of the same group are larger."""
    order = weights.abs().argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    ordered = groups[order]
    first = torch.searchsorted(ordered, ordered)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - first
    return rank


def find_largest(values: Float[Tensor, " edge"], share: float) -> Bool[Tensor, " edge"]:
    """The fewest edges that have a share of the summed size."""
    sizes, order = values.abs().double().sort(descending=True, stable=True)
    sums = sizes.cumsum(0)
    keep = torch.zeros(len(values), dtype=torch.bool)
    if len(values):
        n = int((sums < share * sums[-1]).sum()) + 1
        keep[order[:n]] = True
    return keep
