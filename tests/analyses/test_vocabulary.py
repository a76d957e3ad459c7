"""Next tokens as a table."""

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, UnknownPosition


def test_the_table_is_the_logits_sorted(stories: rs.Model) -> None:
    run = stories.run(["Once upon a", "Tom had a red ball. He"])
    result = rs.vocabulary(run, top=512)
    logits = torch.stack([run.logits[i, n - 1] for i, n in enumerate(run.tokens.n_tokens.tolist())])
    assert (result.logits.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(result.logits, logits.gather(-1, result.token_ids), rtol=0, atol=1e-4)
    torch.testing.assert_close(result.log_probs.exp().sum(-1), torch.ones(2), rtol=0, atol=1e-5)
    frame = result.to_frame()
    assert list(frame.columns) == ["batch", "rank", "token_id", "text", "logit", "log_prob", "prob"]
    assert frame.iloc[0]["text"] == " time"
    assert len(frame) == 2 * 512


def test_any_position(stories: rs.Model) -> None:
    run = stories.run("Once upon a time")
    assert rs.vocabulary(run, pos=2, top=1).texts == [[" a"]]
    assert rs.vocabulary(run, pos=-3, top=1).texts == [[" a"]]
    with pytest.raises(UnknownPosition):
        rs.vocabulary(run, pos=5)


@pytest.mark.parametrize("top", [0, 513])
def test_more_tokens_than_there_are(stories: rs.Model, top: int) -> None:
    with pytest.raises(BadArgument, match="vocabulary has 512 tokens"):
        rs.vocabulary(stories.run("Once"), top=top)
