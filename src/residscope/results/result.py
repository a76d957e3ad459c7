"""What every analysis returns: a frozen value with named axes that gives numbers and shows itself."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from residscope.errors import BadArgument, BadResult
from residscope.results.html import render_html

Indices = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A result. Subclasses are frozen dataclasses whose fields are tensors and plain JSON values.

    Attributes:
      name: What is shown, for people.
      settings: Every convention that made it.
      python: The lines of Python that make it again.
    """

    name: str
    settings: Mapping[str, Any]
    python: Sequence[str]

    axes: ClassVar[tuple[str, ...]]
    view: ClassVar[str | None] = None
    view_dtype: ClassVar[torch.dtype] = torch.float32  # of the arrays that the view gets

    if TYPE_CHECKING:

        @property
        def values(self) -> Tensor:
            """The main array; `axes` names its axes. A field of a subclass, or a property."""

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        """Columns that stand beside an axis in a frame, as `token` beside `pos`."""
        return {}

    def to_frame(self) -> pd.DataFrame:
        """One row a cell, one column an axis, what stands beside it, and last `value`; padding is left out."""
        values = self.values.detach().double().cpu().numpy()
        places = dict(zip(self.axes, np.indices(values.shape).reshape(values.ndim, -1), strict=True))
        columns: dict[str, Any] = {}
        for axis, index in places.items():
            columns[axis] = index
            columns |= self.columns(axis, index, places)
        return pd.DataFrame({**columns, "value": values.ravel()})

    def payload(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON values; what the view reads."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if not isinstance(getattr(self, f.name), Tensor)}
        return {
            "result": f"{type(self).__module__}:{type(self).__name__}",
            "view": self.view,
            "axes": self.axes,
            **plain,
        }

    def to_json(self) -> str:
        """The payload and all arrays as nested lists; null where padded, and infinities as text."""
        arrays = {name: array.tolist() for name, array in self._arrays().items()}
        return json.dumps(_as_json({**self.payload(), **arrays}), allow_nan=False)

    def to_bytes(self, dtype: torch.dtype | None = None) -> bytes:
        """Safetensors: the arrays, in `dtype` if given, with the payload as JSON in the metadata."""
        arrays = {name: array.contiguous().to(dtype) for name, array in self._arrays().items()}
        return save(arrays, metadata={"payload": json.dumps(self.payload())})

    def save(self, path: str | Path) -> None:
        """Write the result to a file that `rs.open` reads.

        Raises:
          BadArgument: The file cannot be written.
        """
        write_file(path, self.to_bytes())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Result":
        """The result that a class with a JSON file of its own wrote.

        Raises:
          BadResult: This class has none.
        """
        raise BadResult(f"A {cls.__name__} is not read from JSON.", "Give a file that result.save() wrote.")

    def to_html(self) -> str:
        """One page that opens without a network.

        Raises:
          ViewsNotBuilt: The views are missing from a checkout.
          BadResult: The result has no view; it shows itself as a table.
        """
        if not self.view:
            raise BadResult(f"{self.name} has no view of its own.", "Use to_frame().to_html().")
        return render_html(self.name, self.to_bytes(self.view_dtype))

    def save_html(self, path: str | Path) -> None:
        """Write `to_html()` to a file.

        Raises:
          BadArgument: The file cannot be written.
        """
        write_file(path, self.to_html().encode())

    def as_python(self) -> str:
        """The code that makes this result again."""
        return "\n".join(self.python) + "\n"

    def _arrays(self) -> dict[str, Tensor]:
        found = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return {name: array.detach().cpu() for name, array in found.items()}

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if not self.view:
            return {"text/plain": self.name, "text/html": self.to_frame().to_html(max_rows=20)}
        from residscope.results.widget import make_widget  # a fifth of a second that only notebooks need

        return make_widget(self.view, self.to_bytes(self.view_dtype))._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        shape = " ".join(f"{axis}={size}" for axis, size in zip(self.axes, self.values.shape, strict=True))
        return f"{type(self).__name__}({self.name}: {shape})"


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file that somebody named.

    Raises:
      BadArgument: It cannot be written, or that is no path.
    """
    try:
        Path(path).write_bytes(content)
    except (OSError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no path"
        raise BadArgument(f"{path} cannot be written ({why}).", "Name another file.") from None


def open(path: str | Path) -> Result:
    """A result that was saved.

    Raises:
      BadResult: The file is none.
    Holds:
      `rs.open(path)` after `result.save(path)` has the same payload and arrays.
    """
    try:
        with Path(path).open("rb") as file:
            is_json = file.read(1) == b"{"
        if is_json:
            data = json.loads(Path(path).read_bytes())
            return _find_class(data).from_json(data)
        with safe_open(path, framework="pt") as file:
            payload = json.loads(file.metadata()["payload"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        found = _find_class(payload)
        plain = {f.name: payload[f.name] for f in fields(found) if f.name in payload}
        return found(**plain, **arrays)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise BadResult(f"{path} is no saved result ({why}).", "Give a file that result.save() wrote.") from None


def _find_class(payload: Mapping[str, Any]) -> type[Result]:
    """The class of result that a payload is of."""
    module, _, class_name = payload["result"].partition(":")
    if not re.fullmatch(r"residscope(\.[a-z]\w*){2}", module):
        raise ValueError(f"{module} holds no results")
    found = getattr(import_module(module), class_name)
    if not (isinstance(found, type) and issubclass(found, Result)):
        raise TypeError(f"{class_name} is no result")
    return found


def _as_json(value: Any) -> Any:
    """With what JSON has no number for as null or text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if isinstance(value, Mapping):
        return {key: _as_json(inner) for key, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def find_tokens(pieces: Sequence[Sequence[str]], texts: Indices, positions: Indices) -> np.ndarray[Any, np.dtype[Any]]:
    """The token at each position of each text; None where that is padding."""
    longest = max(map(len, pieces))
    padded = np.array([[*row, *[None] * (longest - len(row))] for row in pieces], dtype=object)
    return padded[texts, positions]


@dataclass(frozen=True, eq=False, repr=False)
class TokenResult(Result):
    """A result with a value for every token of some texts.

    Attributes:
      pieces: Each text's tokens, as people read them.
      special: Which of them are no text but marks.
    """

    pieces: Sequence[Sequence[str]]
    special: Sequence[Sequence[bool]]

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis not in ("pos", "query", "key"):
            return {}
        return {"token" if axis == "pos" else f"{axis}_token": find_tokens(self.pieces, places["batch"], index)}

    def to_frame(self) -> pd.DataFrame:
        frame = super().to_frame()
        return frame.dropna(subset=[name for name in frame.columns if str(name).endswith("token")], ignore_index=True)
