"""Two graphs of one prompt as one."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.marks import join as join_marks

if TYPE_CHECKING:
    from residscope.graphs.graph import Graph

# What weights depend on; the rest is which of them are there.
_SAME = ("method", "integrated_gradients", "competition", "dtype")
_ROUNDING = 1e-5  # of the largest, beside what an ablation that is undone makes


def merge(one: "Graph", other: "Graph") -> "Graph":
    """See `Graph.merge`."""
    _check(one, other)
    keys = [torch.stack((graph.levels, graph.features, graph.pos), dim=1) for graph in (one, other)]
    nodes, number = torch.unique(torch.cat(keys), dim=0, return_inverse=True)
    at = number[: len(keys[0])], number[len(keys[0]) :]
    pairs = [
        torch.stack((at[side][graph.sources], at[side][graph.targets]), dim=1)
        for side, graph in enumerate((one, other))
    ]
    ends, edge = torch.unique(torch.cat(pairs), dim=0, return_inverse=True)
    own = edge[: len(pairs[0])], edge[len(pairs[0]) :]

    floor = one.settings["noise_floor"] + other.settings["noise_floor"]

    def join(name: str, where: tuple[Tensor, Tensor], n: int) -> Tensor:
        """A column of both, which agree where both have something."""
        first: Tensor = getattr(one, name)
        whole = first.new_zeros(n, *first.shape[1:])
        if not whole.numel():
            return whole
        whole[where[1]] = getattr(other, name).to(first)
        missed = (whole[where[0]] - first).abs()[torch.isin(where[0], where[1])]
        if bool((missed > floor + _ROUNDING * whole.abs().amax(0)).any()):
            raise BadArgument(
                f"The graphs differ in {name} by up to {float(missed.max()):.3g} where both have them.",
                "Merge graphs that the same model and dictionaries made of the same prompt.",
            )
        whole[where[0]] = first
        return whole

    columns: dict[str, Any] = {name: join(name, at, len(nodes)) for name in ("activations", "effects")}
    columns |= {name: join(name, own, len(ends)) for name in ("values", "before", "parts")}
    measured = {**other.measured, **one.measured}
    merged = replace(
        one,
        sources=ends[:, 0],
        targets=ends[:, 1],
        levels=nodes[:, 0],
        features=nodes[:, 1],
        pos=nodes[:, 2],
        positions=sorted({*one.positions, *other.positions}),
        measured=measured,
        total=float(sum(measured.values())),
        marks=join_marks(one.marks, other.marks),
        python=_write_call(one, other),
        **columns,
    )
    return replace(merged, settings=_describe(one, other, merged))


def _check(one: "Graph", other: "Graph") -> None:
    """Refuse graphs that are not of one kind.

    Raises:
      BadArgument: They are of other prompts, models, dictionaries, outputs, or ways to measure.
    """

    def tell(graph: "Graph") -> dict[str, Any]:
        said = {name: graph.settings.get(name) for name in _SAME}
        kept = {"prompt": [*graph.token_ids], "outputs": [*graph.outputs], "parts": [*graph.part_names]}
        return kept | {"model": graph.settings["model"], "dictionaries": [*map(dict, graph.dictionaries)]} | said

    mine, theirs = tell(one), tell(other)
    if differing := [name for name in mine if mine[name] != theirs[name]]:
        raise BadArgument(
            f"The graphs were made with another {differing[0]}: {mine[differing[0]]!r:.200} and "
            f"{theirs[differing[0]]!r:.200}.",
            "Merge graphs of one prompt, model, dictionaries and outputs, measured alike.",
        )


def _describe(one: "Graph", other: "Graph", merged: "Graph") -> dict[str, Any]:
    """Settings that both have alike, and of each its own."""
    shared = {name: value for name, value in one.settings.items() if other.settings.get(name) == value}
    own = [
        {name: value for name, value in graph.settings.items() if name not in shared and name != "merged"}
        for graph in (one, other)
    ]
    floor = max(graph.settings["noise_floor"] for graph in (one, other))
    counted = {"noise_floor": floor, "n_edges": len(merged.values), "share": merged.share}
    later = one.settings["later"] or other.settings["later"]
    return {**shared, **counted, "later": later, "positions": [*merged.positions], "merged": own}


def _write_call(one: "Graph", other: "Graph") -> list[str]:
    first, second = [*one.python], [*other.python]
    begin = [line for line, same in zip(first, second, strict=False) if line == same]
    return [*first, "first = graph", *second[len(begin) :], "graph = first.merge(graph)"]
