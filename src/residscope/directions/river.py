"""One direction through all layers: where in the model it appears and fades."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.direction import Direction
from residscope.directions.projection import read_along, run_lines
from residscope.directions.vectors import check_direction
from residscope.results.result import Indices, TokenResult
from residscope.running.run import Run
from residscope.running.texts import token_facts
from residscope.sites import Site


@dataclass(frozen=True, eq=False, repr=False)
class River(TokenResult):
    """One direction read at the same kind of site of every layer.

    Attributes:
      values: [batch layer pos] `(x - mean) . v`, with the direction's own mean at every layer; NaN where padded.
      rows: Names of the sites, lowest first; after the last `resid_pre` stands the last `resid_post`.
      here: The row of the direction's own site.
      deviation, offset, centred, left_out, head: As in a projection.
    """

    values: Float[Tensor, "batch layer pos"]
    rows: Sequence[str]
    here: int
    deviation: float | None
    offset: float
    centred: bool
    left_out: Sequence[int]
    head: int | None = None

    axes: ClassVar[tuple[str, ...]] = ("batch", "layer", "pos")
    view: ClassVar[str | None] = "river"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "layer":
            return {"layer": index, "site": np.array(self.rows, dtype=object)[index]}
        return super().columns(axis, index, places)


def river(run: Run, direction: Direction) -> River:
    """Read one direction at every layer; of a head, at the head of that number in every layer.

    Args:
      run: Any run; what it did not keep is computed by one more pass.
      direction: Of a site that the run's model has.
    Returns:
      values  [batch layer pos]; n_layers rows, and the last `resid_post` above those of `resid_pre`
    Raises:
      UnknownSite, BadArgument, BadDirection: As `rs.project`.
    Holds:
      The row of the direction's own site equals `project(run, direction)`.
    """
    site = check_direction(run.model, direction)
    rows = [other for other in run.model.sites if other.kind == site.kind]
    if site.kind == "resid_pre":
        rows.append(Site("resid_post", run.model.config.n_layers - 1))
    run.keep(rows)
    values = [read_along(run, row, direction.vector[None], direction.mean, direction.head)[..., 0] for row in rows]
    return River(
        name=direction.name,
        settings={**direction.history, **run.settings},
        python=(*run_lines(direction.lines(), run), "rs.river(run, direction)"),
        **token_facts(run.tokens),
        values=torch.stack(values, dim=1),
        rows=[str(row) for row in rows],
        here=rows.index(site),
        deviation=direction.deviation,
        offset=direction.offset,
        centred=direction.mean is not None,
        left_out=list(direction.left_out),
        head=direction.head,
    )
