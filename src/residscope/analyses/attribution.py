"""Direct attribution: a metric of the logits, split into what each part of the model wrote for it into the stream."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from residscope.errors import BadArgument, BadMetric
from residscope.results.result import Indices, Result, find_tokens
from residscope.running.arguments import read_choice
from residscope.running.metrics import Metric, Reading
from residscope.running.packing import write_lines
from residscope.running.run import Run, check_metric, check_run, read_at
from residscope.sites import Site
from residscope.transformer.transformer import Block, Norm, Transformer

PARTS = {
    "embed": "the embedding of the token",
    "pos_embed": "the embedding of the position",
    "embed_bias": "the bias of the norm behind the embedding",
    "attn_out": "all that a layer's attention adds",
    "head": "what a head adds by what it attends to",
    "source": "what a head adds by attending to the token at `key`",
    "attn_bias": "what a layer's attention adds whatever it attends to: biases before its values, in them and behind",
    "mlp_out": "all that a layer's MLP adds",
    "neuron": "what a neuron adds",
    "mlp_bias": "the biases behind a layer's neurons",
    "bias": "the biases of the final norm and of the unembedding",
    "edits": "what the run's edits put between these parts",
    "remainder": "the metric less what is linear in it at this run",
}
_AXES = {"head": ("layer", "head"), "source": ("layer", "head", "key"), "neuron": ("layer", "neuron")}
# What is read of every layer, where the model has it.
_READS = {
    "component": ("attn_out", "mlp_out"),
    "head": ("z", "attn_norm_post_scale", "mlp_out"),
    "neuron": ("attn_out", "mlp_act", "mlp_norm_post_scale"),
    "token": ("v", "pattern", "attn_norm_post_scale", "mlp_out"),
}
_WIDE = ("mlp_act", "pattern")  # too large to be held for all layers


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Result):
    """A metric in parts that sum to it; `attribution["head"]` is all parts of one name, `[batch layer head]`.

    Attributes:
      values: [batch component] What each part gives, in the metric's unit; NaN for sources that are padding.
      metric_values: [batch] The metric of the run, after any soft cap.
      parts: Sizes of the axes of the parts of each name, in the order of `values`; see `PARTS` for what they are.
      pieces: Each text's tokens, as people read them.
    """

    values: Float[Tensor, "batch component"]
    metric_values: Float[Tensor, " batch"]
    parts: Mapping[str, Mapping[str, int]]
    pieces: Sequence[Sequence[str]]

    axes: ClassVar[tuple[str, ...]] = ("batch", "component")
    view: ClassVar[str | None] = "attribution"

    def __getitem__(self, part: str) -> Float[Tensor, "batch ..."]:
        """All parts of one name: `[batch]`, `[batch layer]`, or with further axes.

        Raises:
          BadArgument: There is none of that name.
        """
        read_choice("part", part, self.parts)
        each = torch.split(self.values, [prod(sizes.values()) for sizes in self.parts.values()], dim=1)
        return each[list(self.parts).index(part)].reshape(-1, *self.parts[part].values())

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis != "component":
            return {}
        rows = pd.DataFrame(
            {"component": ".".join(map(str, (part, *numbers))), **dict(zip(sizes, numbers, strict=True))}
            for part, sizes in self.parts.items()
            for numbers in np.ndindex(*sizes.values())
        )
        found = rows.astype(dict.fromkeys(rows.columns[1:], "Int64")).iloc[index].reset_index(drop=True)
        if "key" in found:
            tokens = find_tokens(self.pieces, places["batch"], found["key"].fillna(0).to_numpy(int))
            found["token"] = pd.Series(tokens).where(found["key"].notna(), None)
        return {str(name): found[name] for name in found}

    def to_frame(self) -> pd.DataFrame:
        """One row a part of a text, with its layer, head, neuron and token where it has one; they sum to the metric."""
        return super().to_frame().dropna(subset="value", ignore_index=True)


@torch.no_grad()
def attribute(
    run: Run,
    metric: Metric,
    *,
    by: Literal["component", "head", "neuron", "token"] = "component",
    linearize: bool = False,
) -> Attribution:
    """Split a metric into what every part of the model adds to it through the stream alone.

    The final norm's scale `s` is held at this run's, so that a part `c` of the stream gives `c . u / s`: `u` is the
    metric's direction through the unembedding, times the norm's weight, less its mean where the norm takes that off.
    A part with a norm of its own behind it passes through that first, with its scale held too.

    Args:
      run: Any; what it did not keep is computed, and what is wide (neurons, patterns) one layer at a time.
      metric: `rs.logit` or `rs.logit_difference`. Where the model caps its logits, the metric before that is split.
      by: Whether layers, heads, neurons, or the tokens that heads attend to stand for themselves.
      linearize: Split any metric of the logits by its gradient at this run, caps included; what is not linear is the
        part "remainder".
    Returns:
      values  [batch component]  see `PARTS` for what each is
    Raises:
      BadArgument: There is no such `by`, or no MLP has neurons.
      BadMetric: The metric is not linear, reads another site than the logits, is not finite, or does not fit the texts.
    Holds:
      The values of each text sum to the metric; `settings["rounding"]` is the most by which they miss it. A layer's
      heads and biases sum to its attention, a head's sources to the head, neurons and biases to the MLP.
    Source: Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021), on direct paths.
    """
    check_run(run)
    read_choice("by", by, _READS)
    model = run.model
    if by == "neuron" and not model.config.d_mlp:
        raise BadArgument(
            "Neurons were asked for, and the model has no MLPs.", "Choose 'component', 'head' or 'token'."
        )
    check_metric(metric)
    reading = _bind(run, metric, linearize=linearize)
    line = _read_line(run, reading, linearize=linearize)
    parts = _split(run, by, line)
    metric_values = metric.evaluate(reading, run)
    whole = _dot(read_at(run.raw(model.last_site), model.last_site, line.positions)[0], line.direction) + line.constant
    if run.edits:
        parts["edits"] = whole - _flatten(parts).nansum(1)
    if linearize:
        parts["remainder"] = metric_values - whole
        whole = metric_values
    if not whole.isfinite().all():
        text = int((~whole.isfinite()).nonzero()[0])
        raise BadMetric(f"The metric of text {text} is {float(whole[text])}.", "Look at the run's edits and weights.")
    values = _flatten(parts)
    return Attribution(
        name=f"{metric.name} by {by} in {run.name}",
        settings={
            "metric": repr(metric),
            "unit": metric.unit,
            "by": by,
            "linearize": linearize,
            "meaning": {part: PARTS[part] for part in parts},
            "scale": "of the final norm, and of norms behind attention and MLP, held at this run's",
            "centred": model.config.norm == "layer",
            "before_cap": None if linearize else model.config.logit_cap,
            "rounding": float((whole - values.nansum(1)).abs().max()),
            **run.settings,
        },
        python=write_lines(
            model.python,
            [f"run = {run!r}", f"rs.attribute(run, {metric!r}, by={by!r}{', linearize=True' if linearize else ''})"],
        ),
        values=values.cpu(),
        metric_values=metric_values.cpu(),
        parts={
            part: dict(zip(_AXES.get(part, ("layer",)), share.shape[1:], strict=False)) for part, share in parts.items()
        },
        pieces=run.tokens.pieces,
    )


def _bind(run: Run, metric: Metric, *, linearize: bool) -> Reading:
    """The metric, bound to the run, where parts can sum to it."""
    reading, last = metric.bind(run.model, run.tokens), run.model.last_site
    if reading.places != (last,):
        read = ", ".join(map(str, reading.places))
        raise BadMetric(f"{metric!r} reads {read}, and only what makes the logits is split.", "Take rs.logit or such.")
    if reading.weighs is None and not linearize:
        raise BadMetric(
            f"{metric!r} is not linear in the logits, so that no parts sum to it.",
            "Take rs.logit or rs.logit_difference, or linearize=True for its gradient at this run.",
        )
    return reading


@dataclass(frozen=True, eq=False)
class _Line:
    """A metric as a linear function of what the unembedding reads.

    Attributes:
      positions: [batch n] Where it reads.
      direction: [batch n d_model]
      constant: [batch] What it is where all that is zero.
    """

    positions: Int[Tensor, "batch n"]
    direction: Float[Tensor, "batch n d_model"]
    constant: Float[Tensor, " batch"]


def _read_line(run: Run, reading: Reading, *, linearize: bool) -> _Line:
    """The metric before any cap, or its gradient at this run."""
    model, unembedding = run.model, run.model.transformer.unembedding
    wide = torch.promote_types(model.dtype, torch.float32)
    constant = torch.zeros(len(run.tokens.ids), dtype=wide, device=model.device)
    if linearize or reading.weighs is None:
        gradient = run.differentiate(reading, [model.last_site])[model.last_site].to(wide)
        return _Line(torch.arange(gradient.shape[1]).expand(gradient.shape[:2]), gradient, constant)
    ids, weights = reading.weighs
    direction = torch.einsum("bk,bkd->bd", weights, unembedding.weight[ids].to(wide))[:, None]
    bias: Tensor | None = unembedding.bias
    return _Line(reading.positions, direction, constant if bias is None else _dot(bias[ids], weights))


def _split(run: Run, by: str, line: _Line) -> dict[str, Float[Tensor, "batch ..."]]:
    """What every part of the model gives along a line, by the part's name."""
    model, transformer, wide = run.model, run.model.transformer, line.direction.dtype
    ends = [Site(kind) for kind in ("embed", "pos_embed", "ln_final_scale") if kind not in model.config.absent]
    kinds = [kind for kind in _READS[by] if kind not in model.config.absent]
    narrow = [kind for kind in kinds if kind not in _WIDE]
    run.keep([*ends, model.last_site, *narrow, *(["resid_pre"] if len(narrow) < len(kinds) else [])])

    def read(places: Sequence[Site]) -> dict[str, Float[Tensor, "batch n ..."]]:
        held = run.look_up(places).items()  # values at all positions, as every query reads them
        found = {
            place: value if place.kind == "v" else read_at(value, place, line.positions)[0] for place, value in held
        }
        return {place.kind: value.to(wide) for place, value in found.items()}

    at = read(ends)
    along = _before(transformer.ln_final, line.direction, at.get("ln_final_scale"))
    parts = _split_embedding(transformer, at, along)
    layers: defaultdict[str, list[Tensor]] = defaultdict(list)
    for layer, block in enumerate(transformer.blocks):
        at, here = read([Site(kind, layer) for kind in kinds]), along.to(transformer.device_of(layer))
        for split in (split_attention, split_mlp):
            for part, share in split(cast(Block, block), at, here).items():
                layers[part].append(share.to(model.device))
    parts |= {part: torch.stack(shares, dim=1) for part, shares in layers.items()}
    if "source" in parts:
        parts["source"].masked_fill_(~run.tokens.mask.to(model.device)[:, None, None], torch.nan)
    return {**parts, "bias": line.constant + _dot_bias(transformer.ln_final, line.direction)}


def _split_embedding(
    transformer: Transformer, at: Mapping[str, Tensor], along: Float[Tensor, "batch n d_model"]
) -> dict[str, Float[Tensor, " batch"]]:
    embedded = {kind: at[kind] for kind in ("embed", "pos_embed") if kind in at}
    norm = transformer.embed_norm
    before = _before(norm, along, norm.compute_scale(torch.stack([*embedded.values()]).sum(0)) if norm else None)
    parts = {kind: _dot(value, before) for kind, value in embedded.items()}
    return {**parts, "embed_bias": _dot_bias(norm, along)} if norm else parts


def split_attention(
    block: Block, at: Mapping[str, Tensor], along: Float[Tensor, "batch n d_model"]
) -> dict[str, Float[Tensor, "batch ..."]]:
    """What a layer's attention adds along directions of the stream, summed over positions.

    Args:
      block: The layer.
      at: By kind, of the layer's sites at these positions: `attn_out`, or what stands for it: `z` splits it into heads,
        `v` and `pattern` into sources, and what the norm behind them divides by, where there is one.
      along: The directions.
    Returns:
      By the names of `PARTS`.
    """
    if "attn_out" in at:
        return {"attn_out": _dot(at["attn_out"], along)}
    attention, norm = block.attn, block.ln1_post
    before = _before(norm, along, at.get("attn_norm_post_scale"))
    # Along a head's output, not along the stream; head by head is the faster order of this product.
    out = attention.o.weight.to(along).view(len(attention.o.weight), -1, attention.d_head).transpose(0, 1)
    rows = before.flatten(0, 1).expand(len(out), -1, -1)
    folded = torch.bmm(rows, out).transpose(0, 1).reshape(*along.shape[:2], *out.shape[::2])  # batch n head d_head
    constant = (block.constant_values() * folded).sum(-1)  # batch n head
    if "z" in at:
        parts = {"head": ((at["z"] * folded).sum(-1) - constant).sum(1)}
    else:
        values = at["v"].repeat_interleave(attention.groups, dim=2)
        written = torch.einsum("bkhd,bnhd->bnhk", values, folded) - constant[..., None]
        parts = {"source": (at["pattern"] * written).sum(1)}
    return {**parts, "attn_bias": constant.sum((1, 2)) + _dot_bias(attention.o, before) + _dot_bias(norm, along)}


def split_mlp(
    block: Block, at: Mapping[str, Tensor], along: Float[Tensor, "batch n d_model"]
) -> dict[str, Float[Tensor, "batch ..."]]:
    """What a layer's MLP adds along directions of the stream, as `split_attention`; nothing where there is none."""
    if block.mlp is None:
        return {}
    if "mlp_out" in at:
        return {"mlp_out": _dot(at["mlp_out"], along)}
    down, norm = block.mlp.down, block.ln2_post
    before = _before(norm, along, at.get("mlp_norm_post_scale"))
    neurons = (at["mlp_act"] * (before @ down.weight.to(along))).sum(1)
    return {"neuron": neurons, "mlp_bias": _dot_bias(down, before) + _dot_bias(norm, along)}


def _before(
    norm: Norm | None, along: Float[Tensor, "batch n d_model"], scale: Float[Tensor, "batch n"] | None
) -> Float[Tensor, "batch n d_model"]:
    """What a direction behind a norm is before it, its scale held."""
    return along if norm is None or scale is None else norm.transpose(along) / scale[..., None]


def _dot_bias(module: Norm | nn.Linear | None, along: Float[Tensor, "batch n d_model"]) -> Float[Tensor, " batch"]:
    """What the bias of a module gives; zero where it has none."""
    bias: Tensor | None = module.bias if module else None
    return along.new_zeros(len(along)) if bias is None else _dot(bias, along)


def _dot(value: Float[Tensor, "..."], along: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    return (value * along).flatten(1).sum(1)


def _flatten(parts: Mapping[str, Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch component"]:
    return torch.cat([share.reshape(len(share), -1) for share in parts.values()], dim=1)
