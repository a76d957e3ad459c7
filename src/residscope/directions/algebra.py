"""Several directions at once."""

from collections.abc import Sequence

from residscope.direction import Direction
from residscope.errors import BadDirection

_LEAST = 1e-6  # what is left of a direction outside those before it


def orthonormalize(directions: Sequence[Direction]) -> list[Direction]:
    """Directions of the same span at right angles to each other, in order: the first stays as it is.

    Args:
      directions: Of one site.
    Raises:
      BadDirection: One lies in the span of those before it, or they live at several sites.
    Holds:
      Their vectors have the identity as Gram matrix, and the first k span what the first k given ones span.
    """
    found: list[Direction] = []
    for number, one in enumerate(directions):
        rest = one.vector - sum((one.vector @ before.vector) * before.vector for before in found)
        if float(rest.norm()) < _LEAST:
            raise BadDirection(f"{one.name}, number {number}, lies in the span of those before it.", "Leave it out.")
        found.append(one.project_out(*found))
    return found
