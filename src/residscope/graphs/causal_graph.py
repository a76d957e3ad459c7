"""The exact graph of a prompt: every active feature is ablated alone, and every later feature's change measured."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadArgument, BadMetric
from residscope.graphs.edges import Edges, Rule
from residscope.graphs.graph import TOKEN, Graph, Paths, find_paths
from residscope.graphs.levels import (
    Dictionaries,
    Level,
    Sources,
    Where,
    arrange,
    choose_positions,
    find_sources,
    find_tokens,
    list_skipped,
    list_steps,
    make_ablations,
    read_prompt,
    read_stream,
)
from residscope.graphs.split import Way, name_parts
from residscope.running.arguments import read_whole
from residscope.running.changes import Change
from residscope.running.metrics import Metric, Reading
from residscope.running.model import Model
from residscope.running.packing import source_of, write_lines
from residscope.running.progress import report
from residscope.running.run import Run, check_metric
from residscope.running.sweep import Engine, find_budget
from residscope.running.texts import Texts, describe_texts
from residscope.sites import Site

_TOP = 10
_ROWS = 1024  # that are encoded at once
_MEANING = {
    "weight": "activation of the target less the same with the source ablated, its dictionary's error in place",
    "before": "the same before the target's threshold or competition",
}


@torch.no_grad()
def causal_graph(
    model: Model,
    prompt: Texts,
    dictionaries: Dictionaries,
    positions: Where = "last",
    *,
    top: int | None = None,
    threshold: float | None = None,
    share: float | None = None,
    paths: Paths = "long",
    later: bool = False,
    errors: bool = False,
    tokens: bool = False,
    outputs: Sequence[Metric] = (),
    split: bool = False,
    competition: bool = True,
    memory_bytes: int | None = None,
) -> Graph:
    """Ablate every active feature of a prompt alone, and measure what every feature of the next dictionary does.

    What is taken off is what the feature writes; what its dictionary leaves unexplained stays where it is.

    Args:
      model: Any.
      prompt: One text.
      dictionaries: Two or more, of any sites; one for each.
      positions: "last", "all", or positions: of sources and targets.
      top: So many edges of each source are kept, the largest; 10 where no other rule is given.
      threshold: Instead: edges of at least this size are kept.
      share: Instead: the fewest edges that have this share of the summed size of all.
      paths: "long" keeps of them those on paths longer than one edge, where there are three dictionaries or more.
      later: Measure features of all later dictionaries, not only of the next: total effects.
      errors: Ablate also what each dictionary leaves unexplained, at each position.
      tokens: Ablate also each token's embedding.
      outputs: Metrics with one number: each node's total effect on them is measured.
      split: Say for each edge what of `before` comes straight, through each head, and through the MLP, which contains
        what attention fed it; between dictionaries of the stream with at most one layer between.
      competition: Whether features of a top-k dictionary make room for others. Without, each holds against what it had
        to reach in the prompt.
      memory_bytes: As in `model.sweep`.
    Raises:
      BadArgument: An option is none, there is not one prompt, or no feature is active.
      BadDictionary: A dictionary does not fit the model, or makes NaN.
      BadCheckpoint: The model makes NaN.
      UnknownPosition: The prompt has no such position.
      Cancelled: Somebody cancelled.
    Warns:
      DictionaryMisfit: A dictionary explains nothing of what it reads.
    Holds:
      Every weight equals that of a full run with the ablation, to 1e-10 in float64, and parts sum to `before`; on
      transformers whose wiring is known, exactly the known edges are found.
    Source: "Causal Graphs of GPT-2-Small's Residual Stream" (2024), with the change measured at every feature.
    """
    rule = _read_rule(top, threshold, share)
    levels = arrange(model, dictionaries)
    run = read_prompt(model, prompt, levels)
    names = name_parts(model, levels) if split else []
    budget = find_budget(model, memory_bytes)
    tracer = Tracer(run, levels, choose_positions(run, positions), names, competition, budget)
    sources = tracer.find_sources(errors, tokens)
    found, effects = tracer.trace(sources, rule, later, outputs)
    edges = rule.finish(found)
    said: dict[str, Any] = {"top": rule.top, "threshold": rule.threshold, "share": rule.share}
    said = {name: value for name, value in said.items() if value is not None}
    flags = {"later": later, "errors": errors, "tokens": tokens, "split": split}
    flags["competition"] = competition
    given = {"positions": positions, **said, "paths": paths, **flags}
    graph = make_graph(
        tracer,
        sources,
        edges,
        effects,
        outputs,
        name=f"causal graph of {run.tokens.texts[0]!r} by {model.name}",
        settings={
            "method": "exact",
            "positions": tracer.positions.tolist(),
            "kept": said,
            "paths": paths,
            **flags,
            "meaning": _MEANING,
            "skipped": list_skipped(levels),
            "n_active": [len(one) for level, one in sources if level != TOKEN],
            "n_measured": tracer.n_measured,
            "noise_floor": tracer.noise_floor,
            "has_bos": run.tokens.has_bos,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=_write_call(run, levels, given, outputs),
    )
    keep = torch.ones(len(graph.values), dtype=torch.bool)
    if len(levels) > 2:
        keep = find_paths(graph.sources, graph.targets, keep, len(graph.levels), paths, None)
    return graph.take(keep)


def _read_rule(top: int | None, threshold: float | None, share: float | None) -> Rule:
    given = [value for value in (top, threshold, share) if value is not None]
    if len(given) > 1:
        raise BadArgument("Several rules were given for which edges are kept.", "Give top, threshold or share.")
    if top is not None:
        top = read_whole("top", top, 1)
    if threshold is not None and not (isfinite(threshold) and threshold > 0):
        raise BadArgument(f"threshold={threshold!r} was asked for.", "Give a number above 0.")
    if share is not None and not 0 < share <= 1:
        raise BadArgument(f"share={share!r} was asked for.", "Give a share above 0, at most 1.")
    return Rule(top if given else _TOP, threshold, share)


def _write_call(run: Run, levels: Sequence[Level], given: dict[str, Any], outputs: Sequence[Metric]) -> list[str]:
    loaded = ", ".join(
        f"rs.load_dictionary({level.dictionary.source!r})" if level.dictionary.source else "..." for level in levels
    )
    said = "".join(f", {name}={source_of(value)}" for name, value in given.items())
    said += f", outputs={list(outputs)!r}" if outputs else ""
    prompt = describe_texts(run.source)
    lines = [f"dictionaries = [{loaded}]", f"graph = rs.causal_graph(model, {prompt}, dictionaries{said})"]
    return write_lines(run.model.python, lines)


class Tracer:
    """One graph at work.

    Args:
      run: Of the prompt.
      levels: In the order of the model.
      positions: Where features are ablated and read.
      part_names: Of what `before` is split into; empty where it is not.
      competition: Whether features of a top-k dictionary make room for others.
      budget: Bytes.
    """

    def __init__(
        self,
        run: Run,
        levels: Sequence[Level],
        positions: Int[Tensor, " pos"],
        part_names: Sequence[str],
        competition: bool,
        budget: int,
    ) -> None:
        self.run, self.model, self.levels, self.positions = run, run.model, levels, positions
        self.part_names = part_names
        self.competition, self.budget = competition, budget
        self.noise_floor, self.total, self.n_measured = 0.0, 0.0, 0
        self._n_done = self._n_all = 0

    def find_sources(self, errors: bool, tokens: bool) -> list[tuple[int, Sources]]:
        """What is ablated, with its level.

        Raises:
          BadArgument: No feature is active.
        """
        found = [
            (number, find_sources(level, self.run, self.positions, errors)) for number, level in enumerate(self.levels)
        ]
        if not any(len(sources) for _, sources in found):
            raise BadArgument(
                f"No feature of any of the {len(self.levels)} dictionaries is active at positions "
                f"{self.positions.tolist()}.",
                "Choose other positions, or dictionaries of this model.",
            )
        return [(TOKEN, find_tokens(self.run, self.positions)), *found] if tokens else found

    def trace(
        self, sources: Sequence[tuple[int, Sources]], rule: Rule, later: bool, outputs: Sequence[Metric]
    ) -> tuple[Edges, list[Tensor]]:
        """Edges that the rule may keep, and for each place the effects of its sources on the outputs."""
        steps = dict(list_steps(self.model, self.levels, later))
        steps[TOKEN] = list(range(len(self.levels))) if later else [0]
        self._n_all = sum(len(one) * ((number in steps) + len(outputs)) for number, one in sources)
        parts, effects, before = [self._nothing], [], 0
        for number, one in sources:
            parts += self._step(one, steps.get(number, []), before, rule)
            effects.append(self._measure(one, outputs))
            before += len(one)
        report(self._n_all, self._n_all, "tracing")
        return Edges.join(parts), effects

    def _step(self, sources: Sources, targets: Sequence[int], before: int, rule: Rule) -> Iterator[Edges]:
        """Edges from sources of one place, part by part; what no edit at all may do too is left out."""
        if not len(sources) or not targets:
            return
        readers = [_Reader(self, target) for target in targets]
        way = None
        if self.part_names:
            level, scaled = self.levels[targets[-1]], "scale" in self.part_names
            way = Way.between(self.model, sources.place, level, scaled)
        reading = self._read([*(reader.level.read for reader in readers), *(way.writers if way else ())])
        base = Metric.evaluate(reading, self.run)
        floor = None
        for start in range(0, len(sources), self._n_at_once(base)):
            part = sources.take(slice(start, start + self._n_at_once(base)))
            sets = list(make_ablations(self.run, part, self.positions))
            if floor is None:
                sets.append(self._do_nothing(part))
            values = self._sweep(sets, reading, base, len(part))[:, 0]
            if floor is None:
                floor = self._find_floor(readers, values[-1:], part.slots[:1])
                self.noise_floor = max(self.noise_floor, floor)
            found = self._encode(readers, values[: len(part)], part.slots)
            found = found.take(found.weights.abs() > floor)
            self.total += float(found.weights.abs().sum(dtype=torch.float64))
            self.n_measured += len(found)
            self._n_done += len(part)
            found = rule.thin(found)
            if way:
                found = replace(found, parts=self._split(found, way, part, readers[0], base[0] - values))
            yield replace(found, sources=found.sources + before + start)

    def _split(
        self, edges: Edges, way: Way, sources: Sources, reader: "_Reader", changes: Float[Tensor, "source pos d"]
    ) -> Float[Tensor, "edge part"]:
        """Parts of what edges to one dictionary do before its threshold."""
        source, slot = edges.sources.to(changes.device), edges.slots.to(changes.device)
        straight = sources.vectors[source] * (sources.slots[source] == slot)[:, None]
        widths = [reader.x.shape[1], *(self.run.raw(writer)[0, 0].numel() for writer in way.writers)]
        pieces = torch.split(changes[source, slot].to(straight), widths, dim=-1)
        readout = reader.read_out(edges.features.to(changes.device), slot)
        return way.split(straight, pieces[1:], readout, edges.before.to(readout)).cpu()

    def _measure(self, sources: Sources, outputs: Sequence[Metric]) -> Float[Tensor, "source output"]:
        """What of each output every source is the cause of."""
        effects = sources.activations.new_zeros(len(sources), len(outputs))
        sets = list(make_ablations(self.run, sources, self.positions)) if outputs else []
        for number, metric in enumerate(outputs):
            check_metric(metric)
            reading = metric.bind(self.model, self.run.tokens)
            base = Metric.evaluate(reading, self.run)
            if base.ndim != 1 or not bool(base.isfinite().all()):
                raise BadMetric(f"{metric!r} gives no single finite number of the prompt.", "Give a metric that does.")
            effects[:, number] = (base - self._sweep(sets, reading, base, len(sources)))[:, 0].to(effects)
            self._n_done += len(sources)
        return effects

    def _sweep(self, sets: list[list[Change]], reading: Reading, base: Tensor, n_sources: int) -> Tensor:
        before = self._n_done
        engine = Engine(
            self.run,
            sets,
            reading,
            base,
            self.budget // 2,
            tell=lambda n_done: report(before + min(n_done, n_sources), self._n_all, "tracing"),
        )
        return engine.run()[0]

    def _read(self, places: Sequence[Site]) -> Reading:
        """All of some places at the chosen positions, side by side."""

        def compute(values: Sequence[Tensor]) -> Tensor:
            return torch.cat([value.flatten(3) for value in values], dim=-1)

        return Reading(tuple(places), self.positions[None], compute, axes=("pos", "d"))

    def _n_at_once(self, base: Tensor) -> int:
        return max(1, self.budget // 16 // base.nbytes)

    def _do_nothing(self, sources: Sources) -> list[Change]:
        """The first source's ablation, undone: what comes of it is what rounding alone makes."""
        first = next(make_ablations(self.run, sources.take(slice(0, 1)), self.positions))[0]
        held = self.run.raw(sources.place)[:, [int(first.positions)]]
        return [first, Change(first.place, first.positions, factor=0.0, shift=held)]

    def _find_floor(self, readers: "Sequence[_Reader]", values: Tensor, slots: Tensor) -> float:
        found = self._encode(readers, values, slots)
        return float(found.weights.abs().max()) if len(found) else 0.0

    def _encode(
        self, readers: "Sequence[_Reader]", values: Float[Tensor, "source pos d"], slots: Int[Tensor, " source"]
    ) -> Edges:
        """Every feature that changed, of every target."""
        found, at = [self._nothing], 0
        # No change reaches an earlier position.
        after = (torch.arange(values.shape[1], device=slots.device) >= slots[:, None]).nonzero()
        for reader in readers:
            width = reader.x.shape[1]
            n_rows = max(1, min(_ROWS, self.budget // 64 // reader.level.dictionary.n_features))
            for rows in torch.split(after, n_rows):
                found.append(reader.compare(values[rows[:, 0], rows[:, 1], at : at + width], rows))
            at += width
        return Edges.join(found)

    @cached_property
    def _nothing(self) -> Edges:
        whole, wide = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=self.levels[0].dictionary.decoder.dtype)
        return Edges(whole, whole, whole, whole, wide, wide, wide.view(0, len(self.part_names)))


class _Reader:
    """A dictionary as a target: what its features are in the prompt, and what they become."""

    def __init__(self, tracer: Tracer, number: int) -> None:
        self.level, self.number, self._n_parts = tracer.levels[number], number, len(tracer.part_names)
        self.x = read_stream(tracer.run, self.level.read, tracer.positions)
        dictionary = self.level.dictionary
        self._projected = dictionary.project(self.x)
        self._features = dictionary.activate(self._projected)
        self._room = None if tracer.competition else dictionary.find_room(self._projected)

    def compare(self, x: Float[Tensor, "row d"], rows: Int[Tensor, "row 2"]) -> Edges:
        """Features that differ from the prompt's; each row is a source's number and a slot."""
        dictionary, slots = self.level.dictionary, rows[:, 1]
        projected = dictionary.project(x)
        features = dictionary.activate(projected, None if self._room is None else self._room[slots])
        weights = self._features[slots] - features
        row, feature = weights.nonzero(as_tuple=True)
        before = self._projected[slots[row], feature] - projected[row, feature]
        before = before if dictionary.magnitude is None else before * dictionary.magnitude[feature]
        ends = rows[row, 0], torch.full_like(row, self.number), slots[row], feature
        return Edges(
            *(one.cpu() for one in (*ends, weights[row, feature], before, before.new_zeros(len(row), self._n_parts)))
        )

    def read_out(self, features: Int[Tensor, " n"], slots: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """How what makes each of some features grows with the input."""
        dictionary = self.level.dictionary
        readout = dictionary.readout(features, self.x[slots].to(dictionary.decoder))
        return readout if dictionary.magnitude is None else readout * dictionary.magnitude[features, None]


def make_graph(
    tracer: Tracer,
    sources: Sequence[tuple[int, Sources]],
    edges: Edges,
    effects: Sequence[Tensor],
    outputs: Sequence[Metric],
    *,
    name: str,
    settings: dict[str, Any],
    python: Sequence[str],
) -> Graph:
    """Number the nodes: first what was ablated, then what is not active and changed."""
    given = {name: torch.cat([getattr(one, name) for _, one in sources]).cpu() for name in ("features", "slots")}
    levels = torch.cat([torch.full((len(one),), number) for number, one in sources])
    activations = torch.cat([one.activations.to(edges.weights) for _, one in sources])
    n_sources = len(levels)
    keys = torch.stack((levels, given["slots"], given["features"]), dim=1)
    ends = torch.stack((edges.levels, edges.slots, edges.features), dim=1)
    nodes, number = torch.unique(torch.cat((keys, ends)), dim=0, return_inverse=True)
    own = torch.zeros(len(nodes)).to(edges.weights)
    own[number[:n_sources]] = activations
    caused = torch.zeros(len(nodes), len(outputs)).to(edges.weights)
    caused[number[:n_sources]] = torch.cat([one.to(edges.weights) for one in effects])
    return Graph(
        name=name,
        settings=settings,
        python=python,
        values=edges.weights,
        before=edges.before,
        sources=number[:n_sources][edges.sources],
        targets=number[n_sources:],
        levels=nodes[:, 0],
        features=nodes[:, 2],
        pos=tracer.positions[nodes[:, 1]],
        activations=own,
        effects=caused,
        parts=edges.parts,
        dictionaries=[level.describe() for level in tracer.levels],
        outputs=[repr(metric) for metric in outputs],
        part_names=tracer.part_names,
        pieces=tracer.run.tokens.pieces[0],
        positions=tracer.positions.tolist(),
        total=tracer.total,
    )
