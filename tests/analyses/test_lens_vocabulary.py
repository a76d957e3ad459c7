"""A cell of the lens over the whole vocabulary is that cell of the lens."""

from typing import Any, Literal

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, UnknownPosition, UnknownSite
from tests.models import family_model

TEXTS = ["abcdef", "xy"]


@pytest.mark.parametrize("norm", ["own", "final"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "olmo2"])
def test_it_is_the_cell_of_the_lens(family: str, norm: Literal["own", "final"]) -> None:
    run = family_model(family).run(TEXTS, edits=[rs.scale("ln_final", 0.5, pos=0)])
    lens = rs.logit_lens(run, norm=norm, sub_blocks=True, top=3)
    for row, site in enumerate(lens.sites):
        for pos in (0, 1):
            found = rs.lens_vocabulary(run, site, pos, norm=norm)
            assert torch.equal(found.token_ids[:, :3], lens.token_ids[:, row, pos])
            torch.testing.assert_close(found.logits[:, :3], lens.logits[:, row, pos], rtol=0, atol=1e-10)
            torch.testing.assert_close(
                found.log_probs.exp().sum(-1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-10
            )


def test_its_change_is_from_another_cell(stories: rs.Model) -> None:
    run = stories.run("Once upon a time")
    one, other = rs.lens_vocabulary(run, "resid_pre.2", 3), rs.lens_vocabulary(run, "resid_post.4", 1)
    found = rs.lens_vocabulary(run, "resid_pre.2", 3, minus=("resid_post.4", 1))
    order = one.token_ids.argsort(-1)
    assert found.changes is not None
    expected = one.logits.gather(-1, order) - other.logits.gather(-1, other.token_ids.argsort(-1))
    torch.testing.assert_close(found.changes.gather(-1, order), expected)
    assert rs.lens_vocabulary(run, "resid_pre.2", 3, top=5).token_ids.shape == (1, 5)


def test_its_python_makes_it_again(stories: rs.Model) -> None:
    run = stories.run("Once upon a time")
    found = rs.lens_vocabulary(run, "resid_pre.2", 3, norm="final", minus=("resid_pre.1", 2), top=4)
    again = eval(found.as_python().splitlines()[-1], {"rs": rs, "run": run})
    assert again.to_json() == found.to_json()


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"site": "attn_out.1"}, UnknownSite),
        ({"site": "resid_pre.9"}, UnknownSite),
        ({"pos": 99}, UnknownPosition),
        ({"norm": "none"}, BadArgument),
        ({"minus": ("z.1", 0)}, UnknownSite),
    ],
)
def test_what_is_not_there_is_refused(stories: rs.Model, asked: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        rs.lens_vocabulary(stories.run("Once upon a time"), **{"site": "resid_pre.1", "pos": 1, **asked})
