"""A model's weights in safetensors files, read by memory map, one tensor at a time."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from residscope.errors import BadCheckpoint

INDEX = "model.safetensors.index.json"
PIECE_BYTES = 2**24
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


class Checkpoint:
    """The tensors of one directory, by name, in one file or many; or of one file.

    Args:
      path: Of the directory or the file.
    Raises:
      BadCheckpoint: There are none (with the command that converts pickled ones), or one is missing or cut short.
    """

    def __init__(self, path: Path) -> None:
        self._file_of: dict[str, Path] = {}
        for found in _find_files(path) if path.is_dir() else [path]:
            try:
                with safe_open(found, framework="pt") as file:
                    self._file_of.update(dict.fromkeys(file.keys(), found))
            except PermissionError:
                raise BadCheckpoint(f"{found} may not be read.", "Change its permissions.") from None
            except (SafetensorError, OSError) as error:
                raise BadCheckpoint(
                    f"{found} is not a whole safetensors file ({error}).", "Download or copy it again."
                ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def read(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor: the mapped file itself where dtype and device allow, else converted in pieces.

        Raises:
          BadCheckpoint: It is stored in a dtype that is no plain floating point.
        """
        # Opened anew for each tensor or piece: the map is let go with it, and what was read does not pile up.
        mapped = self._map(name)
        refuse_quantised(mapped, name, str(self._file_of[name]))
        if (mapped.dtype, mapped.device) == (dtype, device) or mapped.ndim == 0:
            return mapped.to(device, dtype)
        converted = torch.empty(mapped.shape, dtype=dtype, device=device)
        rows = max(1, PIECE_BYTES * len(mapped) // max(1, mapped.nbytes))
        for start in range(0, len(mapped), rows):
            converted[start : start + rows] = self._map(name)[start : start + rows]
        return converted

    def _map(self, name: str) -> Tensor:
        with safe_open(self._file_of[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor


def _find_files(directory: Path) -> list[Path]:
    if (directory / INDEX).is_file():
        try:
            names = sorted({str(name) for name in json.loads((directory / INDEX).read_text())["weight_map"].values()})
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise BadCheckpoint(f"{directory / INDEX} is no index of tensors.", "Download or copy it again.") from None
        missing = [name for name in names if not (directory / name).is_file()]
        if missing:
            raise BadCheckpoint(
                f"{directory} lacks {', '.join(missing)}, which {INDEX} names.", "Download or copy them again."
            )
        return [directory / name for name in names]
    found = [directory / "model.safetensors"]
    found = found if found[0].is_file() else sorted(directory.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if found:
        raise BadCheckpoint(
            f"{directory} holds {len(found)} safetensors files and no {INDEX}.",
            "Name the one to read model.safetensors, or add the index.",
        )
    refuse_pickled(str(directory), [path.name for path in directory.iterdir()])
    raise BadCheckpoint(f"{directory} has a config.json and no safetensors file.", "Download the weights too.")


def refuse_quantised(tensor: Tensor, name: str, source: str) -> None:
    """Refuse a tensor that is no plain floating point.

    Raises:
      BadCheckpoint: Names it and its dtype.
    """
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise BadCheckpoint(
            f"{source} stores {name} as {str(tensor.dtype).removeprefix('torch.')}.",
            "Quantised weights are not supported; take the original ones.",
        )


def refuse_pickled(source: str, names: Iterable[str]) -> None:
    """Refuse a model of which `names` are the files, where only pickles have its weights.

    Raises:
      BadCheckpoint: With the command that converts them.
    """
    pickled = sorted(name for name in names if name.endswith(PICKLED))
    if pickled:
        raise BadCheckpoint(
            f"{source} has its weights only in pickled files ({', '.join(pickled[:3])}), which are never opened.",
            'If you trust them, convert them: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{source}').save_pretrained('{source.replace('/', '-').strip('-')}-safetensors')\" "
            "and copy the tokenizer's files beside them.",
        )
