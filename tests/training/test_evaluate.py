"""The evaluation tells an untrained model from its aims, and a share with the interval that theory gives."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from training.corpus import Mixture
from training.evaluate import (
    measure_behaviours,
    measure_circuits,
    measure_first_position,
    measure_parts,
    share_right,
    tell,
)
from training.export import export
from training.train import Recipe, make_model

import residscope as rs


@pytest.mark.slow
def test_an_untrained_model_misses_everything(mixture: Mixture, tokenizer: Tokenizer, tmp_path: Path) -> None:
    recipe = Recipe(n_layers=2, d_model=16, n_heads=2)
    export(make_model(recipe, mixture.n_tokens, mixture.bos), tokenizer, tmp_path)
    model = rs.load(tmp_path)
    does = measure_behaviours(model, 24, ["A dog ran home.", "They saw a red ball."], None)
    parts = measure_parts(model, 4)
    circuits = measure_circuits(model, 4)
    first = measure_first_position(model, ["A dog ran home.", "They saw a red ball."])
    told = tell([*does, *parts, *circuits, first])
    assert len(told) == len(does) + len(parts) + len(circuits) + 1 == 20
    missed = {name for name, finding in told.items() if finding["met"] is False}
    assert {"repeated tokens, loss saved in nats", "prose, nats per byte"} <= missed
    assert {name.split(" head ")[0] for name in missed} >= {"previous_token", "induction"}
    ioi = does[0]
    assert len(ioi.cells) == 8
    assert 0 <= ioi.low <= ioi.value <= ioi.high <= 1
    assert sum(ioi.cells.values()) / 8 == pytest.approx(ioi.value)
    assert [one.name.split(":")[0] for one in circuits] == ["ioi", "name", "agreement", "greater_than"]
    assert all(next(iter(one.cells.values())) == one.value for one in circuits)
    looks = sum(value for name, value in circuits[0].cells.items() if name.startswith("looks at"))
    assert 0.1 < looks < 0.5  # three of some twenty tokens, evenly
    norms = model.run("A dog ran home.", keep="resid_post")["resid_post.1"].norm(dim=-1)[0]
    assert first.cells["resid_post.1, at 0"] == pytest.approx(float(norms[0]))
    assert first.low <= first.value <= first.high


def test_a_share_has_wilsons_interval() -> None:
    found = share_right("share", [True] * 97 + [False] * 3, 0.97, {"a": [True, False]})
    assert found.value == 0.97
    assert found.met
    assert (found.low, found.high) == pytest.approx((0.9155, 0.9897), abs=1e-4)  # by Wilson's formula
    assert found.cells == {"a": 0.5}
    assert "at least 0.97" in str(found)
