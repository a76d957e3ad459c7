"""A graph as files: our own JSON, Graphviz, and the JSON of attribution graphs."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from residscope.errors import BadArgument, BadResult
from residscope.graphs.levels import ERROR, TOKEN
from residscope.graphs.marks import check_form, name_nodes

if TYPE_CHECKING:
    from residscope.graphs.graph import Graph

FORMAT, VERSION = "residscope graph", 1
_NODE = {"level": "levels", "feature": "features", "pos": "pos", "activation": "activations", "effects": "effects"}
_EDGE = {"source": "sources", "target": "targets", "weight": "values", "before": "before", "parts": "parts"}
_HINT = "Write it with graph.save(path)."
_WHOLE = ("levels", "features", "pos", "sources", "targets")
_PLAIN = (
    "name",
    "settings",
    "python",
    "dictionaries",
    "outputs",
    "part_names",
    "pieces",
    "token_ids",
    "positions",
    "total",
    "measured",
)


def write(graph: "Graph") -> str:
    """Our own JSON; a node or an edge is an object, `source` and `target` count nodes from 0.

    Holds:
      `read` of it is the same graph, number for number.
    """

    def rows(names: Mapping[str, str]) -> list[dict[str, Any]]:
        columns = [getattr(graph, attribute).tolist() for attribute in names.values()]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    data = {
        "result": f"{type(graph).__module__}:{type(graph).__name__}",
        "format": FORMAT,
        "version": VERSION,
        **{name: getattr(graph, name) for name in _PLAIN},
        "marks": graph.marks,
        "dtype": str(graph.values.dtype).removeprefix("torch."),
        "nodes": rows(_NODE),
        "edges": rows(_EDGE),
    }
    return json.dumps(data, indent=1, allow_nan=False)


def read(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the graph that `write` wrote.

    Raises:
      BadResult: It is none, or of a version that is not known.
    """
    seen = {"format": data.get("format"), "version": data.get("version")}
    if seen != {"format": FORMAT, "version": VERSION}:
        raise BadResult(f"The file says {seen}, and known is {FORMAT!r} of version {VERSION}.", _HINT)
    dtype = getattr(torch, data["dtype"])
    fields = {name: data[name] for name in _PLAIN} | {"marks": data.get("marks", {})}
    for names, rows, wide in ((_NODE, data["nodes"], "outputs"), (_EDGE, data["edges"], "part_names")):
        for name, attribute in names.items():
            kind = torch.long if attribute in _WHOLE else dtype
            column = torch.tensor([row[name] for row in rows], dtype=kind)
            fields[attribute] = column.view(len(rows), len(data[wide])) if name in ("effects", "parts") else column
    check_form(fields["marks"])
    _check_nodes(fields)
    _check_edges(fields)
    return fields


def _check_nodes(fields: Mapping[str, Any]) -> None:
    """Refuse nodes that no graph has."""
    levels, features, pos = fields["levels"], fields["features"], fields["pos"]
    n_features = torch.tensor([*(one["n_features"] for one in fields["dictionaries"]), 2**62])  # a token's is an id
    inside = (levels >= TOKEN) & (levels < len(fields["dictionaries"]))
    _refuse("node", ~inside, "is of no dictionary")
    _refuse("node", (pos < 0) | (pos >= len(fields["pieces"])), "is at no position of the prompt")
    _refuse("node", (features < ERROR) | (features >= n_features[levels]), "is no feature of its dictionary")
    _refuse("node", ~fields["activations"].isfinite() | ~fields["effects"].isfinite().all(-1), "has no finite numbers")
    _refuse("node", _find_repeated(levels, features, pos), "stands there twice")


def _check_edges(fields: Mapping[str, Any]) -> None:
    """Refuse edges that no graph has."""
    sources, targets, n_nodes = fields["sources"], fields["targets"], len(fields["levels"])
    _refuse("edge", (torch.minimum(sources, targets) < 0) | (torch.maximum(sources, targets) >= n_nodes), "has no ends")
    numbers = torch.cat((fields["values"][:, None], fields["before"][:, None], fields["parts"]), dim=1)
    _refuse("edge", ~numbers.isfinite().all(-1), "has no finite numbers")
    _refuse("edge", fields["levels"][sources] >= fields["levels"][targets], "leads to no later dictionary")
    _refuse("edge", _find_repeated(sources, targets), "stands there twice")
    weight, total = float(fields["values"].double().abs().sum()), fields["total"]
    if not weight <= total * (1 + 1e-6) < math.inf:
        raise BadResult(f"The file's total is {total}, and its weights sum to {weight:.4g}.", _HINT)


def _refuse(what: str, wrong: Bool[Tensor, " row"], says: str) -> None:
    if bool(wrong.any()):
        raise BadResult(f"The file's {what} {int(wrong.nonzero()[0])} {says}.", _HINT)


def _find_repeated(*columns: Int[Tensor, " row"]) -> Bool[Tensor, " row"]:
    """Which rows are like one before."""
    return torch.tensor(
        pd.DataFrame(dict(enumerate(map(Tensor.numpy, columns)))).duplicated().tolist(), dtype=torch.bool
    )


def write_dot(graph: "Graph") -> str:
    """For Graphviz."""
    largest = float(graph.values.abs().max()) if len(graph.values) else 1.0
    lines = ["digraph {", "  rankdir=BT", "  node [shape=box]"]
    keys, names = name_nodes(graph), graph.marks.get("names", {})
    for node, key in enumerate(keys):
        label = "\n".join([graph.describe(node), *([names[key]] if key in names else [])])
        lines.append(f"  n{node} [label={json.dumps(label, ensure_ascii=False)}]")
    for number, (name, members) in enumerate(graph.marks.get("groups", {}).items()):
        own = "; ".join(f"n{keys.index(key)}" for key in members if key in keys)
        lines.append(f"  subgraph cluster_{number} {{ label={json.dumps(name, ensure_ascii=False)}; {own} }}")
    for source, target, value in zip(
        graph.sources.tolist(), graph.targets.tolist(), graph.values.tolist(), strict=True
    ):
        color, width = "blue" if value > 0 else "red", 0.3 + 3 * abs(value) / largest
        lines.append(f'  n{source} -> n{target} [color={color} penwidth={width:.2f} label="{value:.3g}"]')
    return "\n".join([*lines, "}", ""])


def make_attribution_graph(graph: "Graph", slug: str, scan: str) -> dict[str, Any]:
    """The JSON of attribution graphs: outputs are logit nodes, joined to what the last dictionary has.

    Raises:
      BadArgument: A name has other characters than those sites take.
    """
    given: dict[str, Any] = {"slug": slug, "scan": scan}
    for what, name in given.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9_.-]+", name):
            raise BadArgument(f"{what}={name!r} was given.", "Use letters, digits, `_`, `.` and `-`.")
    last = max(one["layer"] for one in graph.dictionaries)
    nodes = [_make_node(graph, node) for node in range(len(graph.levels))]
    ids = {key: node["node_id"] for key, node in zip(name_nodes(graph), nodes, strict=True)}
    for key, name in graph.marks.get("names", {}).items():
        if key in ids:
            next(node for node in nodes if node["node_id"] == ids[key])["clerp"] = name

    def find(keys: Sequence[str]) -> list[str]:
        return [ids[key] for key in keys if key in ids]

    ends = [(int(source), int(target)) for source, target in zip(graph.sources, graph.targets, strict=True)]
    links = [
        {"source": nodes[source]["node_id"], "target": nodes[target]["node_id"], "weight": weight}
        for (source, target), weight in zip(ends, graph.values.tolist(), strict=True)
    ]
    feeding = (graph.levels == len(graph.dictionaries) - 1).nonzero()[:, 0].tolist()
    for number, name in enumerate(graph.outputs):
        # Readers look for a probability there, which an output need not have.
        pos = len(graph.pieces) - 1
        output = _node(f"{last + 1}_{number}_{pos}", pos, number, last + 1, "logit", f"{name} (p=?)")
        links += [
            {
                "source": nodes[node]["node_id"],
                "target": output["node_id"],
                "weight": float(graph.effects[node, number]),
            }
            for node in feeding
        ]
        nodes.append(output)
    source_set = _find_source_set(graph, scan)
    return {
        "metadata": {
            "slug": slug,
            "scan": scan,
            "schema_version": 1,
            **({"feature_details": {"neuronpedia_source_set": source_set}} if source_set else {}),
            "transcoder_list": [one["dictionary"] for one in graph.dictionaries],
            "prompt_tokens": list(graph.pieces),
            "prompt": "".join(graph.pieces),
            "info": {"description": repr(graph), "generator": {"name": "Residscope"}},
            "generation_settings": dict(graph.settings),
        },
        "qParams": {
            "linkType": "both",
            "pinnedIds": find(graph.marks.get("pinned", ())),
            "clickedId": "",
            "supernodes": [[name, *find(keys)] for name, keys in graph.marks.get("groups", {}).items()],
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": links,
    }


def _find_source_set(graph: "Graph", scan: str) -> str | None:
    """Where Neuronpedia has pages of all dictionaries: it looks for those of layer 5 at `{scan}/5-{source set}`."""
    there = {str(one.get("pages")).replace(f"/{one['layer']}-", "/", 1) for one in graph.dictionaries}
    model, _, source_set = there.pop().partition("/")
    return source_set if not there and model == scan and source_set else None


def _make_node(graph: "Graph", node: int) -> dict[str, Any]:
    layer, feature, pos = int(graph.layers[node]), int(graph.features[node]), int(graph.pos[node])
    if layer < 0:
        return _node(f"E_{feature}_{pos}", pos, pos, "E", "embedding", "")
    own = graph.dictionaries[int(graph.levels[node])]
    first = next(one for one in graph.dictionaries if one["layer"] == layer)
    kind = "" if own is first else f"_{own['site'].partition('.')[0]}"  # which is another dictionary of the layer
    node_id, label = f"{layer}_{feature}_{pos}{kind}", graph.describe(node)
    if feature < 0:
        return _node(node_id, pos, feature, layer, "mlp reconstruction error", f"Err: {label}")
    paired = (layer + feature) * (layer + feature + 1) // 2 + feature  # Cantor's, as the readers take it apart
    activation = float(graph.activations[node])
    return _node(node_id, pos, paired, layer, "cross layer transcoder", "") | {"activation": activation}


def _node(node_id: str, pos: int, feature: int, layer: int | str, kind: str, label: str) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "feature": feature,
        "layer": str(layer),
        "ctx_idx": pos,
        "feature_type": kind,
        "jsNodeId": node_id,
        "clerp": label,
        "activation": None,
    }
