"""What people put on a graph: how it is shown, and nodes that are pinned, named, noted, grouped, layers folded."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from residscope.errors import BadArgument
from residscope.graphs.levels import ERROR, TOKEN
from residscope.running.arguments import read_share

if TYPE_CHECKING:
    from residscope.graphs.graph import Graph

_LOOKS: Mapping[str, Callable[[Any], bool]] = {
    "across": lambda value: value in ("rows", "columns"),
    "sign": lambda value: value in ("source", "ablation"),
    "paths": lambda value: value in ("any", "long"),
    "output": lambda value: isinstance(value, int) and value >= 0,
    "picked": lambda value: isinstance(value, str),
    "limit": lambda value: isinstance(value, int | float) and isfinite(value) and value > 0,
}


def name_node(graph: "Graph", node: int) -> str:
    """What marks call a node: `5.10603@7`, `5.error@7`, `token@7`.

    Where several dictionaries are of one layer, by the site that each reads: `attn_out.5.10603@7`.
    """
    level, feature, pos = int(graph.levels[node]), int(graph.features[node]), int(graph.pos[node])
    if level == TOKEN:
        return f"token@{pos}"
    own, layers = graph.dictionaries[level], [one["layer"] for one in graph.dictionaries]
    place = own["site"] if layers.count(own["layer"]) > 1 else own["layer"]
    return f"{place}.{'error' if feature == ERROR else feature}@{pos}"


def name_nodes(graph: "Graph") -> list[str]:
    """What marks call each node."""
    return [name_node(graph, node) for node in range(len(graph.levels))]


def put(graph: "Graph", given: Mapping[str, Any]) -> "Graph":
    """The graph with other marks of the kinds that are given.

    Raises:
      BadArgument: There is no such node, layer, share or look, or a node is in two groups.
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
    read_share("keep", marks.get("keep", 1.0))
    if not _is_look(marks.get("look", {})):
        raise BadArgument(f"look={str(marks['look'])[:80]} was asked for.", f"Give some of {', '.join(_LOOKS)}.")
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


def check_form(marks: Any) -> None:
    """Whether marks of a file have the form of marks; of which nodes they are is not asked.

    Raises:
      ValueError: They have not.
    """

    def is_list(value: Any, of: type) -> bool:
        return isinstance(value, list) and all(isinstance(one, of) for one in value)

    forms: dict[str, Callable[[Any], bool]] = {
        "keep": lambda value: isinstance(value, int | float) and 0 < value <= 1,
        "pinned": lambda value: is_list(value, str),
        "folded": lambda value: is_list(value, int),
        "groups": lambda value: isinstance(value, dict) and all(is_list(one, str) for one in value.values()),
        "look": _is_look,
        **dict.fromkeys(("names", "notes"), lambda value: isinstance(value, dict) and is_list([*value.values()], str)),
    }
    if not isinstance(marks, dict) or not all(name in forms and forms[name](value) for name, value in marks.items()):
        raise ValueError(f"marks are {str(marks)[:80]}")


def _is_look(value: Any) -> bool:
    return isinstance(value, dict) and all(name in _LOOKS and _LOOKS[name](one) for name, one in value.items())


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
