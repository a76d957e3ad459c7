"""Estimated graphs: exact where nothing bends, the gradient where it does, and their error said."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, DictionaryMisfit
from tests.graphs.conftest import PROMPT
from tests.graphs.wiring import STREAM, edges_of, wire

Dictionaries = dict[str, rs.SparseAutoencoder]
A, B = 97, 98


@pytest.mark.parametrize("integrated_gradients", [0, 3])
def test_estimates_are_exact_where_nothing_bends(integrated_gradients: int) -> None:
    model = wire(
        {A: {0: 1.0, 1: 2.0}, B: {2: 3.0}},
        {0: [({0: 1.0, 1: 1.0}, 0.0, {5: 2.0})]},
        {0: {(1, 4): 0.5}, 1: {(5, 9): 1.0}},
    )
    tokens, read = torch.tensor([[A, B]]), rs.metric(lambda x: x[:, 9], reads=["resid_post.1"])
    options: dict[str, Any] = {
        "share": 1.0,
        "paths": "any",
        "tokens": True,
        "later": True,
        "outputs": [read],
    }
    exact = rs.causal_graph(model, tokens, STREAM, "all", **options)
    options |= {"method": "attribution", "integrated_gradients": integrated_gradients}
    found = rs.causal_graph(model, tokens, STREAM, "all", **options)
    assert edges_of(found) == pytest.approx(edges_of(exact), abs=1e-12)
    torch.testing.assert_close(found.effects, exact.effects, rtol=0, atol=1e-12)
    assert found.total == pytest.approx(exact.total)
    assert found.settings["error"]["error"] == pytest.approx(0, abs=1e-12)
    assert found.settings["error"]["rank_correlation"] == pytest.approx(1)
    assert found.settings["error"]["sign_agreement"] == 1


def test_estimates_are_the_gradient(wide: rs.Model, dictionaries: Dictionaries) -> None:
    scalings: list[Any] = ["none", "norm", "layer_norm", "none", "none"]
    smooth = {
        site: replace(one, activation="relu", scaling=scaling)
        for (site, one), scaling in zip(dictionaries.items(), scalings, strict=True)
    }
    graph = rs.causal_graph(
        wide, PROMPT, smooth, [3, -1], method="attribution", top=2, paths="any", outputs=[rs.logit(" had")]
    )
    sites, frame, nodes = list(smooth), graph.to_frame(), graph.nodes()
    for _, edge in frame.iloc[:: len(frame) // 12].iterrows():
        layer, pos, feature = int(edge["layer"]), int(edge["pos"]), int(edge["feature"])
        source, target = smooth[sites[layer]], smooth[sites[layer + 1]]
        x = wide.run(PROMPT)[sites[layer]][0, pos]
        vector = source.write(torch.tensor([feature]), source.encode(x)[[feature]], x[None])[0]
        small = 1e-4
        edits = [[rs.add(sites[layer], vector, scale, pos=pos)] for scale in (small, -small)]
        base = wide.run(PROMPT)
        up, down = wide.sweep(base, edits, rs.read(target, pos=int(edge["target_pos"]))).values[:, 0]
        expected = float((up - down)[int(edge["target_feature"])]) / (2 * small)
        assert edge["value"] == pytest.approx(expected, rel=1e-5, abs=1e-7)
        up, down = wide.sweep(base, edits, rs.logit(" had")).values[:, 0]
        own = nodes[(nodes["layer"] == layer) & (nodes["pos"] == pos) & (nodes["feature"] == feature)]
        expected = float(up - down) / (2 * small)
        assert own[repr(rs.logit(" had"))].iloc[0] == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_the_error_is_said_and_the_way_makes_it_smaller(wide: rs.Model, dictionaries: Dictionaries) -> None:
    smooth = [replace(one, activation="relu") for one in (dictionaries["resid_pre.0"], dictionaries["resid_pre.1"])]
    found = [
        rs.causal_graph(wide, PROMPT, smooth, method="attribution", integrated_gradients=n, n_sample=30) for n in (0, 4)
    ]
    plain, on_the_way = (one.settings["error"] for one in found)
    assert plain["n_sources"] == 30
    assert f"estimated with an error of {plain['error']:.1%}" in repr(found[0])
    assert 0 < plain["error"] != on_the_way["error"] > 0
    assert plain["sign_agreement"] > 0.5 < plain["rank_correlation"]
    names: dict[str, Any] = {}
    again = rs.causal_graph(
        rs.load("demo"), PROMPT, rs.demo.dictionaries, top=1, method="attribution", integrated_gradients=1
    )
    exec(again.as_python(), names)
    assert edges_of(names["graph"]) == edges_of(again)


def test_what_a_sample_says_is_said_of_all(demo: rs.Model) -> None:
    trace = partial(rs.causal_graph, demo, PROMPT, rs.demo.dictionaries, method="attribution")
    for n_steps in (0, 4):
        some, every = (trace(integrated_gradients=n_steps, n_sample=n) for n in (20, 10_000))
        said, true = some.settings["error"], every.settings["error"]
        assert said["n_sources"] == 20 < true["n_sources"]
        assert said["error"] == pytest.approx(true["error"], rel=0.15)
        assert said["rank_correlation"] == pytest.approx(true["rank_correlation"], abs=0.1)


def test_silent_dictionaries_are_no_end_of_edges(demo: rs.Model) -> None:
    ours = list(rs.demo.dictionaries.values())
    high = torch.full((ours[2].n_features,), 1e9)
    silent = replace(ours[2], activation="jumprelu", k=None, threshold=high)
    for given, error in (([*ours[:2], silent, *ours[3:]], True), ([ours[1], silent], False)):
        with pytest.warns(DictionaryMisfit):
            graph = rs.causal_graph(demo, PROMPT, given, method="attribution", paths="any")
        assert bool(len(graph.values)) == error
        assert (graph.settings["error"]["error"] is not None) == error
        assert ("estimated with an error" in repr(graph)) == error


@pytest.mark.slow
def test_on_the_way_estimates_sum_to_what_taking_all_sources_does(wide: rs.Model, dictionaries: Dictionaries) -> None:
    one, other = (replace(dictionaries[site], activation="relu") for site in ("resid_pre.1", "resid_pre.2"))
    graph = rs.causal_graph(
        wide, PROMPT, [one, other], method="attribution", integrated_gradients=40, share=1.0, n_sample=2
    )
    x = wide.run(PROMPT).at("resid_pre.1", -1)[0]
    without = x - one.decode(one.encode(x)) + one.decode(torch.zeros(one.n_features).double())
    run = wide.run(PROMPT, edits=rs.replace("resid_pre.1", without, pos=-1))
    before, after = (other.encode(each.at("resid_pre.2", -1)[0]) for each in (wide.run(PROMPT), run))
    sums = torch.zeros_like(before).index_add(0, graph.features[graph.targets], graph.values)
    expected = (before - after) * (before > 0)
    assert float((sums - expected).norm() / expected.norm()) < 0.02


def test_what_cannot_be_estimated_is_refused(wide: rs.Model, dictionaries: Dictionaries) -> None:
    trace: Any = rs.causal_graph
    for options in ({"split": True}, {"integrated_gradients": -1}, {"n_sample": 1}):
        with pytest.raises(BadArgument):
            trace(wide, PROMPT, dictionaries, method="attribution", **options)
