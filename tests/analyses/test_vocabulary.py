"""Vectors over the vocabulary as tables."""

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import config

import residscope as rs
from residscope.direction import Direction
from residscope.errors import BadArgument, UnknownPosition, UnknownToken
from residscope.running.packing import source_of
from residscope.transformer.tokens import Tokenizer
from tests.models import family_model, own_config, own_model

TEXTS = ["Once upon a", "Tom had a red ball. He"]


def test_the_table_is_the_logits_sorted(stories: rs.Model) -> None:
    run = stories.run(TEXTS)
    result = rs.vocabulary(run, top=None)
    logits = torch.stack([run.logits[i, n - 1] for i, n in enumerate(run.tokens.n_tokens.tolist())])
    assert (result.logits.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(result.logits, logits.gather(-1, result.token_ids), rtol=0, atol=1e-4)
    torch.testing.assert_close(result.log_probs.exp().sum(-1), torch.ones(2), rtol=0, atol=1e-5)
    assert torch.equal(result.ranks, (result.logits[:, None] > result.logits[..., None]).sum(-1))
    frame = result.to_frame()
    assert list(frame.columns) == ["batch", "rank", "token_id", "text", "logit", "log_prob", "prob"]
    assert frame.iloc[0]["text"] == " time"
    assert frame["text"].tolist() == [stories.tokenizer.piece(i) for i in frame["token_id"]]
    assert len(frame) == 2 * 512


def test_any_position(stories: rs.Model) -> None:
    run = stories.run("Once upon a time")
    assert rs.vocabulary(run, pos=2, top=1).texts == [[" a"]]
    assert rs.vocabulary(run, pos=-3, top=1).texts == [[" a"]]
    with pytest.raises(UnknownPosition):
        rs.vocabulary(run, pos=5)


def test_the_best_then_the_worst(gpt2: rs.Model) -> None:
    run = gpt2.run("abc")
    found, everything = rs.vocabulary(run, top=3, bottom=2), rs.vocabulary(run, top=None)
    assert torch.equal(found.token_ids, everything.token_ids[:, [0, 1, 2, -2, -1]])
    assert found.ranks.tolist() == [[0, 1, 2, 298, 299]]
    assert rs.vocabulary(run, top=0, bottom=1).ranks.tolist() == [[299]]


def test_chosen_tokens_have_their_rank_among_all(gpt2: rs.Model) -> None:
    run = gpt2.run(["abc", "x"])
    found, everything = rs.vocabulary(run, tokens=["z", 7, "a"]), rs.vocabulary(run, top=None)
    assert found.texts == [["z", gpt2.tokenizer.piece(7), "a"]] * 2
    assert torch.equal(everything.token_ids.gather(1, found.ranks), found.token_ids)
    torch.testing.assert_close(everything.log_probs.gather(1, found.ranks), found.log_probs)


def test_equal_logits_share_their_rank(gpt2: rs.Model) -> None:
    found = rs.vocabulary(torch.tensor([2.0, 5.0, 2.0, 9.0] + [0.0] * 296), model=gpt2, tokens=[0, 1, 2, 3, 4])
    assert found.ranks.tolist() == [[2, 1, 2, 0, 4]]


def test_the_change_against_another(gpt2: rs.Model, tmp_path: Path) -> None:
    runs = gpt2.run(["abc", "xyz"]), gpt2.run(["abd", "xy"])
    found = rs.vocabulary(runs[0], minus=runs[1], top=4)
    before, after = (run.at("logits", -1).gather(1, found.token_ids) for run in runs)
    assert found.changes is not None
    torch.testing.assert_close(found.changes, before - after)
    frame = found.to_frame()
    assert list(frame.columns)[-1] == "change"
    assert frame["change"].tolist() == found.changes.flatten().tolist()
    found.save(tmp_path / "found")
    pd.testing.assert_frame_equal(rs.open(tmp_path / "found").to_frame(), frame)
    one = rs.vocabulary(runs[0], minus=runs[1].at("logits", -1)[0].numpy(), top=4)
    assert one.changes is not None
    torch.testing.assert_close(one.changes[0], found.changes[0])


def test_a_bias_is_a_vector_too() -> None:
    model = own_model(own_config(unembed_bias=True))
    bias = model.weights.folded("W_U").bias
    found = rs.vocabulary(model.transformer.unembedding.bias, model=model, top=None)
    assert torch.equal(found.logits[0], model.weights["b_U"].sort(descending=True).values)
    assert not torch.equal(rs.vocabulary(bias, model=model, top=None).token_ids, found.token_ids)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gemma3_text", "gptj", "opt", "no norm"])
def test_a_directions_tokens_are_those_it_raises(family: str) -> None:
    model = own_model(own_config(norm=None), dtype=torch.float64) if family == "no norm" else family_model(family)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direction = Direction("one", rs.Site("resid_post", 2), vector / vector.norm())
    run, cap = model.run("abcdef"), model.config.logit_cap
    held = [rs.freeze("ln_final_scale", run)] if model.config.norm else []
    before, after = (
        one.at("logits", -1) for one in (run, model.run("abcdef", edits=[*held, rs.add("resid_post.2", direction)]))
    )
    if cap:
        before, after = (cap * torch.atanh(logits / cap) for logits in (before, after))
    raised = (after - before) * (run.at("ln_final_scale", -1) if model.config.norm else 1)
    raised = raised if cap else raised - raised.mean()
    found = rs.vocabulary(direction, model=model, top=None)
    torch.testing.assert_close(found.logits, raised.gather(1, found.token_ids), rtol=0, atol=1e-9)
    assert "direct path only" in found.settings["source"]


def test_only_what_is_shown_is_decoded(stories: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = Tokenizer.piece

    def watched(self: Tokenizer, token_id: int) -> str:
        asked.append(token_id)
        return plain(self, token_id)

    monkeypatch.setattr(Tokenizer, "piece", watched)
    found = rs.vocabulary(stories.run("Once"), top=4)
    assert asked == found.token_ids[0].tolist()


@pytest.mark.slow
def test_python_makes_the_same_table(stories: rs.Model) -> None:
    run = stories.run(["Once upon a"], edits=[rs.scale("resid_pre.2", 0.5)])
    direction = rs.pca(stories, rs.demo.texts, "resid_pre.3", n=4)[2]
    for found in (
        rs.vocabulary(run, top=3, bottom=2, minus=stories.run("Once")),
        rs.vocabulary(run, tokens=[" time", 7]),
        rs.vocabulary(direction, model=stories, top=3),
    ):
        *lines, last = found.as_python().strip().split("\n")
        space: dict[str, Any] = {}
        exec("\n".join(lines), space)
        again = eval(last, space)
        pd.testing.assert_frame_equal(again.to_frame(), found.to_frame(), rtol=1e-4)
    vector = torch.arange(512.0)
    assert source_of(vector) in rs.vocabulary(vector, model=stories).as_python()


def test_what_does_not_fit(stories: rs.Model, gpt2: rs.Model) -> None:
    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    run, call = stories.run(TEXTS), cast(Any, rs.vocabulary)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"top": 0}, "No token was asked for. The vocabulary has 512 tokens"),
        ({"top": 513}, "top=513 was asked for. The vocabulary has 512 tokens"),
        ({"top": 2.5}, "top=2.5 was asked for"),
        ({"top": 500, "bottom": 13}, "bottom=13 was asked for"),
        ({"top": None, "bottom": 1}, "bottom=1 was asked for"),
        ({"tokens": []}, "No token was asked for"),
        ({"tokens": None, "top": 0}, "No token was asked for"),
        ({"minus": torch.full((512,), torch.inf)}, "What was given is inf at token 0"),
        (
            {"minus": torch.ones(512, dtype=torch.complex64)},
            r"An array of torch.complex64 was given. Give real numbers",
        ),
        ({"minus": np.array(["a"] * 512)}, "An array of <U1 was given"),
        ({"minus": torch.ones(3, 512)}, "minus has 3 vectors, and there are 2"),
        ({"minus": torch.ones(300)}, r"An array of shape \[300\] was given, and the vocabulary has 512 tokens"),
        ({"minus": "a"}, "A str was given"),
        ({"minus": torch.tensor([0.0] * 7 + [torch.nan] + [0.0] * 504)}, "What was given is nan at token 7"),
        ({"model": gpt2}, "A run was given, and another model"),
    ]
    for options, message in wrong:
        with pytest.raises(BadArgument, match=message):
            call(run, **options)
    with pytest.raises(BadArgument, match=r"and no model. Say whose vocabulary"):
        rs.vocabulary(torch.ones(512))
    for site, size in (("z", 8), ("ln_final", 64), ("resid_pre", 32)):
        layer = None if site == "ln_final" else 1
        direction = Direction("one", rs.Site(site, layer), torch.ones(size).double())
        with pytest.raises(BadArgument, match=rf"A direction of {site}.* with {size} entries was given. Give one of"):
            rs.vocabulary(direction, model=stories)
    for pos in ([1], True, None):
        with pytest.raises(UnknownPosition, match=rf"The positions {re.escape(str(pos))} were asked for"):
            call(run, pos=pos)
    with pytest.raises(UnknownPosition, match="The positions True were asked for"):
        run.at("logits", True)
    with pytest.raises(UnknownPosition, match=r"The positions \[0, True\] were asked for"):
        run.at("logits", [0, True])
    with pytest.raises(BadArgument, match="A int was given as a model"):
        call(torch.ones(512), model=3)
    with pytest.raises(UnknownToken, match=r"'' is no token. Choose"):
        rs.vocabulary(run, tokens=[""])
    with pytest.raises(UnknownToken, match=r"'cherry' is 4 tokens: c.her.r.y"):
        rs.vocabulary(run, tokens=["cherry"])
    for token in (512, -1, 1.5, True, None):
        with pytest.raises(
            BadArgument, match=rf"token={token} was asked for. Give the text of one token, or an id from 0"
        ):
            call(run, tokens=[token])


def test_one_token_may_be_named_alone(stories: rs.Model) -> None:
    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    run, number = stories.run("Once upon a"), stories.single_token(" time")
    given: list[Any] = [" time", number, np.int64(number)]
    for one in given:
        found = rs.vocabulary(run, tokens=one)
        assert found.texts == [[" time"]]
        assert found.python[-1].endswith("tokens=[' time'])")


def test_it_says_of_which_runs_it_is(stories: rs.Model) -> None:
    edits = [rs.scale("resid_pre.2", 0.5)]
    plain, edited = stories.run("Once upon a"), stories.run("Once upon a", edits=edits)
    found = rs.vocabulary(edited, minus=plain)
    assert found.name == f"logits at position -1, edited less logits at position -1 of {stories.name}"
    assert found.settings["source"] == f"logits at position -1, edited of {edited!r}"
    assert found.settings["minus"] == f"logits at position -1 of {plain!r}"
    assert found.settings["edits"] == [repr(edits[0])]
    assert rs.vocabulary(plain).settings["edits"] == []
