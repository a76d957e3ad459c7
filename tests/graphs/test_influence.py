"""Influence on an output: the sum of powers of the matrix of shares, and what of a graph has most of it."""

from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument
from residscope.graphs.influence import find_influence, start_at
from tests.graphs.conftest import PROMPT
from tests.graphs.wiring import STREAM, wire

Dictionaries = dict[str, rs.SparseAutoencoder]
A = 97


@pytest.fixture(scope="module")
def linear(wide: rs.Model, dictionaries: Dictionaries) -> rs.Graph:
    return rs.causal_graph(
        wide,
        PROMPT,
        dictionaries,
        share=1.0,
        paths="any",
        errors=True,
        tokens=True,
        outputs=[rs.logit(" had"), rs.logit(" was")],
        method="attribution",
        n_sample=2,
    )


def test_it_is_the_sum_of_powers(linear: rs.Graph) -> None:
    n = len(linear.levels)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix[linear.targets, linear.sources] = linear.values.abs()
    matrix /= matrix.sum(1, keepdim=True).clamp(min=1e-300)
    start = start_at(linear, None, None)
    assert float(start.sum()) == pytest.approx(1, abs=1e-12)
    assert bool((start[linear.levels != 4] == 0).all())
    found, flow = find_influence(linear, start, torch.ones(len(linear.values), dtype=torch.bool))
    expected = start @ torch.linalg.inv(torch.eye(n, dtype=torch.float64) - matrix)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        flow, matrix[linear.targets, linear.sources] * expected[linear.targets], rtol=0, atol=1e-10
    )


def test_the_wiring_is_weighed() -> None:
    model = wire(
        {A: {0: 1.0, 1: 3.0, 2: 5.0}},
        {0: [({0: 1.0, 1: 1.0}, 0.0, {5: 1.0})], 1: [({5: 1.0}, 0.0, {8: 2.0})]},
        {},
    )
    options: dict[str, Any] = {"share": 1.0, "method": "attribution", "n_sample": 2}
    graph = rs.causal_graph(model, torch.tensor([[A]]), STREAM, **options)
    output = 2, 8, 0
    start = start_at(graph, graph.find(*output), None)
    influence, _ = find_influence(graph, start, torch.ones(len(graph.values), dtype=torch.bool))
    said = {graph.describe(node): float(influence[node]) for node in range(len(graph.levels)) if influence[node]}
    assert said == {"2.8@0": 1.0, "1.5@0": 1.0, "0.1@0": 0.75, "0.0@0": 0.25}
    small = graph.prune(nodes=0.91, by="influence", output=output)  # of 3, all but the last quarter
    assert {small.describe(node) for node in range(len(small.levels))} == {"2.8@0", "1.5@0", "0.1@0"}
    few = graph.prune(0.6, by="influence", output=output)  # edges have 1, 0.75 and 0.25 of 2
    assert {few.describe(int(node)) for node in few.sources} == {"1.5@0", "0.1@0"}


def test_shares_of_nodes_and_edges_stay_and_nothing_dangles(linear: rs.Graph) -> None:
    everything = linear.prune(by="influence", output="rs.logit(' had', pos=-1)")
    small = linear.prune(0.7, nodes=0.5, by="influence", output="rs.logit(' had', pos=-1)")
    assert 0 < len(small.values) < len(everything.values) <= len(linear.values)
    ends = {*small.targets.tolist()}
    starts = {*small.sources.tolist()}
    for node in range(len(small.levels)):
        assert node in starts or int(small.levels[node]) == 4
        assert node in ends or int(small.features[node]) == -1 or int(small.levels[node]) == -1
    names: dict[str, Any] = {"graph": linear}
    exec(small.python[-1], names)
    assert names["graph"].to_json() == small.to_json()


def test_pinned_nodes_stay(linear: rs.Graph, graph: rs.Graph) -> None:
    weakest = linear.to_frame().query("feature >= 0 and layer >= 0")
    edge = weakest.iloc[int(weakest["value"].abs().argmin())]
    one = int(edge["layer"]), int(edge["feature"]), int(edge["pos"])
    other = int(edge["target_layer"]), int(edge["target_feature"]), int(edge["target_pos"])
    for small in (
        linear.prune(0.1, nodes=0.1, by="influence", pinned=[one, other]),
        linear.prune(0.1, pinned=[one, other]),
    ):
        ends = [*zip(small.sources.tolist(), small.targets.tolist(), strict=True)]
        assert (small.find(*one), small.find(*other)) in ends
    alone = linear.prune(0.01, pinned=[one])
    assert alone.find(*one) not in {*alone.sources.tolist(), *alone.targets.tolist()}
    with pytest.raises(BadArgument, match=r"no node 3\.9999@0"):
        graph.prune(pinned=[(3, 9999, 0)])


def test_what_does_not_multiply_is_refused(
    wide: rs.Model, dictionaries: Dictionaries, graph: rs.Graph, linear: rs.Graph
) -> None:
    def trace(**options: Any) -> rs.Graph:
        chosen = {site: dictionaries[site] for site in ("resid_pre.0", "resid_pre.1", "resid_pre.2")}
        return rs.causal_graph(wide, PROMPT, chosen, method="attribution", n_sample=2, top=1, **options)

    output: Any = "rs.logit(' had', pos=-1)"
    with pytest.raises(BadArgument, match="measured by ablation"):
        graph.prune(by="influence", output=output)
    with pytest.raises(BadArgument, match="integrated along a way"):
        trace(integrated_gradients=1).prune(by="influence")
    with pytest.raises(BadArgument, match="edges to later layers"):
        trace(later=True).prune(by="influence")
    with pytest.raises(BadArgument, match="the graph's outputs are"):
        trace().prune(by="influence")
    with pytest.raises(BadArgument, match="'x' was asked for"):
        linear.prune(by="influence", output="x")


@pytest.mark.untyped
@pytest.mark.parametrize(
    "wrong", [{"nodes": 0.5}, {"output": "rs.logit(' had', pos=-1)"}, {"by": "size"}, {"nodes": 0.0, "by": "influence"}]
)
def test_what_makes_no_sense_is_refused(linear: rs.Graph, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadArgument):
        linear.prune(**wrong)
