"""Arguments that are whole numbers, and what is said where they are not."""

from operator import index

from residscope.errors import BadArgument

_MOST = 2**63 - 1  # that torch takes


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
