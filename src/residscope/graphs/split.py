"""How a source reaches a target of the stream: straight, through each head of the layer between, through its MLP."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.levels import STREAM, Level
from residscope.running.model import Model
from residscope.sites import Site

_WRITES_STRAIGHT = ("embed", "pos_embed", *STREAM, "attn_out", "mlp_out")
_MEASURED = ("norm", "layer_norm")  # whose scale moves with what it is taken of


def name_parts(model: Model, levels: Sequence[Level]) -> list[str]:
    """Of what a change consists; `scale` is what becomes of it as the dictionary scales its input anew.

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
    scaled = any(level.dictionary.scaling in _MEASURED for level in levels)
    heads = [f"head {head}" for head in range(model.config.n_heads)]
    return ["straight", *heads, "mlp", *(["scale"] if scaled else [])]


@dataclass(frozen=True)
class Way:
    """What stands between a place and a dictionary.

    Attributes:
      straight: Whether what is written at the place is in the stream.
      writers: What writes to the stream between, of at most one layer: `head_out`, `mlp_out`.
      n_heads: Of the model.
      scaled: Whether the parts have one for the scale.
    """

    straight: bool
    writers: tuple[Site, ...]
    n_heads: int
    scaled: bool

    @classmethod
    def between(cls, model: Model, place: Site, level: Level, scaled: bool) -> "Way":
        """The way from a place to a dictionary.

        Raises:
          BadArgument: It leads through several layers.
        """
        writers = [
            Site({"attn_out": "head_out"}.get(site.kind, site.kind), site.layer)
            for site in model.sites
            if site.kind in ("attn_out", "mlp_out") and model.depth(place) < model.depth(site) < model.depth(level.read)
        ]
        if len({writer.layer for writer in writers}) > 1:
            raise BadArgument(
                f"Between {place} and {level.dictionary.site} lie several layers, whose heads cannot be told apart.",
                "Give a dictionary of the stream before every layer, and leave later out.",
            )
        return cls(place.kind in _WRITES_STRAIGHT, tuple(writers), model.config.n_heads, scaled)

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
        parts = before.new_zeros(len(before), self.n_heads + 2)
        if self.straight:
            parts[:, 0] = (vectors * readout).sum(-1)
        for writer, change in zip(self.writers, changes, strict=True):
            if writer.kind == "head_out":
                parts[:, 1:-1] = torch.einsum("ehd,ed->eh", change.reshape(len(change), self.n_heads, -1), readout)
            else:
                parts[:, -1] = (change * readout).sum(-1)
        rest = before - parts.sum(-1)
        return torch.cat((parts, rest[:, None]), dim=-1) if self.scaled else parts
