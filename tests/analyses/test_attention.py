"""Attention patterns, of any heads, weighed by what the values give."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument
from tests.models import family_model

TEXTS = ["abcdef", "a longer text", "xyz"]


def test_the_heads_of_a_layer(llama: rs.Model) -> None:
    run = llama.run(TEXTS)
    found = rs.attention(run, layer=1)
    torch.testing.assert_close(found.values, run["pattern.1"], rtol=0, atol=0, equal_nan=True)
    assert found.heads == [[1, 0], [1, 1], [1, 2], [1, 3]]
    inside = run.tokens.mask[:, None, :].expand(-1, 4, -1)
    torch.testing.assert_close(found.values.nansum(-1)[inside], torch.ones(int(inside.sum())).double())
    assert found.values.nan_to_num().triu(1).abs().max() == 0
    assert found.values.isnan().any(-1).equal(~inside | ~run.tokens.mask.all(-1)[:, None, None])
    torch.testing.assert_close(rs.attention(run, layer=1, heads=[3]).values, found.values[:, 3:], equal_nan=True)


def test_heads_of_any_layer_in_the_order_they_are_ranked(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    every = rs.attention(run)
    assert every.values.shape[1] == len(every.heads) == 12
    found = rs.attention(run, heads=[(2, 1), (0, 3), (2, 0)])
    assert found.heads == [[2, 1], [0, 3], [2, 0]]
    for row, (layer, head) in enumerate([(2, 1), (0, 3), (2, 0)]):
        torch.testing.assert_close(found.values[:, row], run[f"pattern.{layer}"][:, head], equal_nan=True)
    frame = rs.attribute(run, rs.logit("a"), by="head").to_frame()
    top = frame.dropna(subset="head").nlargest(2, "value")[["layer", "head"]].to_numpy()
    assert rs.attention(run, heads=top).heads == top.tolist()


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_weighed_by_the_length_of_what_the_head_would_write(family: str) -> None:
    model = family_model(family)
    run = model.run(TEXTS)
    found = rs.attention(run, layer=2, value_weighted=True).values
    first = run["head_out.2"][:, 0].norm(dim=-1)  # the first token sees itself alone
    torch.testing.assert_close(found[:, :, 0, 0], first)
    values = run["v.2"].repeat_interleave(model.config.n_heads // model.config.n_kv_heads, dim=2)
    written = torch.einsum("bkhd,hdm->bhkm", values, model.weights["W_O.2"]).norm(dim=-1)
    torch.testing.assert_close(found, run["pattern.2"] * written[:, :, None], equal_nan=True)


def test_an_edited_run_shows_what_it_did(gpt2: rs.Model) -> None:
    edited = gpt2.run(TEXTS, edits=rs.knockout("pattern.1", head=2, query=2, key=1))
    found = rs.attention(edited, layer=1, heads=[2, 3]).values
    assert (found[:, 0, 2, 1] == 0).all()
    assert (found[:, 1, 2, 1] > 0).all()


def test_it_is_a_result(stories: rs.Model, tmp_path: Path) -> None:
    run = stories.run(["Once upon a", "Tom had a red ball. He"])
    found = rs.attention(run, heads=[(4, 1), (0, 7)], value_weighted=True)
    frame = found.to_frame()
    names = ["batch", "layer", "head", "query", "query_token", "key", "key_token", "value"]
    assert list(frame.columns) == names
    assert not frame.isna().any().any()
    assert len(frame) == 2 * sum(n * n for n in run.tokens.n_tokens.tolist())
    row = frame.query("batch == 1 and layer == 0 and query == 5 and key == 3").iloc[0]
    assert (row["head"], row["query_token"], row["key_token"]) == (7, run.tokens.pieces[1][5], run.tokens.pieces[1][3])
    assert row["value"] == found.values[1, 1, 5, 3]
    found.save(tmp_path / "saved")
    assert rs.open(tmp_path / "saved").to_json() == found.to_json()
    for made in (found, rs.attention(run, layer=2), rs.attention(run)):
        space: dict[str, Any] = {}
        *lines, last = made.as_python().strip().split("\n")
        exec("\n".join(lines), space)
        torch.testing.assert_close(eval(last, space).values, made.values, rtol=0, atol=1e-5, equal_nan=True)


def test_what_does_not_fit(gpt2: rs.Model) -> None:
    run, attention = gpt2.run(TEXTS), inspect.unwrap(rs.attention)  # without the tests' own check of its arguments
    wrong: list[dict[str, Any]] = [{"layer": 3}, {"layer": 0, "heads": [4]}, {"heads": [(-1, 0)]}]
    for options in wrong:
        with pytest.raises(BadArgument, match=r"There is no head .* Layers are 0 to 2, and their heads 0 to 3"):
            attention(run, **options)
    wrong = [{"layer": "1"}, {"heads": [1, 2]}, {"layer": 1, "heads": [(1, 2)]}, {"heads": [(1, 2, 3)]}, {"heads": 1}]
    for options in wrong:
        with pytest.raises(BadArgument, match="pairs of layer and head"):
            attention(run, **options)
    with pytest.raises(BadArgument, match="No head was named"):
        attention(run, layer=1, heads=[])
