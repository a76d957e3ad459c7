"""Steering, against what `model.generate` writes under the same edits."""

import math
from typing import Any, Literal

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, BadDirection, PromptTooLong
from residscope.running.progress import Step

PROMPT = "One day a girl named"


@pytest.fixture(scope="module")
def direction(stories: rs.Model) -> rs.Direction:
    return rs.pca(stories, rs.demo.texts, "resid_pre.2")[1]


def steered(direction: rs.Direction, added: float, where: list[Any]) -> list[rs.Edit]:
    return [rs.add("resid_pre.2", direction.vector.float(), scale=added, pos=pos) for pos in where]


def test_nothing_is_added_at_strength_zero(stories: rs.Model, direction: rs.Direction) -> None:
    found = rs.steer(stories, direction, PROMPT, strength=0.0, n_tokens=9, temperature=0.9, seed=5)
    assert found.pieces[0] == found.pieces[1]
    expected = stories.generate(PROMPT, n_tokens=9, temperature=0.9, seed=5)
    assert found.pieces[0] == expected.pieces[0]
    assert found.texts == ["".join(expected.pieces[0][found.n_prompt :])] * 2


@pytest.mark.parametrize("on", ["prompt", "new", "both"])
@pytest.mark.parametrize("first", [False, True])
def test_it_writes_what_edits_write(
    stories: rs.Model, direction: rs.Direction, on: Literal["prompt", "new", "both"], first: bool
) -> None:
    found = rs.steer(stories, direction, PROMPT, strength=6.0, on=on, first=first, n_tokens=9)
    assert direction.deviation
    added = 6 * direction.deviation
    assert found.settings["added"] == pytest.approx(added)
    prompt = list(range(0 if first else 1, found.n_prompt))
    where: dict[str, list[Any]] = {"prompt": [prompt], "new": ["new"], "both": [prompt, "new"]}
    expected = stories.generate(PROMPT, n_tokens=9, edits=steered(direction, added, where[on]))
    assert found.pieces == [*stories.generate(PROMPT, n_tokens=9).pieces, *expected.pieces]
    assert found.pieces[0] != found.pieces[1]


def test_units(stories: rs.Model, direction: rs.Direction) -> None:
    def added(unit: Literal["stream", "norm"]) -> float:
        return float(rs.steer(stories, direction, PROMPT, strength=-2.0, n_tokens=1, unit=unit).settings["added"])

    assert added("stream") == -2.0
    norms = stories.run(PROMPT)["resid_pre.2"][0, 1:].norm(dim=-1)
    assert added("norm") == pytest.approx(-2 * float(norms.median()), rel=1e-6)
    with pytest.raises(BadDirection, match="deviation along a vector is not known"):
        rs.steer(stories, rs.Direction.of(direction.vector, "resid_pre.2"), PROMPT, strength=1.0)


def test_probabilities_are_those_of_the_model_alone(stories: rs.Model, direction: rs.Direction) -> None:
    found = rs.steer(stories, direction, PROMPT, strength=40.0, unit="stream", on="new", n_tokens=7)
    (ids,) = stories.generate(PROMPT, n_tokens=7, edits=steered(direction, 40, ["new"])).lists()
    log_probs = stories.run([ids]).logits[0].log_softmax(-1)
    torch.testing.assert_close(
        found.values[1, 1 : len(ids)], log_probs[range(len(ids) - 1), ids[1:]], rtol=0, atol=1e-4
    )
    assert found.values[:, 0].isnan().all()


def test_it_is_told_as_it_is_written(stories: rs.Model, direction: rs.Direction) -> None:
    steps: list[Step] = []
    with rs.progress(steps.append):
        found = rs.steer(stories, direction, PROMPT, strength=6.0, n_tokens=5)
    told = [step.so_far() for step in steps if step.so_far]
    lengths = [[len(pieces) for pieces in one.pieces] for one in told if isinstance(one, rs.Steering)]
    n = found.n_prompt
    assert lengths[:5] == [[n + i, n] for i in range(5)]
    assert lengths[5:] == [[n + 5, n + i] for i in range(5)]


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": math.nan}, "strength=nan"),
        ({"strength": 1e300, "unit": "stream"}, "1e\\+300 units of the stream were to be added"),
        ({"unit": "inch"}, "unit='inch'"),
        ({"on": "sunday"}, "on='sunday'"),
        ({"n_tokens": -1}, "n_tokens=-1"),
        ({"temperature": -1.0}, "temperature=-1"),
    ],
)
def test_what_cannot_be_is_refused(
    stories: rs.Model, direction: rs.Direction, options: dict[str, object], says: str
) -> None:
    with pytest.raises(BadArgument, match=says):
        rs.steer(stories, direction, PROMPT, **{"strength": 1.0, **options})  # type: ignore[arg-type]


def test_the_first_token_alone_is_not_steered_unasked(stories: rs.Model, direction: rs.Direction) -> None:
    bare: Any = stories.tokenize([stories.tokenize("a").lists()[0][:1]])
    with pytest.raises(BadArgument, match="one token, which is at position 0"):
        rs.steer(stories, direction, bare, strength=1.0, on="prompt")
    with pytest.raises(BadArgument, match="2 prompts"):
        rs.steer(stories, direction, ["a", "b"], strength=1.0)
    with pytest.raises(PromptTooLong):
        rs.steer(stories, direction, PROMPT, strength=1.0, n_tokens=1000)
