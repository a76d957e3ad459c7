"""A graph while it is traced, level by level in a folder, so that tracing that ended early goes on."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.edges import Edges

_CALL = "call.json"


@dataclass(frozen=True, eq=False)
class Traced:
    """What was found of the sources of one level.

    Attributes:
      edges: That may be kept.
      effects: [source output]
      numbers: [source] Of those that were traced, among all.
      sizes: [source] Summed size of all their edges.
      n_measured: How many edges these were.
      noise_floor: What no edit at all did.
    """

    edges: Edges
    effects: Float[Tensor, "source output"]
    numbers: Int[Tensor, " some"]
    sizes: Float[Tensor, " some"]
    n_measured: int
    noise_floor: float


class Shards:
    """A folder with a file for each level that was traced, and the call that they are of.

    Args:
      folder: Made where it is not there.
      call: All that the result depends on, as JSON values.
    Raises:
      BadArgument: The folder is none, of another call, holds something else, or cannot be written.
    Holds:
      Whenever a writer is killed, every file is whole or not there; each says a SHA-256 of what is in it, of its level
      and of the call.
    """

    def __init__(self, folder: str | Path, call: Mapping[str, Any]) -> None:
        if not isinstance(folder, str | Path):
            raise BadArgument(f"out={folder!r:.80} was asked for.", "Name a folder.")
        self.folder = Path(folder)
        name = repr(str(self.folder))
        self._told = told = json.dumps(call, indent=1, sort_keys=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / _CALL
            if not path.is_file():
                if any(one.suffix != ".new" for one in self.folder.iterdir()):
                    raise BadArgument(f"{name} holds other files.", "Name an empty folder, or a new one.")
                _write(path, told.encode())
            kept = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadArgument(f"{name} cannot be used ({error}).", "Name another folder.") from None
        if kept != told:
            raise BadArgument(
                f"{name} was begun by another call, which differs in {_find_difference(kept, call)}.",
                "Name another folder, or call it with what it was begun with.",
            )

    def read(self, level: int) -> Traced | None:
        """What was found of a level; None where that was not finished.

        Raises:
          BadArgument: Its file is not what `write` wrote.
        """
        path, hint = self._path(level), "Remove it, and the level is traced anew."
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
                said = file.metadata()
        except (OSError, SafetensorError) as error:
            raise BadArgument(f"{path} cannot be read ({error}).", hint) from None
        if said != self._sign(level, found):
            raise BadArgument(f"{path} is not what was written there.", hint)
        edges = Edges(*(found[f"edges.{one.name}"] for one in fields(Edges)))
        counted = int(found["n_measured"]), float(found["noise_floor"])
        return Traced(edges, found["effects"], found["numbers"], found["sizes"], *counted)

    def write(self, level: int, traced: Traced) -> None:
        """Keep what was found of a level."""
        tensors = {f"edges.{one.name}": getattr(traced.edges, one.name) for one in fields(Edges)}
        tensors |= {name: getattr(traced, name).cpu() for name in ("effects", "numbers", "sizes")}
        tensors["n_measured"] = torch.tensor(traced.n_measured)
        tensors["noise_floor"] = torch.tensor(traced.noise_floor, dtype=torch.float64)
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        _write(self._path(level), save(tensors, self._sign(level, tensors)))

    def _sign(self, level: int, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """What a level's file says of itself."""
        found = hashlib.sha256(f"{level} {self._told}".encode())
        for name, tensor in sorted(tensors.items()):
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            found.update(tensor.flatten().view(torch.uint8).numpy().data)
        return {"sha256": found.hexdigest()}

    def _path(self, level: int) -> Path:
        return self.folder / f"{'tokens' if level < 0 else f'level_{level}'}.safetensors"


def _write(path: Path, content: bytes) -> None:
    """Aside, and then in its place."""
    aside = path.with_name(f"{path.name}.new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _find_difference(kept: str, call: Mapping[str, Any]) -> str:
    try:
        other = dict(json.loads(kept))
    except (ValueError, TypeError):
        return "all, for its call.json says none"
    told = json.loads(json.dumps(call))
    return ", ".join(name for name in sorted({*told, *other}) if told.get(name) != other.get(name))
