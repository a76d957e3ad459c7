"""Whether a graph is right: what its edges predict beside what is measured, and what its nodes do alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.circuits import Circuits, Errors, With, choose_fill
from residscope.graphs.levels import (
    ERROR,
    TOKEN,
    Dictionaries,
    Level,
    Sources,
    arrange,
    list_steps,
    make_ablations,
    read_prompt,
)
from residscope.graphs.tracer import Tracer
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_seed, read_whole
from residscope.running.metrics import Metric, log_prob
from residscope.running.model import Model
from residscope.running.sweep import find_budget
from residscope.running.texts import Texts, describe_texts
from residscope.transformer.tokens import stack

if TYPE_CHECKING:
    from residscope.graphs.graph import Graph

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CURVES = {
    "faithfulness": "f of the first nodes, by signed effect",
    "completeness": "f of all but these",
    "faithfulness by size": "f of the first nodes, by the size of their effect",
    "random": "f of as many others of the same layers, positions and about the same activations; mean over draws",
}
_LEAK = "errors of the prompt's own run are put back whatever is ablated, and carry its answer with them"
_GROUP = 8  # sources at most that are ablated together
_BIN = 4  # sources of neighbouring activations, of which one may stand for another


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """How right a graph is.

    Attributes:
      values: [curve size]
      curves: What each row is; see `settings["meaning"]`.
      shares: [size] Of all active nodes, how many.
      cpr: Area under faithfulness over the share of nodes; 1 is as the whole model.
      cmd: Area of the distance of faithfulness by size from 1; 0 is as the whole model.
      random_cpr, random_cmd: [draw] Of matched random nodes.
      ceiling: f of all features without any errors: what dictionaries can give at best. Above 1, what they leave
        unexplained works against the metric.
      faithfulness, completeness: Of the graph's own nodes, and of all but these.
      share: Of all active nodes, how many the graph has.
      predicted, measured: [effect] What the edges from sources ablated together sum to at each target, and what it is.
      sizes: [effect] How many sources were ablated together.
      warning: What makes these numbers too good; None where nothing does.
    """

    values: Float[Tensor, "curve size"]
    curves: Sequence[str]
    shares: Float[Tensor, " size"]
    cpr: float
    cmd: float
    random_cpr: Float[Tensor, " draw"]
    random_cmd: Float[Tensor, " draw"]
    ceiling: float
    faithfulness: float
    completeness: float
    share: float
    predicted: Float[Tensor, " effect"]
    measured: Float[Tensor, " effect"]
    sizes: Int[Tensor, " effect"]
    warning: str | None

    axes: ClassVar[tuple[str, ...]] = ("curve", "size")
    view: ClassVar[str | None] = "evaluation"

    def payload(self) -> dict[str, Any]:
        edges = {name: getattr(self, name) for name in ("covered", "sign_agreement", "correlation", "explained")}
        return {**super().payload(), "edges": {name: None if isnan(one) else one for name, one in edges.items()}}

    @property
    def sign_agreement(self) -> float:
        """Of the targets that changed and that edges lead to, the share whose direction these predict; NaN of none."""
        held = self._changed & (self.predicted != 0)
        return float((self.predicted[held].sign() == self.measured[held].sign()).double().mean())

    @property
    def covered(self) -> float:
        """Of the targets that changed, the share that edges of the graph lead to; NaN where none did."""
        return float((self.predicted[self._changed] != 0).double().mean())

    @property
    def _changed(self) -> Bool[Tensor, " effect"]:
        return self.measured.abs() > float(self.settings["noise_floor"])

    @property
    def correlation(self) -> float:
        """Pearson's, of predicted and measured effects; NaN where either is constant."""
        both = torch.stack((self.predicted, self.measured)).double()
        return float(torch.corrcoef(both)[0, 1]) if both.shape[1] > 1 else float("nan")

    @property
    def explained(self) -> float:
        """Of the summed squares of joint effects, what the sum of edges explains; 0 is as good as no edges."""
        missed = (self.measured - self.predicted).double().square().sum()
        return float(1 - missed / self.measured.double().square().sum())

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "curve":
            return {axis: np.array(self.curves)[index]}
        return {"share": self.shares.double().numpy()[index]}

    def __repr__(self) -> str:
        said = f" BEWARE: {self.warning}." if self.warning else ""
        against = ", as errors work against it" if self.ceiling > 1 else ""
        edges = (
            f"edges lead to {self.covered:.1%} of what changed, with {self.sign_agreement:.1%} of signs right, "
            f"correlation {self.correlation:.3f}, {self.explained:.1%} of joint effects explained"
            if len(self.predicted)
            else "no two sources stand in one layer, so that edges are not tried"
        )
        return (
            f"Evaluation({self.name} by {self.settings['metric']}: the graph's nodes, {self.share:.1%} of all, have "
            f"faithfulness {self.faithfulness:.3f} and without them there is {self.completeness:.3f}; CPR "
            f"{self.cpr:.3f} (random {self.random_cpr.mean():.3f}), CMD {self.cmd:.3f} (random "
            f"{self.random_cmd.mean():.3f}); ceiling {self.ceiling:.3f}{against}; {edges}.{said})"
        )


@torch.no_grad()
def evaluate(
    graph: "Graph",
    model: Model,
    dictionaries: Dictionaries,
    *,
    metric: Metric | None = None,
    with_: With = "zero",
    over: Texts | None = None,
    errors: Errors = "node",
    texts: Texts | None = None,
    n_groups: int = 48,
    n_random: int = 5,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> Evaluation:
    """Try a graph: ablate sources together, and let the model run on its nodes alone. See `Graph.evaluate`."""
    n_groups, n_random = read_whole("n_groups", n_groups, 1), read_whole("n_random", n_random, 1)
    if errors not in ("node", "remove", "keep"):
        raise BadArgument(f"errors={errors!r} was asked for.", 'Choose "node", "remove" or "keep".')
    generator = torch.Generator().manual_seed(read_seed(seed))
    levels = arrange(model, dictionaries)
    tracer = _trace_again(graph, model, levels, find_budget(model, memory_bytes))
    sources = dict(tracer.find_sources(errors == "node", tokens=False))
    tracer.begin(sum(map(len, sources.values())))
    predicted, measured, sizes = _Groups(graph, tracer, sources, n_groups, generator).measure()
    metric = metric or log_prob(int(tracer.run.at("logits", -1)[0].argmax()))
    circuits = Circuits(tracer, sources, metric, errors, choose_fill(model, levels, tracer, with_, over), texts)
    own = _find_own(graph, circuits.nodes)
    ranking = _Ranking(circuits.nodes, own, circuits.effects, generator)
    n_nodes = len(own)
    counts = [round(share * n_nodes) for share in SHARES]

    def first(order: Int[Tensor, " node"]) -> Bool[Tensor, "size node"]:
        rank = torch.empty_like(order)
        rank[order] = torch.arange(n_nodes)
        return rank < torch.tensor(counts)[:, None]

    signed, sized = ranking.signed, ranking.sized
    twins = [ranking.draw() for _ in range(n_random)]
    kept = [first(signed), ~first(signed), first(sized)]
    kept += [first(twin[order]) for twin in twins for order in (signed, sized)]
    alone = torch.stack((own, ~own))
    rest = torch.zeros(sum(map(len, kept)), dtype=torch.bool)
    rest[len(counts) : 2 * len(counts)] = True  # all but a circuit is all else, what is not active in the prompt too
    found = circuits.measure(torch.cat((*kept, alone)), torch.cat((rest, torch.tensor([False, True]))))
    curves = found[:-2].view(-1, len(counts))
    randoms = curves[3:].view(n_random, 2, len(counts))
    shares = torch.tensor(SHARES, dtype=torch.float64)
    given = {"over": over, "texts": texts}
    options = [f"{name}={describe_texts(value)}" for name, value in given.items() if value is not None]
    options += [f"metric={metric!r}", f"with_={with_!r}", f"errors={errors!r}"]
    said = ", ".join([*options, f"n_groups={n_groups}", f"n_random={n_random}", f"seed={seed}"])
    return Evaluation(
        name=graph.name.replace("causal graph", "evaluation"),
        settings={
            "metric": repr(metric),
            "unit": metric.unit,
            "with": with_,
            "errors": errors,
            "texts": None if texts is None else describe_texts(texts),
            "noise_floor": graph.settings["noise_floor"],
            "n_nodes": n_nodes,
            "n_groups": n_groups,
            "seed": seed,
            "order": "the graph's own nodes first, then by effect towards the whole model",
            "meaning": CURVES,
            "has_bos": tracer.run.tokens.has_bos,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=[*graph.python, f"graph.evaluate(model, dictionaries, {said})"],
        values=torch.cat((curves[:3], randoms[:, 0].mean(0)[None])),
        curves=list(CURVES),
        shares=shares,
        cpr=_area(curves[0], shares),
        cmd=_area((1 - curves[2]).abs(), shares),
        random_cpr=torch.tensor([_area(row, shares) for row in randoms[:, 0]]),
        random_cmd=torch.tensor([_area((1 - row).abs(), shares) for row in randoms[:, 1]]),
        ceiling=circuits.ceiling,
        faithfulness=float(found[-2]),
        completeness=float(found[-1]),
        share=float(own.double().mean()),
        predicted=predicted,
        measured=measured,
        sizes=sizes,
        warning=_LEAK if errors == "keep" else None,
    )


def _area(curve: Float[Tensor, " size"], shares: Float[Tensor, " size"]) -> float:
    return float(torch.trapezoid(curve.double(), shares))


def _trace_again(graph: "Graph", model: Model, levels: Sequence[Level], budget: int) -> Tracer:
    """The prompt's run and what is active in it.

    Raises:
      BadArgument: The graph is of another model or of other dictionaries.
    """
    hint = "Give the model and the dictionaries that the graph was made with."
    told = [[one[name] for one in graph.dictionaries] for name in ("site", "writes", "n_features")]
    here = [[level.describe()[name] for level in levels] for name in ("site", "writes", "n_features")]
    if told != here:
        raise BadArgument(f"The graph is of dictionaries of {told[0]}, and given were {here[0]}.", hint)
    for one, dictionary in zip(graph.dictionaries, [level.dictionary for level in levels], strict=True):
        kept = one.get("fingerprint")
        if kept not in (None, dictionary.fingerprint):  # files from before fingerprints were kept have none
            raise BadArgument(
                f"{dictionary.name} has the fingerprint {dictionary.fingerprint[:8]}, and {one['dictionary']} has "
                f"{kept[:8]} in the graph.",
                hint,
            )
    run = read_prompt(model, stack([list(graph.token_ids)], model.tokenizer), levels)
    tracer = Tracer(run, levels, torch.tensor(graph.positions), None, graph.settings["competition"], budget)
    for node in graph.is_feature.nonzero()[:, 0].tolist():
        level, slot = int(graph.levels[node]), list(graph.positions).index(int(graph.pos[node]))
        found = float(tracer.reader(level).features[slot, graph.features[node]])
        if abs(found - float(graph.activations[node])) > 1e-2 * max(1.0, abs(found)):
            raise BadArgument(
                f"{graph.describe(node)} is {found:.4g} here, and {graph.activations[node]:.4g} in the graph.", hint
            )
    return tracer


def _find_own(graph: "Graph", nodes: Int[Tensor, "node 3"]) -> Bool[Tensor, " node"]:
    """Which of all active nodes (level, slot, feature) the graph has."""
    slot_of = {pos: slot for slot, pos in enumerate(graph.positions)}
    slots = [slot_of[pos] for pos in graph.pos.tolist()]
    own = {*zip(graph.levels.tolist(), slots, graph.features.tolist(), strict=True)}
    return torch.tensor([tuple(node) in own for node in nodes.tolist()])


class _Ranking:
    """Nodes in order: the graph's own first; and which may stand for which."""

    def __init__(
        self,
        nodes: Int[Tensor, "node 3"],
        own: Bool[Tensor, " node"],
        effects: Float[Tensor, " node"],
        generator: torch.Generator,
    ) -> None:
        self._nodes, self._generator = nodes, generator
        self.signed, self.sized = (self._order(values, own) for values in (effects, effects.abs()))

    def _order(self, values: Float[Tensor, " node"], own: Bool[Tensor, " node"]) -> Int[Tensor, " node"]:
        order = values.argsort(descending=True, stable=True)
        return order[(~own[order]).long().argsort(stable=True)]

    def draw(self) -> Int[Tensor, " node"]:
        """For each node another, or itself, of its kind; nodes come sorted by level, position and activation."""
        twin = torch.arange(len(self._nodes))
        kinds = torch.stack((self._nodes[:, 0], self._nodes[:, 1], (self._nodes[:, 2] == ERROR).long()), dim=1)
        for kind in torch.unique(kinds, dim=0):
            members = (kinds == kind).all(-1).nonzero()[:, 0]
            for part in torch.split(members, max(_BIN, len(members) // _BIN)):
                twin[part] = part[torch.randperm(len(part), generator=self._generator)]
        return twin


class _Groups:
    """Sources of a graph ablated together, and what its edges say of that."""

    def __init__(
        self,
        graph: "Graph",
        tracer: Tracer,
        sources: Mapping[int, Sources],
        n_groups: int,
        generator: torch.Generator,
    ) -> None:
        self.graph, self.tracer, self.sources = graph, tracer, sources
        self.n_groups, self.generator = n_groups, generator
        self.steps = list_steps(tracer.model, tracer.levels, later=False, tokens=False)
        self.slot_of = {pos: slot for slot, pos in enumerate(graph.positions)}

    def measure(self) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted and measured effects on the graph's nodes of the next level, and the sizes of the groups."""
        graph, found = self.graph, []
        usable = graph.is_feature[graph.sources] & (graph.levels[graph.sources] != TOKEN)
        from_level = {
            level: torch.unique(graph.sources[usable & (graph.levels[graph.sources] == level)]) for level in self.steps
        }
        several = {level: sources for level, sources in from_level.items() if len(sources) > 1}
        if not several:  # none can be ablated together, and only the circuits are measured
            nothing = graph.values[:0]
            return nothing, nothing, torch.zeros(0, dtype=torch.long)
        each = -(-self.n_groups // len(several))
        for level, sources in several.items():
            groups = []
            for number in range(each):  # pairs and groups by turns
                size = 2 if number % 2 == 0 else min(_GROUP, len(sources))
                groups.append(sources[torch.randperm(len(sources), generator=self.generator)[:size]])
            found.append(self._measure_level(level, self.steps[level][0], groups))
        predicted, measured, sizes = (torch.cat(column) for column in zip(*found, strict=True))
        return predicted, measured, sizes

    def _measure_level(self, level: int, target: int, groups: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        graph, tracer = self.graph, self.tracer
        reader = tracer.reader(target)
        reading = tracer.make_reading([reader.level.read])
        base = Metric.evaluate(reading, tracer.run)
        sets = [
            [change for one in make_ablations(tracer.run, self._find(level, group), tracer.positions) for change in one]
            for group in groups
        ]
        values = tracer.sweep(sets, reading, base, 0)[:, 0]
        targets = torch.unique(graph.targets[graph.levels[graph.targets] == target])
        slots = torch.tensor([self.slot_of[pos] for pos in graph.pos[targets].tolist()], dtype=torch.long)
        measured = reader.compare_all(values)[:, slots, graph.features[targets]].cpu()
        predicted = torch.stack([self._predict(group, targets) for group in groups]).to(measured)
        sizes = torch.tensor([len(group) for group in groups])[:, None].expand(measured.shape)
        return predicted.flatten(), measured.flatten(), sizes.flatten()

    def _find(self, level: int, group: Int[Tensor, " source"]) -> Sources:
        """Of the level's sources those that the graph numbers so."""
        sources = self.sources[level]
        there = zip(sources.slots.tolist(), sources.features.tolist(), strict=True)
        places = {place: number for number, place in enumerate(there)}
        wanted = zip(self.graph.pos[group].tolist(), self.graph.features[group].tolist(), strict=True)
        return sources.take(torch.tensor([places[self.slot_of[pos], feature] for pos, feature in wanted]))

    def _predict(self, group: Int[Tensor, " source"], targets: Int[Tensor, " target"]) -> Float[Tensor, " target"]:
        """The summed weights of edges from a group to each target."""
        graph = self.graph
        sums = torch.zeros(len(graph.levels), dtype=graph.values.dtype)
        leading = torch.isin(graph.sources, group)
        sums.index_add_(0, graph.targets[leading], graph.values[leading])
        return sums[targets]
