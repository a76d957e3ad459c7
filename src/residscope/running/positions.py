"""Which positions of which text: an int, a slice, a list, or a tensor, counted within each text."""

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from residscope.errors import UnknownPosition, count

Positions = int | slice | Sequence[int] | Tensor | None

PADDED = -1


def is_single(pos: object) -> bool:
    """Whether a position is one number for every text, which leaves no axis behind."""
    return isinstance(pos, (int, np.integer))


def resolve(pos: Positions, n_tokens: Int[Tensor, " batch"]) -> Int[Tensor, "batch n"]:
    """Positions of each text, from 0; `PADDED` where a slice gives a text fewer than the longest.

    Args:
      pos: None is all; an int or a list counts from the first token, negative from each text's own end; a slice is
        taken of each text; a tensor `[batch n]` has each text's own.
      n_tokens: Length of each text.
    Raises:
      UnknownPosition: A text has no such position.
    """
    try:
        if pos is None or isinstance(pos, slice):
            rows = [range(n)[pos or slice(None)] for n in n_tokens.tolist()]
        elif not isinstance(pos, Tensor):
            several: Any = [pos] if is_single(pos) else pos
            if any(isinstance(one, bool) for one in several):
                raise TypeError
            numbers = torch.tensor([index(one) for one in several], dtype=torch.long)
            pos = numbers[None].expand(len(n_tokens), -1)
    except TypeError:
        raise UnknownPosition(
            f"The positions {pos!r} were asked for.", "Give a whole number, a list of them, a slice or a tensor."
        ) from None
    if not isinstance(pos, Tensor):
        longest = max(map(len, rows))
        return torch.tensor([[*row, *[PADDED] * (longest - len(row))] for row in rows], dtype=torch.long)
    asked = pos.cpu()
    if asked.ndim != 2 or len(asked) != len(n_tokens) or asked.is_floating_point() or asked.dtype == torch.bool:
        raise UnknownPosition(
            f"Positions of shape {list(asked.shape)} were given for {count(len(n_tokens), 'text')}.",
            "A tensor of positions is [batch n], of whole numbers.",
        )
    if not asked.numel():
        raise UnknownPosition("No position was named.", "Name one, or None for all.")
    ends = n_tokens[:, None]
    found = torch.where(asked < 0, asked + ends, asked)
    outside = (found < 0) | (found >= ends)
    if outside.any():
        text = int(outside.any(-1).nonzero()[0])
        raise UnknownPosition(
            f"Position {int(asked[text][outside[text]][0])} was asked for, and text {text} has "
            f"{count(int(n_tokens[text]), 'token')}.",
            "Positions count from 0, negative ones from the end.",
        )
    return found


def gather(x: Tensor, positions: Int[Tensor, "batch n"], axis: int) -> Tensor:
    """Entries of `x` at each text's positions along `axis`, NaN where padded."""
    shape = [len(positions)] + [1] * (x.ndim - 1)
    shape[axis] = positions.shape[1]
    index = positions.to(x.device).reshape(shape)
    sizes = list(x.shape)
    sizes[axis] = positions.shape[1]
    if not bool((positions == PADDED).any()):
        return x.gather(axis, index.expand(sizes))
    return x.gather(axis, index.clamp(min=0).expand(sizes)).masked_fill(index == PADDED, torch.nan)
