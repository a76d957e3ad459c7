"""What tells a plain function from others of its name."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from torch import Tensor

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def hash_code(function: Callable[..., Any]) -> str:
    """SHA-256 of a function's code, and of what that takes from around it.

    Holds:
      The same for the same code in another place or process; other where the code is, or a number, a text, an array or
      a function that it uses. All else that it uses is told by its type and name alone.
    """
    found, seen = hashlib.sha256(), set[int]()

    def tell(value: Any) -> None:
        found.update(f"{type(value).__qualname__} {getattr(value, '__name__', '')} ".encode())
        if isinstance(value, _PLAIN):
            found.update(repr(value).encode())
        elif isinstance(value, (Tensor, np.ndarray)):
            array = np.ascontiguousarray(value.detach().cpu().double() if isinstance(value, Tensor) else value)
            found.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
        elif id(value) not in seen:  # functions may call each other
            seen.add(id(value))
            for one in _list_parts(value):
                tell(one)

    tell(function)
    return found.hexdigest()


def _list_parts(value: Any) -> Iterator[Any]:
    """What a function, or a collection, is made of."""
    if isinstance(value, FunctionType):
        yield value.__code__
        yield from (value.__defaults__, value.__kwdefaults__)
        yield from (cell.cell_contents for cell in value.__closure__ or ())
        yield from (value.__globals__[name] for name in _list_names(value.__code__) if name in value.__globals__)
    elif isinstance(value, CodeType):
        yield from (value.co_code, value.co_names, value.co_consts)
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, Mapping):
        yield from (one for item in value.items() for one in item)
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, (set, frozenset)):
        yield from sorted(map(repr, value))


def _list_names(code: CodeType) -> Iterator[str]:
    """What it may look up around the function, functions in it among it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _list_names(inner)
