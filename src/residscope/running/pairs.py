"""Pairs of prompts, clean and corrupted, with their answers and the places that have a role in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from residscope.errors import BadArgument, UnknownPosition, UnknownToken, count
from residscope.running.metrics import Metric, logit_difference

if TYPE_CHECKING:
    from residscope.running.model import Model

Side = Literal["clean", "corrupted"]
Mark = int | str

_COLUMNS = ("clean", "corrupted", "correct", "wrong")


@dataclass(frozen=True)
class Pairs:
    """Prompts in pairs. Made by `rs.pairs`.

    Attributes:
      clean, corrupted: The prompts.
      correct, wrong: For each pair the token that the clean prompt asks for, and the other.
      roles: By name, for each pair, where the role is in the clean and in the corrupted prompt: a position, negative
        ones from the end, or a word, as a token's text with its space.
      source: The Python that makes them, where that is shorter than they are.
    """

    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    correct: tuple[str, ...]
    wrong: tuple[str, ...]
    roles: Mapping[str, tuple[tuple[Mark, Mark | None], ...]]
    source: str = field(default="", compare=False, repr=False)

    @property
    def python(self) -> str:
        """What makes them again."""
        return self.source or f"rs.{self!r}"

    def metric(self) -> Metric:
        """The logit of the correct answer less that of the wrong one, at the end."""
        return logit_difference(list(self.correct), list(self.wrong))

    def positions(self, model: "Model", role: str, side: Side = "clean") -> Int[Tensor, "batch 1"]:
        """Where a role is in each prompt.

        A word that several roles of a pair name stands for its occurrences in turn: of S1 and S2, both " John", S1 is
        the first. A role without a mark of its own in the corrupted prompt is where it is in the clean one; where that
        has another length, it is found there by the same word, or from the end.

        Args:
          model: Whose tokens.
          role: Its name.
          side: Which prompts.
        Raises:
          BadArgument: There is no such role, or it is a position that a prompt of another length does not share.
          UnknownToken: A prompt has no such word as one token; the message shows how it splits.
          UnknownPosition: A prompt has no such position.
        """
        if role not in self.roles:
            raise BadArgument(f"There is no role {role!r}.", f"The pairs have {', '.join(self.roles) or 'none'}.")
        clean = model.tokenize(list(self.clean))
        texts = {"clean": clean, "corrupted": model.tokenize(list(self.corrupted))}
        found = []
        for pair, marks in enumerate(self.roles[role]):
            own = side == "clean" or marks[1] is not None
            chosen: Side = side if own else "clean"
            pieces = texts[chosen].pieces[pair]
            if not own and len(pieces) != len(texts[side].pieces[pair]):
                if isinstance(marks[0], int) and marks[0] >= 0:
                    raise BadArgument(
                        f"Pair {pair} has prompts of {len(pieces)} and {len(texts[side].pieces[pair])} tokens, and "
                        f"{role} is position {marks[0]} of the clean one.",
                        "Mark it in both, as (3, 4), or by its word, or from the end.",
                    )
                chosen, pieces = side, texts[side].pieces[pair]
            found.append([self._find(role, pair, _SIDES.index(side) if own else 0, chosen, pieces)])
        return torch.tensor(found)

    def _find(self, role: str, pair: int, column: int, side: Side, pieces: Sequence[str]) -> int:
        """Where the mark of a column, as the clean prompt's 0, is in the pieces of a side."""
        mark = self.roles[role][pair][column]
        if isinstance(mark, int):
            position = mark + len(pieces) if mark < 0 else mark
            if not 0 <= position < len(pieces):
                raise UnknownPosition(
                    f"{role} of pair {pair} is position {mark}, and the {side} prompt has {len(pieces)} tokens.",
                    "Positions count from 0, negative ones from the end.",
                )
            return position
        names = list(self.roles)
        occurrence = sum(self.roles[name][pair][column] == mark for name in names[: names.index(role)])
        places = [place for place, piece in enumerate(pieces) if piece == mark]
        if occurrence >= len(places):
            found = f"only {count(len(places), 'such token')}" if places else "no such token"
            raise UnknownToken(
                f"{role} of pair {pair} is {'another ' if places else ''}{mark!r}, and the {side} prompt has {found}: "
                f"{' | '.join(pieces)}.",
                "Give a whole token with its space, or a position.",
            )
        return places[occurrence]

    def to_frame(self) -> pd.DataFrame:
        """One row a pair, as `rs.pairs` reads it."""
        roles = {name: [a if b is None else (a, b) for a, b in marks] for name, marks in self.roles.items()}
        return pd.DataFrame({**{name: getattr(self, name) for name in _COLUMNS}, **roles})

    def __len__(self) -> int:
        return len(self.clean)

    def __iter__(self) -> Iterator["Pairs"]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, which: int | slice) -> "Pairs":
        """Some of them, or one alone.

        Raises:
          IndexError: There is none of that number.
        """
        if not isinstance(which, slice):
            number = range(len(self))[which]
            which = slice(number, number + 1)
        some: dict[str, Any] = {name: getattr(self, name)[which] for name in _COLUMNS}
        ends = ("" if end is None else str(end) for end in (which.start, which.stop, which.step))
        source = self.source and f"{self.source}[{':'.join(ends)}]"
        return replace(self, **some, roles={name: marks[which] for name, marks in self.roles.items()}, source=source)


_SIDES: tuple[Side, ...] = ("clean", "corrupted")


def pairs(frame: Any) -> Pairs:
    """Pairs of prompts from a table.

    Args:
      frame: A pandas DataFrame, or what makes one: rows as dicts, or columns. `clean` and `corrupted` are prompts,
        `correct` and `wrong` tokens as text; every other column is a role: a position, a word, or of both prompts
        (clean, corrupted).
    Raises:
      BadArgument: A column is missing, there is no row, or a cell is of another type.
    """
    try:
        table = pd.DataFrame(frame)
    except (ValueError, TypeError) as error:
        raise BadArgument(
            f"The pairs are no table ({error}).", "Give rows as dicts, columns, or a DataFrame."
        ) from None
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise BadArgument(f"The pairs have two columns {twice!r}.", "Name each once.")
    missing = [name for name in _COLUMNS if name not in table]
    if missing or not len(table):
        found = f"have no column {', '.join(missing)}" if missing else "have no row"
        raise BadArgument(f"The pairs {found}.", f"Give {', '.join(_COLUMNS)}, and a column for each role.")
    for name in _COLUMNS:
        wrong = next((cell for cell in table[name] if not isinstance(cell, str) or not cell), None)
        if wrong is not None:
            raise BadArgument(f"The column {name} of the pairs holds {wrong!r}.", "Give text.")
    roles = {
        str(name): tuple(_read_mark(cell, str(name)) for cell in table[name])
        for name in table.columns
        if name not in _COLUMNS
    }
    columns: dict[str, Any] = {name: tuple(table[name]) for name in _COLUMNS}
    return Pairs(**columns, roles=roles)


def _read_mark(cell: Any, role: str) -> tuple[Mark, Mark | None]:
    both = tuple(cell) if isinstance(cell, (tuple, list)) else (cell, None)
    marks = [mark if isinstance(mark, str) or mark is None else _whole(mark) for mark in both]
    if len(marks) != 2 or marks[0] is None or any(mark != given for mark, given in zip(marks, both, strict=True)):
        raise BadArgument(f"The role {role} is {cell!r}.", "Give a position, a word, or (clean, corrupted) of these.")
    return marks[0], marks[1]


def _whole(mark: Any) -> int | None:
    try:
        return int(mark)
    except (TypeError, ValueError, OverflowError):
        return None
