"""An expected answer at every position."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import residscope as rs
from residscope.analyses import next_tokens
from residscope.errors import BadArgument, BadTokenizer, UnknownToken
from tests.models import family_model, own_config, own_state

TEXTS = ["abcdef", "xy"]


@pytest.mark.parametrize("at_once", [1, 1500, 10**9])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_equal_to_the_whole_softmax(family: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_tokens, "_AT_ONCE", at_once)
    model = family_model(family)
    run = model.run(TEXTS)
    found = rs.next_tokens(run, ["b", "c"])
    assert found.answers.tolist() == [model.single_token("b"), model.single_token("c")]
    for text, n in enumerate(run.tokens.n_tokens.tolist()):
        logits, answer = run.logits[text, :n], found.answers[text]
        probs = logits.softmax(-1)
        torch.testing.assert_close(found.values[text, :n], probs[:, answer], rtol=0, atol=1e-10)
        torch.testing.assert_close(found.logits[text, :n], logits[:, answer], rtol=0, atol=1e-10)
        order = logits.argsort(descending=True)
        assert found.ranks[text, :n].tolist() == (order == answer).nonzero()[:, 1].tolist()
        assert torch.equal(found.top_ids[text, :n], order[:, :10])
        torch.testing.assert_close(found.top_probs[text, :n], probs.gather(1, order[:, :10]), rtol=0, atol=1e-10)
        for padded in (found.values, found.logits, found.top_probs):
            assert padded[text, n:].isnan().all()
        assert (found.top_ids[text, n:] == -1).all()
        assert (found.ranks[text, n:] == -1).all()


def test_the_frame_names_everything(stories: rs.Model, tmp_path: Path) -> None:
    found = rs.next_tokens(stories.run(["Once upon a", "Tom"]), answer=" time")
    frame = found.to_frame()
    assert list(frame.columns) == ["batch", "answer", "pos", "token", "rank", "logit", "top", "value"]
    assert len(frame) == 4 + found.ranks[1].ge(0).sum()
    row = frame.iloc[3]
    assert (row["answer"], row["token"], row["rank"], row["top"][0]) == (" time", " a", 0, " time")
    assert row["value"] > 0.9
    assert found.warning == ""
    found.save(tmp_path / "found")
    assert rs.open(tmp_path / "found").to_json() == found.to_json()
    *lines, last = found.as_python().strip().split("\n")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    pd.testing.assert_frame_equal(eval(last, space).to_frame(), frame, rtol=1e-4)


@pytest.mark.parametrize(
    ("answer", "first", "warning"),
    [
        (" time", " time", ""),
        (".", ".", ""),
        ("日", "\\xe6", "'日' is 3 tokens: \\xe6|\\x97|\\xa5. All numbers are of the first, '\\\\xe6'."),
        (" cherry", " c", "' cherry' is 4 tokens:  c|her|r|y. All numbers are of the first, ' c'."),
        ("day", "d", "'day' is 2 tokens: d|ay. All numbers are of the first, 'd'. "
         "'day' has no space in front; with one it is another token, ' day'."),
        ("a", "a", "'a' has no space in front; with one it is another token, ' a'."),
        (403, "a", ""),
    ],
)  # fmt: skip
def test_warnings(stories: rs.Model, answer: str | int, first: str, warning: str) -> None:
    answer = stories.single_token("a") if isinstance(answer, int) else answer
    found = rs.next_tokens(stories.run(["Once upon a", "Tom"]), answer)
    assert found.texts[str(int(found.answers[0]))] == first
    assert found.warning == warning
    assert repr(found).endswith(f"\n{warning}" if warning else ")")


def test_a_space_that_is_there_is_not_missed(stories: rs.Model) -> None:
    assert rs.next_tokens(stories.run("Once upon "), "a").warning == ""
    assert rs.next_tokens(stories.run("Once upon"), "a").warning != ""


def test_what_does_not_fit(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    with pytest.raises(BadArgument, match="3 tokens were given for 2 texts"):
        rs.next_tokens(run, ["a", "b", "c"])
    with pytest.raises(UnknownToken, match="The answer '' has no token"):
        rs.next_tokens(run, "")
    with pytest.raises(BadArgument, match="token=300 was asked for"):
        rs.next_tokens(run, 300)
    config = own_config()
    nameless = rs.load(own_state(config), config=config)
    with pytest.raises(BadTokenizer, match="without a tokenizer"):
        rs.next_tokens(nameless.run([[1, 2]]), "a")
    assert rs.next_tokens(nameless.run([[1, 2]]), 5).texts["5"] == "<5>"
