"""A direction at a site: a unit vector with a past. Directions add up, and are saved in files."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from residscope.errors import BadDirection
from residscope.sites import Site, find_site, list_sites, name_place, read_site

FORMAT = "residscope direction 1"
_LEAST = 1e-9  # a combination shorter than this share of its parts is nothing but rounding


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at a site, and the mean it is centred on. The value of what is there is `(x - mean) . vector`.

    Directions of one site, and of one head where it has heads, add up: `0.7 * a - 0.3 * b` is a direction, with the
    unit vector of the sum and the same combination of the offsets.

    Attributes:
      name: For people, as "PCA 4 of resid_pre.3".
      site: Where it lives.
      vector: [d] of length one, float64; as wide as the site's last axis.
      mean: [d], float64; None where it was made without data: it is uncentred.
      deviation: Standard deviation of the site along it; None where unknown, or nothing varies.
      head: Which head of the site it is of. None where the site has none, or is taken with all its heads' entries side
        by side, as dictionaries write them.
      left_out: Positions that its making left out.
      history: How it was made.
      python: The lines that make it again, where it was not given as numbers.
      shuffled: [n d] Unit vectors that the same making gives where its labels are shuffled; None without labels.
      terms: Of a sum or product that has no name of its own yet: its parts and their weights, which go on adding up.
    Holds:
      A combination `sum(w_i v_i) / n` has the offset `sum(w_i c_i) / n`, `n` the sum's length.
    """

    name: str
    site: Site
    vector: Float[Tensor, " d"] = field(repr=False)
    mean: Float[Tensor, " d"] | None = field(default=None, repr=False)
    deviation: float | None = None
    head: int | None = None
    left_out: tuple[int, ...] = ()
    history: Mapping[str, Any] = field(default_factory=dict, repr=False)
    python: tuple[str, ...] = field(default=(), repr=False)
    shuffled: Float[Tensor, "n d"] | None = field(default=None, repr=False)
    terms: "tuple[tuple[float, Direction], ...]" = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.head is not None:
            object.__setattr__(self, "head", _read_head(self.head, self.site))

    @classmethod
    def of(cls, vector: Any, site: str | Site, name: str = "a vector", **facts: Any) -> "Direction":
        """The direction of a vector of any length.

        Args:
          vector: [d] Numbers.
          site: Where it lives.
          name: For people.
          facts: Other attributes, as `head`.
        Raises:
          BadDirection: It has several axes, is zero, or holds NaN or infinity; or the site has no such head.
          UnknownSite: The site is no site's name.
        """
        try:
            given = vector.detach() if isinstance(vector, Tensor) else torch.as_tensor(np.asarray(vector))
            if given.is_complex():
                raise TypeError("it is complex")
            wide = given.to("cpu", torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadDirection(f"{name} is no vector of numbers ({error}).", "Give [d] numbers.") from None
        if wide.ndim != 1 or not len(wide):
            raise BadDirection(f"{name} has the shape {list(wide.shape)}.", "Give one vector, [d].")
        if not bool(wide.isfinite().all()):
            at = int((~wide.isfinite()).nonzero()[0])
            raise BadDirection(f"{name} is {float(wide[at])} at entry {at}.", "Mend what made it.")
        scaled = _scale(wide)
        length = float(scaled.norm())
        if not length:
            raise BadDirection(f"{name} is zero everywhere, and points nowhere.", "Give another vector.")
        return cls(name, _read_site(site), scaled / length, **facts)

    @cached_property
    def offset(self) -> float:
        """`mean . vector`: what the value of an uncentred `x` has too much."""
        return float(self.mean @ self.vector) if self.mean is not None else 0.0

    def named(self, name: str) -> "Direction":
        """The same under another name; a sum is one part from here on, of weight one."""
        return replace(self, name=name, terms=(), python=(*self.lines(), f"direction = direction.named({name!r})"))

    @property
    def place(self) -> str:
        """Where it lives, for people: `resid_pre.3`, `z.3 head 1`."""
        return name_place(self.site, self.head)

    def at(self, site: str | Site, *, head: int | None = None) -> "Direction":
        """The same vector at another site, said in its history; without mean and deviation, which were the old site's.

        Args:
          site: Where.
          head: Which head of it, where it has heads; the old one is not kept.
        Raises:
          UnknownSite: It is no site's name.
          BadDirection: It has no such head.
        """
        to = _read_site(site)
        moved = {**self.history, "moved_from": self.place}
        name = f"{self.name}, at {name_place(to, head)}"
        line = f"direction = direction.{_write_move(to, head)}"
        return Direction(name, to, self.vector, head=head, history=moved, python=(*self.lines(), line))

    def cosine(self, other: "Direction") -> float:
        """Of the angle between two; of any sites, as long as they are as wide.

        Raises:
          BadDirection: They are not.
        """
        self._check_width(other)
        return float(self.vector @ other.vector)

    def project_out(self, *others: "Direction") -> "Direction":
        """What is left of it at right angles to others of its site.

        Raises:
          BadDirection: Nothing is, or another lives elsewhere.
        """
        for other in others:
            self._check_site(other)
        if not others:
            return self
        span = torch.stack([other.vector for other in others], dim=1)
        weights = torch.linalg.lstsq(span, self.vector[:, None], driver="gelsd").solution[:, 0]
        parts = [(-weight, other) for weight, other in zip(weights.tolist(), others, strict=True)]
        names = ", ".join(other.name for other in others)
        return combine([(1.0, self), *parts]).named(f"{self.name} without {names}")

    def __add__(self, other: object) -> "Direction":
        if not isinstance(other, Direction):
            return NotImplemented
        return combine([*self._as_terms(), *other._as_terms()])

    def __sub__(self, other: object) -> "Direction":
        return self + -other if isinstance(other, Direction) else NotImplemented

    def __mul__(self, factor: SupportsFloat) -> "Direction":
        return combine([(weight * float(factor), one) for weight, one in self._as_terms()])

    __rmul__ = __mul__

    def __truediv__(self, divisor: SupportsFloat) -> "Direction":
        if not float(divisor):
            raise BadDirection(f"{self.name} was divided by {divisor}.", "Divide by a number other than zero.")
        return self * (1.0 / float(divisor))

    def __neg__(self) -> "Direction":
        return self * -1.0

    def _as_terms(self) -> list[tuple[float, "Direction"]]:
        return list(self.terms) or [(1.0, self)]

    def as_python(self) -> str:
        """The code that makes this direction again, and names it `direction`."""
        return "\n".join(self.lines()) + "\n"

    def lines(self, *more: Sequence[str]) -> list[str]:
        """The lines of `as_python`, and then those of `more`, as of a model, that are not there already."""
        return write_once([self.python or _write_numbers(self), *more])

    def save(self, path: str | Path) -> None:
        """Write it to a file, whole or not at all; `rs.load_direction` reads it back bit for bit.

        Raises:
          BadDirection: The file cannot be written; nothing is left behind.
        """
        path = Path(path)
        aside = path.with_name(f"{path.name}.new")
        try:
            aside.write_bytes(self.to_bytes())
            aside.replace(path)
        except OSError as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise BadDirection(f"{path} cannot be written ({error.strerror}).", "Name a file in a folder.") from None

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        return save(self.tensors, metadata={"residscope": json.dumps(self.facts)})

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a file has of it in numbers."""
        found = {name: getattr(self, name) for name in ("vector", "mean", "shuffled")}
        return {name: tensor.contiguous() for name, tensor in found.items() if tensor is not None}

    @property
    def facts(self) -> dict[str, Any]:
        """What a file says of it in words."""
        return {
            "format": FORMAT,
            "tool": f"residscope {version('residscope')}",
            "name": self.name,
            "site": str(self.site),
            "head": self.head,
            "centre": "none" if self.mean is None else "mean",
            "deviation": self.deviation,
            "left_out": list(self.left_out),
            "history": self.history,
            "python": list(self.python),
        }

    def _check_width(self, other: "Direction") -> None:
        if len(self.vector) != len(other.vector):
            raise BadDirection(
                f"{self.name} has {len(self.vector)} entries, and {other.name} {len(other.vector)}.",
                "Take directions of one model.",
            )

    def _check_site(self, other: "Direction") -> None:
        self._check_width(other)
        if (self.site, self.head) != (other.site, other.head):
            raise BadDirection(
                f"{self.name} lives at {self.place}, and {other.name} at {other.place}.",
                f"Say that it means something there: direction.{_write_move(self.site, self.head)}.",
            )


def combine(terms: Sequence[tuple[float, Direction]]) -> Direction:
    """The sum of so much of each, as a direction.

    Raises:
      BadDirection: Nothing is left, a weight is not finite, or they live at several sites.
    """
    first = terms[0][1]
    for _, other in terms[1:]:
        first._check_site(other)
    weights = _scale(torch.tensor([weight for weight, _ in terms], dtype=torch.float64))
    total = weights @ torch.stack([one.vector for _, one in terms])
    length = float(total.norm())
    name = " ".join(_write_term(weight, one.name, number) for number, (weight, one) in enumerate(terms))
    if not length > _LEAST * float(weights.abs().sum()):  # NaN too
        raise BadDirection(f"Nothing is left of {name}.", "Change a weight, or take other directions.")
    vector, alone = total / length, len(terms) == 1
    centred = [one.mean for _, one in terms if one.mean is not None]
    if len(centred) == len(terms) and all(torch.equal(centred[0], other) for other in centred[1:]):
        mean: Tensor | None = centred[0]
    else:  # any vector that has the offset
        offsets = torch.tensor([one.offset for _, one in terms], dtype=torch.float64)
        mean = vector * (weights @ offsets / length) if centred else None
    told = [{"weight": weight, "name": one.name, "history": dict(one.history)} for weight, one in terms]
    return Direction(
        name=first.name if alone and weights[0] > 0 else name,
        site=first.site,
        vector=vector,
        mean=mean,
        deviation=first.deviation if alone else None,
        head=first.head,
        left_out=tuple(sorted({pos for _, one in terms for pos in one.left_out})),
        history=first.history if alone else {"kind": "combination", "terms": told},
        python=_write_sum(terms),
        terms=tuple(terms),
    )


def write_once(blocks: Iterable[Sequence[str]]) -> list[str]:
    """Lines of Python one after the other, without those that give a name the value that it has already."""
    lines: list[str] = []
    made: dict[str, tuple[str, dict[str, int]]] = {}  # what last gave a name its value, and of which values
    changes: Counter[str] = Counter()
    for line in chain.from_iterable(blocks):
        target, _, value = line.partition(" = ")
        how = line, {name: changes[name] for name in re.findall(r"\w+", value) if name in changes}
        if made.get(target) != how:
            lines.append(line)
            made[target] = how
            changes[target] += 1
    return lines


def _read_site(name: str | Site) -> Site:
    """A site that some model may have."""
    found = read_site(str(name))
    return find_site(found, list_sites((found.layer or 0) + 1))


def _read_head(head: object, site: Site) -> int:
    """The number of a head, where the site has heads.

    Raises:
      BadDirection: It has none, or this is no number.
    """
    if site.head_axis is None or site.vector_axis is None:
        raise BadDirection(f"{site} has no vectors of heads, and head={head!r} was given.", "Leave it out.")
    try:
        number = -1 if isinstance(head, bool) else index(head)  # type: ignore[arg-type]  # which is what is asked
    except TypeError:
        number = -1
    if number < 0:
        raise BadDirection(f"head={head!r} was given of {site}.", "Heads count from 0.")
    return number


def _write_move(site: Site, head: int | None) -> str:
    return f"at({str(site)!r})" if head is None else f"at({str(site)!r}, head={head})"


def _scale(numbers: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The same times a power of two that brings the largest near one: squares are numbers, and nothing is rounded."""
    exponent = int(torch.frexp(numbers.abs().max()).exponent)
    return numbers * 2.0 ** -max(exponent, -1000)


def _write_term(weight: float, name: str, number: int) -> str:
    sign = "-" if weight < 0 else "+" if number else ""
    return f"{sign}{' ' if number else ''}{abs(weight):.3g} ({name})"


def _write_sum(terms: Sequence[tuple[float, Direction]]) -> tuple[str, ...]:
    """The lines of every part, each under a name that none of them uses, and their sum."""
    parts = [one.lines() for _, one in terms]
    used = [int(number) for line in chain.from_iterable(parts) for number in re.findall(r"^direction_(\d+) =", line)]
    names = [
        f"direction_{number}" for number in range(max(used, default=-1) + 1, max(used, default=-1) + 1 + len(parts))
    ]
    lines = write_once((*part, f"{name} = direction") for name, part in zip(names, parts, strict=True))
    summed = " + ".join(f"{weight!r} * {name}" for name, (weight, _) in zip(names, terms, strict=True))
    return (*lines, f"direction = {summed}")


def _write_numbers(one: Direction) -> tuple[str, ...]:
    """The lines of a direction of which nothing but its numbers is known."""
    said = f"{one.vector.tolist()}, {str(one.site)!r}, {one.name!r}, deviation={one.deviation}, head={one.head}"
    mean = "" if one.mean is None else f", mean=torch.tensor({one.mean.tolist()}, dtype=torch.float64)"
    imports = ("import residscope as rs", *(["import torch"] if mean else []))
    return (*imports, "", f"direction = rs.Direction.of({said}, left_out={one.left_out}{mean})")
