"""Many sets of edits, sorted into what happens at each place to all of them at once; and what of it changes nothing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from residscope.running.changes import Change, Function, change_tokens, tokens_first
from residscope.running.memory import where_indices_are
from residscope.sites import Site

if TYPE_CHECKING:
    from residscope.running.run import Run


@dataclass(frozen=True, eq=False)
class Group:
    """Changes of one kind at one place, of many sets, each token with what is done to it.

    Attributes:
      place: Where.
      sets, texts, positions: [token]
      part: [token n_part] Heads or neurons; None is all.
      factor: One for all, or [token].
      shift: [token part ...], or None.
      along: [k d] or [token k d].
      function: Of a set's whole value.
      tokenwise: Of `[token ...]`.
      known: [token] Where the value is known to be the base run's.
    """

    place: Site
    sets: Int[Tensor, " token"]
    texts: Int[Tensor, " token"]
    positions: Int[Tensor, " token"]
    part: Int[Tensor, "token n_part"] | None
    factor: float | Tensor
    shift: Tensor | None
    along: Tensor | None
    function: Function | None
    tokenwise: Function | None
    known: Bool[Tensor, " token"]

    def take(self, which: Tensor | slice) -> "Group":
        """Some of the tokens."""

        def some(x: Tensor | None) -> Tensor | None:
            return x if x is None else x[which]

        return replace(
            self,
            sets=self.sets[which],
            texts=self.texts[which],
            positions=self.positions[which],
            part=some(self.part),
            factor=self.factor[which] if isinstance(self.factor, Tensor) else self.factor,
            shift=some(self.shift),
            along=self.along[which] if self.along is not None and self.along.ndim == 3 else self.along,
            known=self.known[which],
        )

    def change(self, old: Tensor) -> Tensor:
        """`[token ...]` after the change."""
        if self.tokenwise:
            return self.tokenwise(old)
        return change_tokens(old, self.part, self.factor, self.shift, self.along)


Rounds = dict[Site, list[list[Group]]]
Targets = dict[tuple[int, torch.device], tuple[Tensor, ...]]  # of positions, by their id


def collect(sets: Sequence[Sequence[Change]], base: "Run") -> Rounds:
    """For each place, in the model's order, its rounds: what comes first in each set, what comes next.

    Args:
      sets: Changes of each set of edits.
      base: The run that they are edits of.
    """
    model = base.model
    rounds: defaultdict[Site, list[defaultdict[tuple[object, ...], list[tuple[int, Change]]]]] = defaultdict(list)
    for number, changes in enumerate(sets):
        seen: defaultdict[Site, int] = defaultdict(int)
        for change in changes:
            at, turn = rounds[change.place], seen[change.place]
            seen[change.place] += 1
            if turn == len(at):
                at.append(defaultdict(list))
            at[turn][_signature(change)].append((number, change))
    cache: Targets = {}
    return {
        place: [[_join(members, base, cache) for members in turn.values()] for turn in rounds[place]]
        for place in sorted(rounds, key=model.depth)
    }


def _signature(change: Change) -> tuple[object, ...]:
    return (
        None if change.part is None else len(change.part),
        change.factor == 0,
        change.shift is None,
        None if change.along is None else len(change.along),
        id(change.function) if change.function else None,
        id(change.tokenwise) if change.tokenwise else None,
    )


def _join(members: Sequence[tuple[int, Change]], base: "Run", cache: Targets) -> Group:
    first = members[0][1]
    device = where_indices_are(base.model.device_of(first.place))
    targets = []
    for _, change in members:
        key = id(change.positions), device
        if key not in cache:
            cache[key] = tuple(x.to(device) for x in change.targets())
        targets.append(cache[key])
    counts = torch.tensor([len(texts) for texts, _, _ in targets], device=device)
    texts, positions = (torch.cat([target[column] for target in targets]) for column in (0, 2))

    def repeat(values: Tensor) -> Tensor:
        return values.repeat_interleave(counts, dim=0)

    shift = None
    if first.shift is not None:
        shifts = [change.shift for _, change in members if change.shift is not None]
        if all(one.shape[0] == one.shape[1] == 1 for one in shifts):
            shift = repeat(torch.cat([one[0] for one in shifts]))
        else:
            pieces = [change.shift_of(t, s) for (_, change), (t, s, _) in zip(members, targets, strict=True)]
            shift = torch.cat(
                [p.expand(len(t), *p.shape[1:]) for p, (t, _, _) in zip(pieces, targets, strict=True) if p is not None]
            )
    factors = {change.factor for _, change in members}
    along = first.along
    if along is not None and any(change.along is not along for _, change in members):
        along = repeat(torch.stack([change.along for _, change in members if change.along is not None]))
    part = None
    if first.part is not None:
        part = repeat(torch.tensor([change.part for _, change in members], device=device))
    return Group(
        place=first.place,
        sets=repeat(torch.tensor([number for number, _ in members], device=device)),
        texts=texts,
        positions=positions,
        part=part,
        factor=factors.pop()
        if len(factors) == 1
        else repeat(torch.tensor([c.factor for _, c in members], device=device).to(base.model.dtype)),
        shift=shift,
        along=along,
        function=first.function,
        tokenwise=first.tokenwise,
        known=torch.cat([_known(change, t, p, base) for (_, change), (t, _, p) in zip(members, targets, strict=True)]),
    )


def _known(change: Change, texts: Tensor, positions: Tensor, base: "Run") -> Bool[Tensor, " token"]:
    """Where a value comes from a run that is this one up to there: same model, same tokens, nothing edited."""
    source = change.source
    if source is None or source.model is not base.model or source.edits or base.edits or change.along is not None:
        return torch.zeros(len(texts), dtype=torch.bool, device=texts.device)
    n = min(source.tokens.ids.shape[1], base.tokens.ids.shape[1])
    same = (source.tokens.ids[:, :n] == base.tokens.ids[:, :n]).cumprod(-1).bool()
    same &= (source.tokens.n_tokens == base.tokens.n_tokens)[:, None]  # on which angles may depend
    return (positions < n) & same.to(texts.device)[texts, positions.clamp(max=n - 1)]


def drop_null(rounds: Rounds, base: "Run", n_sets: int) -> tuple[Rounds, Int[Tensor, " row"]]:
    """Leave out what changes nothing: its value is the base run's, and no earlier edit of its set reaches it.

    Never by a tolerance: the value is known to be equal, or bit for bit the same. An edit that an earlier one reaches
    stays, for it holds its place at the base value: a freeze.

    Args:
      rounds: As `collect` gives them.
      base: The run that they are edits of.
      n_sets: How many sets.
    Returns:
      What is left, and for each row (a text of a set) the first position that changes, else the number of positions.
    """
    n_batch, n_positions = base.tokens.ids.shape
    indices = where_indices_are(base.model.device)
    reach = torch.full((n_sets * n_batch,), n_positions, device=indices)
    kept: Rounds = {}
    for place, turns in rounds.items():
        reach = reach.to(where_indices_are(base.model.device_of(place)))
        for turn in turns:
            live = []
            for group in turn:
                row = group.sets * n_batch + group.texts
                changes = ~_is_null(group, base) | (group.positions >= reach[row])
                live.append(group.take(changes))
            for group in live:
                first = group.positions * (group.function is None)  # a function may change any position
                reach.scatter_reduce_(0, group.sets * n_batch + group.texts, first, "amin")
            groups = [group for group in live if len(group.sets)]
            if groups:
                kept.setdefault(place, []).append(groups)
    return kept, reach.to(indices)


def take_sets(rounds: Rounds, sets: Int[Tensor, " set"], n_sets: int) -> Rounds:
    """What happens to some of the sets, numbered anew."""
    if len(sets) == n_sets:
        return rounds
    number = torch.full((n_sets,), -1, device=sets.device)
    number[sets] = torch.arange(len(sets), device=sets.device)
    kept: Rounds = {}
    for place, turns in rounds.items():
        number = number.to(turns[0][0].sets.device)
        taken = [[group.take(number[group.sets] >= 0) for group in turn] for turn in turns]
        taken = [[replace(group, sets=number[group.sets]) for group in turn if len(group.sets)] for turn in taken]
        if any(taken):
            kept[place] = taken
    return kept


def without_numbers(rounds: Rounds) -> Rounds:
    """The same of values that have shapes alone: indices on the CPU, and a function leaves values as they are."""

    def shape_of(x: Tensor | None) -> Tensor | None:
        return x if x is None else x.to("meta")

    def bare(group: Group) -> Group:
        return replace(
            group,
            sets=group.sets.cpu(),
            texts=group.texts.cpu(),
            positions=group.positions.cpu(),
            part=group.part if group.part is None else group.part.cpu(),
            factor=group.factor.to("meta") if isinstance(group.factor, Tensor) else group.factor,
            shift=shape_of(group.shift),
            along=shape_of(group.along),
            function=group.function and torch.clone,
            tokenwise=group.tokenwise and torch.clone,
            known=group.known.cpu(),
        )

    return {place: [[bare(group) for group in turn] for turn in turns] for place, turns in rounds.items()}


def _is_null(group: Group, base: "Run") -> Bool[Tensor, " token"]:
    if group.function or base.model.device.type == "meta":
        return torch.zeros_like(group.known)
    old = tokens_first(group.place.kind, base.raw(group.place))[group.texts, group.positions]
    same = group.change(old) == old
    return group.known | (same.flatten(1).all(-1) if same.ndim > 1 else same)
