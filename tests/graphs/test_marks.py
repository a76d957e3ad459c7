"""What people put on a graph: it is checked, kept in every file, and the page reads the same."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import residscope as rs
from residscope.errors import BadArgument, BadResult
from residscope.graphs.marks import name_nodes
from tests.golden.make_graph import PATH, describe, make_graph
from tests.models import shared_path


def test_the_golden_graph_is_what_is_written_now() -> None:
    assert json.loads(json.dumps(describe())) == json.loads(PATH.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["graph.json", "graph.safetensors"])
def test_marks_are_kept_in_files_and_by_pruning(tmp_path: Path, name: str) -> None:
    graph = make_graph()
    graph.save(tmp_path / name)
    read = rs.open(tmp_path / name)
    assert isinstance(read, rs.Graph)
    assert read.marks == graph.marks
    assert set(read.marks) == {"keep", "pinned", "names", "notes", "groups", "folded"}
    assert graph.prune(0.5).marks == graph.marks
    assert read.mark(pinned=[]).marks == {**graph.marks, "pinned": []}


def test_an_older_file_has_none(tmp_path: Path) -> None:
    data = json.loads(make_graph().to_file())
    del data["marks"]
    (tmp_path / "graph.json").write_text(json.dumps(data))
    read = rs.open(tmp_path / "graph.json")
    assert isinstance(read, rs.Graph)
    assert read.marks == {}


def test_how_its_picture_stands_is_kept(tmp_path: Path) -> None:
    look = {"across": "columns", "sign": "ablation", "paths": "long", "output": 1, "picked": "0.7@0", "limit": 2.5}
    make_graph().mark(look=look).save(tmp_path / "graph.json")
    read = rs.open(tmp_path / "graph.json")
    assert isinstance(read, rs.Graph)
    assert read.marks == {**make_graph().marks, "look": look}


@pytest.mark.parametrize(
    "marks",
    [
        5,
        {"keep": 2},
        {"pinned": "0.7@0"},
        {"names": {"0.7@0": 3}},
        {"colour": "red"},
        {"look": {"across": "circles"}},
        {"look": {"limit": -1}},
        {"look": {"colour": "red"}},
    ],
)
def test_marks_of_another_form_are_refused(tmp_path: Path, marks: object) -> None:
    data = json.loads(make_graph().to_file()) | {"marks": marks}
    (tmp_path / "graph.json").write_text(json.dumps(data))
    with pytest.raises(BadResult, match="marks are"):
        rs.open(tmp_path / "graph.json")


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("marks", "says"),
    [
        ({"pinned": ["3.1@0"]}, "no node '3.1@0'"),
        ({"names": {"token@7": "x"}}, "no node 'token@7'"),
        ({"groups": {"a": ["0.7@0"], "b": ["0.7@0"]}}, "0.7@0 is in two groups"),
        ({"folded": [3]}, r"folded=\[3\]"),
        ({"keep": 0.0}, "keep=0.0"),
        ({"keep": float("nan")}, "keep=nan"),
        ({"look": {"output": -1}}, "look={'output': -1}"),
        ({"keep": "all"}, "keep='all'"),
        ({"names": ["0.7@0"]}, r"names=\['0.7@0'\] was asked for"),
        ({"names": {"0.7@0": 5}}, "names={'0.7@0': 5} was asked for"),
        ({"notes": {7: "x"}}, "notes={7: 'x'} was asked for"),
        ({"pinned": "0.7@0"}, "pinned='0.7@0' was asked for"),
        ({"pinned": 5}, "pinned=5 was asked for"),
        ({"groups": [1]}, r"groups=\[1\] was asked for"),
        ({"groups": {"a": "0.7@0"}}, "groups={'a': '0.7@0'} was asked for"),
        ({"groups": {1: ["0.7@0"]}}, "was asked for. Give lists of nodes by name"),
        ({"folded": 2}, "folded=2 was asked for. Give a list of layers"),
    ],
)
def test_what_the_graph_has_not_is_refused(marks: dict[str, object], says: str) -> None:
    with pytest.raises(BadArgument, match=says) as caught:
        make_graph().mark(**marks)  # type: ignore[arg-type]
    assert caught.value.hint


@pytest.mark.untyped
def test_marks_of_numpy_are_kept_as_files_have_them(tmp_path: Path) -> None:
    given: dict[str, Any] = {"keep": np.float32(0.5), "folded": np.array([1]), "pinned": ("0.7@0",)}
    graph = make_graph().mark(**given, groups={"a": ["0.9@1"]})
    graph.save(tmp_path / "graph.json")
    read = rs.open(tmp_path / "graph.json")
    assert isinstance(read, rs.Graph)
    assert read.marks == graph.marks == {**graph.marks, "folded": [1], "pinned": ["0.7@0"], "groups": {"a": ["0.9@1"]}}


def test_nodes_are_called_by_site_where_a_layer_has_two_dictionaries() -> None:
    graph = make_graph()
    graph.dictionaries[1]["layer"] = 0  # type: ignore[index]
    names = name_nodes(graph)
    assert names[:5] == ["token@0", "token@1", "resid_pre.0.7@0", "resid_pre.0.error@1", "resid_pre.0.9@1"]
    assert names[5] == "resid_pre.1.300@1"
    assert names[-1] == "5.17@1"


def test_the_attribution_graph_with_marks_follows_its_schema() -> None:
    facts = json.loads(shared_path("reference/attribution_graph_schema.json").read_text())
    schema = next(value for key, value in facts.items() if key.startswith("neuronpedia_graph_schema"))
    made = make_graph().to_attribution_graph("tiny", "tiny")
    jsonschema.Draft7Validator(schema).validate(json.loads(json.dumps(made)))
    ids = {node["node_id"]: node for node in made["nodes"]}
    [[name, *members]] = made["qParams"]["supernodes"]
    assert name == "two of layer 1"
    assert {*members, *made["qParams"]["pinnedIds"]} <= {*ids}
    assert ids["1_300_1"]["clerp"] == "animals"
