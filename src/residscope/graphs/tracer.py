"""Tracing at work: sources of one place are ablated, each alone, and dictionaries are read again."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from residscope.errors import BadArgument, BadMetric, DictionaryMisfit
from residscope.graphs.edges import Edges, Rule
from residscope.graphs.levels import (
    ERROR,
    TOKEN,
    Level,
    Sources,
    find_sources,
    find_tokens,
    make_ablations,
)
from residscope.graphs.misfits import find_misfits
from residscope.graphs.reader import Reader
from residscope.graphs.shards import Traced
from residscope.graphs.split import Parts, Way
from residscope.running.changes import Change
from residscope.running.metrics import Metric, Reading
from residscope.running.progress import report
from residscope.running.run import Run, check_metric
from residscope.running.sweep import Engine
from residscope.sites import Site

_ROWS = 1024  # that are encoded at once


class Tracer:
    """One graph at work.

    Args:
      run: Of the prompt.
      levels: In the order of the model.
      positions: Where features are ablated and read.
      parts: Of what `before` is split into; None where it is not.
      competition: Whether features of a top-k dictionary make room for others.
      budget: Bytes.
    """

    def __init__(
        self,
        run: Run,
        levels: Sequence[Level],
        positions: Int[Tensor, " pos"],
        parts: Parts | None,
        competition: bool,
        budget: int,
    ) -> None:
        self.run, self.model, self.levels, self.positions = run, run.model, levels, positions
        self.parts = parts
        self.competition, self.budget = competition, budget
        self.noise_floor, self.n_measured = 0.0, 0
        self.sizes: list[tuple[Tensor, Tensor]] = []  # of sources that were traced: numbers, summed size of all edges
        self.pins = torch.zeros(0, dtype=torch.long)  # keys of nodes whose edges to each other are held
        self._source_keys = self.pins
        self._n_done = self._n_all = 0
        self._readers: dict[int, Reader] = {}
        self.misfits: list[str] = []  # found with the sources

    def find_sources(self, errors: bool, tokens: bool) -> list[tuple[int, Sources]]:
        """What is ablated, with its level.

        Raises:
          BadArgument: No feature is active.
        Warns:
          DictionaryMisfit: Of each of `misfits`.
        """
        each = [
            find_sources(level, self.run, self.positions, self.reader(number).features, errors)
            for number, level in enumerate(self.levels)
        ]
        found = [(number, sources) for number, (sources, _) in enumerate(each)]
        if not any(len(sources) for _, sources in found):
            raise BadArgument(
                f"No feature of any of the {len(self.levels)} dictionaries is active at positions "
                f"{self.positions.tolist()}.",
                "Choose other positions, or dictionaries of this model.",
            )
        n_active = [int((sources.features != ERROR).sum()) for sources, _ in each]
        self.misfits = find_misfits(self.levels, self.run, [missed for _, missed in each], n_active)
        for misfit in self.misfits:
            warnings.warn(misfit, DictionaryMisfit, stacklevel=4)  # which is whoever asked for the graph
        found = [(TOKEN, find_tokens(self.run, self.positions)), *found] if tokens else found
        keys = [self.key_of(torch.full_like(one.slots, number), one.slots, one.features) for number, one in found]
        self._source_keys = torch.cat(keys).cpu()
        return found

    def key_of(self, levels: Tensor, slots: Tensor, features: Tensor) -> Tensor:
        """One number for each node."""
        most = max(self.model.config.d_vocab, *(level.dictionary.n_features for level in self.levels))
        key: Tensor = ((levels + 1) * len(self.positions) + slots) * (most + 1) + features + 1
        return key

    def find_held(self, edges: Edges) -> Bool[Tensor, " edge"]:
        """Edges that join pinned nodes; sources are numbered among all."""
        if not len(self.pins):
            return torch.zeros(len(edges), dtype=torch.bool)
        targets = self.key_of(edges.levels, edges.slots, edges.features)
        return torch.isin(self._source_keys[edges.sources], self.pins) & torch.isin(targets, self.pins)

    def reader(self, number: int) -> Reader:
        """A dictionary as a target; held where all of them take little."""
        if number in self._readers:
            return self._readers[number]
        found = Reader(self.run, self.levels[number], number, self.positions, self.competition, self.n_parts)
        if 2 * found.features.nbytes * len(self.levels) < self.budget // 8:
            self._readers[number] = found
        return found

    def begin(self, n_sources: int) -> None:
        """Say how many more sources there will be, each counted as often as something is measured of it."""
        self._n_all += n_sources
        self.advance(0)

    def advance(self, n_sources: int) -> None:
        """Count sources that are done; here tracing that somebody cancelled ends."""
        self._n_done += n_sources
        report(self._n_done, self._n_all, "tracing")

    def count(self, edges: Edges, numbers: Int[Tensor, " source"]) -> None:
        """Count all edges of some sources, that count these from 0; those that will not be kept too."""
        sizes = torch.zeros(len(numbers), dtype=torch.float64)
        self.sizes.append((numbers, sizes.index_add_(0, edges.sources, edges.weights.abs().double())))
        self.n_measured += len(edges)
        self.advance(len(numbers))

    def tell(self, edges: Edges, effects: Tensor, n_sizes: int, n_measured: int) -> Traced:
        """What was found since so many parts and edges had been counted."""
        counted = self.sizes[n_sizes:] or [(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.float64))]
        numbers, sizes = (torch.cat(column) for column in zip(*counted, strict=True))
        return Traced(edges, effects, numbers, sizes, self.n_measured - n_measured, self.noise_floor)

    def remember(self, traced: Traced, n_sources: int) -> None:
        """Count what was found before, instead of tracing it."""
        self.sizes.append((traced.numbers, traced.sizes))
        self.n_measured += traced.n_measured
        self.noise_floor = max(self.noise_floor, traced.noise_floor)
        self.advance(n_sources)

    def describe(self) -> dict[str, Any]:
        """All that edges depend on but which are asked for, as JSON values."""
        return {
            "model": self.model.fingerprint,
            "dictionaries": [level.dictionary.fingerprint for level in self.levels],
            "prompt": self.run.tokens.lists()[0],
            "positions": self.positions.tolist(),
            "competition": self.competition,
        }

    def step(
        self, sources: Sources, targets: Sequence[int], numbers: Int[Tensor, " source"], rule: Rule
    ) -> Iterator[Edges]:
        """Edges from sources of one place, part by part; what no edit at all may do too is left out.

        Args:
          sources: What is ablated.
          targets: Numbers of dictionaries.
          numbers: Of the sources among all.
          rule: Which edges may be kept.
        """
        if not len(sources) or not targets:
            return
        readers = [self.reader(target) for target in targets]
        ways = []
        if self.parts:
            ways = [Way.between(self.model, sources.place, reader.level, self.parts) for reader in readers]
        writers = max((way.writers for way in ways), key=len, default=())  # the last way's are those of all
        reading = self.make_reading([*(reader.level.read for reader in readers), *writers])
        base = Metric.evaluate(reading, self.run)
        floor = None
        for start in range(0, len(sources), self._n_at_once(base)):
            part = sources.take(slice(start, start + self._n_at_once(base)))
            sets = list(make_ablations(self.run, part, self.positions))
            if floor is None:
                sets.append(self._do_nothing(part))
            values = self.sweep(sets, reading, base, len(part))[:, 0]
            slots = torch.cat((part.slots, part.slots[: len(sets) - len(part)]))
            found = self._encode(readers, values, slots)
            if floor is None:
                floor = max(found.weights[found.sources == len(part)].abs().tolist(), default=0.0)
                self.noise_floor = max(self.noise_floor, floor)
            found = found.take((found.weights.abs() > floor) & (found.sources < len(part)))
            own = numbers[start : start + len(part)]
            self.count(found, own)
            found = rule.thin(found, self.find_held(replace(found, sources=own[found.sources])))
            if ways:
                found = replace(found, parts=self._split(found, ways, part, readers, base[0] - values))
            yield replace(found, sources=own[found.sources])

    def _split(
        self,
        edges: Edges,
        ways: Sequence[Way],
        sources: Sources,
        readers: Sequence[Reader],
        changes: Float[Tensor, "source pos d"],
    ) -> Float[Tensor, "edge part"]:
        """Parts of what edges do before the target's threshold."""
        writers = max((way.writers for way in ways), key=len)
        widths = [reader.x.shape[1] for reader in readers]
        widths += [self.run.raw(writer)[0, 0].numel() for writer in writers]
        pieces = torch.split(changes, widths, dim=-1)[len(readers) :]
        found = edges.parts.clone()
        for way, reader in zip(ways, readers, strict=True):
            own = (edges.levels == reader.number).nonzero()[:, 0]
            some = edges.take(own)
            source, slot = some.sources.to(changes.device), some.slots.to(changes.device)
            straight = sources.vectors[source] * (sources.slots[source] == slot)[:, None]
            on_the_way = [piece[source, slot].to(straight) for piece in pieces[: len(way.writers)]]
            readout = reader.read_out(some.features.to(changes.device), slot)
            found[own] = way.split(straight, on_the_way, readout, some.before.to(readout)).to(found)
        return found

    def measure(self, sources: Sources, outputs: Sequence[Metric]) -> Float[Tensor, "source output"]:
        """What of each output every source is the cause of."""
        effects = sources.activations.new_zeros(len(sources), len(outputs))
        sets = list(make_ablations(self.run, sources, self.positions)) if outputs else []
        for number, metric in enumerate(outputs):
            reading, base = bind_output(metric, self.run)
            effects[:, number] = (base - self.sweep(sets, reading, base, len(sources)))[:, 0].to(effects)
            self.advance(len(sources))
        return effects

    def sweep(self, sets: list[list[Change]], reading: Reading, base: Tensor, n_sources: int) -> Tensor:
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

    def make_reading(self, places: Sequence[Site]) -> Reading:
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

    def _encode(
        self, readers: Sequence[Reader], values: Float[Tensor, "source pos d"], slots: Int[Tensor, " source"]
    ) -> Edges:
        """Every feature that changed, of every target."""
        found, at = [self.nothing], 0
        # No change reaches an earlier position.
        after = (torch.arange(values.shape[1], device=slots.device) >= slots[:, None]).nonzero()
        for reader in readers:
            width = reader.x.shape[1]
            x = values[after[:, 0], after[:, 1], at : at + width]
            for rows, few in reader.divide(x, after[:, 1]):
                n_features = reader.level.dictionary.n_features if few is None else len(few)
                n_rows = max(1, min(_ROWS, self.budget // 64 // n_features))
                for part in torch.split(rows, n_rows):
                    found.append(reader.compare(x[part], after[part], few))
            at += width
        edges = Edges.join(found)
        order = self.key_of(edges.levels, edges.slots, edges.features).argsort(stable=True)
        return edges.take(order[edges.sources[order].argsort(stable=True)])

    @property
    def n_parts(self) -> int:
        """Of an edge."""
        return len(self.parts.names) if self.parts else 0

    @cached_property
    def nothing(self) -> Edges:
        """No edges."""
        whole, wide = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=self.levels[0].dictionary.decoder.dtype)
        return Edges(whole, whole, whole, whole, wide, wide, wide.view(0, self.n_parts))


def bind_output(metric: Metric, run: Run) -> tuple[Reading, Tensor]:
    """A metric, and its value in the prompt.

    Raises:
      BadMetric: It is none, or gives something else than one finite number.
    """
    check_metric(metric)
    reading = metric.bind(run.model, run.tokens)
    base = Metric.evaluate(reading, run)
    if base.ndim != 1 or not bool(base.isfinite().all()):
        raise BadMetric(f"{metric!r} gives no single finite number of the prompt.", "Give a metric that does.")
    return reading, base
