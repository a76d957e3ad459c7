"""Values inside edits as JSON and as Python; long ones lie beside it, named by a hash of their content."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from residscope.direction import Direction
from residscope.errors import BadEdit
from residscope.running.run import Run
from residscope.running.texts import describe_texts
from residscope.sites import Site, find_sites, read_site

if TYPE_CHECKING:
    from residscope.running.edits import Edit


@runtime_checkable
class Readable(Protocol):
    """A feature: a number read from a site, and the vector that writes it there."""

    @property
    def site(self) -> Site: ...
    @property
    def vector(self) -> Tensor: ...
    def read(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Numbered(Protocol):
    """A feature of a dictionary, which lies in a file where it has a source."""

    @property
    def number(self) -> int: ...
    @property
    def source(self) -> str | None: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    @property
    def call(self) -> str: ...


LENGTHS = "n_tokens"  # beside the sites of a recorded run
_INLINE = 16
_KEPT = ("site", "centred")  # of how a dictionary was loaded; whether pickles may be opened, who reads the edit says

# What the Python of edits, metrics and texts may use.
_IMPORTS = {
    "Path(": "from pathlib import Path",
    "safetensors.": "import safetensors.torch",
    "torch.tensor(": "import torch",
}


def pack(value: Any, edit: "Edit", folder: Path | None) -> Any:
    """As JSON; tensors of more than 16 numbers are written into `folder`.

    Raises:
      BadEdit: There is no folder for them, or the value is of a kind that has no JSON.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise BadEdit(f"{edit.name} holds {value}, which has no JSON.", "Give a finite number.")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        return _pack_tensor(value.detach().cpu(), folder)
    if isinstance(value, Run):
        value = recorded(value, edit)
    if isinstance(value, Mapping):
        return {"recorded": {str(site): pack(tensor, edit, folder) for site, tensor in value.items()}}
    if isinstance(value, Direction):
        facts = {"name": value.name, "site": str(value.site), "deviation": value.deviation, "head": value.head}
        mean = {} if value.mean is None else {"mean": pack(value.mean, edit, folder)}
        return {"direction": facts | {"vector": pack(value.vector, edit, folder)} | mean}
    if isinstance(value, (list, tuple, range)):
        return [pack(item, edit, folder) for item in value]
    if isinstance(value, Numbered):
        if value.source is None:
            raise BadEdit(
                "The feature's dictionary was made in memory, and has no JSON.",
                "Save it, and take the feature of what rs.load_dictionary gives.",
            )
        options = {name: value.options[name] for name in _KEPT if name in value.options}
        return {"feature": {"dictionary": value.source, "number": int(value.number), **options}}
    raise BadEdit(
        f"{edit.name} holds a value of the type {type(value).__name__}, which has no JSON.", "Give it as numbers."
    )


def unpack(data: Any, folder: Path | None, dictionaries: Callable[..., Any] | None = None) -> Any:
    """The value that `pack` wrote.

    Args:
      data: Its JSON.
      folder: Where long tensors were written.
      dictionaries: Opens those that features are of.
    Raises:
      BadEdit: A tensor is not in `folder`, or is another than its name says; or nothing opens a dictionary.
    """
    if isinstance(data, list):
        return [unpack(item, folder, dictionaries) for item in data]
    if not isinstance(data, dict):
        return data
    (kind, inner), *_ = data.items()
    if kind == "path":
        return Path(inner)
    if kind == "slice":
        return slice(*inner)
    if kind == "recorded":
        return {site: unpack(tensor, folder) for site, tensor in inner.items()}
    if kind == "direction":
        mean = unpack(inner["mean"], folder) if "mean" in inner else None
        vector = unpack(inner["vector"], folder)
        site, head = read_site(inner["site"]), inner.get("head")
        return Direction(inner["name"], site, vector, mean, inner["deviation"], head)
    if kind == "feature":
        if dictionaries is None:
            raise BadEdit(
                f"The edit has a feature of the dictionary {inner['dictionary']!r}.",
                "Give from_json dictionaries=rs.load_dictionary.",
            )
        options = {name: inner[name] for name in _KEPT if name in inner}
        return dictionaries(inner["dictionary"], **options)[inner["number"]]
    if kind == "values":
        return torch.tensor(inner, dtype=getattr(torch, data["dtype"])).reshape(data["shape"])
    if not re.fullmatch("[0-9a-f]{32}", data["hash"]):
        raise ValueError(f"{data['hash']!r} is no hash")
    path = (folder or Path()) / f"{data['hash']}.safetensors"
    if not path.is_file():
        raise BadEdit(f"The edit's vector {path.name} is not in {path.parent}.", "Give the folder it was written to.")
    try:
        tensor: Tensor | None = load_file(path)["value"]
    except (SafetensorError, KeyError):
        tensor = None
    if tensor is None or _hash(tensor) != data["hash"]:
        raise BadEdit(f"{path} does not hold what its name says.", "Write the edit anew.")
    return tensor


def source_of(value: Any) -> str:
    """The Python that gives this value, where `rs`, `torch`, `safetensors`, `Path` and `model` are known."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        if _is_inline(value):
            return f"torch.tensor({value.tolist()}, dtype={value.dtype})"
        return f"safetensors.torch.load_file('{_hash(value)}.safetensors')['value']"
    if isinstance(value, Direction):
        mean = "" if value.mean is None else f", {source_of(value.mean)}"
        head = "" if value.head is None else f", head={value.head}"
        return f"rs.Direction({value.name!r}, rs.{value.site!r}, {source_of(value.vector)}{mean}{head})"
    if isinstance(value, Numbered) and value.source is not None:
        return value.call
    if isinstance(value, Path):
        return describe_texts(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{str(site)!r}: {source_of(tensor)}" for site, tensor in value.items()) + "}"
    if isinstance(value, (list, tuple, range)):
        return f"[{', '.join(map(source_of, value))}]"
    return value.__name__ if callable(value) and hasattr(value, "__name__") else repr(value)


def write_lines(before: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The Python of a result, with the imports that its lines use in front of those before.

    Args:
      before: Lines that make the model, or what else comes first.
      lines: With values as `source_of` writes them, and runs, edits and metrics as they print.
    """
    return [*(line for used, line in _IMPORTS.items() if any(used in text for text in lines)), *before, *lines]


def recorded(run: Run, edit: "Edit") -> dict[str, Tensor]:
    """A run as the values that it has at an edit's sites, and the lengths of its texts."""
    sites = [site for name in edit.sites for site in find_sites(name, run.model.sites)]
    return {str(site): run.raw(site) for site in sites} | {LENGTHS: run.tokens.n_tokens}


def owner_of(value: Any) -> object:
    """What a value's Python does not tell: the model of a run, and a function or feature itself."""
    if isinstance(value, Run):
        return value.model
    if isinstance(value, Numbered) and value.source is not None:
        return None
    return value if callable(value) or isinstance(value, Readable) else None


def _is_inline(tensor: Tensor) -> bool:
    return 0 < tensor.numel() <= _INLINE and bool(tensor.isfinite().all())  # neither JSON nor Python writes NaN


def _pack_tensor(tensor: Tensor, folder: Path | None) -> dict[str, Any]:
    if _is_inline(tensor):
        dtype = str(tensor.dtype).removeprefix("torch.")
        return {"values": tensor.flatten().tolist(), "dtype": dtype, "shape": list(tensor.shape)}
    if folder is None:
        raise BadEdit(
            f"The edit holds {tensor.numel()} numbers, too many for its JSON or not finite.",
            "Give to_json a folder to put them in.",
        )
    name = _hash(tensor)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"value": tensor.contiguous()}, folder / f"{name}.safetensors")
    return {"hash": name}


def _hash(tensor: Tensor) -> str:
    content = hashlib.blake2b(f"{tensor.dtype} {list(tensor.shape)}".encode(), digest_size=16)
    content.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
