"""The demo's prompt pairs: alternating as they say, and what is asked for wrongly."""

import pytest

import residscope as rs
from residscope.demo.tasks import FRAMES, _count_different
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


@pytest.mark.parametrize("task", ["name", "agreement", "greater_than"])
def test_as_many_as_there_are(task: str) -> None:
    """Nearly all are found, and none is drawn that was not counted."""
    most = _count_different(task)
    assert 0.99 * most < len({*rs.demo.pairs(task, most).clean}) <= most


def test_their_python_is_short() -> None:
    pairs = rs.demo.pairs("ioi", 5, seed=3)
    assert pairs.python == "rs.demo.pairs('ioi', n=5, seed=3)"
    for some in (pairs, pairs[1:4], pairs[2], pairs[::2][-1]):
        assert eval(some.python, {"rs": rs}) == some
    own = rs.pairs(pairs.to_frame())
    assert own == pairs
    assert own.python.startswith("rs.Pairs(")


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
        ("addition", 5, "task='addition' was asked for. Choose 'ioi', 'ioi_three_names', 'name'"),
        ("ioi", 0, "n=0"),
        ("ioi", 2.5, "n=2.5"),
        ("ioi", "3", "n='3'"),
        ("ioi", 10**9, "There are 237,600 different pairs of 'ioi': give a whole number from 1 to that"),
        ("agreement", 1081, "There are 1,080 different pairs"),
    ],
)
def test_what_there_is_not(task: str, n: int, says: str) -> None:
    with pytest.raises(BadArgument, match=says):
        rs.demo.pairs(task, n)
