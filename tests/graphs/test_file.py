"""Graphs as files: read back number for number, and as others read them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

import residscope as rs
from residscope.errors import BadArgument, BadResult
from tests.models import shared_path


@pytest.mark.parametrize("name", ["graph.json", "graph.safetensors"])
def test_a_graph_is_read_back(graph: rs.Graph, tmp_path: Path, name: str) -> None:
    graph.save(tmp_path / name)
    read = rs.open(tmp_path / name)
    assert isinstance(read, rs.Graph)
    assert read.to_json() == graph.to_json()
    assert read.values.dtype == graph.values.dtype
    pd.testing.assert_frame_equal(read.nodes(), graph.nodes())
    assert read.prune(0.5).to_json() == graph.prune(0.5).to_json()


def test_other_files_are_refused_with_what_was_seen(graph: rs.Graph, tmp_path: Path) -> None:
    graph.save(tmp_path / "graph.json")
    data = json.loads((tmp_path / "graph.json").read_text())
    broken = {
        "version": {**data, "version": 7},
        "edge": {**data, "edges": [{**data["edges"][0], "target": 10**6}]},
        "none": {"nodes": [], "links": []},
        "rows": {**data, "nodes": [{}]},
        "another": {**data, "result": "residscope.running.sweep:Sweep"},
    }
    for name, one in broken.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
        with pytest.raises(BadResult) as caught:
            rs.open(tmp_path / f"{name}.json")
        assert caught.value.hint
        assert "Error" not in str(caught.value)
    with pytest.raises(BadResult, match=r"'version': 7.* of version 1"):
        rs.open(tmp_path / "version.json")


@pytest.mark.parametrize(
    ("where", "changed", "says"),
    [
        ("nodes", {"level": 99}, "is of no dictionary"),
        ("nodes", {"pos": 99}, "is at no position of the prompt"),
        ("nodes", {"feature": 10**6}, "is no feature of its dictionary"),
        ("nodes", {"activation": float("nan")}, "has no finite numbers"),
        ("edges", {"weight": float("inf")}, "has no finite numbers"),
        ("edges", {"source": -1}, "has no ends"),
        ("edges", {"source": 1, "target": 0}, "leads to no later dictionary"),
    ],
)
def test_what_no_graph_has_is_refused(
    graph: rs.Graph, tmp_path: Path, where: str, changed: dict[str, float], says: str
) -> None:
    data = json.loads(graph.to_file())
    data[where][-1] |= changed
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BadResult, match=says):
        rs.open(path)


def test_what_stands_twice_or_does_not_add_up_is_refused(graph: rs.Graph, tmp_path: Path) -> None:
    data, path = json.loads(graph.to_file()), tmp_path / "graph.json"
    for changed, says in (
        ({"edges": [*data["edges"], data["edges"][3]]}, f"edge {len(data['edges'])} stands there twice"),
        ({"nodes": [*data["nodes"], data["nodes"][3]]}, f"node {len(data['nodes'])} stands there twice"),
        ({"total": 0}, "total is 0, and its weights sum to"),
        ({"total": float("nan")}, "total is nan"),
    ):
        path.write_text(json.dumps({**data, **changed}))
        with pytest.raises(BadResult, match=says):
            rs.open(path)


def test_the_attribution_graph_follows_its_schema(graph: rs.Graph) -> None:
    facts = json.loads(shared_path("reference/attribution_graph_schema.json").read_text())
    schema = next(value for key, value in facts.items() if key.startswith("neuronpedia_graph_schema"))
    made = json.loads(json.dumps(graph.to_attribution_graph("lily", "residscope-demo"), allow_nan=False))
    jsonschema.Draft7Validator(schema).validate(made)
    ids = [node["node_id"] for node in made["nodes"]]
    assert len({*ids}) == len(ids) == len({node["jsNodeId"] for node in made["nodes"]})
    assert all(link["source"] in ids and link["target"] in ids for link in made["links"])
    for node in made["nodes"]:
        if node["feature_type"] == "cross layer transcoder":
            layer, feature, _ = map(int, node["node_id"].split("_"))
            assert node["feature"] == (layer + feature) * (layer + feature + 1) // 2 + feature
        if node["feature_type"] == "logit":
            assert "(p=" in node["clerp"]
    kinds = {node["feature_type"] for node in made["nodes"]}
    assert kinds == {"cross layer transcoder", "mlp reconstruction error", "embedding", "logit"}
    outputs = [link for link in made["links"] if link["target"].startswith("5_")]
    assert sum(link["weight"] for link in outputs) == pytest.approx(float(graph.effects[graph.layers == 4].sum()))
    with pytest.raises(BadArgument, match="slug"):
        graph.to_attribution_graph("a b", "x")


@pytest.mark.untyped
def test_numbers_and_places_that_are_none_are_refused(graph: rs.Graph, tmp_path: Path) -> None:
    name: Any = 5
    with pytest.raises(BadArgument, match="slug=5 was given"):
        graph.to_attribution_graph(name, "x")
    with pytest.raises(BadArgument, match="scan=5 was given"):
        graph.to_attribution_graph("x", name)
    for written in ("g.json", "g.safetensors"):
        with pytest.raises(BadArgument, match=r"nowhere/g\.\w+ cannot be written \(No such file or directory\)"):
            graph.save(tmp_path / "nowhere" / written)


def test_dot_and_csv_say_every_edge(graph: rs.Graph, tmp_path: Path) -> None:
    (tmp_path / "graph.csv").write_text(graph.to_csv())
    read = pd.read_csv(tmp_path / "graph.csv")
    pd.testing.assert_frame_equal(read, graph.to_frame())
    assert list(read)[:6] == ["layer", "feature", "pos", "target_layer", "target_feature", "target_pos"]
    assert list(read)[-1] == "value"
    dot = graph.to_dot()
    assert dot.count(" -> ") == len(graph.values)
    assert dot.count("color=blue") == int((graph.values > 0).sum())


@pytest.mark.parametrize(("name", "use"), [("g.dot", "to_dot"), ("g.csv", "to_csv"), ("g.svg", "buttons")])
def test_the_name_of_another_format_is_refused(graph: rs.Graph, tmp_path: Path, name: str, use: str) -> None:
    with pytest.raises(BadArgument, match=use):
        graph.save(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_the_attribution_graph_says_where_pages_of_its_features_are(graph: rs.Graph) -> None:
    assert [one["pages"] for one in graph.dictionaries] == [None] * len(graph.dictionaries)
    assert "feature_details" not in graph.to_attribution_graph("lily", "gpt2-small")["metadata"]
    there = [{**one, "pages": f"gpt2-small/{one['layer']}-res-jb"} for one in graph.dictionaries]
    known = replace(graph, dictionaries=there)
    metadata = known.to_attribution_graph("lily", "gpt2-small")["metadata"]
    assert metadata["feature_details"] == {"neuronpedia_source_set": "res-jb"}
    assert "feature_details" not in known.to_attribution_graph("lily", "gpt2-medium")["metadata"]
    some = replace(graph, dictionaries=[*there[:-1], graph.dictionaries[-1]])
    assert "feature_details" not in some.to_attribution_graph("lily", "gpt2-small")["metadata"]
