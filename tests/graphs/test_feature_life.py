"""A feature through the stream: the parts sum to what is there, and are what the wiring says."""

from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, UnknownPosition
from tests.graphs.conftest import PROMPT
from tests.graphs.wiring import STREAM, axes_at, wire
from tests.models import OWN, own_config, own_model

Dictionaries = dict[str, rs.SparseAutoencoder]
A, B = 97, 98


def assert_sums(life: rs.FeatureLife) -> None:
    after = life.stream[..., :1] + life.values.sum(-1).cumsum(-1)
    torch.testing.assert_close(after, life.stream[..., 1:], rtol=0, atol=1e-10)


def test_the_parts_sum_to_the_stream(wide: rs.Model, dictionaries: Dictionaries) -> None:
    run = wide.run([PROMPT, "The cat sat."])
    life = rs.feature_life(run, dictionaries["resid_pre.2"][17])
    assert_sums(life)
    assert life.values.shape == (2, 2, 4, 6)
    assert life.axes == ("batch", "side", "layer", "part")
    assert life.here == [2, 2]
    for side, name in enumerate(life.sides):
        vector = dictionaries["resid_pre.2"].direction(17, side=name).vector  # type: ignore[arg-type]
        torch.testing.assert_close(life.stream[:, side, 3], run.at("resid_pre.3", -1) @ vector, rtol=0, atol=1e-10)
        torch.testing.assert_close(
            life.values[:, side, 1, :4].sum(-1) + life.values[:, side, 1, 4],
            run.at("attn_out.1", -1) @ vector,
            rtol=0,
            atol=1e-10,
        )
    assert life.tokens == [" She", "."]
    frame = life.to_frame()
    assert list(frame) == ["batch", "pos", "token", "side", "layer", "part", "value"]


@pytest.mark.parametrize("name", OWN)
def test_they_sum_in_every_kind_of_block(name: str) -> None:
    model = own_model(own_config(**OWN[name]), dtype=torch.float64)
    direction = rs.Direction.of(
        torch.randn(model.config.d_model, generator=torch.Generator().manual_seed(0)), "resid_pre.0"
    )
    run = model.run(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]))
    assert_sums(rs.feature_life(run, direction, pos=2))


def test_the_wiring_is_told() -> None:
    model = wire(
        {A: {0: 6.0}, B: {1: 1.0}},
        {0: [({1: 1.0}, 0.0, {4: 2.0})], 1: [({4: 1.0}, 0.0, {4: -1.0})]},
        {0: {(0, 4): 0.5}},
    )
    life = rs.feature_life(model.run(torch.tensor([[A, B]])), STREAM[1][4])
    # The head brings 1.5 from A, the first MLP writes 2 for B, the second takes all away.
    assert life.stream[0].tolist() == [[0.0, 3.5, 0.0]] * 2
    assert life.values[0, 0].tolist() == [[1.5, 0.0, 2.0], [0.0, 0.0, -3.5]]
    assert "most written in by mlp of layer 0 (+2)" in repr(life)
    assert "most scrubbed out by mlp of layer 1 (-3.5), largest at resid_pre.1" in repr(life)


def test_edits_are_a_part(wide: rs.Model, dictionaries: Dictionaries) -> None:
    feature = dictionaries["resid_pre.2"][17]
    direction = dictionaries["resid_pre.2"].direction(17)
    run = wide.run(PROMPT, edits=rs.add("resid_pre.2", direction, scale=4.0))
    life = rs.feature_life(run, feature)
    assert_sums(life)
    assert life.parts[-1] == "edits"
    assert float(life.values[0, 0, 1, -1]) == pytest.approx(4, abs=1e-10)


def test_it_is_saved_and_made_again(demo: rs.Model, tmp_path: Path) -> None:
    run = demo.run(PROMPT)
    for feature in (rs.demo.dictionaries["resid_pre.2"][17], rs.token_direction(demo, " had")):
        life = rs.feature_life(run, feature, pos=2)
        life.save(tmp_path / "life")
        assert rs.open(tmp_path / "life").to_json() == life.to_json()
        names: dict[str, Any] = {}
        *before, last = life.as_python().splitlines()
        exec("\n".join([*before, f"life = {last}"]), names)
        assert names["life"].to_json() == life.to_json()


WRONG: list[tuple[Any, Any, type[Exception]]] = [
    *((STREAM[1][4], pos, BadArgument) for pos in ([0, 0], None, 0.5, True, slice(1))),
    (STREAM[1][4], 7, UnknownPosition),
    (axes_at("z.0")[4], -1, BadArgument),
    (rs.Direction.of(torch.ones(5), "resid_pre.0"), -1, BadArgument),
    ("resid_pre.0", -1, BadArgument),
]


@pytest.mark.untyped
@pytest.mark.parametrize(("feature", "pos", "error"), WRONG)
def test_what_has_no_life_is_refused(feature: Any, pos: Any, error: type[Exception]) -> None:
    run = wire({A: {0: 6.0}}, {}, {}).run(torch.tensor([[A]]))
    with pytest.raises(error):
        rs.feature_life(run, feature, pos=pos)
