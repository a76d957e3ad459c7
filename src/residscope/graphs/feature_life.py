"""A feature's life in the stream: where it is written in, carried, and scrubbed out, and by whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.analyses.attribution import split_attention, split_mlp
from residscope.dictionaries.sparse_autoencoder import Feature
from residscope.direction import Direction
from residscope.errors import BadArgument
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_whole
from residscope.running.packing import write_lines
from residscope.running.positions import resolve
from residscope.running.run import Run, check_run, read_at
from residscope.sites import Site
from residscope.transformer.transformer import Block


@dataclass(frozen=True, eq=False, repr=False)
class FeatureLife(Result):
    """What every head and MLP adds to the stream along a feature, at one position of each text.

    Attributes:
      values: [batch side layer part] What each adds to `x . v`, in units of the stream.
      stream: [batch side row] `x . v` before each layer and after the last.
      sides: "decoder", what the feature writes; "encoder", what it reads; "direction" of a direction.
      parts: "head 0" and so on, what a head adds by what it attends to; "attention bias", what attention adds whatever
        it attends to; "mlp"; and where the run is edited "edits", what its edits put between.
      rows: Names of the streams.
      here: Of each side, the row of the stream that the feature's own site is, or is written to first.
      pos: [batch] Where.
      tokens: [batch] The token there, as people read it.
    """

    values: Float[Tensor, "batch side layer part"]
    stream: Float[Tensor, "batch side row"]
    sides: Sequence[str]
    parts: Sequence[str]
    rows: Sequence[str]
    here: Sequence[int]
    pos: Sequence[int]
    tokens: Sequence[str]

    axes: ClassVar[tuple[str, ...]] = ("batch", "side", "layer", "part")
    view: ClassVar[str | None] = "feature_life"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "batch":
            return {"batch": index, "pos": np.array(self.pos)[index], "token": np.array(self.tokens)[index]}
        return {axis: np.array(getattr(self, f"{axis}s"))[index]} if axis in ("side", "part") else {}

    def __repr__(self) -> str:
        first, n_parts = self.values[0, 0], len(self.parts)
        said = []
        for word, at, sign in (("written in", first.argmax(), 1), ("scrubbed out", first.argmin(), -1)):
            layer, part = divmod(int(at), n_parts)
            if float(first[layer, part]) * sign > 0:
                said.append(f"most {word} by {self.parts[part]} of layer {layer} ({first[layer, part]:+.3g})")
        peak = int(self.stream[0, 0].abs().argmax())
        return f"FeatureLife({self.name}: {', '.join([*said, f'largest at {self.rows[peak]}'])})"


@torch.no_grad()
def feature_life(run: Run, feature: Feature | Direction, *, pos: int = -1) -> FeatureLife:
    """Follow a feature through the stream: how much of it is there before every layer, and who changes that.

    The stream is read along the unit vector that the feature writes and along the one that it reads, at all layers
    alike, whatever of them the feature's dictionary was trained on.

    Args:
      run: Any.
      feature: `dictionary[17]`, or a direction, of a site as wide as the stream.
      pos: Of each text.
    Returns:
      values  [batch side layer part]  what each head, bias and MLP adds
      stream  [batch side row]  what is there; n_layers + 1 rows
    Raises:
      BadArgument: It is neither, or of a site of another width; or the position is not one.
      UnknownPosition: A text has no such position.
    Holds:
      Before the first layer and with all parts up to a layer, it sums to what is there after the layer.
    """
    check_run(run)
    pos = read_whole("pos", pos, -(2**63), hint="Give one position, as -1.")
    vectors = _read_vectors(run, feature)
    model, config = run.model, run.model.config
    positions = resolve(pos, run.tokens.n_tokens)
    rows = [*(Site("resid_pre", layer) for layer in range(config.n_layers)), Site("resid_post", config.n_layers - 1)]
    kinds = [kind for kind in ("z", "attn_norm_post_scale", "mlp_out") if kind not in config.absent]
    run.keep([*rows, *kinds])

    def read(place: Site) -> Tensor:
        value = read_at(run.raw(model.place(place)), model.place(place), positions)[0]
        return value.to(torch.promote_types(value.dtype, torch.float32))

    streams = [read(row)[:, 0] for row in rows]
    parts = [*(f"head {head}" for head in range(config.n_heads)), "attention bias", "mlp"]
    sides = []
    for vector in vectors.values():
        layers = []
        for layer, block in enumerate(model.transformer.blocks):
            at = {kind: read(Site(kind, layer)) for kind in kinds}
            along = vector.to(at["z"]).expand(len(positions), 1, -1)
            found = split_attention(cast(Block, block), at, along) | split_mlp(cast(Block, block), at, along)
            mlp = found.get("mlp_out", torch.zeros_like(found["attn_bias"]))
            layers.append(torch.cat((found["head"], found["attn_bias"][:, None], mlp[:, None]), dim=1).cpu())
        sides.append(torch.stack(layers, dim=1))
    values = torch.stack(sides, dim=1)
    there = torch.stack(
        [torch.stack([(x @ vector.to(x)).cpu() for x in streams], dim=1) for vector in vectors.values()], dim=1
    )
    if run.edits:
        parts.append("edits")
        values = torch.cat((values, (there.diff(dim=-1) - values.sum(-1))[..., None]), dim=-1)
    return FeatureLife(
        name=f"{_name(feature)} in {run.name}",
        settings={"unit": "x . v, of the stream", "vectors": "of length one, uncentred", **run.settings},
        python=_write_call(run, feature, pos),
        values=values,
        stream=there,
        sides=list(vectors),
        parts=parts,
        rows=[str(row) for row in rows],
        here=[_find_row(run, site) for site in _find_sites(feature)],
        pos=positions[:, 0].tolist(),
        tokens=[pieces[at] for pieces, at in zip(run.tokens.pieces, positions[:, 0].tolist(), strict=True)],
    )


def _read_vectors(run: Run, feature: Feature | Direction) -> dict[str, Float[Tensor, " d"]]:
    """The unit vector of each side.

    Raises:
      BadArgument: It is no feature or direction, or of a site of another width than the stream.
    """
    if isinstance(feature, Feature):
        made = {side: feature.dictionary.direction(feature.number, side=side) for side in ("decoder", "encoder")}
    elif isinstance(feature, Direction):
        made = {"direction": feature}
    else:
        raise BadArgument(
            f"{feature!r:.80} was given as a feature.", "Give dictionary[number], or a direction of the stream."
        )
    for one in made.values():
        run.model.find(one.site)
        if len(one.vector) != run.model.config.d_model or one.site.axes[-1] != "d_model":
            raise BadArgument(
                f"{one.name} lives at {one.place} and has {len(one.vector)} entries, and the stream has "
                f"{run.model.config.d_model}.",
                "Give a feature of the stream, or of what attention or an MLP reads or adds.",
            )
    return {side: one.vector for side, one in made.items()}


def _find_sites(feature: Feature | Direction) -> list[Site]:
    return [feature.dictionary.writes, feature.site] if isinstance(feature, Feature) else [feature.site]


def _find_row(run: Run, site: Site) -> int:
    """The first stream that is made no earlier than a site."""
    depth = run.model.depth(run.model.place(site))
    starts = [run.model.depth(Site("resid_pre", layer)) for layer in range(run.model.config.n_layers)]
    return next((layer for layer, start in enumerate(starts) if start >= depth), run.model.config.n_layers)


def _name(feature: Feature | Direction) -> str:
    return f"feature {feature.number} of {feature.dictionary.name}" if isinstance(feature, Feature) else feature.name


def _write_call(run: Run, feature: Feature | Direction, pos: int) -> list[str]:
    lines = [f"run = {run!r}"]
    if isinstance(feature, Direction):
        made = feature.python or (*run.model.python, "direction = ...")
        return write_lines(made, [*lines, f"rs.feature_life(run, direction, pos={pos})"])
    lines += [f"dictionary = {feature.dictionary.call}"]
    lines += [f"rs.feature_life(run, dictionary[{feature.number}], pos={pos})"]
    return write_lines(run.model.python, lines)
