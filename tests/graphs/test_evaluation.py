"""What graphs are worth: circuits equal runs by hand, and edges predict what is known of a wiring."""

from dataclasses import replace
from math import isnan
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, BadMetric
from residscope.graphs.circuits import Circuits, Errors, place_in
from residscope.graphs.evaluation import _Ranking
from residscope.graphs.levels import ERROR, arrange, read_prompt
from residscope.graphs.tracer import Tracer
from residscope.running.progress import Step
from tests.graphs.conftest import PROMPT
from tests.graphs.wiring import STREAM, wire

Dictionaries = dict[str, rs.SparseAutoencoder]
A = 97
OTHER = "Tom saw the big dog. He"


def make_circuits(
    model: rs.Model, dictionaries: Dictionaries, errors: Errors, fill: list[torch.Tensor] | None = None
) -> Circuits:
    levels = arrange(model, dictionaries)
    tracer = Tracer(read_prompt(model, PROMPT, levels), levels, torch.tensor([4, 7]), None, True, 10**9)
    sources = dict(tracer.find_sources(errors == "node", tokens=False))
    return Circuits(tracer, sources, rs.logit(" had"), errors, fill, None)


def run_by_hand(
    model: rs.Model,
    dictionaries: Dictionaries,
    kept: set[tuple[int, int, int]],
    errors: Errors,
    fill: list[torch.Tensor] | None,
) -> float:
    """Layer by layer, position by position, with what the run so far gives."""
    base, edits = model.run(PROMPT), list[rs.Edit]()
    for level, one in enumerate(dictionaries.values()):
        run = model.run(PROMPT, edits=edits)
        for slot, pos in enumerate((4, 7)):
            x = run[str(one.site)][0, pos]
            features = one.encode(x)
            left = torch.zeros_like(features) if fill is None else fill[level][slot % len(fill[level])].clone()
            for feature in range(one.n_features):
                if (level, slot, feature) in kept:
                    left[feature] = features[feature]
            new = one.decode(left, of=x)
            if errors == "node" and (level, slot, ERROR) in kept:
                new = new + x - one.decode(features, of=x)
            if errors == "keep":
                clean = base[str(one.site)][0, pos]
                new = new + clean - one.reconstruct(clean)
            edits.append(rs.replace(str(one.site), new, pos=pos))
    return float(rs.logit(" had")(model.run(PROMPT, edits=edits))[0])


@pytest.mark.parametrize("errors", ["node", "remove", "keep"])
@pytest.mark.parametrize("filled", [False, True])
def test_circuits_are_what_runs_by_hand_give(
    wide: rs.Model, dictionaries: Dictionaries, errors: Errors, filled: bool
) -> None:
    drawn = torch.Generator().manual_seed(1)
    fill = (
        [torch.rand(2, one.n_features, generator=drawn).double() / 9 for one in dictionaries.values()]
        if filled
        else None
    )
    circuits = make_circuits(wide, dictionaries, errors, fill)
    chosen = torch.rand(3, len(circuits.nodes), generator=drawn) < 0.6
    chosen[0] = False
    found = circuits.measure(chosen, torch.zeros(3, dtype=torch.bool))
    by_hand = [
        run_by_hand(wide, dictionaries, {*map(tuple, circuits.nodes[row].tolist())}, errors, fill) for row in chosen
    ]
    whole = float(rs.logit(" had")(wide.run(PROMPT))[0])
    expected = [(value - by_hand[0]) / (whole - by_hand[0]) for value in by_hand]
    assert found.tolist() == pytest.approx(expected, abs=1e-10)
    assert len({round(value, 6) for value in expected}) > 1


def test_effects_count_towards_the_whole_model(wide: rs.Model, dictionaries: Dictionaries) -> None:
    graph = rs.causal_graph(wide, PROMPT, dictionaries)
    up = graph.evaluate(wide, dictionaries, metric=rs.logit(" had"), n_groups=4)
    down = graph.evaluate(wide, dictionaries, metric=rs.metric(lambda x: -x[:, wide.single_token(" had")]), n_groups=4)
    torch.testing.assert_close(up.values, down.values, rtol=0, atol=1e-10)


def test_all_nodes_are_the_whole_model(wide: rs.Model, dictionaries: Dictionaries) -> None:
    graph = rs.causal_graph(wide, PROMPT, dictionaries, [4, 7], errors=True, share=1.0, paths="any")
    found = graph.evaluate(wide, dictionaries, n_groups=8)
    frame = found.to_frame().set_index(["curve", "share"])["value"]
    assert frame["faithfulness", 1.0] == pytest.approx(1, abs=1e-10)
    assert frame["faithfulness by size", 1.0] == pytest.approx(1, abs=1e-10)
    assert frame["random", 1.0] == pytest.approx(1, abs=1e-10)
    assert frame["completeness", 0.001] == pytest.approx(1, abs=1e-10)  # of none of these nodes
    assert found.ceiling < 1
    removed = graph.evaluate(wide, dictionaries, errors="remove", n_groups=8)
    assert removed.ceiling == pytest.approx(found.ceiling, abs=1e-10)
    assert removed.warning is None
    leaking = graph.evaluate(wide, dictionaries, errors="keep", n_groups=8)
    assert "carry its answer" in repr(leaking)
    assert f"{found.ceiling:.3f}; edges" in repr(found)
    assert "by rs.log_prob(" in repr(found)
    assert "ceiling 1.250, as errors work against it" in repr(replace(found, ceiling=1.25))


@pytest.mark.parametrize(
    "options",
    [
        {"with_": "mean", "over": [PROMPT, OTHER]},
        {"with_": "resample", "over": OTHER},
        {"texts": [OTHER, "The cat sat. It", PROMPT]},
    ],
)
def test_other_texts_fill_and_are_measured(
    wide: rs.Model, dictionaries: Dictionaries, options: dict[str, Any], tmp_path: Any
) -> None:
    graph = rs.causal_graph(wide, PROMPT, dictionaries)
    plain, found = (graph.evaluate(wide, dictionaries, n_groups=4, **one) for one in ({}, options))
    assert not torch.allclose(found.values, plain.values)
    found.save(tmp_path / "evaluation")
    opened: Any = rs.open(tmp_path / "evaluation")
    assert opened.to_json() == found.to_json()


def test_progress_is_told_of_as_many_as_there_are(wide: rs.Model, dictionaries: Dictionaries) -> None:
    graph, steps = rs.causal_graph(wide, PROMPT, dictionaries, [4, 7]), list[Step]()
    with rs.progress(steps.append):
        graph.evaluate(wide, dictionaries, n_groups=4, n_random=1)
    assert {step.what for step in steps} == {"tracing", "running circuits"}
    assert all(step.done <= step.total for step in steps)
    traced = [step for step in steps if step.what == "tracing"]
    assert len({step.total for step in traced}) == 1
    assert [step.done for step in traced] == sorted(step.done for step in traced)
    assert traced[-1].done == traced[-1].total > 0


def test_sums_of_edges_are_right_where_nothing_interacts_and_wrong_where_it_does() -> None:
    linear = wire({A: {0: 1.0, 1: 2.0}}, {0: [({0: 1.0, 1: 1.0}, 0.0, {5: 2.0})]}, {})
    meeting = wire({A: {0: 1.0, 1: 2.0}}, {0: [({0: 1.0, 1: 1.0}, -2.0, {5: 2.0})]}, {})
    for model, of_five in ((linear, (6.0, 6.0)), (meeting, (4.0, 2.0))):  # each alone takes all that there is of 5
        tokens = torch.tensor([[A]])
        graph = rs.causal_graph(model, tokens, STREAM, share=1.0, paths="any")
        found = graph.evaluate(model, STREAM, metric=rs.metric(lambda x: x[:, 5], reads=["resid_post.1"]), n_groups=2)
        first = found.sizes == 2
        pairs = {*zip(found.predicted[first].tolist(), found.measured[first].tolist(), strict=True)}
        assert of_five in pairs
        assert (found.sign_agreement, found.covered) == (1.0, 1.0)
        cut = replace(found, predicted=torch.where(torch.arange(len(found.predicted)) % 2 == 0, found.predicted, 0.0))
        assert cut.sign_agreement == 1.0  # what no edge leads to has no sign
        assert cut.covered < 1.0
        assert (found.explained == pytest.approx(1.0)) == (model is linear)


def test_a_text_of_one_token_is_said_so(wide: rs.Model, dictionaries: Dictionaries) -> None:
    circuits = make_circuits(wide, dictionaries, "node")
    with pytest.raises(BadArgument, match="A text has 1 token, and"):
        place_in(circuits.tracer, wide.tokenize([[A]]))


def test_random_nodes_match_layer_position_and_activation(wide: rs.Model, dictionaries: Dictionaries) -> None:
    circuits = make_circuits(wide, dictionaries, "node")
    nodes, n = circuits.nodes, len(circuits.nodes)
    ranking = _Ranking(nodes, torch.ones(n, dtype=torch.bool), circuits.effects, torch.Generator().manual_seed(0))
    twin = ranking.draw()
    assert sorted(twin.tolist()) == list(range(n))
    assert torch.equal(nodes[twin][:, :2], nodes[:, :2])
    assert torch.equal(nodes[twin][:, 2] == ERROR, nodes[:, 2] == ERROR)
    assert bool((twin != torch.arange(n)).any())
    sources = dict(circuits.tracer.find_sources(True, False))
    activations = {
        (level, slot, feature): value
        for level, one in sources.items()
        for slot, feature, value in torch.stack((one.slots, one.features, one.activations), dim=1).tolist()
    }
    own = torch.tensor([activations[tuple(node)] for node in nodes.tolist()])
    spread = (own[twin] - own).abs().mean()
    assert spread < 0.5 * (own[torch.randperm(n)] - own).abs().mean()


REFUSED: list[tuple[type[Exception], dict[str, Any]]] = [
    (BadArgument, {"n_groups": 0}),
    (BadArgument, {"with_": "mean"}),
    (BadArgument, {"over": OTHER}),
    (BadArgument, {"with_": "resample", "over": [OTHER, PROMPT]}),
    (BadArgument, {"metric": rs.metric(lambda x: x[:, 0] * 0)}),
    (BadMetric, {"metric": rs.metric(lambda x: x)}),
    (BadArgument, {"errors": "some"}),
    (BadArgument, {"with_": "one"}),
]


@pytest.mark.untyped
@pytest.mark.parametrize(("error", "options"), REFUSED)
def test_what_cannot_be_evaluated_is_refused(
    wide: rs.Model, dictionaries: Dictionaries, error: type[Exception], options: dict[str, Any]
) -> None:
    graph = rs.causal_graph(wide, PROMPT, dictionaries)
    with pytest.raises(error):
        graph.evaluate(wide, dictionaries, **options)


def test_graphs_of_others_are_refused(wide: rs.Model, dictionaries: Dictionaries) -> None:
    graph = rs.causal_graph(wide, PROMPT, dictionaries)
    with pytest.raises(BadArgument, match="The graph is of dictionaries of"):
        graph.evaluate(wide, list(dictionaries.values())[1:])
    changed = replace(dictionaries["resid_pre.1"], encoder=dictionaries["resid_pre.1"].encoder * 2)
    with pytest.raises(BadArgument, match=r"has the fingerprint .* in the graph"):
        graph.evaluate(wide, {**dictionaries, "resid_pre.1": changed})
    older = replace(graph, dictionaries=[{**one, "fingerprint": None} for one in graph.dictionaries])
    with pytest.raises(BadArgument, match=r"here, and .* in the graph"):
        older.evaluate(wide, {**dictionaries, "resid_pre.1": changed})
    several = rs.causal_graph(wide, PROMPT, dictionaries, [4, 7])
    with pytest.raises(BadArgument, match="of as many tokens"):
        several.evaluate(wide, dictionaries, texts="The cat sat. It")


def test_circuits_are_measured_where_no_edges_can_be_tried(demo: rs.Model) -> None:
    graph = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, top=1)
    found = graph.take(torch.arange(len(graph.values)) == 0).evaluate(demo, rs.demo.dictionaries, n_random=1)
    assert found.values.isfinite().all()
    assert isnan(found.explained)
    assert {*found.payload()["edges"].values()} == {None}
    assert "no two sources stand in one layer, so that edges are not tried" in repr(found)


def test_the_code_that_it_says_makes_it_again(demo: rs.Model) -> None:
    graph = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, top=2).prune(0.9)
    found = graph.evaluate(demo, rs.demo.dictionaries, with_="resample", over=OTHER, n_groups=6, n_random=2, seed=3)
    names: dict[str, Any] = {}
    *before, last = found.as_python().splitlines()
    exec("\n".join([*before, f"found = {last}"]), names)
    torch.testing.assert_close(names["found"].values, found.values)
    torch.testing.assert_close(names["found"].measured, found.measured)
