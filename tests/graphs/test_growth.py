"""Graphs grown from a node, merged, and with nodes that stay."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, BadMetric
from residscope.running.progress import Step
from tests.graphs.conftest import PROMPT
from tests.graphs.wiring import STREAM, edges_of, wire

Dictionaries = dict[str, rs.SparseAutoencoder]
A = 97


@pytest.fixture(scope="module")
def everything(wide: rs.Model, dictionaries: Dictionaries) -> dict[Any, float]:
    graph = rs.causal_graph(wide, PROMPT, dictionaries, share=1.0, paths="any", errors=True, tokens=True)
    return edges_of(graph)


@pytest.fixture(scope="module")
def node(everything: dict[Any, float]) -> Any:
    """A feature in the middle that much leads to."""
    return max((edge for edge in everything if edge[3] == 2), key=lambda edge: abs(everything[edge]))[3:]


def strongest(edges: dict[Any, float], own: Any, n: int, *, causes: bool) -> list[Any]:
    there = [edge for edge in edges if (edge[3:] if causes else edge[:3]) == own]
    return sorted(there, key=lambda edge: -abs(edges[edge]))[:n]


def test_what_grows_are_the_strongest_causes_and_effects(
    wide: rs.Model, dictionaries: Dictionaries, everything: dict[Any, float], node: tuple[int, int, int]
) -> None:
    found = edges_of(rs.grow_graph(wide, PROMPT, dictionaries, node, top=3, errors=True, tokens=True))
    expected, back, forward = set(), {node}, {node}
    for _ in range(4):
        into = [edge for one in back for edge in strongest(everything, one, 3, causes=True)]
        out = [edge for one in forward for edge in strongest(everything, one, 3, causes=False)]
        expected |= {*into, *out}
        back, forward = {edge[:3] for edge in into}, {edge[3:] for edge in out}
    assert found.keys() == expected
    assert found == pytest.approx({edge: everything[edge] for edge in expected}, abs=1e-10)
    assert {edge[0] for edge in found} == {-1, 0, 1, 2, 3}


@pytest.mark.parametrize(("ways", "layers"), [("causes", {1}), ("effects", {2})])
def test_it_grows_as_far_as_is_asked(
    wide: rs.Model, dictionaries: Dictionaries, node: tuple[int, int, int], ways: Any, layers: set[int]
) -> None:
    steps: list[Step] = []
    with rs.progress(steps.append):
        graph = rs.grow_graph(wide, PROMPT, dictionaries, node, ways=ways, n_steps=1, top=2, outputs=[rs.logit(" had")])
    assert {edge[0] for edge in edges_of(graph)} == layers
    assert len(graph.values) == 2
    assert steps[-1].done == steps[-1].total
    whole = rs.causal_graph(wide, PROMPT, dictionaries, top=2, paths="any", outputs=[rs.logit(" had")])
    for number in range(len(graph.levels)):
        name = graph.describe(number)
        found = [i for i in range(len(whole.levels)) if whole.describe(i) == name]
        if found:
            assert float(graph.effects[number, 0]) == pytest.approx(float(whole.effects[found[0], 0]), abs=1e-10)
            assert float(graph.activations[number]) == pytest.approx(float(whole.activations[found[0]]), abs=1e-12)


def test_the_wiring_is_followed() -> None:
    model = wire(
        {A: {0: 1.0, 1: 2.0, 2: 3.0}}, {0: [({0: 1.0}, 0.0, {5: 2.0})], 1: [({5: 1.0, 1: 1.0}, 0.0, {6: 1.0})]}, {}
    )
    tokens = torch.tensor([[A]])
    causes = rs.grow_graph(model, tokens, STREAM, (2, 6, 0), ways="causes")
    assert edges_of(causes) == {(1, 5, 0, 2, 6, 0): 2.0, (1, 1, 0, 2, 6, 0): 2.0, (0, 0, 0, 1, 5, 0): 2.0} | {
        (0, 1, 0, 1, 1, 0): 2.0
    }
    effects = rs.grow_graph(model, tokens, STREAM, (0, 0, 0), ways="effects")
    assert {edge[3:] for edge in edges_of(effects)} == {(1, 0, 0), (1, 5, 0), (2, 0, 0), (2, 5, 0), (2, 6, 0)}
    assert causes.total == sum((1 + 2, 2, 3, 1, 2 + 2, 3, 2 + 2))  # of all that was ablated, whatever was kept


def test_nodes_that_are_not_there_are_refused(wide: rs.Model, dictionaries: Dictionaries) -> None:
    active = rs.demo.dictionaries["resid_pre.2"].encode(rs.load("demo").run(PROMPT).at("resid_pre.2", -1))[0]
    silent = int((active == 0).nonzero()[0])
    with pytest.raises(BadArgument, match="not active"):
        rs.grow_graph(wide, PROMPT, dictionaries, (2, silent, -1))
    for node in ((9, 0, -1), (2, 10**6, -1), (2, 0, 0)):
        with pytest.raises(BadArgument, match=r"was named|no dictionary of layer 9"):
            rs.grow_graph(wide, PROMPT, dictionaries, node)


def test_pinned_nodes_and_their_edges_stay(
    wide: rs.Model, dictionaries: Dictionaries, everything: dict[Any, float]
) -> None:
    weak = min((edge for edge in everything if edge[:2] > (0, -1) and edge[3] == 2), key=lambda e: abs(everything[e]))
    silent = next(i for i in range(2048) if not any((2, i) in (edge[:2], edge[3:5]) for edge in everything))
    pinned = [weak[:3], weak[3:], (2, silent, -1)]
    for rule in ({"top": 1}, {"threshold": 1e3}, {"share": 0.01}):
        options: dict[str, Any] = rule
        plain = edges_of(rs.causal_graph(wide, PROMPT, dictionaries, **options))
        graph = rs.causal_graph(wide, PROMPT, dictionaries, pinned=pinned, **options)
        assert weak not in plain
        assert edges_of(graph) == pytest.approx(plain | {weak: everything[weak]}, abs=1e-10)
        assert float(graph.activations[graph.find(2, silent, -1)]) == 0


def test_parts_merge_to_the_whole(graph: rs.Graph, tmp_path: Path) -> None:
    some = torch.arange(len(graph.values)) % 3
    one, other = graph.take(some < 2), graph.take(some > 0)
    merged = one.merge(other)
    assert edges_of(merged) == edges_of(graph)
    assert merged.share == pytest.approx(1)
    assert edges_of(other.merge(one)) == edges_of(merged)
    assert one.merge(one).total == one.total == graph.total
    merged.save(tmp_path / "graph.json")
    assert rs.open(tmp_path / "graph.json").to_json() == merged.to_json()


def test_marks_merge_and_hold(graph: rs.Graph) -> None:
    names = [f"{layer}.{feature}@7" for layer, feature, _ in graph.nodes()[["layer", "feature", "pos"]].to_numpy()]
    a, b, c = [name for name in names if ".-1@" not in name and not name.startswith("-1")][:3]
    one = graph.mark(pinned=[a], names={a: "first"}, groups={"pair": [a, b]}, folded=[1])
    other = graph.mark(pinned=[a, b], names={a: "not this", b: "second"}, groups={"pair": [b], "alone": [c]})
    found = one.merge(other).marks
    assert found == {
        "pinned": [a, b],
        "names": {a: "first", b: "second"},
        "groups": {"pair": [a, b], "alone": [c]},
        "folded": [1],
    }
    small = other.prune(0.01)
    assert {a, b} <= {small.describe(node) for node in range(len(small.levels))}


def test_what_was_measured_for_both_counts_once(wide: rs.Model, dictionaries: Dictionaries, node: Any) -> None:
    grown, whole = (
        rs.grow_graph(wide, PROMPT, dictionaries, node, top=2, tokens=False),
        rs.causal_graph(wide, PROMPT, dictionaries, top=2),
    )
    merged = whole.merge(grown)
    assert merged.total == pytest.approx(whole.total)
    assert grown.total < whole.total
    assert merged.share == pytest.approx(float(merged.values.abs().sum()) / whole.total)
    early = rs.causal_graph(wide, PROMPT, dictionaries, [2], top=2)
    both = early.merge(whole)
    assert both.total == pytest.approx(early.total + whole.total)
    assert both.positions == [2, len(whole.pieces) - 1]
    both.evaluate(wide, dictionaries, n_groups=4, n_random=1)
    names: dict[str, Any] = {}
    small = rs.causal_graph(rs.load("demo"), PROMPT, rs.demo.dictionaries, top=1)
    again = small.merge(rs.grow_graph(rs.load("demo"), PROMPT, rs.demo.dictionaries, node, top=1))
    exec(again.as_python(), names)
    assert edges_of(names["graph"]) == edges_of(again)


def test_graphs_of_other_kinds_do_not_merge(graph: rs.Graph, wide: rs.Model, dictionaries: Dictionaries) -> None:
    options: dict[str, Any] = {"errors": True, "outputs": [rs.loss(), rs.logit(" had")], "top": 1}
    others = {
        "prompt": rs.causal_graph(wide, "Tom had a big dog. He", dictionaries, **options),
        "outputs": rs.causal_graph(wide, PROMPT, dictionaries, top=1),
        "dictionaries": rs.causal_graph(wide, PROMPT, [*dictionaries.values()][1:], **options),
        "dictionaries ": replace(graph, dictionaries=[{**one, "fingerprint": "0"} for one in graph.dictionaries]),
        "competition": rs.causal_graph(wide, PROMPT, dictionaries, competition=False, **options),
        "model": replace(graph, settings={**graph.settings, "model": "another"}),
    }
    for what, other in others.items():
        with pytest.raises(BadArgument, match=f"made with another {what.strip()}"):
            graph.merge(other)
    with pytest.raises(BadArgument, match="differ in values by up to"):
        graph.merge(replace(graph, values=graph.values * 1.01))


@pytest.mark.untyped
def test_what_is_no_node_or_list(wide: rs.Model, dictionaries: Dictionaries) -> None:
    metrics: Any = rs.loss()
    with pytest.raises(BadMetric, match="Give a list of metrics"):
        rs.grow_graph(wide, PROMPT, dictionaries, (3, 0, -1), outputs=metrics)
    with pytest.raises(BadArgument, match=r"\(3, 564\) was given as a node"):
        rs.grow_graph(wide, PROMPT, dictionaries, (3, 564))


def test_what_is_no_source_is_refused(demo: rs.Model) -> None:
    ours, token = rs.demo.dictionaries, int(demo.tokenize(PROMPT).ids[0, -1])
    for node, said in (
        ((-1, token, -1), "tokens are no sources here. Give tokens=True"),
        ((3, -1, -1), "errors are no sources here. Give errors=True"),
    ):
        with pytest.raises(BadArgument, match=said):
            rs.grow_graph(demo, PROMPT, ours, node)
        with pytest.raises(BadArgument, match=said):
            rs.causal_graph(demo, PROMPT, ours, pinned=[node])
        assert len(rs.grow_graph(demo, PROMPT, ours, node, errors=True, tokens=True).values)
    with pytest.raises(BadArgument, match=f"The token at .* is {token}"):
        rs.causal_graph(demo, PROMPT, ours, tokens=True, pinned=[(-1, token + 1, -1)])
