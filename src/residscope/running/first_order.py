"""First-order estimates of a sweep, for when even that is too much: what an edit changes, times the gradient there."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadArgument, BadEdit
from residscope.running.arguments import read_seed, read_whole
from residscope.running.changes import Change, apply_changes, tokens_first
from residscope.running.metrics import Metric, Reading, read, values_of
from residscope.running.progress import report
from residscope.running.run import Run, read_at
from residscope.running.sweep import EditSet, Engine, Sweep, draw_sets, find_budget, prepare_sets, sweep, write_call
from residscope.sites import Site

_SOFTMAX = ("scores",)  # minus infinity has no first order
_ASKING = ("q", "q_rot", "k", "k_rot", "q_norm_scale", "k_norm_scale")


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Sweep):
    """A sweep's values as first-order estimates, and how far they are off on a sample of exact ones.

    Attributes:
      sample: [sample] Which sets were also computed exactly: half at random, half the largest estimates.
      exact: [sample batch] Their exact values.
      rank_correlation: Spearman's, of estimated and exact effects over the sample; NaN where either is constant.
      missed: Of the sample's `n_top` largest exact effects, how many are not among its `n_top` largest estimates.
      n_top: A quarter of the sample.
    """

    sample: Int[Tensor, " sample"]
    exact: Float[Tensor, "sample batch"]
    rank_correlation: float
    missed: int
    n_top: int


def estimate(
    base: Run,
    edits: Sequence[EditSet],
    metric: Metric,
    *,
    memory_bytes: int | None,
    integrated_gradients: int,
    qk_fix: bool,
    n_sample: int,
    seed: int,
) -> Estimate:
    """Estimate a sweep. See `Model.sweep`."""
    integrated_gradients = read_whole("integrated_gradients", integrated_gradients)
    n_sample, seed = read_whole("n_sample", n_sample, 2), read_seed(seed)
    if not edits:
        raise BadArgument("An estimate of no edits was asked for.", "Give one at least.")
    given = {"integrated_gradients": integrated_gradients, "qk_fix": qk_fix, "n_sample": n_sample, "seed": seed}
    drawn, n_draws = draw_sets(edits)
    if any(edit.name == "freeze" for members in drawn for edit in members):
        raise BadEdit(
            'A freeze was given to method="attribution", a sum over places, which cannot hold one fixed.',
            'Choose method="exact".',
        )
    sets = prepare_sets(base, drawn)
    reading = metric.bind(base.model, base.tokens)
    budget = find_budget(base.model, memory_bytes)
    found = _Estimator(base, reading, integrated_gradients, qk_fix, budget).run(sets)
    effects = torch.stack([part.mean(0) for part in torch.split(found, n_draws)])
    sample = _choose(effects.abs().mean(-1), n_sample, seed)
    exact = sweep(base, [edits[i] for i in sample.tolist()], metric, memory_bytes=memory_bytes)
    return Estimate(
        name=f"{metric!r} of {len(edits)} sets of edits, estimated",
        settings={**exact.settings, "method": "attribution", **given},
        python=write_call(base, edits, metric, method="attribution", **given),
        values=exact.base_values + effects,
        base_values=exact.base_values,
        noise_floor=exact.noise_floor,
        spread=None,
        n_tokens_computed=exact.n_tokens_computed,
        extra_axes=exact.extra_axes,
        positions=exact.positions,
        pieces=exact.pieces,
        sample=sample.cpu(),
        exact=exact.values,
        **_compare(effects[sample].cpu(), (exact.values - exact.base_values).cpu()),
    )


def _compare(guessed: Float[Tensor, "sample batch"], true: Float[Tensor, "sample batch"]) -> dict[str, Any]:
    """How far estimated effects are off: the fields of `Estimate` of the same names."""
    n_top = max(1, len(true) // 4)
    top = [set(effect.abs().mean(-1).topk(n_top).indices.tolist()) for effect in (guessed, true)]
    ranks = pd.DataFrame({"guessed": guessed.flatten().double(), "true": true.flatten().double()}).rank()
    correlation = float(ranks["guessed"].corr(ranks["true"]))
    return {"rank_correlation": correlation, "missed": len(top[1] - top[0]), "n_top": n_top}


def _choose(sizes: Float[Tensor, " edit"], n_sample: int, seed: int) -> Int[Tensor, " sample"]:
    """Half the largest, half of the others at random."""
    n = min(n_sample, len(sizes))
    order = sizes.argsort(descending=True).cpu()
    largest, others = order[: n // 2], order[n // 2 :]
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[: n - len(largest)]
    return torch.cat((largest, others[drawn])).sort().values


class _Estimator:
    """One estimate at work.

    Args:
      base: The run.
      reading: The metric, bound.
      n_steps: Of integrated gradients; none takes the gradient at the base run.
      qk_fix: Whether edits of queries and keys are carried exactly through the softmax.
      budget: Bytes, for those.
    """

    def __init__(self, base: Run, reading: Reading, n_steps: int, qk_fix: bool, budget: int) -> None:
        self.base, self.model, self.reading, self.n_steps, self.budget = base, base.model, reading, n_steps, budget
        self.carried = _SOFTMAX + (_ASKING if qk_fix else ())

    def run(self, sets: Sequence[Sequence[Change]]) -> Float[Tensor, "set batch"]:
        """The estimated effect of every set: the sum over the places that it edits."""
        last = max(map(self.model.depth, self.reading.places))
        direct: defaultdict[Site, dict[int, list[Change]]] = defaultdict(lambda: defaultdict(list))
        carried: defaultdict[Site, dict[int, list[Change]]] = defaultdict(lambda: defaultdict(list))
        for number, changes in enumerate(sets):
            for change in changes:
                is_carried = change.place.kind in self.carried
                place = Site("z", change.place.layer) if is_carried else change.place
                if self.model.depth(place) <= last:
                    (carried if is_carried else direct)[place][number].append(change)
        places = sorted({*direct, *carried}, key=self.model.depth)
        effects = torch.zeros(len(sets), len(self.base.tokens.ids), dtype=self.model.dtype, device=self.model.device)
        if not places:
            return effects
        gradients = {} if self.n_steps else self.base.differentiate(self.reading, places)
        for step, place in enumerate(places):
            report(step, len(places), "estimating")
            for deltas in (self._direct(place, direct[place]), self._carried(place, carried[place])):
                for part, gradient in self._along_the_way(place, deltas, gradients):
                    for number, delta in part:
                        effect = (delta.to(gradient.device) * gradient).flatten(1).sum(-1)
                        effects[number] += effect.to(effects.device)
        report(len(places), len(places), "estimating")
        return effects

    def _direct(self, place: Site, members: Mapping[int, Sequence[Change]]) -> Iterator[tuple[int, Tensor]]:
        """What each set changes at a place, `[batch pos ...]`."""
        base = self.base.raw(place)
        for number, changes in members.items():
            yield number, tokens_first(place.kind, apply_changes(changes, base, 0) - base)

    def _carried(self, place: Site, members: Mapping[int, Sequence[Change]]) -> Iterator[tuple[int, Tensor]]:
        """What edits before the softmax change in the mixed values after it, exactly."""
        numbers = list(members)
        reading = read(place, pos=None).bind(self.model, self.base.tokens)
        base = reading.compute(values_of(reading, self.base))[0]
        if any(change.function for change in self.base.changes):  # which see all positions, as no sweep shows them
            for number, changes in members.items():
                value = self.base.record([place], changes)[place]
                yield number, (reading.compute([read_at(value, place, reading.positions)])[0] - base).nan_to_num()
            return
        n_at_once = max(1, self.budget // (8 * base.nbytes))
        for start in range(0, len(numbers), n_at_once):
            part = numbers[start : start + n_at_once]
            engine = Engine(self.base, [list(members[number]) for number in part], reading, base, self.budget)
            for number, value in zip(part, engine.run()[0], strict=True):
                yield number, (value - base).nan_to_num()  # NaN where padded

    def _along_the_way(
        self, place: Site, deltas: Iterator[tuple[int, Tensor]], gradients: Mapping[Site, Tensor]
    ) -> Iterator[tuple[list[tuple[int, Tensor]], Tensor]]:
        """Sets with the gradient they meet: the base run's, or the mean on the way to where all of them lead."""
        if not self.n_steps:
            gradient = tokens_first(place.kind, gradients[place])
            yield from (([one], gradient) for one in deltas)
            return
        parts: list[tuple[list[tuple[int, Tensor]], Tensor]] = []
        for number, delta in deltas:  # sets that change the same entry cannot go together
            for members, total in parts:
                if not bool(((total != 0) & (delta != 0)).any()):
                    members.append((number, delta))
                    total += delta
                    break
            else:
                parts.append(([(number, delta)], delta.clone()))
        for members, total in parts:
            way = tokens_first(place.kind, total)
            steps = [
                self.base.differentiate(self.reading, [place], [_move(place, part * way)])
                for part in ((step + 0.5) / self.n_steps for step in range(self.n_steps))
            ]
            yield members, tokens_first(place.kind, torch.stack([step[place] for step in steps]).mean(0))


def _move(place: Site, way: Tensor) -> Change:
    return Change(place, torch.zeros(1, 0, dtype=torch.long), function=lambda value: value + way)
