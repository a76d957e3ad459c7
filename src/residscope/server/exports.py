"""What the page Stream shows, as files: the texts along one direction, or along several one after the other."""

from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from residscope.direction import write_once
from residscope.directions.projection import Projection
from residscope.results.html import render_html
from residscope.server.directions import Along, Texts
from residscope.server.workbench import Workbench
from residscope.sites import Place

MEDIA_TYPES = {"html": "text/html", "csv": "text/csv", "python": "text/x-python"}
Format = Literal["html", "csv", "python"]


class Panel(BaseModel):
    """A direction at a site: a sum of one or several."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: str
    along: Along


class ExportRequest(BaseModel):
    """Texts, and directions that they are shown along.

    Attributes:
      free: Whether sums are as long as they come, not of length one.
      centre: Of all values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: Texts
    panels: Annotated[tuple[Panel, ...], Field(min_length=1, max_length=100)]
    free: bool = False
    centre: Literal["mean", "none", "position"] = "mean"

    def list_places(self, bench: Workbench) -> list[Place]:
        """Where each panel is."""
        return [bench.place(panel.site) for panel in self.panels]

    def write(self, bench: Workbench, format: Format) -> str:
        """The file's content."""
        found = [
            bench.projection(self.texts, place, panel.along, free=self.free, centre=self.centre)
            for place, panel in zip(self.list_places(bench), self.panels, strict=True)
        ]
        if format == "html":
            title = " and ".join(one.name for one in found)
            return render_html(title, *(one.to_bytes(one.view_dtype) for one in found))
        return _write_csv(found) if format == "csv" else _write_python(found)


def _write_csv(found: list[Projection]) -> str:
    """One row a token; where there are several directions, of each the rows, under its site and name."""
    frames = [one.to_frame() for one in found]
    if len(found) > 1:
        keys = [(number, one.site, one.name) for number, one in enumerate(found)]
        frame = pd.concat(frames, keys=keys, names=["panel", "site", "direction"]).reset_index([0, 1, 2])
    else:
        (frame,) = frames
    content: str = frame.to_csv(index=False)
    return content


def _write_python(found: list[Projection]) -> str:
    if len(found) == 1:
        return found[0].as_python()
    blocks = [[*one.python[:-1], f"projection_{number} = {one.python[-1]}"] for number, one in enumerate(found)]
    return "\n".join(write_once(blocks)) + "\n"
