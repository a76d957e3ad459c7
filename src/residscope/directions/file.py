"""Directions from files: our own, and bare vectors once their site is said."""

import json
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from residscope.direction import FORMAT, Direction
from residscope.errors import BadDirection
from residscope.sites import Site, name_place, read_site

_UNREADABLE = (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError)


class Fingerprinted(Protocol):
    """A dictionary, as far as directions know it."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


def load_direction(
    path: str | Path,
    *,
    site: str | Site | None = None,
    head: int | None = None,
    dictionaries: Iterable[Fingerprinted] = (),
) -> Direction:
    """Read a direction.

    A file of our own is safetensors: in float64 the tensors `vector` `[d]`, where it is centred `mean`, and where
    labels made it `shuffled` `[n d]`; and in its metadata under `residscope` a JSON object with `format`
    ("residscope direction 1"), `tool`, `name`, `site`, `head` (a number or null; older files lack it, which is null),
    `centre` ("none" or "mean"), `deviation` (a number or null), `left_out` (positions), `history` and `python` (lines
    that make it again). The history says how it was made, of what data, and of which model: `model`, its name, and
    `source`, `revision` (of the hub, or null) and `weights`, a hash of the first numbers of each. What else is taken is
    a JSON list of numbers and a `.npy` of one axis, of any length: their unit vector.

    Args:
      path: The file.
      site: Where a bare vector lives. One of our own says that itself.
      head: Of which head, where the site has heads.
      dictionaries: Those in use: what was made of another one of the same name is refused.
    Raises:
      BadDirection: It cannot be read, is cut short, holds no direction, or a bare vector's site was not said; the site
        has no such head, the direction is of another place than was asked for, or a feature of another dictionary.
      UnknownSite: The site is no site's name.
    Holds:
      What `direction.save` wrote is read back bit for bit; nothing but numbers is read of a `.npy`.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadDirection(f"{path} cannot be read ({error.strerror}).", "Name a file.") from None
    found = read_file(content, str(path), site=site, head=head)
    check_dictionaries(found, dictionaries)
    return found


def check_dictionaries(direction: Direction, known: Iterable[Fingerprinted]) -> None:
    """Refuse a feature, or a sum that has one, of another dictionary than the known one of that name.

    Raises:
      BadDirection: Their fingerprints differ. Files from before fingerprints were kept have none, and pass.
    """
    theirs = [one for one in _list_mappings(direction.history) if one.get("kind") == "feature"]
    for ours in known:
        for one in theirs:
            found = one.get("fingerprint")
            if one.get("dictionary") == ours.name and found is not None and found != ours.fingerprint:
                raise BadDirection(
                    f"{direction.name} is made of a dictionary {ours.name} with the fingerprint {str(found)[:8]}, and "
                    f"the one of that name here has {ours.fingerprint[:8]}.",
                    "Take the feature of the dictionary that is here, or give the bare vector as .npy or .json.",
                )


def check_weights(direction: Direction, name: str, weights_hash: str | None) -> None:
    """Refuse a direction, or a sum of which a part is, that was made of another model's weights.

    Raises:
      BadDirection: Their hashes differ. What has none passes: uploads, files from before hashes were kept, and what was
        made in float16.
    """
    for one in _list_mappings(direction.history):
        found = one.get("weights")
        if weights_hash and found and found != weights_hash:
            raise BadDirection(
                f"{direction.name} is made of the model {one.get('model')} ({str(found)[:8]}), and this is {name} "
                f"({weights_hash[:8]}).",
                "Take one of this model, or give the bare vector as .npy or .json if it is meant here too.",
            )


def _list_mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings in a JSON value, however deep: the parts of sums have histories of their own."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            yield one
        pending += one.values() if isinstance(one, Mapping) else one if isinstance(one, (list, tuple)) else ()


def read_file(content: bytes, name: str, *, site: str | Site | None = None, head: int | None = None) -> Direction:
    """What `load_direction` reads of a file with this content and name."""
    path = Path(name)
    if path.suffix.lower() in (".json", ".npy"):
        if site is None:
            raise BadDirection(f"{name} is a bare vector.", 'Say where it lives: site="resid_pre.5".')
        made = {"kind": "upload", "file": path.name}
        call = f"direction = rs.load_direction({name!r}, site={str(site)!r}, head={head})"
        python = ("import residscope as rs", "", call)
        return Direction.of(_read_bare(content, name), site, path.stem, head=head, history=made, python=python)
    found = read_direction(content, name)
    asked = found.site if site is None else read_site(str(site)), found.head if head is None else head
    if asked != (found.site, found.head):
        raise BadDirection(
            f"{name} is of {found.place}, and {name_place(*asked)} was asked for.", "Use direction.at(site)."
        )
    return found


def read_direction(content: bytes, name: str) -> Direction:
    """What `direction.to_bytes()` gave.

    Raises:
      BadDirection: It is cut short, or holds no direction.
    """
    try:
        return build_direction(load(content), _read_facts(content))
    except _UNREADABLE as error:
        hint = "Give one that direction.save wrote; a bare vector as .json or .npy."
        cut = "incomplete metadata" in str(error) or "not covering" in str(error)
        why = "the file is cut short" if cut else error
        raise BadDirection(f"{name} holds no direction ({why}).", hint) from None


def build_direction(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Direction:
    """The direction of which these are `tensors` and `facts`; a ValueError, LookupError or TypeError if of none."""
    direction = Direction(
        name=facts["name"],
        site=read_site(facts["site"]),
        vector=tensors["vector"],
        mean=tensors.get("mean"),
        shuffled=tensors.get("shuffled"),
        deviation=facts["deviation"],
        head=facts.get("head"),
        left_out=tuple(facts["left_out"]),
        history=facts["history"],
        python=tuple(facts["python"]),
    )
    _check(direction, facts)
    return direction


def _read_facts(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    facts: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["residscope"])
    if facts["format"] != FORMAT:
        raise ValueError(f"its format is {facts['format']!r}")
    return facts


def _check(direction: Direction, facts: Mapping[str, Any]) -> None:
    """Refuse what no direction can be; a ValueError says what."""
    width = len(direction.vector)
    shapes = {direction.vector: (width,), direction.mean: (width,), direction.shuffled: (-1, width)}
    tensors = [one for one in shapes if one is not None]
    for one in tensors:
        if str(one.dtype) != "torch.float64" or one.ndim != len(shapes[one]) or one.shape[-1] != width:
            raise ValueError("its tensors are not [d] in float64")
    if not all(bool(one.isfinite().all()) for one in tensors):
        raise ValueError("it has NaN or infinity")
    if abs(float(direction.vector.norm()) - 1) > 1e-6:
        raise ValueError(f"its vector has the length {float(direction.vector.norm()):.3g}")
    if not isinstance(facts["name"], str) or not isinstance(facts["history"], dict):
        raise ValueError("its name or history is none")
    deviation: Any = facts["deviation"]
    if deviation is not None and not (isinstance(deviation, (int, float)) and isfinite(deviation)):
        raise ValueError("its deviation is no number")
    if not all(type(pos) is int for pos in facts["left_out"]) or not all(type(line) is str for line in facts["python"]):
        raise ValueError("its positions or lines are none")


def _read_bare(content: bytes, name: str) -> Any:
    try:
        if name.lower().endswith(".npy"):
            return np.load(BytesIO(content), allow_pickle=False)
        numbers = json.loads(content)
        if isinstance(numbers, list) and any(isinstance(one, bool) for one in numbers):
            raise ValueError("true and false are no numbers")
        return numbers
    except (ValueError, EOFError, OSError, MemoryError, RecursionError) as error:
        raise BadDirection(f"{name} holds no vector ({error}).", "Give a list of numbers.") from None
