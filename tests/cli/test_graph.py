"""`residscope graph`: the graph that Python makes, as a table, as JSON and as files."""

import json
from pathlib import Path

import pytest
import torch

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
    done = call("graph", "demo", PROMPT, "--resume", str(tmp_path / "levels"), "--evaluate", "--json")
    assert json.loads(done.stdout)["faithfulness"] == exact.evaluate(model, rs.demo.dictionaries).faithfulness
    refused = call("graph", "demo", PROMPT, "--top", "3", "--resume", str(tmp_path / "levels"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(
        f"Error: {str(tmp_path / 'levels')!r} was begun by another call, which differs in "
    )
    assert " in top. Name another folder" in refused.stderr


def test_rules_pins_and_parts_are_asked_for_as_in_python(call: CALL, tmp_path: Path) -> None:
    model, out = rs.load("demo"), tmp_path / "graph.json"
    nodes = rs.causal_graph(model, PROMPT, rs.demo.dictionaries).nodes()
    first, last = (nodes[nodes.layer == layer].iloc[0] for layer in (1, 2))
    pins = [f"{one.layer}.{one.feature}@{one.pos}" for one in (first, last)]
    pinned = [(int(one.layer), int(one.feature), int(one.pos)) for one in (first, last)]
    asked = ["--threshold", "0.5", "--later", "--split", "--pin", pins[0], "--pin", pins[1], "--out", str(out)]
    assert call("graph", "demo", PROMPT, *asked).stderr == ""
    read = rs.open(out)
    assert isinstance(read, rs.Graph)
    expected = rs.causal_graph(
        model, PROMPT, rs.demo.dictionaries, threshold=0.5, later=True, split=True, pinned=pinned
    )
    assert edges_of(read) == edges_of(expected)
    assert read.part_names == expected.part_names != []
    assert (
        call("graph", "demo", PROMPT, "--share", "0.3", "--errors", "--pin", "1.error@-1", "--out", str(out)).stderr
        == ""
    )
    read = rs.open(out)
    assert isinstance(read, rs.Graph)
    assert read.find(1, -1, -1) is not None
    assert edges_of(read) == edges_of(
        rs.causal_graph(model, PROMPT, rs.demo.dictionaries, share=0.3, errors=True, pinned=[(1, -1, -1)])
    )


def test_how_dictionaries_are_loaded_is_said(call: CALL, tmp_path: Path) -> None:
    model = rs.load("demo")
    given = [rs.load_dictionary(f"demo/resid_pre.{layer}-topk") for layer in (1, 2)]
    for one in given:
        folder = tmp_path / one.name
        folder.mkdir()
        weights = {"encoder.weight": one.encoder.T, "encoder.bias": one.encoder_bias}
        weights |= {"decoder.weight": one.decoder.T, "b_dec": one.decoder_bias}
        torch.save({name: weight.contiguous() for name, weight in weights.items()}, folder / "ae.pt")
        (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopK", "k": one.k}}))
    named = [f"--dictionary={tmp_path / one.name}" for one in given]
    refused = call("graph", "demo", PROMPT, *named)
    assert refused.stderr.endswith("are pickled. If you trust where they come from: --allow-pickle.\n")
    refused = call("graph", "demo", PROMPT, *named, "--allow-pickle")
    assert refused.stderr.endswith("does not say which site it reads. Say it: --site resid_pre.3.\n")
    out, sites = tmp_path / "graph.json", ["--site", "resid_pre.1", "--site", "resid_pre.2"]
    done = call("graph", "demo", PROMPT, *named, "--allow-pickle", *sites, "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    read = rs.open(out)
    assert isinstance(read, rs.Graph)
    assert edges_of(read) == pytest.approx(edges_of(rs.causal_graph(model, PROMPT, given)), abs=1e-3)
    centred = [rs.load_dictionary(f"demo/resid_pre.{layer}-topk", centred=True) for layer in (1, 2)]
    named = [f"--dictionary=demo/resid_pre.{layer}-topk" for layer in (1, 2)]
    call("graph", "demo", PROMPT, *named, "--centred", "--out", str(out))
    read = rs.open(out)
    assert isinstance(read, rs.Graph)
    assert edges_of(read) == edges_of(rs.causal_graph(model, PROMPT, centred))


def test_a_misfit_is_said_in_one_line(call: CALL) -> None:
    named = [f"--dictionary=demo/resid_pre.{layer}-topk" for layer in (0, 1, 3)]
    sites = [f"--site=resid_pre.{layer}" for layer in (1, 0, 3)]
    done = call("graph", "demo", PROMPT, *named, *sites, "--evaluate")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines
    assert len(lines) == len({*lines})
    assert all(line.startswith("Warning: resid_pre.") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["demo", PROMPT, "--positions", "first"], 2, "'first' is not last, all, or numbers"),
        (["demo", PROMPT, "--out", "graph.png"], 2, "graph.png is no .json, .dot or .csv"),
        (["demo", PROMPT, "--pin", "3.x@1"], 2, "'3.x@1' is no node as 3.564@-1 or 3.error@7"),
        (
            ["demo", PROMPT, "--by", "influence", "--estimate"],
            2,
            "With --by influence give --estimate, and with --edges",
        ),
        (["demo", PROMPT, "--by", "influence", "--edges", "0.3"], 2, "With --by influence give --estimate"),
        (["demo", PROMPT, "--split", "--estimate"], 2, "leave out --estimate or --split"),
        (["demo", PROMPT, "--centred"], 2, "are of what --dictionary names"),
        (["demo", PROMPT, "--dictionary", "demo/resid_pre.1-topk", "--site=a", "--site=b"], 2, "Give --site as often"),
        (["demo", PROMPT, "--top", "3", "--share", "0.5"], 1, "Several rules were given"),
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
