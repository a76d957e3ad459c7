"""What is most active in a text, what lies nearest to a direction, and which texts excite it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.direction import Direction
from residscope.directions.pca import Basis
from residscope.directions.projection import project
from residscope.errors import BadDirection, UnknownPosition
from residscope.running.model import Model
from residscope.running.progress import report
from residscope.running.run import Run

_AT_ONCE = 32  # texts


@dataclass(frozen=True)
class Match:
    """One that was found.

    Attributes:
      kind: A component of a basis, a feature of a dictionary, or one of some directions.
      number: Which.
      value: Standard deviations of a component, activation of a feature; or a cosine.
      pos: The token where that is its largest; None for a cosine.
    """

    kind: Literal["pca", "feature", "direction"]
    number: int
    value: float
    pos: int | None = None


def find_active(
    run: Run, basis: Basis, dictionary: SparseAutoencoder | None = None, *, pos: int | None = None, top: int = 10
) -> list[Match]:
    """What is most active in a text, or at one of its tokens.

    Args:
      run: Of one text.
      basis: Whose components are looked at; what it left out is left out here.
      dictionary: Whose features are, where there is one for the site.
      pos: A token, from 0; None is all but those that the basis left out.
      top: At most so many of each kind.
    Returns:
      Components by the size of their value in standard deviations, then features by their activation, of either the
      largest first; features that are nowhere active are none.
    Raises:
      UnknownPosition: The text has no such token.
    Holds:
      The values are those of `rs.project` and `dictionary.encode`.
    """
    values = project(run, basis).values[:, 0]  # component pos
    where = _choose(run, pos, basis.left_out)
    deviations = basis.deviations.to(values)
    varied = torch.where(deviations > 0, values.T / deviations, 0)[where]
    found = _rank("pca", varied, where, top, basis.first)
    if dictionary is None:
        return found
    activations = dictionary.encode(run[str(dictionary.site)])[0].float().cpu()[where]
    return found + [match for match in _rank("feature", activations, where, top, 0) if match.value]


def rank_active(run: Run, directions: Sequence[Direction], *, pos: int | None = None, top: int = 10) -> list[Match]:
    """Which of some directions of one site are most active in a text: as `find_active`, by their numbers.

    Args:
      run: Of one text.
      directions: Each with its deviation.
      pos: A token, from 0; None is all but the first.
      top: At most so many.
    Raises:
      UnknownPosition: The text has no such token.
    """
    where = _choose(run, pos, (0,))
    varied = [project(run, one).values[0, where] / (one.deviation or torch.inf) for one in directions]
    return _rank("direction", torch.stack(varied, dim=1), where, top, 0) if varied else []


def find_nearest(
    direction: Direction,
    basis: Basis,
    dictionary: SparseAutoencoder | None = None,
    *,
    top: int = 10,
    same_way: bool = False,
) -> list[Match]:
    """The components, and the features by what they write, that point most nearly along a direction or against it.

    Args:
      direction: As wide as the others.
      basis: Whose components are looked at.
      dictionary: Whose features are.
      top: At most so many of each kind.
      same_way: Whether only what points along it is near, and what points against it is farthest.
    Returns:
      Of either kind those with the largest cosine, by its size or, `same_way`, by its value.
    Raises:
      BadDirection: It is not as wide.
    """
    if len(direction.vector) != len(basis.mean):
        raise BadDirection(
            f"{direction.name} has {len(direction.vector)} entries, and vectors at {basis.place} {len(basis.mean)}.",
            "Take one of this site.",
        )
    found = _rank("pca", (basis.components @ direction.vector)[None], None, top, basis.first, same_way)
    if dictionary is None:
        return found
    decoder = dictionary.decoder.double().cpu()
    cosines = torch.nn.functional.cosine_similarity(decoder, direction.vector[None], dim=1)
    return found + _rank("feature", cosines[None], None, top, 0, same_way)


def find_texts(model: Model, texts: Sequence[str], direction: Direction) -> list[tuple[int, float]]:
    """Texts by how strongly they excite a direction.

    Args:
      model: Any.
      texts: Each is cut at the context.
      direction: Of a site that the model has.
    Returns:
      Of every text its number and its value of largest size, the positions that the direction left out aside; the
      largest size first.
    """
    lists = model.corpus(list(texts)).lists
    strongest = []
    for start in range(0, len(lists), _AT_ONCE):
        report(start, len(lists), "reading texts")
        values = project(model.run(lists[start : start + _AT_ONCE]), direction).values
        for row in values.nan_to_num():
            every = [pos for pos in range(len(row)) if pos not in direction.left_out] or [0]
            strongest.append(float(row[every][row[every].abs().argmax()]))
    return sorted(enumerate(strongest), key=lambda one: -abs(one[1]))


def _choose(run: Run, pos: int | None, left_out: Sequence[int]) -> Int[Tensor, " pos"]:
    n_tokens = int(run.tokens.n_tokens[0])
    if pos is not None and not 0 <= pos < n_tokens:
        raise UnknownPosition(f"Position {pos} was asked for, and the text has {n_tokens} tokens.", "Count from 0.")
    every = [one for one in range(n_tokens) if one not in left_out] or list(range(n_tokens))
    return torch.tensor(every if pos is None else [pos])


def _rank(
    kind: Literal["pca", "feature", "direction"],
    values: Float[Tensor, "pos n"],
    where: Int[Tensor, " pos"] | None,
    top: int,
    first: int,
    signed: bool = False,
) -> list[Match]:
    """The largest by size, or by value, over positions, best first."""
    sizes, rows = (values if signed else values.abs()).max(0)
    best = sizes.topk(min(top, len(sizes))).indices
    return [
        Match(kind, first + number, float(values[row, number]), None if where is None else int(where[row]))
        for number, row in zip(best.tolist(), rows[best].tolist(), strict=True)
    ]
