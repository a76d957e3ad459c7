"""On transformers whose wiring is known, exactly the known edges are found, with the known weights."""

import pytest
import torch

import residscope as rs
from tests.graphs.wiring import D_MODEL, STREAM, Edge, edges_of, wire

A, B = 97, 98


def assert_found(graph: rs.Graph, expected: dict[Edge, float]) -> None:
    """Precision and recall are one, and every weight is the known one."""
    found = edges_of(graph)
    right = found.keys() & expected.keys()
    precision, recall = len(right) / len(found), len(right) / len(expected)
    assert (precision, recall) == (1.0, 1.0), (found.keys() - expected.keys(), expected.keys() - found.keys())
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_mlp_route_is_found() -> None:
    model = wire(
        {A: {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}},
        {
            0: [
                ({0: 1.0}, 0.0, {5: 2.0}),  # 0 raises 5
                ({1: 1.0}, 0.0, {3: -1.5}),  # 1 lowers 3
                ({0: 1.0, 2: 1.0}, -3.5, {6: 1.0}),  # 0 and 2 together make 6: 0.5, and neither does alone
                ({3: -1.0}, 4.5, {7: 1.0}),  # 3 holds 7 at 0.5, which is 4.5 without
            ],
            1: [({5: 3.0}, 0.0, {8: 1.0})],
        },
        {},
    )
    straight = {(0, i, 0, 1, i, 0): float(i + 1) for i in (0, 1, 2)}
    # 3 passes on 4 of itself and 1 takes 3 away: what is left is 1, and without 3 nothing is.
    first = {
        (0, 3, 0, 1, 3, 0): 1.0,
        (0, 0, 0, 1, 5, 0): 2.0,
        (0, 1, 0, 1, 3, 0): -3.0,
        (0, 0, 0, 1, 6, 0): 0.5,
        (0, 2, 0, 1, 6, 0): 0.5,
        (0, 3, 0, 1, 7, 0): -4.0,
    }
    held = {0: 1.0, 1: 2.0, 2: 3.0, 3: 1.0, 5: 2.0, 6: 0.5, 7: 0.5}
    second = {(1, i, 0, 2, i, 0): value for i, value in held.items()} | {(1, 5, 0, 2, 8, 0): 6.0}
    graph = rs.causal_graph(model, torch.tensor([[A]]), STREAM, share=1.0)
    assert_found(graph, straight | first | second)
    assert graph.share == 1.0


def test_the_attention_route_is_found() -> None:
    model = wire({A: {0: 6.0}, B: {1: 1.0}}, {}, {0: {(0, 4): 0.5}, 1: {(4, 9): 1.0}})
    graph = rs.causal_graph(model, torch.tensor([[A, B, B]]), STREAM, "all", share=1.0, paths="any")
    expected: dict[Edge, float] = {}
    embedded = [(0, 6.0), (1, 1.0), (1, 1.0)]
    for pos, (axis, value) in enumerate(embedded):
        for layer in (0, 1):
            expected[layer, axis, pos, layer + 1, axis, pos] = value
        expected[0, 0, 0, 1, 4, pos] = 3.0 / (pos + 1)  # every position looks at the first, and at itself, alike
        expected[1, 4, pos, 2, 4, pos] = 3.0 / (pos + 1)
        for later in range(pos, 3):
            expected[1, 4, pos, 2, 9, later] = 3.0 / (pos + 1) / (later + 1)
    assert_found(graph, expected)
    last = rs.causal_graph(model, torch.tensor([[A, B, B]]), STREAM, share=1.0, paths="any")
    assert_found(last, {edge: value for edge, value in expected.items() if edge[2] == edge[5] == 2})


def test_total_effects_are_found_through_layers_without_a_dictionary() -> None:
    model = wire({A: {0: 1.0}}, {0: [({0: 1.0}, 0.0, {5: 2.0})], 1: [({5: 1.0}, 0.0, {6: 1.0})]}, {})
    tokens = torch.tensor([[A]])
    held = {(0, 0, 0, 2, 0, 0): 1.0, (0, 0, 0, 2, 5, 0): 2.0, (0, 0, 0, 2, 6, 0): 2.0}
    skipping = rs.causal_graph(model, tokens, [STREAM[2], STREAM[0]])
    assert_found(skipping, held)
    assert skipping.settings["skipped"] == ["resid_pre.1"]
    assert "no dictionary of resid_pre.1" in repr(skipping)
    later = rs.causal_graph(model, tokens, STREAM, later=True, share=1.0, paths="any")
    next_ = edges_of(rs.causal_graph(model, tokens, STREAM, share=1.0, paths="any"))
    assert_found(later, next_ | held)


def test_tokens_errors_and_outputs_have_their_effects() -> None:
    half = torch.eye(D_MODEL, dtype=torch.float64)[:, :3]  # of which the first dictionary knows only three axes
    first = rs.SparseAutoencoder(
        name="three axes",
        site=rs.Site("resid_pre", 0),
        encoder=half,
        decoder=half.T,
        encoder_bias=torch.zeros(3).double(),
        decoder_bias=torch.zeros(D_MODEL).double(),
    )
    model = wire({A: {0: 1.0, 3: 2.0}}, {0: [({3: 1.0}, 0.0, {5: 2.0})]}, {})
    read = rs.metric(lambda x: x[:, 5], reads=["resid_post.1"])
    graph = rs.causal_graph(
        model,
        torch.tensor([[A]]),
        [first, *STREAM[1:]],
        errors=True,
        tokens=True,
        outputs=[read],
        share=1.0,
        paths="any",
    )
    assert_found(
        graph,
        {
            (-1, A, 0, 0, 0, 0): 1.0,
            (0, 0, 0, 1, 0, 0): 1.0,
            (0, -1, 0, 1, 3, 0): 2.0,
            (0, -1, 0, 1, 5, 0): 4.0,
            **{(1, i, 0, 2, i, 0): value for i, value in {0: 1.0, 3: 2.0, 5: 4.0}.items()},
        },
    )
    effects = {graph.describe(node): float(graph.effects[node, 0]) for node in range(len(graph.levels))}
    assert effects == {
        f"token 0 {graph.pieces[0]!r}": 4.0,
        "0.error@0": 4.0,
        "0.0@0": 0.0,
        "1.0@0": 0.0,
        "1.3@0": 0.0,
        "1.5@0": 4.0,
        "2.0@0": 0.0,
        "2.3@0": 0.0,
        "2.5@0": 4.0,
    }
    assert dict(zip(graph.nodes()["kind"], graph.nodes()["layer"], strict=False))["token"] == -1
