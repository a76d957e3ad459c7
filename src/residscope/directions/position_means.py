"""The mean of a site at each position: what tells where a token stands, whatever the token."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.directions.vectors import find_vectors, pick_head, width_of
from residscope.errors import BadArgument
from residscope.results.result import Result
from residscope.running.model import Model
from residscope.running.texts import Texts, describe_texts
from residscope.sites import Place, Site, name_place, read_site


@dataclass(frozen=True, eq=False, repr=False)
class PositionMeans(Result):
    """Means to centre on, one for each position: `rs.project(run, direction, centre=means)`.

    Attributes:
      values: [pos d] float64, as many rows as the context; where too few texts reach, the mean of all tokens but those
        of position 0.
      n_texts: [pos] How many reach each position.
      site: Where.
      least: Texts that must reach a position for it to have a mean of its own.
      head: Of which head, where the site has heads.
    """

    values: Float[Tensor, "pos d"]
    n_texts: Int[Tensor, " pos"]
    site: str
    least: int
    head: int | None = None

    @property
    def axes(self) -> tuple[str, ...]:  # type: ignore[override]  # vectors have the site's last axis
        """Names of the axes of `values`: pos, and d_model, d_head or d_mlp."""
        return "pos", read_site(self.site).axes[-1]

    @property
    def place(self) -> str:
        """Where, for people: `resid_pre.3`, `z.3 head 1`."""
        return name_place(self.site, self.head)


def position_means(
    model: Model, texts: Texts, site: str | Site, *, head: int | None = None, least: int = 10
) -> PositionMeans:
    """Means of a site at each position, over all texts that reach it.

    Args:
      model: Any.
      texts: Much text; each is cut at the context.
      site: One that holds a vector at each position.
      head: Of which head, where the site has heads.
      least: A position that fewer texts reach has the mean of all tokens but those of position 0.
    Raises:
      UnknownSite, BadArgument: As `rs.pca`; or `least` is under one.
    Holds:
      Along any direction, what the texts hold at a position that `least` reach has the mean zero there once it is
      centred so.
    """
    return position_means_of_places(model, texts, [Place(*find_vectors(model, site, head))], least=least)[0]


def position_means_of_places(
    model: Model, texts: Texts, places: Iterable[Place], *, least: int = 10
) -> Sequence[PositionMeans]:
    """`position_means` of several places in one pass over the texts; `n_ctx * d` float64 numbers are held for each."""
    if least < 1:
        raise BadArgument(f"least={least!r} was asked for.", "Give 1 or more texts.")
    places = list(places)
    n_ctx = model.config.n_ctx
    sums = [torch.zeros(n_ctx, width_of(model, place.site), dtype=torch.float64) for place in places]
    n_texts = torch.zeros(n_ctx, dtype=torch.long)
    sites = list(dict.fromkeys(place.site for place in places))
    for tokens in model.corpus(texts).batches("means of positions"):
        run = model.run(tokens, keep=sites)
        n = tokens.mask.shape[1]
        n_texts[:n] += tokens.mask.sum(0)
        for total, place in zip(sums, places, strict=True):
            values = pick_head(run[place.site], place.head).cpu().double()
            total[:n] += values.masked_fill(~tokens.mask[..., None], 0).sum(0)
    lines = ["from pathlib import Path", "", *model.python]
    facts: dict[str, Any] = {"n_texts": n_texts, "least": least, "settings": {"least": least, "model": model.name}}
    found = []
    for total, place in zip(sums, places, strict=True):
        said = f"site={str(place.site)!r}" + ("" if place.head is None else f", head={place.head}")
        found.append(
            PositionMeans(
                name=f"means of positions of {name_place(place.site, place.head)}",
                python=[*lines, f"means = rs.position_means(model, {describe_texts(texts)}, {said}, least={least})"],
                values=_fill(total, n_texts, least),
                site=str(place.site),
                head=place.head,
                **facts,
            )
        )
    return found


def _fill(sums: Float[Tensor, "pos d"], n_texts: Int[Tensor, " pos"], least: int) -> Float[Tensor, "pos d"]:
    overall = sums[1:].sum(0) / n_texts[1:].sum().clamp(min=1)
    return torch.where((n_texts >= least)[:, None], sums / n_texts.clamp(min=1)[:, None], overall)
