"""Sweeps: thousands of sets of edits over one run, of which only what each can change is computed again."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from residscope.errors import BadEdit, TooLarge, count
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_memory_bytes
from residscope.running.changes import Change, tokens_first
from residscope.running.edits import Edit, as_edits
from residscope.running.memory import Allocations, bytes_of_token
from residscope.running.metrics import Metric, Reading, values_of
from residscope.running.packed import Packed
from residscope.running.packing import write_lines
from residscope.running.positions import PADDED
from residscope.running.progress import report
from residscope.running.run import Run
from residscope.running.schedule import Group, Rounds, collect, drop_null, take_sets, without_numbers
from residscope.sites import Site
from residscope.transformer.placement import as_size, free_bytes

if TYPE_CHECKING:
    from residscope.running.model import Model

EditSet = Edit | Sequence[Edit]

# Of the MLP's hidden entries in one walk: more at once is slower on a CPU, which gets fresh pages each time.
WALK_BYTES = 24_000_000
_WIDE_BYTES = 256_000_000  # of readings as wide as the vocabulary, between which a CPU's sweep says how far it is


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Result):
    """What a metric says of every set of edits.

    Attributes:
      values: [edit batch ...] The metric of each edited run.
      base_values: [batch ...] Of the base run.
      noise_floor: The largest difference that one edit makes which leaves everything as it is, at the first place that
        is edited and from the first position edited there, through the same kernels; in the metric's unit.
      spread: [edit batch ...] Standard deviation over the draws of a resampling; None without.
      n_tokens_computed: How often one token went through one layer.
      extra_axes: Names of the axes of `values` after the batch's.
      positions: [batch n] Where the metric reads each text; the axis `pos`, where there is one, goes along them.
      pieces: Each text's tokens, as shown.
    """

    values: Tensor
    base_values: Tensor
    noise_floor: float
    spread: Tensor | None
    n_tokens_computed: int
    extra_axes: Sequence[str]
    positions: Int[Tensor, "batch n"]
    pieces: Sequence[Sequence[str]]

    @property
    def axes(self) -> tuple[str, ...]:  # type: ignore[override]  # those of the metric follow
        """Names of the axes of `values`."""
        return ("edit", "batch", *self.extra_axes)

    @property
    def drowned(self) -> Tensor:
        """[edit batch ...] Where a value differs from the base run's, and by no more than no edit at all may."""
        change = (self.values - self.base_values).abs()
        return (change > 0) & (change <= self.noise_floor)

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis != "pos":
            return {}
        texts = places["batch"]
        pos = self.positions.numpy()[texts, index]
        tokens = [self.pieces[i][p] if p != PADDED else None for i, p in zip(texts, pos, strict=True)]
        return {"pos": pos, "token": tokens}

    def to_frame(self) -> pd.DataFrame:
        """One row a value; `drowned` says where it is within the noise floor of the base run's."""
        frame = super().to_frame()
        frame.insert(len(frame.columns) - 1, "drowned", self.drowned.cpu().numpy().ravel())
        return frame[frame["pos"] != PADDED].reset_index(drop=True) if "pos" in frame else frame

    def __repr__(self) -> str:
        n, all_ = int(self.drowned.sum()), self.drowned.numel()
        said = f"; {n} of {all_} within the noise floor of {self.noise_floor:.2g} in {self.settings['dtype']}"
        return super().__repr__()[:-1] + (said if n else "") + ")"


@torch.no_grad()
def sweep(base: Run, edits: Sequence[EditSet], metric: Metric, *, memory_bytes: int | None = None) -> Sweep:
    """Run many sets of edits of one run, and read a metric off each. See `Model.sweep`."""
    model = base.model
    budget = find_budget(model, memory_bytes)
    drawn, n_draws = draw_sets(edits)
    sets = prepare_sets(base, drawn)
    reading = metric.bind(model, base.tokens)
    base_values = metric.evaluate(reading, base)
    if any(change.function for change in base.changes):  # which may look at all positions, before and after its own
        values, noise_floor, n_tokens = _run_in_full(base, drawn, metric, base_values), 0.0, 0
    else:
        engine = Engine(base, sets, reading, base_values, budget)
        values, noise_floor, n_tokens = engine.run()
    spread = None
    if len(values) > len(edits):
        parts = torch.split(values, n_draws)
        values = torch.stack([part.mean(0) for part in parts])
        spread = torch.stack([part.std(0, correction=0) for part in parts])
    return Sweep(
        name=f"{metric!r} of {count(len(edits), 'set')} of edits{' of an edited run' if base.edits else ''}",
        settings={
            "metric": repr(metric),
            "unit": metric.unit,
            "method": "exact",
            **base.settings,
            "noise_floor": noise_floor,
        },
        python=write_call(base, edits, metric),
        values=values,
        base_values=base_values,
        noise_floor=noise_floor,
        spread=spread,
        n_tokens_computed=n_tokens,
        extra_axes=reading.axes or [f"axis_{i}" for i in range(base_values.ndim - 1)],
        positions=reading.positions,
        pieces=base.tokens.pieces,
    )


def list_carried(model: "Model", layers: Iterable[int]) -> list[Site]:
    """What a sweep that walks through these layers takes from its base run; a run that keeps it is run once."""
    turned = "_rot" if model.config.rotary else ""
    kinds = ["resid_pre", f"q{turned}", f"k{turned}", "v"]
    kinds += ["ln1"] if model.config.shared_norm and Site("ln1", 0) in model.sites else []
    kinds += ["attn_out"] if model.config.parallel else ["resid_mid"] if model.config.d_mlp else []
    return [Site(kind, layer) for layer in layers for kind in kinds]


def find_budget(model: "Model", asked: Any) -> int:
    """What was asked for; else the model's own; else a quarter of what is free, where the least is.

    Raises:
      BadArgument: No number of bytes was asked for.
    """
    if asked is None:
        return model.memory_bytes or min(map(free_bytes, model.devices)) // 4
    return read_memory_bytes(asked)


def write_call(base: Run, edits: Sequence[EditSet], metric: Metric, **options: Any) -> list[str]:
    """The Python that sweeps again."""
    many = len(edits) > 64  # whose text nobody reads, and which takes longer to write than to run
    sets = f"edits = ...  # the {len(edits)} sets that were given" if many else f"edits = {list(edits)!r}"
    said = "".join(f", {name}={value!r}" for name, value in options.items())
    lines = [f"base = {base!r}", sets, f"model.sweep(base, edits, metric={metric!r}{said})"]
    return write_lines(base.model.python, lines)


def draw_sets(edits: Sequence[EditSet]) -> tuple[list[list[Edit]], list[int]]:
    """Every set, a resampling once for each draw; and how many draws each item of `edits` has.

    Raises:
      BadEdit: They are no list of sets.
    """
    if isinstance(edits, Edit) or not isinstance(edits, Sequence):
        raise BadEdit(f"{edits!r} was given as the sets of edits.", "Give a list; each item one edit, or several.")
    sets, n_draws = [], []
    for item in edits:
        members = as_edits(item)
        draws = max((edit.arguments.get("draws", 1) for edit in members), default=1)
        sets += [[edit.draw(draw) for edit in members] for draw in range(draws)]
        n_draws.append(draws)
    return sets, n_draws


def prepare_sets(base: Run, sets: Sequence[Sequence[Edit]]) -> list[list[Change]]:
    """What each set changes in the run."""
    return [[change for edit in one for change in edit.prepare(base.model, base.tokens)] for one in sets]


def _run_in_full(base: Run, sets: Sequence[Sequence[Edit]], metric: Metric, base_values: Tensor) -> Tensor:
    found = [base_values[None][:0]]
    for number, members in enumerate(sets):
        report(number, len(sets), "running in full")
        found.append(metric(base.model.run(base.tokens, edits=[*base.edits, *members]))[None])
    report(len(sets), len(sets), "running in full")
    return torch.cat(found)


class Engine:
    """One sweep at work.

    Args:
      base: The run.
      sets: Changes of every set.
      reading: The metric, bound.
      base_values: Its values of the base run.
      budget: Bytes.
      on_cpu: Whether walks are kept small for a CPU's caches; None where the model is on one.
      tell: Hears how many sets are done, where the sweep is part of something longer that reports itself.
    """

    def __init__(
        self,
        base: Run,
        sets: list[list[Change]],
        reading: Reading,
        base_values: Tensor,
        budget: int,
        *,
        on_cpu: bool | None = None,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        self.base, self.model, self.reading, self.base_values = base, base.model, reading, base_values
        last = max(map(self.model.depth, reading.places))
        self.sets = [[change for change in changes if self.model.depth(change.place) <= last] for changes in sets]
        self.values = base_values.new_empty(0)
        self.budget = budget
        self.noise_floor, self.n_tokens_computed, self.n_done = 0.0, 0, 0
        self.n_batch, self.n_steps = base.tokens.ids.shape
        self.token_bytes = bytes_of_token(self.model.config, self.n_steps, self.model.dtype)
        self._shapes: Run | None = base if base.model.device.type == "meta" else None
        self.on_cpu = self.model.device.type == "cpu" if on_cpu is None else on_cpu
        self.dry = self.model.device.type == "meta"
        self.tell = tell

    def run(self) -> tuple[Tensor, float, int]:
        """Values `[set batch ...]`, the noise floor, and how often a token went through a layer."""
        order = sorted((i for i, changes in enumerate(self.sets) if changes), key=self._first_depth)
        self.values = self.base_values.new_full((len(self.sets), *self.base_values.shape), torch.nan)
        self.values[[i for i, changes in enumerate(self.sets) if not changes]] = self.base_values
        if not order:
            return self.values, 0.0, 0
        self.base.keep(self._needed_sites())
        for number, slab in enumerate(self._slabs(order)):
            self._run_slab(slab, n_null=int(number == 0))
            if self.dry:  # the others are no larger
                break
        self.n_done = len(self.sets)
        self._tick()
        return self.values, self.noise_floor, self.n_tokens_computed

    def _tick(self) -> None:
        """Say how many sets are done; here a sweep that somebody cancelled ends."""
        n_done = min(self.n_done, len(self.sets))
        if self.tell:
            self.tell(n_done)
        else:
            report(n_done, len(self.sets), "sweeping", self.values)

    def _first_depth(self, number: int) -> int:
        return min(self.model.depth(self.model.anchor(change.place)) for change in self.sets[number])

    def _needed_sites(self) -> list[Site]:
        """What the walk takes from the base run, from the first layer that is edited to the last that is read."""
        model, changes = self.model, [change for changes in self.sets for change in changes]
        first = min(model.anchor(change.place).layer or 0 for change in changes)
        if all(change.place.layer is None and not change.place.kind.endswith("embed") for change in changes):
            first = model.config.n_layers
        last = max(model.last_attention(place) for place in self.reading.places)
        sites = list_carried(model, range(first, last + 1))
        places = {change.place for change in changes} | {model.anchor(change.place) for change in changes}
        beside = {"mlp_up": "mlp_pre", "pos_embed": "embed"}  # what a token lacks that comes in there
        places |= {Site(beside[place.kind], place.layer) for place in places if place.kind in beside}
        return [*sites, *places, *self.reading.places]

    def _slabs(self, order: Sequence[int]) -> Iterator[list[int]]:
        """Sets in parts whose edits and readings fit the budget."""
        bytes_of_set = []
        read = sum(self._numbers_at(place) for place in self.reading.places)
        size = self.model.dtype.itemsize
        for number in order:
            targets = sum(change.positions.numel() * self._numbers_at(change.place) for change in self.sets[number])
            reading = self.reading.positions.numel() * (read + 3 * self.reading.n_wide)
            needed = size * (4 * targets + 2 * reading) + 2 * self.base_values.nbytes
            needed += 64 * (self.n_batch + sum(change.positions.numel() for change in self.sets[number]))
            if needed > self.budget // 4:  # which leaves room for one more, the null edit
                raise TooLarge(
                    f"One set of edits writes and reads {as_size(needed)}, and a quarter of {as_size(self.budget)} "
                    "may be used for that.",
                    f"Give memory_bytes={4 * needed}, at most {max(1, self.n_batch * self.budget // (4 * needed))} "
                    "texts at a time, or read fewer positions.",
                )
            bytes_of_set.append(needed)
        return _split(order, bytes_of_set, self.budget // 4)

    def _numbers_at(self, place: Site) -> int:
        """Of one token; of scores and pattern, of one query."""
        return max(1, tokens_first(place.kind, self.base.raw(place))[0, 0].numel())

    def _run_slab(self, slab: Sequence[int], n_null: int) -> None:
        """Fill in the values of some sets; after them, of as many edits that leave everything as it is."""
        n_sets = len(slab)
        rounds = collect([self.sets[i] for i in slab], self.base)
        rounds = without_numbers(rounds) if self.dry else rounds
        rounds, reach = drop_null(rounds, self.base, n_sets + n_null)
        if n_null and rounds:
            self._add_null(rounds, reach, n_sets)
        reach = reach.view(n_sets + n_null, self.n_batch)
        live = reach < self.n_steps
        targets = torch.tensor([*slab, *[-1] * n_null], device=reach.device)
        self.values[targets[:n_sets][~live[:n_sets].any(-1)]] = self.base_values
        read = [value[0].expand(len(live), *value.shape[1:]).clone() for value in values_of(self.reading, self.base)]
        for walk in self._walks(live, reach, rounds):
            packed = Packed(self.base, take_sets(rounds, walk, len(live)), len(walk), self.reading, self._tick)
            packed.walk()
            self.n_tokens_computed += packed.n_tokens_computed
            for number, keys, found in packed.take_found():
                row, position = keys // self.n_steps, keys % self.n_steps
                text = row % self.n_batch
                which, slot = (self.reading.positions.to(keys.device)[text] == position[:, None]).nonzero(as_tuple=True)
                read[number][walk[row // self.n_batch][which], text[which], slot] = found[which]
            self._fill(walk, targets, live, read)
            self.n_done += len(walk)

    def _fill(
        self,
        walk: Int[Tensor, " part"],
        targets: Int[Tensor, " set"],
        live: Bool[Tensor, "set batch"],
        read: list[Tensor],
    ) -> None:
        """Fill in the values of some sets of a slab, whose numbers among all are `targets`; -1 is the null edit's."""
        wide = self.reading.n_wide * self.reading.positions.numel() * 4 * max(4, self.model.dtype.itemsize)
        most = min(self.budget // 2, _WIDE_BYTES) if self.on_cpu else self.budget // 2
        for part in torch.split(walk, max(1, most // wide) if wide else len(walk)):
            self._tick()
            found = self.reading.compute([value[part] for value in read] if len(part) < len(live) else read)
            if not bool(live[part].all()):
                flags = live[part].view(*live[part].shape, *[1] * (found.ndim - 2)).to(found.device)
                found = torch.where(flags, found, self.base_values)
            n_real = int((targets[part] >= 0).sum())
            if n_real < len(part) and not self.dry:  # what stands last changes nothing
                self.noise_floor = float((found[n_real:] - self.base_values).abs().nan_to_num().max())
            into = targets[part][:n_real].to(self.values.device)
            # Whole rows: entry by entry, wide values take as long as their making.
            self.values.index_copy_(0, into, found[:n_real])

    def _add_null(self, rounds: Rounds, reach: Tensor, number: int) -> None:
        """One more set, which leaves as it is the first token of each text that is edited at the first place."""
        place, turns = next(iter(rounds.items()))
        groups = [group for turn in turns for group in turn]
        texts, positions = (torch.cat([getattr(group, name) for group in groups]) for name in ("texts", "positions"))
        first = torch.full((self.n_batch,), self.n_steps, device=texts.device).scatter_reduce_(
            0, texts, positions, "amin"
        )
        texts = (first < self.n_steps).nonzero()[:, 0]
        null = Group(
            place=place,
            sets=torch.full_like(texts, number),
            texts=texts,
            positions=first[texts],
            part=None,
            factor=1.0,
            shift=None,
            along=None,
            function=None,
            tokenwise=None,
            known=torch.zeros_like(texts, dtype=torch.bool),
        )
        turns.append([null])
        reach[(number * self.n_batch + texts).to(reach.device)] = first[texts].to(reach.device)

    def _walks(self, live: Tensor, reach: Tensor, rounds: Rounds) -> list[Int[Tensor, " set"]]:
        """Live sets in parts of so many tokens that they fit half of the budget, and the caches.

        Where it may come near the budget, the largest part is walked without numbers first.
        """
        ends = self.base.tokens.n_tokens.to(reach.device)
        tokens = ((ends - reach) * live).clamp(min=0).sum(-1)
        if any(group.function for turns in rounds.values() for turn in turns for group in turn):
            tokens = torch.full_like(tokens, int(ends.sum()))
        config, room = self.model.config, self.budget // 2
        most = room // self.token_bytes
        if self.on_cpu:
            most = min(most, WALK_BYTES // (max(config.d_mlp, config.d_model) * self.model.dtype.itemsize))
        while True:
            numbers = live.any(-1).nonzero()[:, 0]
            parts = _split(numbers.tolist(), tokens[numbers].tolist(), most)
            walks = [torch.tensor(part, device=numbers.device) for part in parts]
            largest = max(walks, key=lambda walk: int(tokens[walk].sum()), default=None)
            if largest is None or int(tokens[largest].sum()) * self.token_bytes * 8 <= room:
                return walks if largest is None or not self.dry else [largest]
            n, needed = int(tokens[largest].sum()), self._measure(rounds, largest, len(live))
            if needed <= room:
                return [largest] if self.dry else walks
            if len(largest) == 1:
                raise TooLarge(
                    f"One set of edits of {n} tokens needs {as_size(needed)}, and half of {as_size(self.budget)} may "
                    "be used for that.",
                    f"Give memory_bytes={2 * needed}, or at most {n * room // needed} tokens at a time.",
                )
            most = min(n - 1, int(0.9 * n * room / needed))

    def _measure(self, rounds: Rounds, walk: Int[Tensor, " set"], n_sets: int) -> int:
        """Bytes that a walk takes at its peak, by walking it without numbers."""
        if self._shapes is None:
            self._shapes = Run(self.model.shapes, self.base.tokens, self._needed_sites())
        rounds, walk = without_numbers(rounds), walk.cpu()
        with Allocations(shapes=True) as made:
            Packed(self._shapes, take_sets(rounds, walk, n_sets), len(walk), self.reading, self._tick).walk()
        peak_bytes: int = made.peak_bytes
        return peak_bytes


def _split(numbers: Sequence[int], sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Sets in parts of at most such a size, or of one set."""
    part: list[int] = []
    used = 0
    for number, size in zip(numbers, sizes, strict=True):
        if part and used + size > most:
            yield part
            part, used = [], 0
        part.append(number)
        used += size
    if part:
        yield part
