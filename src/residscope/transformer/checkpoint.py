"""A model's weights in safetensors files, read by memory map, one tensor at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from residscope.errors import BadCheckpoint

INDEX = "model.safetensors.index.json"


class Checkpoint:
    """The tensors of one directory, by name, in one file or many.

    Args:
      directory: Where the files lie.
    Raises:
      BadCheckpoint: There are none (with the command that converts pickled ones), or one is missing or cut short.
    """

    def __init__(self, directory: Path) -> None:
        self._file_of: dict[str, Path] = {}
        for path in _find_files(directory):
            try:
                with safe_open(path, framework="pt") as file:
                    self._file_of.update(dict.fromkeys(file.keys(), path))
            except (SafetensorError, OSError) as error:
                raise BadCheckpoint(
                    f"{path} is not a whole safetensors file ({error}).", "Download or copy it again."
                ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __getitem__(self, name: str) -> Tensor:
        # Opened anew for each tensor: the map is let go with the tensor, and what was read does not pile up.
        with safe_open(self._file_of[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor


def _find_files(directory: Path) -> list[Path]:
    if (directory / INDEX).is_file():
        try:
            names = sorted(set(json.loads((directory / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError):
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
    pickled = sorted(path.name for suffix in ("bin", "pt", "pth", "ckpt") for path in directory.glob(f"*.{suffix}"))
    if pickled:
        raise BadCheckpoint(
            f"{directory} has its weights only in pickled files ({', '.join(pickled[:3])}), which are never opened.",
            'If you trust them, convert them: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{directory}').save_pretrained('{directory}-safetensors')\" "
            "and copy the tokenizer's files beside them.",
        )
    raise BadCheckpoint(f"{directory} has a config.json and no safetensors file.", "Download the weights too.")
