"""A pass that computes only what edits change: tokens of many edited copies of a run, packed, beside the run itself."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from residscope.running.changes import Change, hide, tokens_first
from residscope.running.memory import where_indices_are
from residscope.running.metrics import Reading
from residscope.running.positions import PADDED
from residscope.running.run import Enough, Run
from residscope.running.schedule import Group, Rounds
from residscope.sites import Site
from residscope.transformer.rotary import Rotary
from residscope.transformer.transformer import Attention, Pass

_BEFORE_ATTENTION = ("resid_pre", "ln1")
_NOT_YET = -1


class Packed(Pass):
    """Edited copies of a run, of which only the tokens are computed that differ from it and can still be read.

    A row is one text of one set of edits. Tokens come in when an edit touches them, or when attention carries a change
    to them; what they held before is the base run's. Inside a layer tokens are appended, so that an earlier value
    lacks the last ones and takes them from the base run; only attention drops those that nothing reads any more.

    Args:
      base: The run, which keeps what `needed_sites` names.
      rounds: For each place what is done there, round after round; of sets numbered from 0.
      n_sets: How many sets.
      reading: What is read; the pass ends with the last of it.
      tick: Called before every layer; may raise.
    """

    def __init__(self, base: Run, rounds: Rounds, n_sets: int, reading: Reading, tick: Callable[[], None]) -> None:
        model, (self.n_batch, self.n_steps) = base.model, base.tokens.ids.shape
        self.base, self.model, self.reading, self.rounds, self.tick = base, model, reading, rounds, tick
        self._entering: defaultdict[Site, list[Tensor]] = defaultdict(list)
        for place, turns in rounds.items():
            self._entering[model.anchor(place)] += [self._keys_of(group) for turn in turns for group in turn]
        self._first = min(self._entering, key=model.depth)
        self.device = where_indices_are(model.device_of(self._first))
        self.keys = torch.zeros(0, dtype=torch.long, device=self.device)  # row * n_steps + position of each token
        self.index = torch.full((n_sets * self.n_batch * self.n_steps,), _NOT_YET, device=self.device)
        self.found: list[tuple[int, Tensor, Tensor]] = []  # number of the place read, keys, values
        self.n_tokens_computed = 0
        self._base_changes: defaultdict[Site, list[Change]] = defaultdict(list)
        for change in base.changes:
            self._base_changes[change.place].append(change)
        self._full = Pass(
            model.config,
            base.tokens.n_tokens,
            n_positions=self.n_steps,
            device=model.device_of(self._first),
            dtype=model.dtype,
        )
        self._unread = {place for place in reading.places if model.depth(place) >= model.depth(self._first)}
        where = _where_read(reading, base, any(g.function for g in _groups(rounds)))
        self._read, self._before_read = (x.to(self.device) for x in where)
        self._last_attention = max(model.last_attention(place) for place in reading.places)
        self._attended = False
        self._kept: Tensor | None = None  # which tokens of before attention are still there after it
        self._keys_before = self.keys
        self._n_changed_keys = 0

    @property
    def text(self) -> Int[Tensor, " token"]:
        """Of which text each computed token is."""
        return self.keys // self.n_steps % self.n_batch

    @property
    def positions(self) -> Int[Tensor, " token"]:  # type: ignore[override]  # of packed tokens
        """Where each computed token stands in its text."""
        return self.keys % self.n_steps

    @torch.no_grad()
    def walk(self) -> None:
        """Compute from the first place that is edited to the last that is read."""
        first = self._first
        transformer, n_layers = self.model.transformer, self.model.config.n_layers
        nothing = torch.zeros(0, self.model.config.d_model, dtype=self.model.dtype, device=self._full.device)
        try:
            if first.kind.endswith("embed"):
                x, layer = transformer.embed(self.keys, self), 0
            elif first.layer is None or first.kind == "resid_post":
                x, layer = self("resid_post", n_layers - 1, nothing), n_layers
            else:
                x, layer = self("resid_pre", first.layer, nothing), first.layer
            transformer.unembed(transformer.norm_final(transformer(x, self, layer), self), self)
        except Enough:
            pass

    def take_found(self) -> list[tuple[int, Int[Tensor, " token"], Tensor]]:
        """What was read, where the logits are made: the number of the place, keys, values."""
        device, indices = self.model.device, where_indices_are(self.model.device)
        return [(number, keys.to(indices), value.to(device)) for number, keys, value in self.found]

    def needs(self, kind: str, layer: int | None) -> bool:
        place = Site(kind, layer)
        return place in self.rounds or place in self._base_changes or place in self._unread

    def move(self, x: Tensor, device: torch.device) -> Tensor:
        if device != self._full.device:
            self.device = where_indices_are(device)
            self.keys, self.index = self.keys.to(self.device), self.index.to(self.device)
            self._read, self._before_read = self._read.to(self.device), self._before_read.to(self.device)
        return self._full.move(x, device)

    def angles(self, rotary: Rotary) -> tuple[Tensor, Tensor]:
        cos, sin = self._full.angles(rotary)
        return cos[self.text, self.positions], sin[self.text, self.positions]

    def __call__(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        place, n_computed = Site(kind, layer), len(value)
        if kind in ("resid_pre", "resid_post"):
            self._attended, self._kept = kind == "resid_post", None
            self.tick()
        if kind == "q":  # what comes in from here on asks, and is not looked at
            self._n_changed_keys = len(self.keys)
        if place in self._entering:
            self._enter(torch.cat(self._entering[place]), 0 if kind.endswith("embed") else layer)
        # What a norm divides by stays beside what it divides: its edits came in where that was made.
        keys = self.keys[:n_computed] if kind.endswith("_scale") else self.keys
        value = self._fill(place, value, keys)
        if place in self._base_changes or place in self.rounds:
            value = self._change(place, value, keys, self.index, n_computed)
        if place in self._unread:
            self._note(place, value, keys)
            self._unread.remove(place)
            if not self._unread:
                raise Enough
        return value

    def align(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        place = Site(kind, layer)
        if self._kept is not None and kind in _BEFORE_ATTENTION:
            value = self._fill(place, value, self._keys_before)[self._kept]
        return self._fill(place, value, self.keys)

    def attend(
        self,
        attention: Attention,
        q: Float[Tensor, "asking head d_head"],
        k: Float[Tensor, "asked kv_head d_head"],
        v: Float[Tensor, "given kv_head d_head"],
    ) -> Float[Tensor, "query head d_head"]:
        layer = attention.layer
        turned = "_rot" if attention.rotary else ""
        sites = Site(f"q{turned}", layer), Site(f"k{turned}", layer), Site("v", layer)
        values = [self._fill(site, x, self.keys) for site, x in zip(sites, (q, k, v), strict=True)]
        changed, starts = self._find_changed(layer)
        index_before = self.index.clone()
        self._keys_before, self._kept = self.keys, changed.view(-1)[self.keys].nonzero()[:, 0]
        held = self.keys[self._kept]
        changed.view(-1)[held] = False
        fresh = changed.view(-1).nonzero()[:, 0]
        changed.view(-1)[held] = True
        self.index.index_fill_(0, self.keys, _NOT_YET)
        self.keys = torch.cat((held, fresh))
        self.index[self.keys] = torch.arange(len(self.keys), device=self.device)
        self.n_tokens_computed += len(self.keys)
        z = values[0].new_empty(len(self.keys), *values[0].shape[1:])
        seen = {place for place in (Site("scores", layer), Site("pattern", layer)) if self.needs(place.kind, layer)}
        for rows, start, stop in _buckets(changed, starts):
            bucket = _Bucket(self, rows, start, stop, index_before)
            mixed = bucket.attend(attention, sites, values, seen)
            tokens = self.index.view(-1, self.n_steps)[rows, start:stop]
            here = tokens >= 0
            z[tokens[here]] = mixed[here]
        for place in seen & self._unread:
            self._unread.remove(place)
            if not self._unread:
                raise Enough
        return z

    def base_value(self, place: Site) -> Float[Tensor, "batch pos *rest"]:
        """What the run itself holds."""
        return tokens_first(place.kind, self.base.raw(place))

    def change_scores(
        self, place: Site, value: Float[Tensor, "token head key"], keys: Int[Tensor, " token"]
    ) -> Float[Tensor, "token head key"]:
        """Scores or patterns of some queries after the edits there; they are noted where they are read."""
        if place in self._base_changes or place in self.rounds:
            index = torch.full_like(self.index, _NOT_YET)
            index[keys] = torch.arange(len(keys), device=self.device)
            value = self._change(place, value, keys, index, len(keys))
            positions, window = keys % self.n_steps, self.model.config.window(place.layer or 0)
            value = hide(place.kind, value.transpose(0, 1), positions, window).transpose(0, 1)
        if place in self._unread:
            self._note(place, value, keys)
        return value

    def _keys_of(self, group: Group) -> Int[Tensor, " token"]:
        return (group.sets * self.n_batch + group.texts) * self.n_steps + group.positions

    def _needed(self, layer: int | None) -> Bool[Tensor, "batch pos"]:
        """Positions that are read, or carry something to those that are."""
        if layer is None or layer > self._last_attention or (layer == self._last_attention and self._attended):
            return self._read
        return self._before_read

    def _enter(self, keys: Int[Tensor, " token"], layer: int | None) -> None:
        """Begin to compute tokens, where they are needed and not yet computed."""
        text, position = keys // self.n_steps % self.n_batch, keys % self.n_steps
        keys = torch.unique(keys[self._needed(layer)[text, position] & (self.index[keys] == _NOT_YET)])
        self.index[keys] = torch.arange(len(self.keys), len(self.keys) + len(keys), device=self.device)
        self.keys = torch.cat((self.keys, keys))

    def _fill(self, place: Site, value: Tensor, keys: Int[Tensor, " token"]) -> Tensor:
        """The value with the base run's at the tokens that came in since."""
        n = len(value)
        if n == len(keys):
            return value
        text, position = keys[n:] // self.n_steps % self.n_batch, keys[n:] % self.n_steps
        return torch.cat((value, self.base_value(place)[text, position]))

    def _change(self, place: Site, value: Tensor, keys: Tensor, index: Tensor, n_computed: int) -> Tensor:
        """The value after the base run's own edits, where it was computed anew, and then the sets'."""
        value = value.clone()
        text, position = keys[:n_computed] // self.n_steps % self.n_batch, keys[:n_computed] % self.n_steps
        for change in self._base_changes[place]:
            texts, slots, positions = (x.to(self.device) for x in change.targets())
            slot_of = torch.full((self.n_batch, self.n_steps), PADDED, device=self.device)
            slot_of[texts, positions] = slots
            slot = slot_of[text, position]
            hit = (slot != PADDED).nonzero()[:, 0]
            value[hit] = change.change(value[hit], text[hit], slot[hit])
        for turn in self.rounds.get(place, []):
            for group in turn:
                tokens = index[self._keys_of(group)]
                if group.function:
                    self._change_whole(group, value, index)
                    continue
                there = tokens != _NOT_YET
                if not bool(there.all()):
                    group, tokens = group.take(there), tokens[there]
                value[tokens] = group.change(value[tokens])
        return value

    def _change_whole(self, group: Group, value: Tensor, index: Tensor) -> None:
        """Let a function have a set's whole value, of all texts and positions."""
        assert group.function
        tokens = index.view(-1, self.n_batch, self.n_steps)[int(group.sets[0])]
        there = tokens != _NOT_YET
        whole = self.base_value(group.place).clone()
        whole[there] = value[tokens[there]]
        new = tokens_first(group.place.kind, group.function(tokens_first(group.place.kind, whole)))
        value[tokens[there]] = new[there]

    def _note(self, place: Site, value: Tensor, keys: Tensor) -> None:
        """Remember what is read."""
        read = self._read[keys // self.n_steps % self.n_batch, keys % self.n_steps]
        for number, other in enumerate(self.reading.places):
            if other == place:
                self.found.append((number, keys[read], value[read]))

    def _find_changed(self, layer: int) -> tuple[Bool[Tensor, "row pos"], Int[Tensor, " row"]]:
        """Queries that are needed and can differ, as they changed or look at a changed key; and each row's first."""
        row, position = self.keys // self.n_steps, self.positions
        n_rows = len(self.index) // self.n_steps
        first = torch.full((n_rows,), self.n_steps, device=self.device)
        n = self._n_changed_keys
        first.scatter_reduce_(0, row[:n], position[:n], "amin")
        changed = torch.arange(self.n_steps, device=self.device) >= first[:, None]
        changed.view(-1)[self.keys[n:]] = True
        for kind in ("scores", "pattern"):
            for turn in self.rounds.get(Site(kind, layer), []):
                for group in turn:
                    changed.view(-1)[self._keys_of(group)] = True
        self._attended = True
        return changed & self._needed(layer).repeat(n_rows // self.n_batch, 1), changed.int().argmax(-1)


class _Bucket:
    """Rows whose changes start near each other, as one dense block beside the keys and values before it.

    Args:
      packed: Whose.
      rows: [row]
      start, stop: Positions of the block; before it the base run's keys and values are shared by all rows of a text.
      index: Where the block's keys and values stand among the packed tokens.
    """

    def __init__(self, packed: Packed, rows: Int[Tensor, " row"], start: int, stop: int, index: Tensor) -> None:
        self.packed, self.rows, self.start, self.stop = packed, rows, start, stop
        self.texts, text_of = torch.unique(rows % packed.n_batch, return_inverse=True)
        n_of = torch.bincount(text_of)
        self.n_rows = int(n_of.max())
        order = text_of.argsort(stable=True)
        within = torch.arange(len(rows), device=rows.device) - (n_of.cumsum(0) - n_of)[text_of[order]]
        self.slots = torch.empty_like(rows)
        self.slots[order] = text_of[order] * self.n_rows + within
        # Texts with fewer rows are filled up with a copy of their first.
        filled = torch.zeros(len(self.texts) * self.n_rows, dtype=torch.long, device=rows.device)
        filled.view(len(self.texts), -1).copy_(rows[order][n_of.cumsum(0) - n_of][:, None])
        filled[self.slots] = rows
        self.tokens = index.view(-1, packed.n_steps)[filled, start:stop]

    def attend(
        self, attention: Attention, sites: Sequence[Site], values: Sequence[Tensor], seen: set[Site]
    ) -> Float[Tensor, "row pos head d_head"]:
        """Each head's mixed values at every position of the block."""
        q, k, v = (self._dense(site, value) for site, value in zip(sites, values, strict=True))
        n_texts, n_rows, n_steps = q.shape[:3]
        n_kv, groups, n_before = k.shape[3], attention.groups, self.start
        q = q.view(*q.shape[:3], n_kv, groups, -1) * attention.scale  # text row pos kv group d
        k, v = k.transpose(2, 3), v.transpose(2, 3)  # text row kv pos d
        ahead = q.permute(0, 3, 4, 1, 2, 5).flatten(2, 4)  # text kv (group row pos) d
        inside = q.permute(0, 1, 3, 4, 2, 5).flatten(3, 4)  # text row kv (group pos) d
        before_k, before_v = (
            self.packed.base_value(site)[self.texts, :n_before].transpose(1, 2) for site in sites[1:]
        )  # text kv key d
        scores = torch.cat(
            (
                (ahead @ before_k.transpose(-1, -2)).view(n_texts, n_kv, groups, n_rows, n_steps, n_before),
                (inside @ k.transpose(-1, -2))
                .view(n_texts, n_rows, n_kv, groups, n_steps, n_steps)
                .permute(0, 2, 3, 1, 4, 5),
            ),
            dim=-1,
        )
        pattern = self._pattern(attention, scores, seen)
        mixed = pattern[..., :n_before].flatten(2, 4) @ before_v
        mixed = mixed.view(n_texts, n_kv, groups, n_rows, n_steps, -1).permute(0, 3, 1, 2, 4, 5)
        own = pattern[..., n_before:].permute(0, 3, 1, 2, 4, 5).flatten(3, 4) @ v
        z = mixed + own.view(mixed.shape)  # text row kv group pos d
        return z.permute(0, 1, 4, 2, 3, 5).flatten(3, 4).flatten(0, 1)[self.slots]

    def _dense(self, site: Site, value: Tensor) -> Float[Tensor, "text row pos head d"]:
        there = self.tokens != _NOT_YET
        if bool(there.all()):
            dense = value[self.tokens]
        else:
            base = self.packed.base_value(site)[self.texts, self.start : self.stop]
            dense = base.repeat_interleave(self.n_rows, dim=0)
            dense[there] = value[self.tokens[there]]
        return dense.view(len(self.texts), self.n_rows, *dense.shape[1:])

    def _pattern(
        self, attention: Attention, scores: Float[Tensor, "text kv group row pos key"], seen: set[Site]
    ) -> Float[Tensor, "text kv group row pos key"]:
        scores = attention.cap_scores(scores)
        device = scores.device
        queries, keys = torch.arange(self.start, self.stop, device=device), torch.arange(self.stop, device=device)
        mask = attention.mask(queries, keys, scores.dtype)
        mask = mask.view(1, -1, attention.groups if len(mask) > 1 else 1, 1, *mask.shape[1:])
        scores = scores + mask
        if not seen:
            return attention.softmax(scores)
        scores = self._visit(Site("scores", attention.layer), scores, -torch.inf, seen)
        return self._visit(Site("pattern", attention.layer), attention.softmax_edited(scores), 0.0, seen)

    def _visit(self, place: Site, dense: Tensor, beyond: float, seen: set[Site]) -> Tensor:
        """Edits and reading of scores or patterns, query by query, over all keys of the longest text."""
        if place not in seen:
            return dense
        packed = self.packed
        by_query = dense.permute(0, 3, 4, 1, 2, 5).flatten(3, 4).flatten(0, 1)[self.slots]  # row pos head key
        keys = self.rows[:, None] * packed.n_steps + torch.arange(self.start, self.stop, device=self.rows.device)
        there = packed.index[keys] != _NOT_YET
        whole = torch.nn.functional.pad(by_query[there], (0, packed.n_steps - self.stop), value=beyond)
        by_query[there] = packed.change_scores(place, whole, keys[there])[..., : self.stop]
        new = dense.permute(0, 3, 4, 1, 2, 5).flatten(3, 4).flatten(0, 1).clone()
        new[self.slots] = by_query
        shape = dense.permute(0, 3, 4, 1, 2, 5).shape
        return new.view(shape).permute(0, 3, 4, 1, 2, 5)


def _groups(rounds: Rounds) -> Iterator[Group]:
    return (group for turns in rounds.values() for turn in turns for group in turn)


def _where_read(
    reading: Reading, base: Run, whole: bool
) -> tuple[Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Positions that are read, and all up to the last of them; all of a text where a function sees it whole."""
    n_steps = base.tokens.ids.shape[1]
    if whole:
        return base.tokens.mask, base.tokens.mask
    read = torch.zeros(base.tokens.ids.shape, dtype=torch.bool)
    texts, slots = (reading.positions != PADDED).nonzero(as_tuple=True)
    read[texts, reading.positions[texts, slots]] = True
    last = torch.where(read, torch.arange(n_steps), -1).amax(-1, keepdim=True)
    return read, torch.arange(n_steps) <= last


def _buckets(changed: Bool[Tensor, "row pos"], starts: Int[Tensor, " row"]) -> Iterator[tuple[Tensor, int, int]]:
    """Rows in groups of nearly equal start, each with the positions that its block spans."""
    rows = changed.any(-1).nonzero()[:, 0]
    if not len(rows):
        return
    stop = int(changed.any(0).nonzero()[-1]) + 1
    rows = rows[starts[rows].argsort(stable=True)]
    ordered = starts[rows].tolist()
    begin = 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or stop - ordered[at] < 0.75 * (stop - ordered[begin]):
            yield rows[begin:at], ordered[begin], stop
            begin = at
