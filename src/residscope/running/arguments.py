"""Arguments that are whole numbers, words or lists, and what is said where they are not."""

import sys
from collections.abc import Iterable
from operator import index
from typing import Any, SupportsFloat, TypeVar

from residscope.errors import BadArgument

_MOST = 2**63 - 1  # that torch takes

Word = TypeVar("Word")


def read_whole(name: str, value: object, least: int = 0, most: int = _MOST, hint: str = "") -> int:
    """An argument that is a whole number, of Python or NumPy.

    Args:
      name: The argument's, for the message.
      value: What was given.
      least: The smallest it may be.
      most: The largest.
      hint: What to do where it is none; the bounds where it is empty.
    Raises:
      BadArgument: It is none, or out of bounds.
    """
    try:
        number = index(value)  # type: ignore[arg-type]  # which is what is asked
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        bounds = f"from {least} on" if most == _MOST else f"from {least} to {most}"
        raise BadArgument(f"{name}={value!r} was asked for.", hint or f"Give a whole number {bounds}.")
    return number


def read_choice(name: str, value: Word, known: Iterable[str]) -> Word:
    """An argument that is one of some words.

    Args:
      name: The argument's, for the message.
      value: What was given.
      known: The words.
    Raises:
      BadArgument: It is none of them; the message lists them.
    """
    words = list(known)
    if not isinstance(value, str) or value not in words:
        *most, last = map(repr, words)
        either = f"{', '.join(most)} or {last}" if most else last
        raise BadArgument(f"{name}={value!r} was asked for.", f"Choose {either}.")
    return value


def read_share(name: str, value: object) -> float:
    """An argument that is a share.

    Raises:
      BadArgument: It is no number, not above 0, or above 1.
    """
    return _read_above_zero(name, value, 1, "Give a share above 0, at most 1.")


def read_size(name: str, value: object) -> float:
    """An argument that is a number above 0.

    Raises:
      BadArgument: It is none, or infinite.
    """
    return _read_above_zero(name, value, sys.float_info.max, "Give a number above 0.")


def _read_above_zero(name: str, value: object, most: float, hint: str) -> float:
    if isinstance(value, bool) or not isinstance(value, SupportsFloat) or not 0 < float(value) <= most:
        raise BadArgument(f"{name}={value!r} was asked for.", hint)
    return float(value)


def read_list(name: str, value: Any) -> list[Any]:
    """An argument that names several things.

    Raises:
      BadArgument: It is nothing to go through.
    """
    try:
        return list(value)
    except TypeError:
        raise BadArgument(f"{name}={value!r} was asked for.", "Give one by its name, or a list.") from None


def read_seed(value: object) -> int:
    """A seed that torch takes.

    Raises:
      BadArgument: It is none.
    """
    return read_whole("seed", value, -(2**63), hint="Give a whole number of at most 63 bits.")


def read_memory_bytes(value: object) -> int:
    """How much memory work may take.

    Raises:
      BadArgument: It is no number of bytes.
    """
    return read_whole("memory_bytes", value, 1, hint="Give a whole number, as 8_000_000_000 for 8 GB.")
