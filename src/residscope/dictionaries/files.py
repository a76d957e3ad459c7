"""A dictionary's files: what they say and the tensors they hold, checked before anything is computed with them."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from residscope.errors import BadDictionary
from residscope.sites import KINDS, Site, read_site

_T = TypeVar("_T")
Tensors = Mapping[str, Tensor]

_SHAPES = {
    "encoder": ("d_in", "feature"),
    "decoder": ("feature", "d_out"),
    "encoder_bias": ("feature",),
    "decoder_bias": ("d_out",),
    "threshold": ("feature",),
    "gate_bias": ("feature",),
    "magnitude": ("feature",),
    "skip": ("d_out", "d_in"),
}
_AGAIN = "Save or download the dictionary again."


def read_json(path: Path) -> dict[str, Any]:
    """A file's object.

    Raises:
      BadDictionary: It cannot be read, or is something else.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadDictionary(f"{path} cannot be read ({error}).", _AGAIN) from None
    if not isinstance(found, dict) or not found:
        raise BadDictionary(f"{path} holds {str(found)[:40]}, and no settings.", _AGAIN)
    return found


def choose(facts: Mapping[str, Any], key: str, known: Mapping[str, _T], default: str, path: Path) -> _T:
    """What a config's word stands for.

    Raises:
      BadDictionary: It is another word than those known here.
    """
    value = facts.get(key) or default
    if not isinstance(value, str) or value not in known:
        raise BadDictionary(f"{path} has {key}={value!r}.", f"Supported: {', '.join(known)}.")
    return known[value]


def read_flag(facts: Mapping[str, Any], key: str, default: bool, path: Path) -> bool:
    """Whether a config says yes to something.

    Raises:
      BadDictionary: It says neither yes nor no.
    """
    value = facts.get(key, default)
    if not isinstance(value, bool):
        raise BadDictionary(f"{path} has {key}={value!r}.", "Say true or false.")
    return value


def refuse_unknown(keys: Iterable[str], path: Path) -> None:
    """Refuse a config that says more than is known here.

    Raises:
      BadDictionary: There are such keys.
    """
    if names := ", ".join(sorted(keys)):
        raise BadDictionary(
            f"{path} has {names}, which may change what is computed and is not known here.",
            "Take it out where it changes nothing.",
        )


def check_k(k: Any, n_features: int, path: Path, *, divides: bool = False) -> int:
    """How many features stay.

    Raises:
      BadDictionary: It is no whole number from 1 to as many as there are, or has to divide that and does not.
    """
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= n_features or (divides and n_features % k):
        raise BadDictionary(f"{path} has k={k!r}, and {n_features} features.", "Say how many of them stay, as k=32.")
    return k


def choose_site(asked: Site | None, name: Any, path: Path) -> Site:
    """The site that was asked for, or else the one that the files name.

    Raises:
      BadDictionary: Neither is there, or the files name one that does not exist here.
    """
    site = asked or (read_site(name) if name and isinstance(name, str) else None)
    if site is None:
        raise BadDictionary(
            f"{path} does not say which site it reads.", 'Say it: load_dictionary(path, site="resid_pre.3").'
        )
    if site.kind not in KINDS:
        if asked:
            raise BadDictionary(f'site="{asked}" was given, which is no site.', 'Give one that is: "resid_pre.3".')
        raise BadDictionary(f"{path} reads {name!r}, which is no site here.", 'Give one that is: site="resid_pre.3".')
    return site


def map_safetensors(path: Path) -> Tensors:
    """The tensors of a file, as they lie in it: none is in memory before it is used, nor has to stay there.

    Raises:
      BadDictionary: It cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadDictionary(f"{path} cannot be read ({error}).", _AGAIN) from None


def unpickle(path: Path, classes: Sequence[type] = ()) -> Any:
    """What a pickle of PyTorch's holds, tensors and plain values alone; mapped, where the file is laid out for it.

    Args:
      path: The file.
      classes: What else may be in it.
    Raises:
      BadDictionary: It cannot be read, or holds more than that.
    """
    try:
        with torch.serialization.safe_globals([*classes]):
            return torch.load(path, map_location="cpu", mmap=is_zipfile(path), weights_only=True)
    except Exception as error:  # of the pickle's, the archive's and the disk's many
        # The words of the pickle's own errors tell how to run what is in it.
        if found := re.search(r"GLOBAL (\S{1,80})", str(error)):
            raise BadDictionary(f"{path} holds {found[1]}, no tensor or plain value.", "Do not open it.") from None
        plain = isinstance(error, (OSError, RuntimeError))
        why = str(error).partition("\n")[0] if plain else type(error).__name__
        raise BadDictionary(f"{path} cannot be read as tensors and plain values ({why}).", _AGAIN) from None


def check_tensors(found: Any, path: Path) -> Tensors:
    """What was in a pickle, as tensors.

    Raises:
      BadDictionary: It is something else.
    """
    if not isinstance(found, Mapping) or not all(isinstance(one, Tensor) for one in found.values()):
        raise BadDictionary(f"{path} holds something else than tensors by their names.", _AGAIN)
    return found


def read_arrays(path: Path) -> Tensors:
    """The arrays of a NumPy archive.

    Raises:
      BadDictionary: It cannot be read, or only by unpickling.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, BadZipFile) as error:
        raise BadDictionary(f"{path} cannot be read ({error}).", _AGAIN) from None


def read_weights(
    path: Path,
    opened: Callable[[Path], Tensors],
    layout: Mapping[str, str],
    said: Mapping[str, Any],
    *,
    transcodes: bool = False,
    ignored: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """A dictionary's weights in float32, under the names of its fields, whose values they are.

    Args:
      path: The file.
      opened: Opens it; done twice, as what was mapped to be checked would stay in memory.
      layout: The file's name of each tensor; ending in ".T", it lies there transposed.
      said: Sizes that the config says: "d_in", "feature", "d_out"; one may be None.
      transcodes: Whether what is written may have another size than what is read.
      ignored: Tensors that change nothing.
    Raises:
      BadDictionary: Some are missing, unknown, of another shape, or hold what is no number.
    """
    stored = opened(path)
    names = {ours: name.removesuffix(".T") for ours, name in layout.items()}
    wrong = [f"no {name}" for name in names.values() if name not in stored]
    wrong += [f"an unknown {name}" for name in sorted({*stored} - {*names.values()} - ignored)]
    if wrong:
        raise BadDictionary(f"{path} has {', '.join(wrong)}.", f"It has to have {', '.join(names.values())}.")
    sizes = {axis: size for axis, size in said.items() if size is not None}
    for ours, name in names.items():
        turned, shape = layout[ours] != name, list(stored[name].shape)
        for axis, size in zip(_SHAPES[ours], reversed(shape) if turned else shape, strict=False):
            sizes.setdefault(axis, size)
            if not transcodes and axis == "d_in":
                sizes.setdefault("d_out", sizes["d_in"])
        fits = [sizes.get(axis, 0) for axis in (reversed(_SHAPES[ours]) if turned else _SHAPES[ours])]
        if shape != fits:
            raise BadDictionary(
                f"{name} in {path} is {shape}, where {fits} would fit.", "Take all files from one dictionary."
            )
        if not stored[name].is_floating_point() or not _is_finite(stored[name]):
            raise BadDictionary(f"{name} in {path} holds NaN, infinity or whole numbers.", "Save it again.")
    del stored
    again = opened(path)
    return {
        ours: (again[name].T if layout[ours] != name else again[name]).to(torch.float32) for ours, name in names.items()
    }


def _is_finite(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and bool(torch.stack(torch.aminmax(tensor)).isfinite().all())
