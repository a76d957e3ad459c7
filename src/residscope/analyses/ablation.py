"""What taking a head away does, directly and after the rest has made up for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.results.interval import bootstrap_interval
from residscope.results.result import Indices, Result
from residscope.running.edits import ablate, freeze
from residscope.running.metrics import Metric
from residscope.running.model import Model
from residscope.running.run import Run
from residscope.running.texts import Texts

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
      effects: What each is, in the order of `values`.
    """

    values: Float[Tensor, "effect batch"]
    base_values: Float[Tensor, " batch"]
    effects: Sequence[str]

    axes: ClassVar[tuple[str, ...]] = ("effect", "batch")

    def __getitem__(self, effect: str) -> Float[Tensor, " batch"]:
        """One effect on every text.

        Raises:
          BadArgument: There is none of that name.
        """
        if effect not in self.effects:
            raise BadArgument(f"There is no effect {effect!r}.", f"Choose {', '.join(self.effects)}.")
        return self.values[self.effects.index(effect)]

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
        return {"effect": np.array(self.effects)[index]} if axis == "effect" else {}


def ablate_head(
    model: Model,
    prompts: Texts | Run,
    *,
    layer: int,
    head: int,
    metric: Metric,
    with_: "Literal['zero', 'constant', 'mean', 'resample'] | Run" = "constant",
) -> Ablation:
    """Take a head away everywhere, and tell what that does itself from what the rest of the model makes up for.

    Args:
      model: Any.
      prompts: Texts, or a run of them, which may be edited itself.
      layer: Of the head.
      head: Its number in that layer.
      metric: With one number for each text. Where it is linear in the logits, and those are not capped, the direct
        effect is minus what direct attribution gives the part that was taken away.
      with_: What stands in the head's place, as for `rs.ablate`.
    Returns:
      values  [effect batch]  see `EFFECTS` for what each means
    Raises:
      BadArgument: The run is of another model.
      BadEdit, UnknownSite, BadMetric: As for `rs.ablate` and the metric.
    Holds:
      total = direct + self_repair; with nothing after the head there is no self-repair but the norm's.
    Source: McGrath et al., "The Hydra Effect" (2023); Rushing and Nanda, "Explorations of Self-Repair in Language
      Models" (2024).
    """
    if isinstance(prompts, Run) and prompts.model is not model:
        raise BadArgument("The run is of another model.", "Run the texts through this one.")
    base = prompts if isinstance(prompts, Run) else model.run(prompts)
    cut = ablate(f"z.{layer}", with_, head=head)
    later = [site for site in model.sites if site.layer is not None and site.layer > layer]
    writers = [site for site in later if site.kind in ("attn_out", "mlp_out")]
    own = [site for site in model.sites if site.layer == layer and site.kind in ("mlp_out", "attn_norm_post_scale")]
    scale = [site for site in model.sites if site.kind == "ln_final_scale"]
    held = [[freeze(sites, base)] if sites else [] for sites in (scale, [*own, *writers, *scale])]
    swept = model.sweep(base, [[cut], *([cut, *one] for one in held)], metric)
    if swept.values.ndim != 2:
        raise BadArgument(f"{metric!r} gives several numbers for each text.", "Give a metric that gives one.")
    total, without_norm, direct = (value - swept.base_values for value in swept.values)
    effects = {"total": total, "direct": direct, "self_repair": total - direct, "norm": total - without_norm}
    return Ablation(
        name=f"head {layer}.{head} of {model.name} ablated",
        settings={
            "layer": layer,
            "head": head,
            "with": with_ if isinstance(with_, str) else "a run",
            "metric": repr(metric),
            "unit": metric.unit,
            "noise_floor": swept.noise_floor,
            "has_bos": base.tokens.has_bos,
            "meaning": EFFECTS,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=(
            *model.python,
            f"run = {base!r}",
            f"rs.ablate_head(model, run, layer={layer}, head={head}, metric={metric!r}, with_={with_!r})",
        ),
        values=torch.stack(list(effects.values())).cpu(),
        base_values=swept.base_values.cpu(),
        effects=list(effects),
    )
