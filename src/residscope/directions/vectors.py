"""Where directions can live: sites that hold a vector at each position, or one for each head there."""

from jaxtyping import Float
from torch import Tensor

from residscope.direction import Direction
from residscope.errors import BadArgument, BadDirection, UnknownSite
from residscope.running.arguments import read_whole
from residscope.running.model import Model
from residscope.sites import Site


def list_vector_sites(model: Model) -> dict[Site, int | None]:
    """The sites that directions can live at, and how many heads each has; None where it has none."""
    return {site: _count_heads(model, site) for site in model.sites if site.vector_axis}


def find_vectors(model: Model, site: str | Site, head: int | None) -> tuple[Site, int | None]:
    """The site of that name, which holds a vector at each position, and the head of it, where it has heads.

    Raises:
      UnknownSite: The model has none of that name, or it holds no vectors.
      BadArgument: It has heads and none was chosen, or one that it has not.
    """
    found = model.find(site)
    if found.vector_axis is None:
        kinds = dict.fromkeys(other.kind for other in list_vector_sites(model))
        raise UnknownSite(
            f"{found} has the axes {' '.join(found.axes)}, and directions live where each position has a vector.",
            f"Choose one of {', '.join(kinds)}.",
        )
    n_heads = _count_heads(model, found)
    if n_heads is None:
        if head is not None:
            raise BadArgument(f"{found} has no heads, and head={head!r} was asked for.", "Leave it out.")
        return found, None
    hint = f"{found} has {n_heads} of them: give head=0 to {n_heads - 1}."
    if head is None:
        raise BadArgument(f"{found} has a vector for each head, and none was chosen.", hint)
    return found, read_whole("head", head, 0, n_heads - 1, hint)


def check_direction(model: Model, direction: Direction) -> Site:
    """The site that a direction lives at, if the model has it.

    Raises:
      UnknownSite, BadArgument: As `find_vectors`.
      BadDirection: It has another width than the site.
    """
    site, _ = find_vectors(model, direction.site, direction.head)
    width, there = len(direction.vector), width_of(model, site)
    if width != there:
        raise BadDirection(
            f"{direction.name} has {width} entries, and {model.name} vectors of {there} at {direction.place}.",
            "Take a direction of this model.",
        )
    return site


def width_of(model: Model, site: Site) -> int:
    """How many entries its vectors have."""
    return model.axis_size(site.axes[-1], 0)


def pick_head(x: Float[Tensor, "*place d"], head: int | None) -> Float[Tensor, "*rest d"]:
    """Of what a site holds, or rows of it, the vectors of one head."""
    return x if head is None else x[..., head, :]


def _count_heads(model: Model, site: Site) -> int | None:
    return None if site.head_axis is None else model.axis_size(site.head_axis, 0)
