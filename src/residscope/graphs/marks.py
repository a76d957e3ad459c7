"""What people put on a graph: how much of it is shown, nodes that are pinned, named, noted, grouped, layers folded."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from residscope.errors import BadArgument
from residscope.graphs.levels import ERROR, TOKEN

if TYPE_CHECKING:
    from residscope.graphs.graph import Graph


def name_nodes(graph: "Graph") -> list[str]:
    """What marks call nodes: `5.10603@7`, `5.error@7`, `token@7`.

    Where several dictionaries are of one layer, by the site that each reads: `attn_out.5.10603@7`.
    """
    layers = [one["layer"] for one in graph.dictionaries]
    places = [one["site"] if layers.count(one["layer"]) > 1 else str(one["layer"]) for one in graph.dictionaries]
    rows = zip(graph.levels.tolist(), graph.features.tolist(), graph.pos.tolist(), strict=True)
    return [
        f"token@{pos}" if level == TOKEN else f"{places[level]}.{'error' if feature == ERROR else feature}@{pos}"
        for level, feature, pos in rows
    ]


def put(graph: "Graph", given: Mapping[str, Any]) -> "Graph":
    """The graph with other marks of the kinds that are given.

    Raises:
      BadArgument: There is no such node, layer or share, or a node is in two groups.
    """
    marks = {**graph.marks, **given}
    known = {*name_nodes(graph)}
    strange = next((node for node in _list_nodes(given) if node not in known), None)
    if strange is not None:
        raise BadArgument(
            f"The graph has no node {strange!r}.", "Name nodes as 5.10603@7, 5.error@7 or token@7; see graph.nodes()."
        )
    grouped = [node for nodes in marks.get("groups", {}).values() for node in nodes]
    twice = next((node for node in grouped if grouped.count(node) > 1), None)
    if twice is not None:
        raise BadArgument(f"{twice} is in two groups.", "Put each node in one.")
    layers = {one["layer"] for one in graph.dictionaries}
    if not layers.issuperset(marks.get("folded", ())):
        raise BadArgument(f"folded={list(marks['folded'])} was asked for.", f"The graph has layers {sorted(layers)}.")
    if not 0 < marks.get("keep", 1.0) <= 1:
        raise BadArgument(f"keep={marks['keep']!r} was asked for.", "Give a share above 0, at most 1.")
    return replace(graph, marks={name: _copy(value) for name, value in marks.items()})


def join(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Marks of two graphs as those of one; where both say something of a node, the first is right."""
    marks = {**other, **one}
    for kind in ("pinned", "folded"):
        if kind in marks:
            marks[kind] = [*dict.fromkeys([*one.get(kind, ()), *other.get(kind, ())])]
    for kind in ("names", "notes"):
        if kind in marks:
            marks[kind] = {**other.get(kind, {}), **one.get(kind, {})}
    if "groups" in marks:
        taken = {node for nodes in one.get("groups", {}).values() for node in nodes}
        free = {name: nodes for name, nodes in other.get("groups", {}).items() if taken.isdisjoint(nodes)}
        marks["groups"] = {**free, **one.get("groups", {})}
    return marks


def _copy(value: Any) -> Any:
    """As JSON has it, and nobody else's."""
    if isinstance(value, Mapping):
        return {name: _copy(one) for name, one in value.items()}
    return value if isinstance(value, str | int | float) else list(value)


def _list_nodes(marks: Mapping[str, Any]) -> Iterator[str]:
    for name in ("pinned", "names", "notes"):
        yield from marks.get(name, ())
    for nodes in marks.get("groups", {}).values():
        yield from nodes
