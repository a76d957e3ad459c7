"""What people put on a graph: how it is shown, and nodes that are pinned, named, noted, grouped, layers folded."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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
      BadArgument: There is no such node, layer or share, a node is in two groups, or a mark has another form.
    """
    given = {name: _copy(value) for name, value in given.items()}
    read_share("keep", given.get("keep", 1.0))
    for name, value in given.items():
        if not _FORMS[name].fits(value):
            raise BadArgument(f"{name}={value!r:.80} was asked for.", f"Give {_FORMS[name].what}.")
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
    return replace(graph, marks=marks)


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


def _is_list(value: Any, of: type) -> bool:
    return isinstance(value, list) and all(isinstance(one, of) for one in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and _is_list([*value, *value.values()], str)


def _is_look(value: Any) -> bool:
    return isinstance(value, dict) and all(name in _LOOKS and _LOOKS[name](one) for name, one in value.items())


class _Form(NamedTuple):
    """What marks of one kind are in a file, and in words."""

    fits: Callable[[Any], bool]
    what: str


_FORMS = {
    "keep": _Form(lambda value: isinstance(value, int | float) and 0 < value <= 1, "a share above 0, at most 1"),
    "pinned": _Form(lambda value: _is_list(value, str), "a list of nodes, as 5.10603@7"),
    "names": _Form(_are_texts, "texts by nodes, as {'5.10603@7': 'animals'}"),
    "notes": _Form(_are_texts, "texts by nodes, as {'5.10603@7': 'see the card'}"),
    "groups": _Form(
        lambda value: (
            isinstance(value, dict) and _is_list([*value], str) and all(_is_list(x, str) for x in value.values())
        ),
        "lists of nodes by name, as {'animals': ['5.10603@7']}",
    ),
    "folded": _Form(lambda value: _is_list(value, int), "a list of layers, as [2, 3]"),
    "look": _Form(_is_look, f"some of {', '.join(_LOOKS)}"),
}


def check_form(marks: Any) -> None:
    """Whether marks of a file have the form of marks; of which nodes they are is not asked.

    Raises:
      ValueError: They have not.
    """
    if not isinstance(marks, dict) or not all(
        name in _FORMS and _FORMS[name].fits(value) for name, value in marks.items()
    ):
        raise ValueError(f"marks are {str(marks)[:80]}")


def _copy(value: Any) -> Any:
    """As JSON has it, and nobody else's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _copy(one) for name, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, Iterable) and not isinstance(value, str) else value


def _list_nodes(marks: Mapping[str, Any]) -> Iterator[str]:
    for name in ("pinned", "names", "notes"):
        yield from marks.get(name, ())
    for nodes in marks.get("groups", {}).values():
        yield from nodes
