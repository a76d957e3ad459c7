"""Texts along a direction: every token's `(x - mean) . v`, the coloured text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.direction import Direction, write_once
from residscope.directions.pca import Basis
from residscope.directions.position_means import PositionMeans
from residscope.directions.vectors import check_direction, pick_head
from residscope.errors import BadArgument
from residscope.results.result import Indices, TokenResult
from residscope.running.run import Run
from residscope.running.texts import describe_texts, token_facts
from residscope.sites import Site

Centre = Literal["mean", "none"] | PositionMeans


@dataclass(frozen=True, eq=False, repr=False)
class Projection(TokenResult):
    """Texts along one direction.

    Attributes:
      values: [batch pos] `(x - mean) . v`, in units of the site; NaN where padded.
      site: Whose vectors.
      deviation: Standard deviation of the site along the direction; None where unknown.
      offset: `mean . v`, to be added for uncentred values.
      centred: Whether the direction has a mean.
      left_out: Positions that the direction's making left out: they are shown, and do not set the scale.
      head: Of which head, where the site has heads.
      centre: What `values` are centred on: "mean", "none", or "position".
      by_position: [pos] What each position's mean has along the direction, less `offset`; None where it is not known.
    """

    values: Float[Tensor, "batch pos"]
    site: str
    deviation: float | None
    offset: float
    centred: bool
    left_out: Sequence[int]
    head: int | None = None
    centre: str = "mean"
    by_position: Sequence[float] | None = None

    axes: ClassVar[tuple[str, ...]] = ("batch", "pos")
    view: ClassVar[str | None] = "coloured_text"


@dataclass(frozen=True, eq=False, repr=False)
class Projections(TokenResult):
    """Texts along every component of a basis.

    Attributes:
      values: [component batch pos] `(x - mean) . v`, in units of the site; NaN where padded.
      site: Whose vectors.
      first: Number of the first component.
      head: Of which head, where the site has heads.
    """

    values: Float[Tensor, "component batch pos"]
    site: str
    first: int
    head: int | None = None

    axes: ClassVar[tuple[str, ...]] = ("component", "batch", "pos")

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "component":
            return {"component": index + self.first}
        return super().columns(axis, index, places)


@overload
def project(run: Run, direction: Direction, *, centre: Centre = "mean") -> Projection: ...
@overload
def project(run: Run, direction: Basis, *, centre: Centre = "mean") -> Projections: ...
def project(run: Run, direction: Direction | Basis, *, centre: Centre = "mean") -> Projection | Projections:
    """Every token's value along a direction, or along each component of a basis.

    Args:
      run: Any run; what it did not keep is computed by one more pass.
      direction: Of a site that the run's model has.
      centre: What is taken off: "mean" the direction's own, where it has one; "none" nothing; or of each position its
        mean, as `rs.position_means` gives them.
    Returns:
      values  [batch pos], or [component batch pos]; `(x - mean) . v`, NaN where padded
    Raises:
      UnknownSite: The run's model has no such site, or it holds no vectors.
      BadArgument: The site has heads, and the direction is of none of them; or the means are of another site.
      BadDirection: It has another width than the site.
    Holds:
      Equal to `(run[site] - mean) @ v`, of a head to that of `run[site][:, :, head]`; a text's values do not depend on
      the texts beside it.
    """
    texts = token_facts(run.tokens)
    check_direction(run.model, direction[0] if isinstance(direction, Basis) else direction)
    mean = _find_mean(direction, centre, run.tokens.ids.shape[1])
    made = centre.python if isinstance(centre, PositionMeans) else []
    if isinstance(direction, Basis):
        return Projections(
            name=direction.name,
            settings={**direction.settings, "centre": _name(centre, mean), **run.settings},
            python=(*run_lines(direction.python, run, made), f"rs.project(run, basis{_say(centre)})"),
            **texts,
            values=read_along(run, direction.site, direction.components, mean, direction.head).movedim(-1, 0),
            site=direction.site,
            first=direction.first,
            head=direction.head,
        )
    return Projection(
        name=direction.name,
        settings={**direction.history, "centre": _name(centre, mean), **run.settings},
        python=(*run_lines(direction.lines(), run, made), f"rs.project(run, direction{_say(centre)})"),
        **texts,
        values=read_along(run, direction.site, direction.vector[None], mean, direction.head)[..., 0],
        site=str(direction.site),
        deviation=direction.deviation,
        offset=direction.offset,
        centred=direction.mean is not None,
        left_out=list(direction.left_out),
        head=direction.head,
        centre=_name(centre, mean),
        by_position=None if mean is None or mean.ndim == 1 else (mean @ direction.vector - direction.offset).tolist(),
    )


def _find_mean(direction: Direction | Basis, centre: Centre, n_pos: int) -> Tensor | None:
    """What is taken off: nothing, [d], or [pos d]."""
    if isinstance(centre, PositionMeans):
        if centre.place != direction.place:
            raise BadArgument(
                f"The means are of {centre.place}, and {direction.name} lives at {direction.place}.",
                "Make them there: rs.position_means(model, texts, site).",
            )
        return centre.values[:n_pos]
    if centre not in ("mean", "none"):
        raise BadArgument(f"centre={centre!r} was given.", 'Choose "mean" or "none", or give rs.position_means(...).')
    return direction.mean if centre == "mean" else None


def _name(centre: Centre, mean: Tensor | None) -> str:
    return "position" if isinstance(centre, PositionMeans) else "none" if mean is None else "mean"


def _say(centre: Centre) -> str:
    return {"mean": "", "none": ', centre="none"'}[centre] if isinstance(centre, str) else ", centre=means"


def read_along(
    run: Run,
    site: str | Site,
    vectors: Float[Tensor, "n d"],
    mean: Float[Tensor, " d"] | Float[Tensor, "pos d"] | None,
    head: int | None,
) -> Float[Tensor, "batch pos n"]:
    """`(x - mean) . v` for every token and vector, in float32 at least, on the CPU."""
    x = pick_head(run[site], head)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide if mean is None else wide - mean.to(wide)
    return (centred @ vectors.T.to(wide)).cpu()


def run_lines(python: Sequence[str], run: Run, *more: Sequence[str]) -> list[str]:
    """Lines that make a direction, then the run, and then others that are not there already."""
    return write_once([python, run.model.python, [f"run = model.run({describe_texts(run.source)})"], *more])
