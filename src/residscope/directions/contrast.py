"""The difference of means of two sets of texts."""

import torch

from residscope.direction import Direction
from residscope.directions.rows import read_rows
from residscope.directions.vectors import find_vectors
from residscope.errors import BadDirection
from residscope.running.model import Model
from residscope.running.packing import source_of, write_lines
from residscope.running.positions import Positions
from residscope.running.texts import Texts, describe_texts
from residscope.sites import Site, name_place

_N_SHUFFLED = 40  # twice what it takes to tell an effect from chance at a p of 0.05


def contrast(
    model: Model,
    positive: Texts,
    negative: Texts,
    *,
    site: str | Site,
    head: int | None = None,
    pos: Positions = -1,
) -> Direction:
    """From the mean of the negative texts to that of the positive ones.

    Args:
      model: Any.
      positive: Texts.
      negative: Others; not necessarily as many.
      site: One that holds a vector at each position.
      head: Of which head, where the site has heads.
      pos: Where each text is read; None is everywhere but at position 0.
    Raises:
      BadDirection: The means are the same.
      UnknownSite: The model has none of that name, or it holds no vectors.
      BadArgument: The site has heads and none was chosen, or has no such head.
      UnknownPosition: A text has no such position.
    Holds:
      `vector * history["distance"]` is the difference of the means. The mean that it is centred on lies halfway, so
      that positive texts have on average as much as negative ones have below zero; the deviation is within the sets.
    Source: Marks and Tegmark, "The Geometry of Truth" (2023), on difference-in-means.
    """
    found, head = find_vectors(model, site, head)
    sides = [read_rows(model, texts, found, pos, head) for texts in (positive, negative)]
    above, below = (rows.mean(0) for rows in sides)
    distance = float((above - below).norm())
    if not distance:
        raise BadDirection("The means of both sets are the same.", "Give texts that differ where they are read.")
    vector = (above - below) / distance
    drawn = torch.Generator().manual_seed(0)
    every, n = torch.cat(sides), len(sides[0])
    orders = [torch.randperm(len(every), generator=drawn) for _ in range(_N_SHUFFLED)]
    shuffled = torch.stack([every[order[:n]].mean(0) - every[order[n:]].mean(0) for order in orders])
    apart = torch.cat([(rows - mean) @ vector for rows, mean in zip(sides, (above, below), strict=True)])
    deviation = float(apart.square().mean().sqrt())
    said = f"{describe_texts(positive)}, {describe_texts(negative)}, site={str(found)!r}, pos={source_of(pos)}"
    said += "" if head is None else f", head={head}"
    return Direction(
        name=f"contrast at {name_place(found, head)}",
        site=found,
        head=head,
        vector=vector,
        mean=(above + below) / 2,
        deviation=deviation or None,
        left_out=(0,) if pos is None else (),
        shuffled=shuffled / shuffled.norm(dim=-1, keepdim=True),
        history={
            "kind": "contrast",
            "n_positive": len(sides[0]),
            "n_negative": len(sides[1]),
            "pos": source_of(pos),
            "distance": distance,
            **model.provenance,
        },
        python=tuple(write_lines(model.python, [f"direction = rs.contrast(model, {said})"])),
    )
