"""Whether a model uses a direction: what edits along it do to its predictions, beside what chance does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.direction import Direction
from residscope.directions.rows import read_rows
from residscope.directions.vectors import check_direction
from residscope.errors import BadArgument
from residscope.results.interval import bootstrap_interval
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_whole
from residscope.running.edits import Edit, add, clamp, project_out
from residscope.running.edits import replace as put
from residscope.running.metrics import Metric, Reading, of_logits
from residscope.running.model import Model
from residscope.running.packing import write_lines
from residscope.running.positions import PADDED, resolve
from residscope.running.run import Run
from residscope.running.texts import Texts, describe_texts
from residscope.summaries.moments import Moments
from residscope.transformer.tokens import Tokens, stack

MEASURES = {
    "loss": "the mean loss of the text's own tokens, in nats, less the same without the edit",
    "kl": "KL(without the edit || with it), in nats, its mean over the same predictions",
}
ACTIONS = {
    "remove": "the value along it becomes the mean's",
    "add": "`strength` standard deviations of it are added",
    "subtract": "as many are taken off",
    "clamp": "the value along it becomes `strength` standard deviations",
}
KINDS = {
    "direction": "the one that is checked",
    "random": "random directions",
    "variance": "random directions along which the site varies as much",
    "shuffled": "what the same making gives where its labels are shuffled",
}
_CHANCE = {  # what a direction is held against, and what to do where there is too little of it
    "variance": ("that vary as much", "ask for n_draws=20 or more"),
    "shuffled": ("of shuffled labels", "make the direction again, and ask for n_draws=20 or more"),
}
_LEVEL = 0.05  # of p, up to which an effect is called more than chance
_LOGITS_AT_ONCE = 16_000_000
_WIDEST = 500.0  # powers of the variance that random directions are weighted with
_HALVINGS = 60


@dataclass(frozen=True, eq=False, repr=False)
class CausalCheck(Result):
    """What edits along a direction do to a model's predictions, and what the same edits along others do.

    Attributes:
      values: [measure action vector batch] In nats.
      whole: [measure batch] The same where the whole site, of a head its whole vector, is its mean.
      deviations: [vector] How much the site varies along each, on these texts.
      measures, actions: What stands along these axes.
      kinds: What each vector is; the first is the direction.
    """

    values: Float[Tensor, "measure action vector batch"]
    whole: Float[Tensor, "measure batch"]
    deviations: Float[Tensor, " vector"]
    measures: Sequence[str]
    actions: Sequence[str]
    kinds: Sequence[str]

    axes: ClassVar[tuple[str, ...]] = ("measure", "action", "vector", "batch")
    view: ClassVar[str | None] = "causal_check"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        named = {"measure": self.measures, "action": self.actions, "vector": self.kinds}
        if axis not in named:
            return {}
        told = np.array(named[axis], dtype=object)[index]
        return {axis: index, "kind": told} if axis == "vector" else {axis: told}

    def summary(self) -> pd.DataFrame:
        """One row a measure and action: the effect, and how it stands to chance.

        Returns:
          effect: The mean over texts, with `low` and `high`, its 95% interval where there are several texts. Of each
            other kind `kind_low` and `kind_high`, within which 95% of its directions' means lie. `whole`: of the whole
            site. Of directions of the same variance, and of shuffled labels where there are such, `kind_n` is how many
            there are, and `kind_as_large` how many of them have at least as large an effect. `p`: the share of these,
            both counted with the direction itself: the larger of the two.
        """
        means = self.values.mean(-1)
        rows = []
        for (m, measure), (a, action) in product(enumerate(self.measures), enumerate(self.actions)):
            own = self.values[m, a, 0]
            low, high = bootstrap_interval(own, 0.95).tolist() if len(own) > 1 else (np.nan, np.nan)
            row: dict[str, Any] = {"measure": measure, "action": action, "effect": float(own.mean())}
            row |= {"low": low, "high": high}
            shares = []
            for kind in list(KINDS)[1:]:
                drawn = means[m, a, [one == kind for one in self.kinds]].double()
                ends = drawn.quantile(torch.tensor([0.025, 0.975]).double()).tolist() if len(drawn) else [np.nan] * 2
                row |= {f"{kind}_low": ends[0], f"{kind}_high": ends[1]}
                if kind in _CHANCE:
                    n_as_large = int((drawn.abs() >= own.double().mean().abs()).sum())
                    row |= {f"{kind}_n": len(drawn), f"{kind}_as_large": n_as_large}
                    shares.append((1 + n_as_large) / (1 + len(drawn)) if len(drawn) else 0.0)
            rows.append({**row, "whole": float(self.whole[m].mean()), "p": max(shares)})
        return pd.DataFrame(rows)

    @property
    def verdict(self) -> str:
        """A sentence: whether removing it, or the first action, changes predictions more than chance does.

        Directions too few to give a p of 0.05 cannot tell, and it says so.
        """
        row = self.summary().query("measure == 'kl'").iloc[0]
        said = f"{row['action']}: predictions move by {row['effect']:.3g} nats"
        share = f", {row['effect'] / row['whole']:.0%} of what the whole site's mean does" if row["whole"] > 0 else ""
        kinds = {kind: row[f"{kind}_n"] for kind in _CHANCE if row[f"{kind}_n"]}
        counted = [f"{row[f'{kind}_as_large']} of {n} directions {_CHANCE[kind][0]}" for kind, n in kinds.items()]
        few = min(kinds, key=lambda kind: kinds[kind])
        told = f"{'more' if row['p'] <= _LEVEL else 'no more'} than chance (p = {row['p']:.2g})"
        if _LEVEL < row["p"] == 1 / (1 + kinds[few]):
            what, cure = _CHANCE[few]
            told = f"{kinds[few]} directions {what} cannot tell: the smallest p is {row['p']:.2g}; {cure}"
        return f"{said}{share}; {' and '.join(counted)} move them as far or farther: {told}."


@torch.no_grad()
def causal_check(
    model: Model,
    direction: Direction,
    texts: Texts,
    *,
    actions: Sequence[str] = tuple(ACTIONS),
    strength: float = 2.0,
    n_draws: int = 20,
    seed: int = 0,
) -> CausalCheck:
    """Edit texts along a direction and along others that chance gives, and measure what becomes of the predictions.

    Args:
      model: Any.
      direction: Of an editable site; of a head, that head alone is edited.
      texts: Each is cut at the context, and has three tokens at least. Position 0 is left as it is.
      actions: See `ACTIONS`.
      strength: In standard deviations along the direction: its own, or where it knows none those of these texts. What
        is added along the others is as long.
      n_draws: Directions of each kind; of shuffled labels as many as there are. Fewer than 19 cannot tell.
      seed: Of the draws.
    Returns:
      values  [measure action vector batch]  see `MEASURES`, `ACTIONS` and `KINDS`
    Raises:
      UnknownSite: The model has no such site, or it holds no vectors.
      BadDirection: The direction has another width than the site.
      BadArgument: There is no such action, no number of draws, or a text has too few tokens; or the site has heads, and
        the direction is of none of them.
    Holds:
      Every value equals that of full runs with one edit. Directions of "variance" have the direction's variance on
      these texts, to 1e-6 of it, as long as it lies between the least and the largest that any has.
    """
    site = check_direction(model, direction)
    unknown = [one for one in actions if one not in ACTIONS]
    if unknown or not actions:
        raise BadArgument(f"The actions {list(actions)} were asked for.", f"Choose {', '.join(ACTIONS)}.")
    n_draws = read_whole("n_draws", n_draws, 1, 10_000)
    lists = model.corpus(texts).lists
    if min(map(len, lists)) < 3:
        number = [len(one) < 3 for one in lists].index(True)
        raise BadArgument(f"Text {number} has {len(lists[number])} tokens.", "Give texts of three tokens at least.")
    moments = Moments.of(read_rows(model, texts, site, None, direction.head))
    mean = moments.mean if direction.mean is None else direction.mean
    kinds, vectors = _draw(direction, moments.covariance, n_draws, seed)
    deviations = ((vectors @ moments.covariance) * vectors).sum(-1).clamp(min=0).sqrt()
    amount = strength * (direction.deviation or float(deviations[0]))
    others = [replace(direction, vector=vector, mean=mean) for vector in vectors]
    edits = [_edit(action, other, amount) for action, other in product(actions, others)]
    edits.append(put(site, mean.to(model.dtype), head=direction.head, pos=slice(1, None)))
    found = []
    for part in _group(lists, _LOGITS_AT_ONCE // model.config.d_vocab):
        base = model.run(stack(part, model.tokenizer))
        sweep = model.sweep(base, edits, _measure(base))
        found.append((sweep.values - sweep.base_values).cpu())  # edit batch measure
    changes = torch.cat(found, dim=1).movedim(-1, 0)
    said = f"actions={tuple(actions)!r}, strength={strength}, n_draws={n_draws}, seed={seed}"
    return CausalCheck(
        name=f"causal check of {direction.name}",
        settings={
            "site": direction.place,
            "centre": "the direction's mean" if direction.mean is not None else "the mean of these texts",
            "strength": strength,
            "added": amount,
            "meaning": {**MEASURES, **{one: ACTIONS[one] for one in actions}, **KINDS},
            "left_alone": "position 0",
            "model": model.name,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=write_lines(
            direction.lines(model.python), [f"rs.causal_check(model, direction, {describe_texts(texts)}, {said})"]
        ),
        values=changes[:, :-1].view(len(MEASURES), len(actions), len(vectors), -1),
        whole=changes[:, -1],
        deviations=deviations,
        measures=list(MEASURES),
        actions=list(actions),
        kinds=kinds,
    )


def _edit(action: str, along: Direction, amount: float) -> Edit:
    where = slice(1, None)
    if action == "remove":
        return project_out(along.site, along, centre="mean", pos=where)
    if action == "clamp":
        return clamp(along, amount, pos=where)
    return add(along.site, along, amount if action == "add" else -amount, pos=where)


def _draw(
    direction: Direction, covariance: Float[Tensor, "d d"], n: int, seed: int
) -> tuple[list[str], Float[Tensor, "vector d"]]:
    """The direction and those that chance gives, with the kind of each."""
    generator = torch.Generator().manual_seed(seed)
    plain, weights = torch.randn(2, n, len(covariance), dtype=torch.float64, generator=generator)
    vector = direction.vector
    alike = _match_variance(weights, covariance, float(vector @ covariance @ vector))
    shuffled = vector[None][:0] if direction.shuffled is None else direction.shuffled[:n]
    parts = {"direction": vector[None], "random": plain, "variance": alike, "shuffled": shuffled}
    vectors = torch.cat(list(parts.values()))
    kinds = [kind for kind, part in parts.items() for _ in part]
    return kinds, vectors / vectors.norm(dim=-1, keepdim=True)


def _match_variance(
    weights: Float[Tensor, "n d"], covariance: Float[Tensor, "d d"], variance: float
) -> Float[Tensor, "n d"]:
    """Random sums of principal components, weighted with that power of their variance that gives the sum a variance."""
    variances, components = torch.linalg.eigh(covariance)
    sizes = variances.clamp(min=1e-9 * float(variances[-1])).log()

    def weigh(power: Tensor) -> Float[Tensor, "n d"]:
        logarithms = power * sizes
        found: Tensor = weights * (logarithms - logarithms.amax(-1, keepdim=True)).exp()
        return found

    low, high = (torch.full((len(weights), 1), end, dtype=torch.float64) for end in (-_WIDEST, _WIDEST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        squares = weigh(middle).square()
        less = (squares @ variances / squares.sum(-1) < variance)[:, None]
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    found: Tensor = weigh(high) @ components.T
    return found


def _group(lists: Sequence[list[int]], n_tokens: int) -> Iterator[Sequence[list[int]]]:
    """Texts in order, as many at a time as have so many tokens, padding counted; one at least."""
    first = 0
    for end in range(1, len(lists) + 1):
        if end == len(lists) or max(map(len, lists[first : end + 1])) * (end + 1 - first) > n_tokens:
            yield lists[first:end]
            first = end


def _measure(base: Run) -> Metric:
    """Loss and KL to the base run, over predictions from position 1 on: `[batch 2]`, in the order of `MEASURES`."""

    def bind(model: Model, tokens: Tokens) -> Reading:
        where = resolve(slice(1, -1), tokens.n_tokens)
        there = (where != PADDED).to(model.device)
        ids = tokens.ids.gather(1, where.clamp(min=0) + 1).to(model.device)[None, :, :, None]
        expected = base.at("logits", where).to(torch.promote_types(model.dtype, torch.float32)).log_softmax(-1)
        probs, expected = expected.exp().nan_to_num(), expected.nan_to_num()

        def compute(logits: Tensor) -> Tensor:
            found = logits.to(expected.dtype).log_softmax(-1)
            losses = -found.gather(-1, ids.expand(len(found), -1, -1, -1))[..., 0]
            apart = (probs * (expected - found)).sum(-1).clamp(min=0)  # rounding may go below
            means = [each.masked_fill(~there, 0).sum(-1) / there.sum(-1) for each in (losses, apart)]
            return torch.stack(means, dim=-1)

        return replace(of_logits(model, where, compute), axes=("measure",))

    return Metric("causal_check", "nats", bind)
