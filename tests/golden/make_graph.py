"""Write the golden graph that Python and TypeScript read: `python -m tests.golden.make_graph`.

Its weights are multiples of a power of two, so that both sum them exactly; two of them are of one size.
"""

import json
from pathlib import Path
from typing import Any

import torch

import residscope as rs

PATH = Path(__file__).parent / "graph.json"
SHARES = (0.1, 0.25, 0.5, 0.75, 0.99, 1.0)
_EDGES = [
    # source, target, weight
    (0, 2, 0.5), (0, 3, -0.25), (1, 2, 0.125), (1, 4, 2.0), (2, 5, -1.5), (2, 6, 0.25), (3, 6, 0.75),
    (4, 7, 0.5), (5, 8, 1.0), (6, 8, -0.0625), (6, 9, 0.375), (7, 9, 0.046875),
]  # fmt: skip


def make_graph() -> rs.Graph:
    """Two tokens, three dictionaries of which the first leaves an error, and one output."""
    nodes = [(-1, 11, 0, 1.0), (-1, 12, 1, 1.25), (0, 7, 0, 3.0), (0, -1, 1, 0.5), (0, 9, 1, 2.5)]
    nodes += [(1, 300, 1, 4.0), (1, 301, 1, 0.0), (1, 5, 1, 1.5), (2, 10603, 1, 6.0), (2, 17, 1, 0.75)]
    levels, features, pos, activations = zip(*nodes, strict=True)
    sources, targets, values = (torch.tensor(column) for column in zip(*_EDGES, strict=True))
    graph = rs.Graph(
        name="causal graph of 'A cat' by tiny",
        settings={"method": "exact"},
        python=["graph = ..."],
        values=values,
        before=values * 2,
        sources=sources,
        targets=targets,
        levels=torch.tensor(levels),
        features=torch.tensor(features),
        pos=torch.tensor(pos),
        activations=torch.tensor(activations),
        effects=torch.arange(len(nodes))[:, None] / 8,
        parts=torch.stack((values, values), dim=1),
        dictionaries=[
            {"layer": layer, "site": f"resid_pre.{layer}", "writes": f"resid_pre.{layer}"}
            | {"dictionary": f"d{layer}", "n_features": 20_000, "source": None}
            for layer in (0, 1, 5)
        ],
        outputs=["rs.logit(' sat')"],
        part_names=["straight", "mlp"],
        pieces=["A", " cat"],
        token_ids=[11, 12],
        positions=[0, 1],
        total=10.0,
    )
    return graph.mark(
        keep=0.75,
        pinned=["0.9@1", "1.5@1", "5.10603@1"],
        names={"1.300@1": "animals"},
        notes={"0.7@0": "“first”"},
        groups={"two of layer 1": ["1.301@1", "1.5@1"]},
        folded=[0],
    )


def describe() -> dict[str, Any]:
    """The graph's file, which edges each share keeps, and its other files, whole."""
    graph = make_graph()
    ends = list(zip(graph.sources.tolist(), graph.targets.tolist(), strict=True))

    def kept(share: float, paths: Any) -> list[int]:
        small = graph.prune(share, paths=paths)
        rows = small.to_frame()[["layer", "feature", "pos", "target_layer", "target_feature", "target_pos"]]
        of = {tuple(row): number for number, row in enumerate(graph.to_frame()[rows.columns].itertuples(index=False))}
        return [of[tuple(row)] for row in rows.itertuples(index=False)]

    assert len({*ends}) == len(ends)
    made = graph.to_attribution_graph("tiny", "tiny")
    return {
        "file": json.loads(graph.to_file()),
        "kept": [
            {"share": share, "paths": paths, "edges": kept(share, paths)}
            for share in SHARES
            for paths in ("any", "long")
        ],
        "dot": graph.to_dot(),
        "attribution": {name: made[name] for name in ("nodes", "links", "qParams")},
        "csv": graph.to_csv(),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(describe(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
