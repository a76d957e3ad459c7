"""Edits made ready for the tokens of one run: what is written where, as tensors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.running.positions import PADDED
from residscope.sites import KINDS, Site
from residscope.transformer.transformer import find_hidden

if TYPE_CHECKING:
    from residscope.running.run import Run

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Change:
    """What one edit does at one place: `x` becomes `factor * x + shift`, or only its part in the space `along` does.

    Attributes:
      place: Where; the stream after a layer is the stream before the next.
      positions: [batch n] Of each text; `PADDED` where it has none.
      part: Heads or neurons; None is all.
      shift: [batch n part ...], axes of one where it is the same for all; what is left of a site's axes after the
        position, the first of them cut to `part`.
      along: [k d] Orthonormal rows.
      function: Takes the place's whole value, instead of all this.
      tokenwise: Takes `[token ...]`, instead of all this.
      source: The run that the values were taken from, at the same positions.
    """

    place: Site
    positions: Int[Tensor, "batch n"]
    part: tuple[int, ...] | None = None
    factor: float = 1.0
    shift: Tensor | None = None
    along: Float[Tensor, "k d"] | None = None
    function: Function | None = None
    tokenwise: Function | None = None
    source: "Run | None" = None

    def targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Text, slot and position of every token that is changed, each `[token]`."""
        texts, slots = (self.positions != PADDED).nonzero(as_tuple=True)
        return texts, slots, self.positions[texts, slots]

    def shift_of(self, texts: Int[Tensor, " token"], slots: Int[Tensor, " token"]) -> Tensor | None:
        """`[token part ...]`, or with a first axis of one."""
        if self.shift is None:
            return None
        n_batch, n_slots = self.shift.shape[:2]
        if n_batch == n_slots == 1:
            return self.shift[0]
        return self.shift[texts if n_batch > 1 else 0, slots if n_slots > 1 else 0]

    def change(self, old: Tensor, texts: Int[Tensor, " token"], slots: Int[Tensor, " token"]) -> Tensor:
        """`[token ...]` after the change, where these are the texts and slots of the tokens."""
        if self.tokenwise:
            return self.tokenwise(old)
        part = None if self.part is None else torch.tensor(self.part, device=texts.device).expand(len(old), -1)
        return change_tokens(old, part, self.factor, self.shift_of(texts, slots), self.along)


def _blend(old: Tensor, factor: float | Tensor, shift: Tensor | None, along: Tensor | None) -> Tensor:
    """`factor * old + shift`, or that only in the space `along`."""
    if isinstance(factor, Tensor):
        scaled = old * factor.reshape(-1, *[1] * (old.ndim - 1))
    else:
        scaled = old * factor if factor else torch.zeros_like(old[:1])  # what was infinite goes too
    new = scaled if shift is None else scaled + shift
    if along is None:
        return new.expand(old.shape)
    if along.ndim == 2:
        return old + (new - old) @ along.T @ along
    return old + torch.einsum("t...k,tkd->t...d", torch.einsum("t...d,tkd->t...k", new - old, along), along)


def tokens_first(kind: str, value: Tensor) -> Tensor:
    """`[batch pos ...]` of any site's value; of attention's, the position is the query's. Its own inverse."""
    return value.transpose(1, 2) if "query" in KINDS[kind].axes else value


def apply_changes(changes: Iterable[Change], value: Tensor, start: int) -> Tensor:
    """A site's value after these changes, one after the other; the value itself is left as it was.

    Args:
      changes: All at this site.
      value: With the site's axes.
      start: The position that comes first in it.
    """
    for change in changes:
        if change.function:
            value = change.function(value)
            continue
        texts, slots, positions = (x.to(value.device) for x in change.targets())
        here = (positions >= start) & (positions < start + tokens_first(change.place.kind, value).shape[1])
        if not bool(here.any()):
            continue
        texts, slots, positions = texts[here], slots[here], positions[here] - start
        value = value.clone()
        tokens = tokens_first(change.place.kind, value)  # a view: what is written there is written in `value`
        tokens[texts, positions] = change.change(tokens[texts, positions], texts, slots)
    return value


def hide(
    kind: str, value: Float[Tensor, "... query key"], queries: Int[Tensor, " query"], window: int | None
) -> Float[Tensor, "... query key"]:
    """Scores or a pattern that an edit made, with nothing where a query may not look."""
    keys = torch.arange(value.shape[-1], device=value.device)
    hidden = find_hidden(queries.to(value.device), keys, window)
    return value.masked_fill(hidden, -torch.inf if kind == "scores" else 0)


def change_tokens(
    old: Tensor,
    part: Int[Tensor, "token n_part"] | None,
    factor: float | Tensor,
    shift: Tensor | None,
    along: Tensor | None,
) -> Tensor:
    """`[token ...]` after a change.

    Args:
      old: [token ...]
      part: Each token's heads or neurons; None is all.
      factor: One, or for each token.
      shift: [token part ...], or with a first axis of one.
      along: [k d] or for each token [token k d].
    """
    if part is None:
        return _blend(old, factor, shift, along)
    tokens = torch.arange(len(old), device=part.device)[:, None]
    new = old.clone()
    new[tokens, part] = _blend(old[tokens, part], factor, shift, along)
    return new
