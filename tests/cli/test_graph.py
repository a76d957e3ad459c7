"""`residscope graph`: the graph that Python makes, as a table, as JSON and as files."""

import json
from pathlib import Path

import pytest

import residscope as rs
from tests.cli.conftest import CALL
from tests.graphs.wiring import edges_of

PROMPT = "Lily had a red ball. She"


def test_the_graph_is_the_one_that_python_makes(call: CALL, tmp_path: Path) -> None:
    out = tmp_path / "graph.json"
    done = call("graph", "demo", PROMPT, "--out", str(out), "--positions", "3,-1", "--top", "4", "--edges", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    expected = rs.causal_graph(rs.load("demo"), PROMPT, rs.demo.dictionaries, [3, -1], top=4).prune(0.5)
    read = rs.open(out)
    assert isinstance(read, rs.Graph)
    assert edges_of(read) == edges_of(expected)
    strongest = int(expected.values.abs().argmax())
    row = next(line for line in done.stdout.splitlines() if "@" in line)
    assert row.split()[::2][0] == expected.describe(int(expected.sources[strongest]))
    assert f"{float(expected.values[strongest]):+.3f}" in row
    assert f"{expected.share:.1%} of the whole effect" in " ".join(done.stdout.split())
    printed = call("graph", "demo", PROMPT, "--json", "--positions", "3,-1", "--top", "4", "--edges", "0.5")
    assert json.loads(printed.stdout)["edges"] == json.loads(out.read_text())["edges"]


def test_dictionaries_are_named_and_other_files_written(call: CALL, tmp_path: Path) -> None:
    named = [f"--dictionary=demo/resid_pre.{layer}-topk" for layer in (1, 2)]
    for name, start in (("graph.dot", "digraph {"), ("graph.csv", "layer,feature,pos,target_layer")):
        done = call("graph", "demo", PROMPT, *named, "--out", str(tmp_path / name), "--errors", "--tokens")
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / name).read_text().startswith(start)
    done = call("graph", "demo", PROMPT, *named, "--estimate")
    assert "estimated with an error of" in " ".join(done.stdout.split())


def test_it_is_cut_by_influence_goes_on_and_is_tried(call: CALL, tmp_path: Path) -> None:
    model, out = rs.load("demo"), tmp_path / "graph.json"
    asked = ["--estimate", "--edges", "0.3", "--by", "influence", "--out", str(out)]
    assert call("graph", "demo", PROMPT, *asked).stderr == ""
    read = rs.open(out)
    assert isinstance(read, rs.Graph)
    expected = [rs.log_prob(int(model.run(PROMPT).at("logits", -1)[0].argmax()))]
    estimated = rs.causal_graph(model, PROMPT, rs.demo.dictionaries, method="attribution", outputs=expected)
    assert edges_of(read) == edges_of(estimated.prune(0.3, by="influence"))
    exact = rs.causal_graph(model, PROMPT, rs.demo.dictionaries)
    for _ in range(2):  # the second call reads what the first traced
        done = call("graph", "demo", PROMPT, "--resume", str(tmp_path / "levels"), "--evaluate")
        assert (done.returncode, done.stderr) == (0, "")
        assert repr(exact.evaluate(model, rs.demo.dictionaries)) in done.stdout
    assert len([*(tmp_path / "levels").iterdir()]) > 1
    refused = call("graph", "demo", "Another prompt.", "--resume", str(tmp_path / "levels"))
    assert (refused.returncode, refused.stdout) == (1, "")
    refused = call("graph", "demo", PROMPT, "--edges", "0.3", "--by", "influence")
    assert "Influence multiplies edges along paths" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["demo", PROMPT, "--positions", "first"], 2, "'first' is not last, all, or numbers"),
        (["demo", PROMPT, "--out", "graph.png"], 2, "graph.png is no .json, .dot or .csv"),
        (["gpt2", PROMPT], 2, "Give dictionaries of this model"),
        (["demo", PROMPT, "--positions", "99"], 1, "Error: Position 99 was asked for"),
        (["demo", PROMPT, "--dictionary", "demo/resid_pre.1-topk"], 1, "Give two or more"),
        (["demo", ""], 1, "Error: The prompt is empty"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(call: CALL, arguments: list[str], status: int, says: str) -> None:
    done = call("graph", *arguments)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
