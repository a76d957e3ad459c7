"""What of an edge goes straight, through each head, and through the MLP."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument
from tests.graphs.conftest import PROMPT
from tests.graphs.wiring import STREAM, wire

Dictionaries = dict[str, rs.SparseAutoencoder]
A, B = 97, 98

pytestmark = pytest.mark.filterwarnings("ignore::residscope.errors.DictionaryMisfit")  # of scales not their own


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("scaling", ["none", "constant", "norm", "layer_norm"])
def test_parts_add_up_exactly(wide: rs.Model, dictionaries: Dictionaries, scaling: Any, centred: bool) -> None:
    scaled = {site: replace(one, scaling=scaling, factor=1.3, centred=centred) for site, one in dictionaries.items()}
    graph = rs.causal_graph(wide, PROMPT, scaled, [3, -1], split=True, paths="any")
    measured = scaling in ("norm", "layer_norm")
    heads = [f"head {head}" for head in range(4)]
    assert graph.part_names == ["straight", *heads, "mlp", *(["scale"] if measured else [])]
    torch.testing.assert_close(graph.parts.sum(-1), graph.before, rtol=0, atol=1e-10)
    assert bool((graph.parts[:, :-1].abs().amax(0) > 1e-3).all())
    assert list(graph.to_frame())[7 : 7 + len(graph.part_names)] == graph.part_names


def test_parts_are_what_full_runs_give(wide: rs.Model, dictionaries: Dictionaries) -> None:
    scaled = {site: replace(one, scaling="norm") for site, one in dictionaries.items()}
    graph = rs.causal_graph(wide, PROMPT, scaled, [3, -1], split=True, paths="any")
    base, one, other = wide.run(PROMPT), scaled["resid_pre.1"], scaled["resid_pre.2"]
    frame = graph.to_frame().query("layer == 1")
    for _, edge in frame.iloc[:: len(frame) // 5].iterrows():
        pos, target, feature = int(edge["pos"]), int(edge["target_pos"]), int(edge["target_feature"])
        x = base["resid_pre.1"][0, pos]
        activation = one.encode(x)[int(edge["feature"])]
        vector = one.write(torch.tensor([int(edge["feature"])]), activation[None], x[None])[0]
        run = wide.run(PROMPT, edits=rs.add("resid_pre.1", -vector, pos=pos))
        readout = other.encoder[:, feature] * (other.decoder_norms[feature] if other.by_decoder_norm else 1)
        readout = readout / base["resid_pre.2"][0, target].norm() * 128**0.5
        heads = (base["head_out.1"] - run["head_out.1"])[0, target] @ readout
        mlp = (base["mlp_out.1"] - run["mlp_out.1"])[0, target] @ readout
        expected = [float(vector @ readout) * (pos == target), *heads.tolist(), float(mlp)]
        assert edge[list(graph.part_names[:-1])].tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("later", [False, True])
def test_parts_of_several_layers_add_up_exactly(wide: rs.Model, dictionaries: Dictionaries, later: bool) -> None:
    some = [
        replace(dictionaries[f"resid_pre.{layer}"], scaling="norm" if layer == 3 else "none") for layer in (0, 1, 3)
    ]
    graph = rs.causal_graph(wide, PROMPT, some, [3, -1], split=True, paths="any", later=later, tokens=True)
    layers = [[f"head {layer}.{head}" for head in range(4)] + [f"mlp {layer}"] for layer in range(3)]
    assert graph.part_names == ["straight", *layers[0], *layers[1], *layers[2], "scale"]
    torch.testing.assert_close(graph.parts.sum(-1), graph.before, rtol=0, atol=1e-10)
    assert bool((graph.parts.abs().amax(0) > 1e-4).all())
    frame = graph.to_frame()
    one = frame[(frame["layer"] == 0) & (frame["target_layer"] == 1)]
    assert not one[[*layers[1], *layers[2]]].to_numpy().any()  # the next dictionary is one layer on
    far = frame[(frame["layer"] == (0 if later else 1)) & (frame["target_layer"] == 3)].iloc[0]
    base, dictionary = wide.run(PROMPT), some[0 if later else 1]
    pos, target, feature = int(far["pos"]), int(far["target_pos"]), int(far["target_feature"])
    x = base[str(dictionary.site)][0, pos]
    number = torch.tensor([int(far["feature"])])
    run = wide.run(
        PROMPT,
        edits=rs.add(
            str(dictionary.site), -dictionary.write(number, dictionary.encode(x)[number], x[None])[0], pos=pos
        ),
    )
    readout = some[2].readout(torch.tensor([feature]), base["resid_pre.3"][0, target][None])[0]
    for layer in (1, 2):
        heads = (base[f"head_out.{layer}"] - run[f"head_out.{layer}"])[0, target] @ readout
        mlp = (base[f"mlp_out.{layer}"] - run[f"mlp_out.{layer}"])[0, target] @ readout
        assert far[layers[layer]].tolist() == pytest.approx([*heads.tolist(), float(mlp)], abs=1e-10)


def test_the_wiring_is_told_apart() -> None:
    model = wire({A: {0: 6.0}, B: {1: 1.0}}, {0: [({1: 1.0}, 0.0, {5: 2.0})]}, {0: {(0, 4): 0.5}})
    tokens = torch.tensor([[A, B]])
    frame = rs.causal_graph(model, tokens, STREAM, "all", split=True, paths="any").to_frame()
    ends = ["feature", "pos", "target_feature", "target_pos"]
    parts = frame.query("layer == 0").set_index(ends)[["straight", "head 0", "mlp"]]
    assert {key: row.tolist() for key, row in parts.iterrows()} == {
        (0, 0, 0, 0): [6.0, 0.0, 0.0],
        (0, 0, 4, 0): [0.0, 3.0, 0.0],
        (0, 0, 4, 1): [0.0, 1.5, 0.0],
        (1, 1, 1, 1): [1.0, 0.0, 0.0],
        (1, 1, 5, 1): [0.0, 0.0, 2.0],
    }


def test_what_cannot_be_split_is_refused(wide: rs.Model, dictionaries: Dictionaries) -> None:
    moved = replace(dictionaries["resid_pre.2"], site=rs.Site("mlp_out", 2))
    with pytest.raises(BadArgument, match="nothing is added up"):
        rs.causal_graph(wide, PROMPT, [dictionaries["resid_pre.0"], moved], split=True)
