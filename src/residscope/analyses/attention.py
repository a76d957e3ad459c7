"""Attention: where heads look, as patterns over the tokens of a prompt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.results.result import Indices, TokenResult
from residscope.running.packing import write_lines
from residscope.running.run import Run, check_run
from residscope.running.texts import token_facts

MEANING = {
    False: "the attention weight",
    True: "the attention weight times the length of what the head writes of that token, before any norm behind it",
}


@dataclass(frozen=True, eq=False, repr=False)
class Attention(TokenResult):
    """Patterns of some heads.

    Attributes:
      values: [batch head query key] Attention weights, or those times what is read there; NaN where padded.
      heads: Layer and head of each, in the order of `values`.
    """

    values: Float[Tensor, "batch head query key"]
    heads: Sequence[Sequence[int]]

    axes: ClassVar[tuple[str, ...]] = ("batch", "head", "query", "key")
    view: ClassVar[str | None] = "attention"
    view_dtype: ClassVar[torch.dtype] = torch.float16

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis != "head":
            return super().columns(axis, index, places)
        layers, heads = np.array(self.heads)[index].T
        return {"layer": layers, "head": heads}

    def to_frame(self) -> pd.DataFrame:
        """One row a query and key of a head."""
        frame = super().to_frame()
        frame.insert(1, "layer", frame.pop("layer"))
        return frame


@torch.no_grad()
def attention(
    run: Run,
    *,
    layer: int | None = None,
    heads: Iterable[int | Iterable[int]] | None = None,
    value_weighted: bool = False,
) -> Attention:
    """Where heads look.

    Args:
      run: Any; an edited one's patterns are those after its edits.
      layer: Whose heads; None for any layer's.
      heads: Of that layer, by number; or of any layer, as pairs of layer and head, in the order in which other
        analyses rank them. None is all.
      value_weighted: Multiply every weight by the length of what the head would write there, so that attention to
        tokens that give nothing fades.
    Returns:
      values  [batch head query key]
    Raises:
      BadArgument: No head is named, or one that the model has not.
    Holds:
      Weights of a query sum to one; with `value_weighted`, a query that sees one token alone has the length of what the
      head adds there.
    Source: For weighing by values Kobayashi et al., "Attention is Not Only a Weight" (2020).
    """
    check_run(run)
    model, chosen = run.model, _choose(run, layer, heads)
    layers = list(dict.fromkeys(one for one, _ in chosen))
    run.keep([f"{kind}.{one}" for one in layers for kind in ("pattern", *(["v"] if value_weighted else []))])
    wide = torch.promote_types(model.dtype, torch.float32)
    patterns = {one: run[f"pattern.{one}"].to(wide) for one in layers}
    if value_weighted:
        patterns = {one: pattern * _measure_values(run, one)[:, :, None] for one, pattern in patterns.items()}
    which = f"layer={layer}" if heads is None else f"heads={chosen!r}"
    return Attention(
        name=f"attention of {run.name}",
        settings={
            "value": MEANING[value_weighted],
            "unit": "stream" if value_weighted else "probability",
            **run.settings,
        },
        python=write_lines(
            model.python, [f"run = {run!r}", f"rs.attention(run, {which}, value_weighted={value_weighted})"]
        ),
        values=torch.stack([patterns[one][:, head].cpu() for one, head in chosen], dim=1),
        heads=[list(pair) for pair in chosen],
        **token_facts(run.tokens),
    )


def _choose(run: Run, layer: Any, heads: Any) -> list[tuple[int, int]]:
    """Layer and head of each that is asked for."""
    n_layers, n_heads = run.model.config.n_layers, run.model.config.n_heads
    try:
        if heads is None:
            chosen = [(one, head) for one in (range(n_layers) if layer is None else [layer]) for head in range(n_heads)]
        else:
            chosen = [one if layer is None else (layer, one) for one in heads]
        found = [(index(one), index(head)) for one, head in chosen]
    except (TypeError, ValueError):
        raise BadArgument(
            f"layer={layer!r} and heads={heads!r} were asked for.",
            "Give a layer and numbers of its heads, or pairs of layer and head, as heads=[(9, 9), (9, 6)].",
        ) from None
    if not found:
        raise BadArgument("No head was named.", "Name one at least, or leave heads out for all.")
    wrong = next((pair for pair in found if not (0 <= pair[0] < n_layers and 0 <= pair[1] < n_heads)), None)
    if wrong:
        raise BadArgument(
            f"There is no head {wrong[1]} in a layer {wrong[0]}.",
            f"Layers are 0 to {n_layers - 1}, and their heads 0 to {n_heads - 1}.",
        )
    return found


def _measure_values(run: Run, layer: int) -> Float[Tensor, "batch head key"]:
    """Length of what each head would write of each token alone."""
    out = run.model.weights[f"W_O.{layer}"]
    out = out.to(torch.promote_types(out.dtype, torch.float32))
    values = run[f"v.{layer}"].to(out).repeat_interleave(out.shape[0] // run.model.config.n_kv_heads, dim=2)
    # Lengths without the vectors of the stream, which would be many times larger than the values.
    return torch.einsum("bkhd,hde,bkhe->bhk", values, out @ out.mT, values).clamp(min=0).sqrt()
