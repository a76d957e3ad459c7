"""The demo's prompt pairs: alternating as they say, and what is asked for wrongly."""

import pytest

import residscope as rs
from residscope.demo.tasks import FRAMES
from residscope.errors import BadArgument


def test_orders_and_numbers_alternate_in_every_wording() -> None:
    pairs = rs.demo.pairs("ioi", 16)
    for number, (text, receiver) in enumerate(zip(pairs.clean, pairs.correct, strict=True)):
        opening = FRAMES["ioi"][number // 2 % 4].split("{A}")[0]
        assert text.startswith(opening)
        named = text.removeprefix(opening).split()
        assert receiver.strip() == (named[2] if number % 2 else named[0])
    verbs = rs.demo.pairs("agreement", 12).correct
    assert [verb in (" were", " are", " have") for verb in verbs] == [False, True] * 6


@pytest.mark.parametrize(("task", "n"), [("ioi", 1000), ("name", 500), ("agreement", 500), ("greater_than", 500)])
def test_no_prompt_comes_twice(task: str, n: int) -> None:
    assert len({*rs.demo.pairs(task, n).clean}) == n


def test_years_are_on_the_right_side() -> None:
    pairs = rs.demo.pairs("greater_than", 60)
    for (year, _), correct, wrong in zip(pairs.roles["year"], pairs.correct, pairs.wrong, strict=True):
        assert int(wrong) < int(year) < int(correct)


def test_a_third_one_gives() -> None:
    pairs = rs.demo.pairs("ioi_three_names", 8)
    for clean, corrupted, giver in zip(pairs.clean, pairs.corrupted, pairs.wrong, strict=True):
        assert clean.count(giver) == 2
        assert corrupted.count(giver) == 1


@pytest.mark.parametrize(
    ("task", "n", "says"),
    [
        ("addition", 5, "Choose ioi, ioi_three_names, name"),
        ("ioi", 0, "n=0"),
        ("ioi", 2.5, "n=2.5"),
        ("ioi", "3", "n='3'"),
    ],
)
def test_what_there_is_not(task: str, n: int, says: str) -> None:
    with pytest.raises(BadArgument, match=says):
        rs.demo.pairs(task, n)
