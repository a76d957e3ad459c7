"""What follows when nodes are ablated, scaled or added to: as the edges say, and as full runs do."""

from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, UnknownPosition
from residscope.graphs.marks import name_nodes
from tests.graphs.conftest import PROMPT

Wide = dict[str, rs.SparseAutoencoder]


def test_ablating_a_node_does_what_its_edges_say(wide: rs.Model, dictionaries: Wide, graph: rs.Graph) -> None:
    names = name_nodes(graph)
    sources = torch.tensor(sorted({*graph.sources.tolist()}))
    strongest = int(sources[graph.is_feature[sources]][-1])
    for source in (int(sources[0]), int(sources[graph.features[sources] == -1][0]), strongest):
        own = graph.sources == source
        found = rs.intervene(wide, PROMPT, dictionaries, [names[source]], n_features=10_000)
        changed = dict(zip(found.feature_names, (found.features[:, 0] - found.features[:, 1]).tolist(), strict=True))
        for target, weight in zip(graph.targets[own].tolist(), graph.values[own].tolist(), strict=True):
            assert changed[names[target]] == pytest.approx(weight, abs=1e-5)


def test_scaling_and_adding_equal_full_runs(wide: rs.Model, dictionaries: Wide) -> None:
    dictionary = dictionaries["resid_pre.1"]
    run = wide.run(PROMPT)
    x = run.at("resid_pre.1", pos=-1)
    active = dictionary.encode(x)[0]
    feature = int(active.argmax())
    unit = dictionary[feature].vector
    asked: list[tuple[dict[str, Any], float]] = [
        ({}, -float(active[feature])),
        ({"scale": 3.0}, 2 * float(active[feature])),
        ({"add": 2.5}, 2.5),
    ]
    metric = rs.logit(" had")
    for given, amount in asked:
        found = rs.intervene(wide, PROMPT, dictionaries, [f"1.{feature}@-1"], outputs=[metric], **given)
        edited = wide.run(PROMPT, edits=rs.add("resid_pre.1", unit, amount, pos=-1))
        after = edited.at("logits", pos=-1)[0].softmax(-1)
        torch.testing.assert_close(found.values[:, 1].double(), after[found.token_ids], rtol=1e-5, atol=1e-7)
        assert found.outputs[0]["before"] == pytest.approx(float(metric(run)[0]))
        assert found.outputs[0]["after"] == pytest.approx(float(metric(edited)[0]))
        kl = rs.kl(run)(edited)
        assert found.kl_nats == pytest.approx(float(kl[0]), rel=1e-3, abs=1e-6)


def test_several_at_once_and_nothing_at_all(wide: rs.Model, dictionaries: Wide, tmp_path: Path) -> None:
    both = rs.intervene(wide, PROMPT, dictionaries, ["token@1", "resid_pre.2.error@-1"])
    assert both.kl_nats > 0
    both.save(tmp_path / "both")
    assert rs.open(tmp_path / "both").to_json() == both.to_json()
    none = rs.intervene(wide, PROMPT, dictionaries, ["token@1"], scale=1.0)
    assert none.kl_nats == pytest.approx(0, abs=1e-6)
    assert float((none.features[:, 0] - none.features[:, 1]).abs().sum()) < 1e-5
    before = none.values[:, 0].tolist()
    assert before == sorted(before, reverse=True)  # no order of changes that are none


@pytest.mark.parametrize(
    ("nodes", "given", "error", "says"),
    [
        (["5.1"], {}, BadArgument, "'5.1' was given"),
        (["7.1@0"], {}, BadArgument, "names 0 of the dictionaries"),
        (["1.5000@0"], {}, BadArgument, "feature=5000 was asked for"),
        (["1.5@99"], {}, UnknownPosition, "99"),
        (["token@1"], {"add": 1.0}, BadArgument, "no activation"),
        (["1.5@1"], {"scale": float("inf")}, BadArgument, "scale=inf"),
        (["1.5@1"], {"add": 1e308}, BadArgument, r"add=1e\+308 was asked for, and .* then gives NaN or infinity"),
        ([], {}, BadArgument, "nodes"),
        ("1.5@1", {}, BadArgument, "nodes"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    wide: rs.Model, dictionaries: Wide, nodes: Any, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        rs.intervene(wide, PROMPT, dictionaries, nodes, **given)
