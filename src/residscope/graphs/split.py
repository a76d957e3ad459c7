"""How a source reaches a target of the stream: straight, and through the heads and MLPs of the layers between."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.levels import MEASURED, STREAM, Level
from residscope.running.model import Model
from residscope.sites import Site

_WRITES_STRAIGHT = ("embed", "pos_embed", *STREAM, "attn_out", "mlp_out")


@dataclass(frozen=True)
class Parts:
    """Of what changes consist, for all ways of a graph.

    Attributes:
      names: `scale` is what becomes of a change as the dictionary scales its input anew.
      starts: Of each layer, the number of its first head's part; after the heads comes the MLP.
    """

    names: tuple[str, ...]
    starts: dict[int, int]

    @classmethod
    def list(cls, model: Model, levels: Sequence[Level], ways: Iterable[tuple[Site, Level]]) -> "Parts":
        """The parts of some ways; where one leads through several layers, each layer has its own.

        Raises:
          BadArgument: A norm stands behind the heads, or a dictionary reads something else than the stream.
        """
        if model.config.post_norm:
            raise BadArgument(
                f"A norm of {model.name} stands between its heads and the stream, so that they do not add up there.",
                "Leave split out.",
            )
        for level in levels[1:]:
            if level.read.kind not in STREAM:
                raise BadArgument(
                    f"{level.dictionary.name} reads {level.dictionary.site}, where nothing is added up.",
                    "Split edges between dictionaries of the residual stream.",
                )
        between = [{site.layer or 0 for site in list_writers(model, place, level)} for place, level in ways]
        layers, heads = sorted(set().union(*between)), range(model.config.n_heads)
        several = any(len(one) > 1 for one in between)
        scaled = any(level.dictionary.scaling in MEASURED for level in levels)
        width = len(heads) + 1
        starts = {layer: 1 + (number * width if several else 0) for number, layer in enumerate(layers)}
        named = [f"{layer}." if several else "" for layer in (layers if several else [0])]
        parts = [part for of in named for part in (*(f"head {of}{head}" for head in heads), f"mlp {of}".rstrip(". "))]
        return cls(("straight", *parts, *(["scale"] if scaled else [])), starts)


def list_writers(model: Model, place: Site, level: Level) -> list[Site]:
    """What writes to the stream between a place and a dictionary: `head_out` and `mlp_out`."""
    return [
        Site({"attn_out": "head_out"}.get(site.kind, site.kind), site.layer)
        for site in model.sites
        if site.kind in ("attn_out", "mlp_out") and model.depth(place) < model.depth(site) < model.depth(level.read)
    ]


@dataclass(frozen=True)
class Way:
    """What stands between a place and a dictionary.

    Attributes:
      straight: Whether what is written at the place is in the stream.
      writers: What writes to the stream between: `head_out`, `mlp_out`.
      n_heads: Of the model.
      parts: Of all ways.
    """

    straight: bool
    writers: tuple[Site, ...]
    n_heads: int
    parts: Parts

    @classmethod
    def between(cls, model: Model, place: Site, level: Level, parts: Parts) -> "Way":
        """The way from a place to a dictionary."""
        writers = tuple(list_writers(model, place, level))
        return cls(place.kind in _WRITES_STRAIGHT, writers, model.config.n_heads, parts)

    def split(
        self,
        vectors: Float[Tensor, "edge d"],
        changes: Sequence[Tensor],
        readout: Float[Tensor, "edge d"],
        before: Float[Tensor, " edge"],
    ) -> Float[Tensor, "edge part"]:
        """Parts of what edges do before the threshold.

        Args:
          vectors: What the source writes at the target's position.
          changes: [edge d] Of each of the writers, at that position; of heads side by side.
          readout: What the target reads.
          before: The whole.
        """
        found = before.new_zeros(len(before), len(self.parts.names))
        if self.straight:
            found[:, 0] = (vectors * readout).sum(-1)
        for writer, change in zip(self.writers, changes, strict=True):
            start = self.parts.starts[writer.layer or 0]
            if writer.kind == "head_out":
                each = change.reshape(len(change), self.n_heads, -1)
                found[:, start : start + self.n_heads] = torch.einsum("ehd,ed->eh", each, readout)
            else:
                found[:, start + self.n_heads] = (change * readout).sum(-1)
        if self.parts.names[-1] == "scale":
            found[:, -1] = before - found.sum(-1)
        return found
