"""What taking a head, a neuron or a layer away does, directly and after the rest has made up for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.results.interval import bootstrap_interval
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_choice, read_whole
from residscope.running.edits import Edit, ablate, freeze
from residscope.running.metrics import Metric
from residscope.running.model import Model, check_model
from residscope.running.packing import source_of, write_lines
from residscope.running.positions import Positions
from residscope.running.run import Run
from residscope.running.texts import Texts
from residscope.sites import Site

With = Literal["zero", "constant", "mean", "resample"] | Run


class How(TypedDict, total=False):
    """Where a part is taken away, and how what stands in its place is found: as for `rs.ablate`."""

    pos: Positions
    texts: Texts
    by: Literal["all", "pos"] | Positions
    seed: int
    draws: int


EFFECTS = {
    "total": "the metric after the ablation less that before",
    "direct": "the same where all later parts and the final norm's scale are held at what they were",
    "self_repair": "total less direct: what later parts and the norm's scale made up for",
    "norm": "the final norm's share of the self-repair: total less the same with that scale held",
}


@dataclass(frozen=True, eq=False, repr=False)
class Ablation(Result):
    """What an ablation changed in a metric, text by text; `ablation["direct"]` is one effect, `[batch]`.

    Attributes:
      values: [effect batch] In the metric's unit.
      base_values: [batch] The metric before.
      spread: [effect batch] Standard deviation over the draws of a resampling, whose mean `values` has; None without.
      effects: What each is, in the order of `values`.
      texts: The texts, as people read them, without marks.
    """

    values: Float[Tensor, "effect batch"]
    base_values: Float[Tensor, " batch"]
    spread: Float[Tensor, "effect batch"] | None
    effects: Sequence[str]
    texts: Sequence[str]

    axes: ClassVar[tuple[str, ...]] = ("effect", "batch")
    view: ClassVar[str | None] = "ablation"

    def __getitem__(self, effect: str) -> Float[Tensor, " batch"]:
        """One effect on every text.

        Raises:
          BadArgument: There is none of that name.
        """
        return self.values[self.effects.index(read_choice("effect", effect, self.effects))]

    def mean(self) -> Float[Tensor, " effect"]:
        """Over the texts."""
        return self.values.mean(-1)

    def interval(self, level: float = 0.95) -> Float[Tensor, "effect 2"]:
        """Bootstrap intervals of the means.

        Raises:
          BadArgument: The level is not between 0 and 1, or there are fewer than two texts.
        """
        return bootstrap_interval(self.values, level)

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "effect":
            return {"effect": np.array(self.effects)[index]}
        return {} if self.spread is None else {"spread": self.spread.double().numpy()[places["effect"], index]}


def ablate_head(
    model: Model,
    prompts: Texts | Run,
    *,
    layer: int,
    head: int,
    metric: Metric,
    with_: With = "constant",
    **how: Unpack[How],
) -> Ablation:
    """Take a head away, and tell what that does itself from what the rest of the model makes up for.

    Args:
      model: Any.
      prompts: Texts, or a run of them, which may be edited itself.
      layer: Of the head.
      head: Its number in that layer.
      metric: With one number for each text. Where it is linear in the logits, and those are not capped, the direct
        effect is minus what direct attribution gives the part that was taken away.
      with_: What stands in the head's place, as for `rs.ablate`.
      **how: `pos`, and of what stands there `texts`, `by`, `seed` and `draws`, as for `rs.ablate`; None of positions is
        all. Effects of several draws are their mean, with the spread beside.
    Returns:
      values  [effect batch]  see `EFFECTS` for what each means
    Raises:
      BadArgument: No such layer or head, or the run is of another model.
      BadEdit, UnknownSite, BadMetric: As for `rs.ablate` and the metric.
    Holds:
      total = direct + self_repair; with nothing after the head there is no self-repair but the norm's.
    Source: McGrath et al., "The Hydra Effect" (2023); Rushing and Nanda, "Explorations of Self-Repair in Language
      Models" (2024).
    """
    layer, head = _read_layer(model, layer), read_whole("head", head, 0, model.config.n_heads - 1)
    cut = ablate(f"z.{layer}", with_, head=head, **how)
    return _ablate(model, prompts, cut, f"head {layer}.{head}", "head", metric, layer=layer, head=head)


def ablate_neuron(
    model: Model,
    prompts: Texts | Run,
    *,
    layer: int,
    neuron: int,
    metric: Metric,
    with_: With = "zero",
    **how: Unpack[How],
) -> Ablation:
    """Take a neuron away: a hidden entry of an MLP, after its activation and any gate. See `ablate_head`.

    Args:
      model: Any with MLPs.
      prompts: Texts, or a run of them, which may be edited itself.
      layer: Of the MLP.
      neuron: Its number there.
      metric: With one number for each text.
      with_: What stands in its place, as for `rs.ablate`; no neuron has a "constant".
      **how: As for `ablate_head`.
    Returns:
      values  [effect batch]  see `EFFECTS` for what each means
    Raises:
      BadArgument, BadEdit, UnknownSite, BadMetric: As for `ablate_head`.
    Holds:
      The direct effects of all neurons of an MLP without a bias sum to that of the MLP.
    """
    site = model.find(f"mlp_act.{_read_layer(model, layer)}")
    neuron = read_whole("neuron", neuron, 0, model.axis_size(site.axes[-1], 0) - 1)
    cut = ablate(site, with_, neuron=neuron, **how)
    return _ablate(model, prompts, cut, f"neuron {layer}.{neuron}", "neuron", metric, layer=layer, neuron=neuron)


def ablate_layer(
    model: Model,
    prompts: Texts | Run,
    *,
    layer: int,
    part: Literal["attn", "mlp"],
    metric: Metric,
    with_: With = "zero",
    **how: Unpack[How],
) -> Ablation:
    """Take away all that a layer's attention or its MLP adds to the stream. See `ablate_head`.

    Args:
      model: Any.
      prompts: Texts, or a run of them, which may be edited itself.
      layer: Which.
      part: Its attention or its MLP; the other then counts among what makes up for it, where it comes after.
      metric: With one number for each text.
      with_: What stands in its place, as for `rs.ablate`. Zero takes the output's bias away too; "constant", of
        attention alone, takes away what all its heads together write but for their constants.
      **how: As for `ablate_head`.
    Returns:
      values  [effect batch]  see `EFFECTS` for what each means
    Raises:
      BadArgument: No such part, or as for `ablate_head`.
      BadEdit, UnknownSite, BadMetric: As for `ablate_head`.
    Holds:
      With "constant", the direct effects of a layer's heads sum to that of its attention.
    """
    layer = _read_layer(model, layer)
    read_choice("part", part, ("attn", "mlp"))
    # What does not depend on the text is known head by head, before any norm that follows attention.
    cut = ablate(f"z.{layer}" if (part, with_) == ("attn", "constant") else f"{part}_out.{layer}", with_, **how)
    return _ablate(model, prompts, cut, f"{part}_out.{layer}", "layer", metric, layer=layer, part=part)


def _ablate(
    model: Model, prompts: Texts | Run, cut: Edit, name: str, what: str, metric: Metric, **asked: int | str
) -> Ablation:
    if isinstance(prompts, Run) and prompts.model is not model:
        raise BadArgument("The run is of another model.", "Run the texts through this one.")
    base = prompts if isinstance(prompts, Run) else model.run(prompts)
    scale = [site for site in model.sites if site.kind == "ln_final_scale"]
    held = [[freeze(sites, base)] if sites else [] for sites in (scale, [*_list_later(model, cut), *scale])]
    cuts = [cut.draw(number) for number in range(cut.arguments.get("draws", 1))]
    swept = model.sweep(base, [[one, *also] for one in cuts for also in ([], *held)], metric)
    if swept.values.ndim != 2:
        raise BadArgument(f"{metric!r} gives several numbers for each text.", "Give a metric that gives one.")
    changes = swept.values.view(len(cuts), 3, -1) - swept.base_values  # draw, what is held, batch
    total, without_norm, direct = changes.unbind(1)
    effects = {"total": total, "direct": direct, "self_repair": total - direct, "norm": total - without_norm}
    drawn = torch.stack(list(effects.values()), dim=1).cpu()
    how = {name: value for name, value in cut.arguments.items() if name not in ("head", "neuron", "with_")}
    said = "".join(f", {name}={source_of(value)}" for name, value in how.items())
    with_ = cut.arguments["with_"]
    resampled = with_ == "resample"
    words = ", ".join(f"{key}={value!r}" for key, value in asked.items())
    return Ablation(
        name=f"{name} of {base.name} ablated",
        settings={
            **asked,
            "with": with_ if isinstance(with_, str) else "a run",
            **{name: source_of(value) for name, value in how.items()},
            **({"seed": how.get("seed", 0), "draws": len(cuts)} if resampled else {}),
            "metric": repr(metric),
            "unit": metric.unit,
            "noise_floor": swept.noise_floor,
            "meaning": EFFECTS,
            **base.settings,
        },
        python=write_lines(
            model.python,
            [f"run = {base!r}", f"rs.ablate_{what}(model, run, {words}, metric={metric!r}, with_={with_!r}{said})"],
        ),
        values=drawn.mean(0),
        base_values=swept.base_values.cpu(),
        spread=drawn.std(0, correction=0) if resampled else None,
        effects=list(effects),
        texts=[
            "".join(piece for piece, mark in zip(pieces, marks, strict=False) if not mark)  # marks are padded
            for pieces, marks in zip(base.tokens.pieces, base.tokens.special.tolist(), strict=True)
        ],
    )


def _read_layer(model: Model, layer: int) -> int:
    check_model(model)
    return read_whole("layer", layer, 0, model.config.n_layers - 1)


def _list_later(model: Model, cut: Edit) -> list[Site]:
    """What is held for the direct effect: what later parts add, and the scale of a norm that the cut part passes."""
    site = model.find(cut.sites[0])
    own = "mlp" if site.kind.startswith("mlp") else "attn"
    return [
        later
        for later in model.sites[model.depth(site) + 1 :]
        if (later.kind in ("attn_out", "mlp_out") and later != Site(f"{own}_out", site.layer))
        or later == Site(f"{own}_norm_post_scale", site.layer)
    ]
