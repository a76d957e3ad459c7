"""Patching: what becomes of a prompt's run when activations of its pair's other prompt stand in their places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import NoneType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadArgument, BadMetric, count
from residscope.results.interval import bootstrap_interval
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_choice, read_list
from residscope.running.edits import Edit, replace
from residscope.running.metrics import Metric
from residscope.running.model import Model, check_model
from residscope.running.packing import source_of, write_lines
from residscope.running.pairs import Pairs, Side
from residscope.running.positions import Positions, resolve
from residscope.running.progress import forming
from residscope.running.run import Run, check_metric
from residscope.running.sweep import Sweep
from residscope.running.texts import Texts, describe_texts
from residscope.sites import KINDS

# From which run values come, and into which.
DIRECTIONS: dict[str, tuple[Side, Side]] = {"denoise": ("clean", "corrupted"), "noise": ("corrupted", "clean")}
# What a normalised value is in the run that is patched, and what another is less that.
EFFECTS: dict[Side, tuple[float, str]] = {
    "corrupted": (0.0, "the share restored: 0 as corrupted, 1 as clean"),
    "clean": (1.0, "the change from the clean run, of all that lies between both: 0 as clean, -1 as corrupted"),
}
SHARED = "a head of keys or values stands for every query head that reads it"
NORMALISED = "(mean(patched) - mean(corrupted)) / (mean(clean) - mean(corrupted)), means over pairs"

Labels = Mapping[str, Sequence[Any]]  # names or numbers along each axis
Slot = Mapping[Side, Int[Tensor, "pair 1"]]  # a role's or a position's place in both prompts


@dataclass(frozen=True, eq=False, repr=False)
class Patching(Result):
    """What the metric says of every patched run, pair by pair.

    Attributes:
      values: [... pair] In the metric's unit; `normalised` has them on the way from corrupted to clean.
      reference: The normalised value of the run that is patched, which is no effect; a list for both directions.
      meaning: What a normalised value is less that, in words; likewise.
      clean_values, corrupted_values: [pair] Of the prompts as they are.
      labels: For each axis of `values`, what stands along it; for `pos`, the positions in the first pair.
      positions: [pos pair] Where the axis `pos` or `role` is in the clean prompts.
      pieces: The clean prompts' tokens, as shown.
    """

    values: Tensor
    reference: float | Sequence[float]
    meaning: str | Sequence[str]
    clean_values: Float[Tensor, " pair"]
    corrupted_values: Float[Tensor, " pair"]
    labels: Labels
    positions: Int[Tensor, "pos pair"]
    pieces: Sequence[Sequence[str]]

    view: ClassVar[str | None] = "patching"

    @property
    def axes(self) -> tuple[str, ...]:  # type: ignore[override]  # those that were asked for
        """Names of the axes of `values`."""
        return tuple(self.labels)

    @property
    def normalised(self) -> Tensor:
        """[... pair] 0 is the corrupted prompts' mean, 1 the clean ones'; the mean over pairs is a ratio of means.

        Raises:
          BadArgument: The metric hardly tells clean from corrupted: the mean of its differences is within two standard
            errors of zero, or within the noise floor.
        """
        return (self.values - self.corrupted_values) / self._differences().mean()

    def mean(self, *, raw: bool = False) -> Tensor:
        """Over the pairs, normalised or in the metric's unit.

        Raises:
          BadArgument: As for `normalised`.
        """
        return (self.values if raw else self.normalised).mean(-1)

    def interval(self, level: float = 0.95, *, raw: bool = False) -> Float[Tensor, "*cells 2"]:
        """Bootstrap intervals of the means; normalised, numerator and denominator are of the same pairs.

        Raises:
          BadArgument: The level is not between 0 and 1, or there are fewer than two pairs; and as for `normalised`.
        """
        if raw:
            return bootstrap_interval(self.values, level)
        return bootstrap_interval(self.values - self.corrupted_values, level, over=self._differences())

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        found: dict[str, Any] = {axis: np.array(self.labels[axis])[index]}
        if axis == "pair":
            found |= {"clean": self.clean_values.numpy()[index], "corrupted": self.corrupted_values.numpy()[index]}
        if axis in ("pos", "role"):
            pos = self.positions.numpy()[index, places["pair"]]
            tokens = [self.pieces[pair][p] for pair, p in zip(places["pair"], pos, strict=True)]
            found |= {"pos": pos, "token": tokens}
        return found

    def _differences(self) -> Float[Tensor, " pair"]:
        """Clean less corrupted."""
        found = self.clean_values - self.corrupted_values
        n = len(found)
        error = float(found.std(correction=min(1, n - 1))) / n**0.5
        if abs(float(found.mean())) <= max(2 * error, self.settings["noise_floor"]):
            raise BadArgument(
                f"The metric of the clean prompts is {found.mean():.3g} above that of the corrupted ones, with a "
                f"standard error of {error:.2g} over {n}: too near to zero to divide by.",
                "Take more pairs, or such that the model tells apart; or raw=True.",
            )
        return found


@dataclass(frozen=True, eq=False)
class Sides:
    """Both prompts of every pair, run, and what a metric says of them as they are.

    Attributes:
      runs, values: Of each side.
      python: The arguments that give them again.
    """

    runs: Mapping[Side, Run]
    values: Mapping[Side, Float[Tensor, " pair"]]
    metric: Metric
    python: str

    def result(
        self,
        name: str,
        values: Float[Tensor, "cell pair"],
        labels: Labels,
        settings: Mapping[str, Any],
        python: str,
        slots: Sequence[Slot] = (),
        *,
        patched: Sequence[Side],
    ) -> Patching:
        """What sweeps say one after the other, with the axes that `labels` names before that of the pairs.

        Args:
          name: Of the result, but for the model's.
          values: Of all cells.
          labels: By axis.
          settings: Beside how values are normalised.
          python: The call.
          slots: Along the axis of positions or roles.
          patched: The run of which side every direction patches.
        """
        clean, n_pairs = self.runs["clean"], values.shape[1]
        references, meanings = zip(*(EFFECTS[side] for side in patched), strict=True)
        nowhere = torch.zeros(0, n_pairs, dtype=torch.long)
        return Patching(
            name=f"{name} of {clean.model.name}",
            settings={**settings, "normalised": NORMALISED},
            python=write_lines(clean.model.python, [python]),
            values=values.view(*map(len, labels.values()), n_pairs).cpu(),
            reference=references[0] if len(patched) == 1 else references,
            meaning=meanings[0] if len(patched) == 1 else meanings,
            clean_values=self.values["clean"].cpu(),
            corrupted_values=self.values["corrupted"].cpu(),
            labels={axis: list(along) for axis, along in {**labels, "pair": range(n_pairs)}.items()},
            positions=torch.cat([slot["clean"].T for slot in slots]) if slots else nowhere,
            pieces=clean.tokens.pieces,
        )


def patch(
    model: Model,
    pairs: Pairs | None = None,
    *,
    clean: Texts | None = None,
    corrupted: Texts | None = None,
    site: str | Sequence[str],
    pos: Positions | str | Sequence[str] = None,
    metric: Metric | None = None,
    direction: Literal["denoise", "noise", "both"] = "denoise",
) -> Patching:
    """Put activations of one prompt of each pair into the run of the other, layer by layer, and read a metric.

    Args:
      model: Any.
      pairs: As `rs.pairs` makes them; or give `clean`, `corrupted` and `metric`.
      clean: Prompts, without `pairs`.
      corrupted: As many others.
      site: A kind of site, as "resid_pre", "attn_out" or "z", of every layer; where it has heads, each head alone.
        A list of kinds shares the runs, and gives an axis `site`; where queries are grouped and some of them are by
        query head, a key's or value's head stands for every query head that reads it.
      pos: Roles of the pairs, or positions, each patched alone. None is every position of what has no heads, and all at
        once of what has. Positions are the same in all prompts, which then have equally many tokens; roles align.
      metric: With one number for each prompt; None is `pairs.metric()`.
      direction: See `DIRECTIONS`; "both" gives an axis `direction`.
    Returns:
      values  [direction? site? layer head? pos-or-role? pair]  the metric of each patched run
    Raises:
      BadArgument: Prompts are missing or do not align, nothing is named, or there is no such kind, role or direction.
      UnknownPosition: A prompt has no such position.
      UnknownToken: An answer, or the word of a role, is not one token.
      BadMetric: The metric does not fit, gives several numbers for each prompt, or NaN.
      BadEdit: Heads are patched at all positions, and prompts of a pair have other lengths.
    Holds:
      Every value equals that of a full run with one edit, and TransformerLens's; where one token differs, patching it
      in `resid_pre` of layer 0 gives the other prompt's run.
    Source: Meng et al., "Locating and Editing Factual Associations in GPT" (2022); Wang et al., "Interpretability in
      the Wild" (2022).
    """
    check_model(model)
    read_choice("direction", direction, (*DIRECTIONS, "both"))
    asked = list(DIRECTIONS) if direction == "both" else [direction]
    kinds = [site] if isinstance(site, str) else read_list("site", site)
    axis, heads = _find_heads(model, kinds)
    sides = run_sides(model, pairs, clean, corrupted, metric)
    layers = range(model.config.n_layers)
    placed, slots = ({}, []) if axis and pos is None else _find_slots(model, pairs, sides, kinds, pos)
    labels: dict[str, Sequence[Any]] = {
        **({"direction": asked} if direction == "both" else {}),
        **({} if isinstance(site, str) else {"site": kinds}),
        "layer": layers,
        **({axis: range(model.axis_size(axis, 0))} if axis else {}),
        **placed,
    }
    where: Sequence[Slot | None] = slots or [None]
    cells = [
        (f"{kind}.{layer}", head, slot)
        for kind, layer in product(kinds, layers)
        for head, slot in product(heads[kind], range(len(where)))
    ]
    numbers = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}  # one edit for all that share a head
    order = [numbers[cell] for cell in cells]
    places = f"torch.tensor({pos.tolist()})" if isinstance(pos, Tensor) else source_of(pos)
    said = f"site={site!r}, pos={places}, direction={direction!r}"
    meaning = {one: "values of the {} run in the {} one".format(*DIRECTIONS[one]) for one in asked}
    name, python = f"patching {', '.join(kinds)}", f"rs.patch(model, {sides.python}, {said})"
    settings: dict[str, Any] = {"site": kinds, "direction": direction, "meaning": meaning}
    settings |= {"n_heads": model.config.n_heads} if axis else {}
    settings |= {"heads": SHARED} if len(numbers) < len(cells) else {}
    patched = [DIRECTIONS[one][1] for one in asked]

    def take(values: Tensor, facts: Mapping[str, Any]) -> Patching:
        whole = values.view(len(asked), len(numbers), -1)[:, order].flatten(0, 1)
        return sides.result(name, whole, labels, {**settings, **facts}, python, slots, patched=patched)

    def take_part(before: Sequence[Tensor], values: Tensor) -> Patching:  # in another thread, perhaps later
        missing = torch.full_like(values, torch.nan)
        whole = [*before, values, *[missing] * (len(asked) - len(before) - 1)]
        return take(torch.cat(whole), {"metric": repr(sides.metric), "unit": sides.metric.unit})

    swept: list[Sweep] = []
    for source, base in (DIRECTIONS[one] for one in asked):
        run = sides.runs[source]
        run.keep(kinds)
        edits = [
            _put(run, name, head, None if (slot := where[number]) is None else (slot[source], slot[base]))
            for name, head, number in numbers
        ]
        with forming(partial(take_part, [one.values for one in swept])):
            swept.append(model.sweep(sides.runs[base], edits, sides.metric))
    return take(*join_sweeps(swept, sides.runs["clean"]))


def join_sweeps(swept: Sequence[Sweep], clean: Run) -> tuple[Float[Tensor, "cell pair"], dict[str, Any]]:
    """The values of all, none of which is NaN, and their settings.

    Raises:
      BadMetric: One is.
    """
    values = torch.cat([one.values for one in swept])
    refuse_undefined(values, clean)
    facts = {**swept[0].settings, "noise_floor": max(one.noise_floor for one in swept)}
    del facts["edits"]  # none of the user's
    return values, facts


def run_sides(
    model: Model, pairs: Pairs | None, clean: Texts | None, corrupted: Texts | None, metric: Metric | None
) -> Sides:
    """Run both prompts of every pair.

    Raises:
      BadArgument: They are given twice, or one or the metric is missing, or they are not as many.
      BadMetric: The metric gives several numbers for each prompt, or NaN.
    """
    if not isinstance(pairs, (Pairs, NoneType)):
        raise BadArgument(f"A {type(pairs).__name__} was given as pairs.", "Give what rs.pairs makes of it.")
    if pairs is None:
        if clean is None or corrupted is None or metric is None:
            raise BadArgument("Prompts to patch were not given.", "Give pairs, or clean, corrupted and metric.")
        said = f"clean={describe_texts(clean)}, corrupted={describe_texts(corrupted)}, metric={metric!r}"
    else:
        if clean is not None or corrupted is not None:
            raise BadArgument("Pairs were given, and other prompts too.", "Give one of both.")
        said = pairs.python + (f", metric={metric!r}" if metric else "")
        clean, corrupted, metric = list(pairs.clean), list(pairs.corrupted), metric or pairs.metric()
    check_metric(metric)
    runs: dict[Side, Run] = {"clean": model.run(clean), "corrupted": model.run(corrupted)}
    n_clean, n_corrupted = (len(run.tokens.ids) for run in runs.values())
    if n_clean != n_corrupted:
        raise BadArgument(
            f"{count(n_clean, 'clean prompt')} and {count(n_corrupted, 'corrupted one')} were given.", "Give pairs."
        )
    values = {side: metric(run) for side, run in runs.items()}
    if values["clean"].ndim != 1:
        raise BadMetric(f"{metric!r} gives several numbers for each prompt.", "Give a metric that gives one.")
    for side, run in runs.items():
        refuse_undefined(values[side][None], run)
    return Sides(runs, values, metric, said)


def refuse_undefined(values: Float[Tensor, "cell pair"], run: Run) -> None:
    """Refuse NaN and infinity, which would spoil every mean.

    Raises:
      BadMetric: There is one; says on which prompt.
    """
    wrong = (~values.isfinite()).nonzero()
    if len(wrong):
        cell, pair = wrong[0].tolist()
        raise BadMetric(
            f"The metric of pair {pair} is {float(values[cell, pair])}: {''.join(run.tokens.pieces[pair])!r}.",
            "Leave the pair out, or take a metric that is a number there.",
        )


def _find_heads(model: Model, kinds: Sequence[str]) -> tuple[str | None, Mapping[str, Sequence[int | None]]]:
    """The axis of heads that sites of these kinds share, if any, and along it each kind's own heads."""
    there = dict.fromkeys(site.kind for site in model.sites if site.layer is not None)
    unknown = [kind for kind in kinds if kind not in there]
    if unknown or not kinds:
        raise BadArgument(
            f"site={unknown[0]!r} was asked for." if unknown else "No site was named.",
            f"Every layer is patched; give kinds of {', '.join(there)}.",
        )
    found = {kind: next((axis for axis in KINDS[kind].axes if axis in ("head", "kv_head")), None) for kind in kinds}
    axes = {*found.values()}
    if None in axes:
        if len(axes) > 1:
            said = ", ".join(f"{kind} by {axis or 'no head'}" for kind, axis in found.items())
            raise BadArgument(f"The sites have no common axes: {said}.", "Patch those that have in one call each.")
        return None, {kind: [None] for kind in kinds}
    n_heads, n_kv_heads = model.config.n_heads, model.config.n_kv_heads
    shared = "head" if "head" in axes or n_heads == n_kv_heads else "kv_head"
    along = range(model.axis_size(shared, 0))
    readers = n_heads // n_kv_heads if shared == "head" else 1
    return shared, {
        kind: [head // (readers if axis == "kv_head" else 1) for head in along] for kind, axis in found.items()
    }


def _find_slots(
    model: Model, pairs: Pairs | None, sides: Sides, kinds: Sequence[str], pos: Positions | str | Sequence[str]
) -> tuple[Labels, list[Slot]]:
    """The axis of roles or positions with its labels, and where each is in both prompts."""
    named: Any = [pos] if isinstance(pos, str) else pos
    if isinstance(named, (list, tuple)) and any(isinstance(one, str) for one in named):
        if pairs is None:
            raise BadArgument(f"The roles {named} were named, and no pairs mark them.", "Give rs.pairs, or positions.")
        roles: list[Slot] = [{side: pairs.positions(model, role, side) for side in sides.runs} for role in named]
        if any("key" in KINDS[kind].axes for kind in kinds) and not all(torch.equal(*role.values()) for role in roles):
            raise BadArgument(
                "A pattern is over positions, and a role is at another in the corrupted prompt than in the clean one.",
                "Patch q, k, v or z, or take prompts that align.",
            )
        return {"role": named}, roles
    n_tokens = torch.cat([run.tokens.n_tokens for run in sides.runs.values()])
    if n_tokens.min() < n_tokens.max():
        raise BadArgument(
            f"The prompts have {int(n_tokens.min())} to {int(n_tokens.max())} tokens, and positions are those of all.",
            "Name roles that the pairs mark, or take prompts of one length.",
        )
    found = resolve(named, sides.runs["clean"].tokens.n_tokens)
    if not found.numel():
        raise BadArgument(f"pos={pos!r} is no position of any prompt.", "Name one, or None for all.")
    return {"pos": found[0].tolist()}, [dict.fromkeys(sides.runs, one) for one in torch.split(found, 1, dim=1)]


def _put(source: Run, site: str, head: Any, places: tuple[Tensor, Tensor] | None) -> Edit:
    """A site's value at the first of two places of another run, put at the second."""
    if places is None or torch.equal(*places):
        return replace(site, source, head=head, pos=places and places[1])
    value = source.at(site, places[0])
    return replace(site, value if head is None else value[:, :, head], head=head, pos=places[1])
