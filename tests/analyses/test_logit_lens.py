"""The logit lens equals what one computes by hand, and its last row the model's prediction."""

import inspect
import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.analyses import logit_lens
from residscope.analyses.logit_lens import _find_best
from residscope.errors import BadArgument, NoFinalNorm, UnknownSite, UnknownToken
from residscope.running.memory import Allocations
from tests.models import family_model, own_config, own_model, shared_path

TEXTS = ["abcdef", "xy"]
FAMILIES = ["gpt2", "llama", "gemma2", "gemma3_text", "gptj", "bloom", "olmo2", "phi"]
EDITS = [rs.scale("resid_mid.0", 1.5), rs.scale("ln_final_scale", 2.0, pos=1), rs.scale("ln_final", 0.5, pos=0)]


def read_by_hand(run: rs.Run, site: str, norm: str, *, cap: bool = True) -> Tensor:
    """Logits of every token of a stream, from weights by name."""
    c, weights, x = run.model.config, run.model.weights, run[site]
    if site == str(run.model.sites[-4]):  # resid_post of the last layer: the run's own
        x = run[run.model.last_site]
    else:
        centred = x - x.mean(-1, keepdim=True) if c.norm == "layer" else x
        scale = (centred.square().mean(-1) + c.norm_eps).sqrt() if norm == "own" else run["ln_final_scale"]
        x = centred / scale[..., None] * (c.norm_offset + weights["ln_final_w"])
        x = x + weights["ln_final_b"] if "ln_final_b" in weights else x
    logits = x @ weights["W_U"]
    logits = logits + weights["b_U"] if "b_U" in weights else logits
    return c.logit_cap * torch.tanh(logits / c.logit_cap) if cap and c.logit_cap else logits


def rows(run: rs.Run, norm: str, **options: bool) -> Tensor:
    names = [f"resid_pre.{layer}" for layer in range(3)] + ["resid_post.2"]
    return torch.stack([read_by_hand(run, name, norm, **options) for name in names], dim=1)


def assert_near(ours: Tensor, theirs: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("norm", ["own", "final"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_what_weights_give_by_hand(family: str, norm: Literal["own", "final"], edited: bool) -> None:
    model = family_model(family)
    edits = [edit for edit in EDITS if edit.sites[0] != "resid_mid.0" or not model.config.parallel]
    run = model.run(TEXTS, edits=edits if edited else [])
    found, logits = rs.logit_lens(run, norm=norm, top=300), rows(run, norm)
    log_probs = logits.log_softmax(-1)
    ids = found.token_ids.clamp(min=0)
    assert_near(found.logits, logits.gather(-1, ids))
    assert_near(found.log_probs, log_probs.gather(-1, ids))
    assert_near(found.entropy, -(log_probs.exp() * log_probs).sum(-1))
    assert_near(found.values, log_probs.exp().amax(-1))
    last = (
        found.logits[:, -1].new_full(found.logits[:, -1].shape, torch.nan).scatter(-1, ids[:, -1], found.logits[:, -1])
    )
    assert_near(last, run.logits)
    there = run.tokens.mask[:, None].expand(-1, 4, -1)
    assert_near(found.log_probs.exp().sum(-1)[there], torch.ones(int(there.sum()), dtype=torch.float64))
    assert (found.token_ids[~there] == -1).all()
    assert found.values[~there].isnan().all()


def test_edits_are_in_what_is_read(gpt2: rs.Model) -> None:
    plain, edited = rs.logit_lens(gpt2.run(TEXTS)), rs.logit_lens(gpt2.run(TEXTS, edits=EDITS))
    assert torch.equal(plain.values[:, 0].nan_to_num(), edited.values[:, 0].nan_to_num())
    assert (plain.values != edited.values)[:, 1:, :2].all()


@pytest.mark.parametrize("which", ["own", "final", "next", "c", 7, ["a", "b"]])
@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_values_of_a_target(family: str, which: Any) -> None:
    model = family_model(family)
    run = model.run(TEXTS)
    logits = rows(run, "own")
    ids = {
        "own": logits.nan_to_num().argmax(-1),
        "final": logits.nan_to_num()[:, -1:].argmax(-1),
        "next": run.tokens.ids.roll(-1, 1)[:, None],
    }.get(str(which))
    if ids is None:
        names = which if isinstance(which, list) else [which] * 2
        ids = torch.tensor([model.single_token(n) if isinstance(n, str) else n for n in names])[:, None, None]
    own = logits.gather(-1, ids.expand(logits.shape[:3])[..., None])
    ranks = (logits > own).sum(-1).double().masked_fill(own[..., 0].isnan(), torch.nan)
    probs = logits.softmax(-1).gather(-1, ids.expand(logits.shape[:3])[..., None])
    expected = {"logit": own[..., 0], "prob": probs[..., 0], "rank": ranks}
    if which == "next":
        for values in expected.values():
            values[torch.arange(2), :, run.tokens.n_tokens - 1] = torch.nan
    if which == "own":
        del expected["rank"]
    for value, values in expected.items():
        found = rs.logit_lens(run, value=value, target=which)  # type: ignore[arg-type]  # a key that is one
        assert_near(found.values, values)
        assert ("target" in found.to_frame()) is (which != "own")
    if which == "next":
        assert found.to_frame().query("batch == 0 and layer == 1")["target"].fillna("").tolist() == [*"bcdef", ""]


def test_entropy_and_divergence(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    log_probs = rows(run, "own").log_softmax(-1)
    entropy = rs.logit_lens(run, value="entropy")
    assert_near(entropy.values, -(log_probs.exp() * log_probs).sum(-1))
    final = log_probs[:, -1:]
    divergence = rs.logit_lens(run, value="kl").values
    assert_near(divergence, (final.exp() * (final - log_probs)).sum(-1))
    assert (divergence[:, -1].nan_to_num() == 0).all()


def test_logits_before_the_cap() -> None:
    model = family_model("gemma2")
    run = model.run(TEXTS)
    found = rs.logit_lens(run, precap=True)
    assert_near(found.logits, rows(run, "own", cap=False).gather(-1, found.token_ids.clamp(min=0)))
    assert (found.settings["cap"], rs.logit_lens(run).settings["cap"]) == ("before", "after")
    assert rs.logit_lens(family_model("gpt2").run(TEXTS)).settings["cap"] is None


def test_equal_to_transformer_lens() -> None:
    oracle = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    model = rs.load(shared_path("reference/oracle_gpt2/checkpoint"))
    run = model.run(torch.tensor(oracle["clean"]))
    answers = torch.tensor(oracle["answers_correct_wrong"])
    correct, wrong = (
        rs.logit_lens(run, norm="final", value="logit", target=ids, sub_blocks=True) for ids in answers.T.tolist()
    )
    assert correct.sites == [
        *(f"resid_{kind}.{layer}" for layer in range(3) for kind in ("pre", "mid")),
        "resid_post.2",
    ]
    bias = model.weights.folded("W_U").bias[answers]  # which theirs leaves out
    ours = (correct.values - wrong.values)[:, :, -1].T - (bias[:, 0] - bias[:, 1])
    assert_near(ours, torch.tensor(oracle["lens_final_scale"]["value"]), atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 3000])
def test_some_positions_at_a_time(gpt2: rs.Model, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = gpt2.run(["abc" * 13, "abcde", "x" * 40], keep=["resid_pre", "resid_post.2", "ln_final"])
    whole = rs.logit_lens(run, value="kl")
    monkeypatch.setattr(logit_lens, "_AT_ONCE", at_once)
    with Allocations(shapes=False) as taken:
        parts = rs.logit_lens(run, value="kl")
    assert_near(parts.values, whole.values)
    assert torch.equal(parts.token_ids, whole.token_ids)
    assert taken.peak_bytes < 84 * 4 * 300 * 8 / 2  # half of the logits of all cells
    alone = rs.logit_lens(gpt2.run("abcde"), value="kl")
    assert_near(whole.values[1:2, :, :5], alone.values)


def test_it_is_a_result(stories: rs.Model, tmp_path: Path) -> None:
    found = rs.logit_lens(stories.run(["Once upon a", "Tom"], edits=[rs.scale("resid_pre.2", 0.9)]), sub_blocks=True)
    frame = found.to_frame()
    assert list(frame.columns) == ["batch", "layer", "site", "pos", "token", "best", "entropy", "value"]
    last = frame.query("batch == 0 and pos == 3")
    assert last["layer"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert last.iloc[-1][["site", "token", "best"]].tolist() == ["resid_post.4", " a", " time"]
    assert last.iloc[-1]["value"] == float(found.values[0, -1, 3])
    assert not frame["token"].isna().any()
    assert found.settings["norm"] == "own"
    assert found.settings["has_bos"]
    found.save(tmp_path / "lens")
    assert rs.open(tmp_path / "lens").to_json() == found.to_json()
    *lines, call = found.as_python().strip().split("\n")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    pd.testing.assert_frame_equal(eval(call, space).to_frame(), frame, rtol=1e-4)


def test_it_reports_and_can_be_stopped(gpt2: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logit_lens, "_AT_ONCE", 1)
    run = gpt2.run("abc")
    steps: list[Any] = []
    with rs.progress(steps.append) as work:
        rs.logit_lens(run)
        assert [(step.done, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3), (3, 3)]
        work.cancel()
        with pytest.raises(rs.Cancelled):
            rs.logit_lens(run)


def test_what_does_not_fit(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    call = inspect.unwrap(rs.logit_lens)  # without the tests' own check of its arguments
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"norm": "mine"}, "norm='mine' was asked for. Choose 'own' or 'final'"),
        ({"value": "odds"}, "value='odds' was asked for. Choose 'prob', 'logit'"),
        ({"value": "kl", "target": "final"}, "value='kl' was asked for, and target='final'"),
        ({"value": "rank"}, "own best token was asked for, which is 0"),
        ({"top": 0}, "top=0 was asked for. Give a whole number from 1 to 300"),
        ({"top": 301}, "top=301 was asked for"),
        ({"target": ["a"]}, "1 token was given for 2 texts"),
    ]
    for options, message in wrong:
        with pytest.raises(BadArgument, match=message):
            call(run, **options)
    with pytest.raises(UnknownToken, match=r"'ab' is 2 tokens"):
        rs.logit_lens(run, target="ab")
    with pytest.raises(UnknownSite, match=r"no site 'resid_mid.0'"):
        rs.logit_lens(family_model("gptj").run(TEXTS), sub_blocks=True)
    with pytest.raises(NoFinalNorm, match=r"has no final norm. Read its streams with rs.vocabulary"):
        rs.logit_lens(own_model(own_config(norm=None)).run(TEXTS))


@pytest.mark.parametrize("d_vocab", [40, 300, 2048, 2050])
@pytest.mark.parametrize("top", [1, 5, 40])
def test_the_best_are_topks(d_vocab: int, top: int) -> None:
    logits = torch.randn(3, 4, d_vocab, generator=torch.Generator().manual_seed(0))
    logits[0, 0, -1] = 9.0  # in what no block has
    logits[1, 1, :60] += 20.0  # all in one block
    values, tokens = _find_best(logits, top)
    expected = logits.topk(top)
    assert torch.equal(values, expected.values)
    assert torch.equal(tokens, expected.indices)
