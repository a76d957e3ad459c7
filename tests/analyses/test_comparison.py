"""Two runs beside each other: nothing changes before an edit, and a change is the relative length of the difference."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument
from residscope.sites import KINDS
from tests.models import FACTS, family_model, own_config, own_model

TEXTS = ["abcdef", "a longer text", "xyz"]


@pytest.mark.parametrize("family", FACTS)
def test_every_site_is_the_relative_length_of_the_difference(family: str) -> None:
    model = family_model(family)
    clean, corrupted = model.run(TEXTS), model.run(["abzdef", "a shorter tex", "yyz"])
    found = rs.compare(clean, corrupted)
    assert {model.place(site) for site in model.sites if KINDS[site.kind].kept} == set(map(model.find, found.sites))
    for name in found.sites:
        if name.startswith("scores"):
            continue
        a, b = clean[name], corrupted[name]
        if "query" in model.find(name).axes:
            a, b = (x.nan_to_num().transpose(1, 2) for x in (a, b))
        a, b = (x.reshape(*x.shape[:2], -1) for x in (a, b))
        expected = ((b - a).norm(dim=-1) / a.norm(dim=-1)).masked_fill(~clean.tokens.mask, torch.nan)
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert found["logits"][0, 1] == 0
    assert found["logits"][0, 2] > 0


def test_nothing_changes_before_an_edit(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    assert rs.compare(run, gpt2.run(TEXTS)).values.nan_to_num().abs().max() == 0
    edited = gpt2.run(TEXTS, edits=rs.scale("z.1", 0.0, pos=1))
    found = rs.compare(run, edited)
    z = list(found.sites).index("z.1")
    assert found.values[:, :z].nan_to_num().abs().max() < 1e-12
    assert found.values[:, :, 0].abs().max() < 1e-12
    torch.testing.assert_close(found["z.1"][:, :3], torch.tensor([[0.0, 1.0, 0.0]]).double().expand(3, -1))
    assert (found["attn_out.1"][:, 1] > 0).all()
    assert (found["resid_pre.2"][:, 2] == 0).all()
    assert (found["resid_post.2"][:, 1:3] > 0).all()


def test_what_is_hidden_in_one_run_alone_changed_without_bound(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    cut = gpt2.run(TEXTS, edits=rs.knockout("pattern.1", head=1, query=2, key=1))
    for found in (rs.compare(run, cut), rs.compare(cut, run)):
        assert found["scores.1"][:, :3].tolist() == [[0, 0, torch.inf]] * 3
        assert 0 < found["pattern.1"][0, 2] < 2
    silent = gpt2.run(TEXTS, edits=rs.ablate("z.0"))
    assert (rs.compare(silent, run)["z.0"][:, 0] == torch.inf).all()
    assert (rs.compare(silent, silent)["z.0"][:, 0] == 0).all()


def test_two_models_of_the_same_sizes() -> None:
    one, other = (own_model(own_config(), seed=seed) for seed in (0, 1))
    found = rs.compare(one.run(TEXTS), other.run(TEXTS)).values.nan_to_num(1)
    assert (found[:, :, 1:] > 0).all()  # the first token's attention to itself is one in all models


def test_layers_are_let_go(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    rs.compare(run, run)
    assert {site.kind for site in run.kept} == {"resid_pre", "resid_post"}


def test_it_is_a_result(stories: rs.Model, tmp_path: Path) -> None:
    run, other = stories.run(["Once upon a", "Tom had a"]), stories.run(["Once upon the", "Tom saw a"])
    found = rs.compare(run, other)
    frame = found.to_frame()
    assert list(frame.columns) == ["batch", "site", "pos", "token", "other_token", "value"]
    row = frame.query("batch == 0 and site == 'q.2' and pos == 3").iloc[0]
    assert (row["token"], row["other_token"]) == (run.tokens.pieces[0][3], other.tokens.pieces[0][3])
    assert row["value"] == float(found["q.2"][0, 3])
    assert not frame.isna().any().any()
    found.save(tmp_path / "saved")
    assert rs.open(tmp_path / "saved").to_json() == found.to_json()
    space: dict[str, Any] = {}
    *lines, last = found.as_python().strip().split("\n")
    exec("\n".join(lines), space)
    torch.testing.assert_close(eval(last, space).values, found.values, rtol=0, atol=1e-4, equal_nan=True)
    with pytest.raises(BadArgument, match=r"head_out\.2 was not compared"):
        found["head_out.2"]


def test_what_does_not_fit(gpt2: rs.Model, llama: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    with pytest.raises(BadArgument, match=r"\[6, 13, 3\] tokens in one run and \[6, 13, 4\]"):
        rs.compare(run, gpt2.run([*TEXTS[:2], "wxyz"]))
    with pytest.raises(BadArgument, match="A Tensor was given as a run"):
        inspect.unwrap(rs.compare)(run, run.logits)  # without the tests' own check of its arguments
    with pytest.raises(BadArgument, match=r"\[6, 13, 3\] tokens in one run and \[6\]"):
        rs.compare(run, gpt2.run(TEXTS[0]))
    with pytest.raises(BadArgument, match=r"pos_embed is of size .* and missing in the other"):
        rs.compare(run, llama.run(TEXTS))
    broken = gpt2.run(TEXTS, edits=rs.apply("z.1", lambda x: x / 0))
    with pytest.raises(BadArgument, match=r"attn_out\.1 of text 0 is NaN at position 0"):
        rs.compare(run, broken)
