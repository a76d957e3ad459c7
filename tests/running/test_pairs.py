"""Pairs of prompts: where their roles are, and what a table of them may not be."""

from typing import Any

import pandas as pd
import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, UnknownPosition, UnknownToken

ROWS = [
    {
        "clean": "m j j m",
        "corrupted": "m j n m",
        "correct": "m",
        "wrong": "j",
        "S1": "j",
        "S2": "j",
        "IO": 0,
        "end": -1,
    },
    {
        "clean": "j m k m j",
        "corrupted": "j m k j m",
        "correct": "j",
        "wrong": "m",
        "S1": "m",
        "S2": "m",
        "IO": 0,
        "end": -1,
    },
]


def test_a_word_that_several_roles_name_is_taken_in_turn(gpt2: rs.Model) -> None:
    pairs = rs.pairs(pd.DataFrame(ROWS))
    assert len(pairs) == 2
    found = {role: pairs.positions(gpt2, role).flatten().tolist() for role in pairs.roles}
    assert found == {"S1": [2, 2], "S2": [4, 6], "IO": [0, 0], "end": [6, 8]}
    for role, expected in found.items():
        assert pairs.positions(gpt2, role, "corrupted").flatten().tolist() == expected
    torch.testing.assert_close(
        pairs.metric()(gpt2.run(list(pairs.clean))),
        rs.logit_difference(["m", "j"], ["j", "m"])(gpt2.run(list(pairs.clean))),
    )


def test_a_role_of_prompts_of_other_lengths_is_marked_in_both(gpt2: rs.Model) -> None:
    row = {**ROWS[0], "corrupted": "m to n m", "S2": ("j", "n"), "end": -1, "again": "m"}
    pairs = rs.pairs([row])
    assert pairs.positions(gpt2, "S2", "corrupted").tolist() == [[5]]
    assert pairs.positions(gpt2, "end", "corrupted").tolist() == [[7]]
    with pytest.raises(BadArgument, match="Pair 0 has prompts of 7 and 8 tokens, and IO is position 0 of the clean"):
        pairs.positions(gpt2, "IO", "corrupted")
    assert pairs.positions(gpt2, "again", "corrupted").tolist() == [[0]]
    with pytest.raises(UnknownToken, match="S1 of pair 0 is 'j', and the corrupted prompt has no such token: m"):
        pairs.positions(gpt2, "S1", "corrupted")


def test_they_are_a_table_and_are_cut() -> None:
    pairs = rs.pairs({name: [row[name] for row in ROWS] for name in ROWS[0]})
    assert rs.pairs(pairs.to_frame()) == pairs
    assert pairs[1:].clean == ("j m k m j",)
    assert pairs[1:].roles["IO"] == ((0, None),)
    assert pairs[1] == pairs[-1] == pairs[1:]
    assert [pair.clean for pair in pairs] == [("m j j m",), ("j m k m j",)]
    with pytest.raises(IndexError):
        pairs[2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clean": 3}, "The column clean of the pairs holds 3"),
        ({"wrong": ""}, "The column wrong of the pairs holds ''"),
        ({"S1": 1.5}, r"The role S1 is 1\.5"),
        ({"S1": float("inf")}, r"The role S1 is inf"),
        ({"S1": None}, "The role S1 is None"),
        ({"S1": ("j", "j", "j")}, "The role S1 is"),
    ],
)
def test_cells_that_are_none(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadArgument, match=says):
        rs.pairs([{**ROWS[0], **change}])


def test_tables_and_roles_that_are_none(gpt2: rs.Model) -> None:
    for table, says in (
        ([], "have no column clean, corrupted, correct, wrong"),
        ([{"clean": "a"}], "have no column corrupted, correct, wrong"),
        ({name: [] for name in ROWS[0]}, "have no row"),
        (3, "no table"),
    ):
        with pytest.raises(BadArgument, match=says):
            rs.pairs(table)
    with pytest.raises(BadArgument, match="no role 'S3'"):
        rs.pairs(ROWS).positions(gpt2, "S3")
    with pytest.raises(UnknownToken, match="S1 of pair 0 is 'q', and the clean prompt has no such token: m"):
        rs.pairs([{**ROWS[0], "S1": "q"}]).positions(gpt2, "S1")
    with pytest.raises(
        UnknownToken, match="S3 of pair 0 is another 'j', and the clean prompt has only 2 such tokens: m"
    ):
        rs.pairs([{**ROWS[0], "S3": "j"}]).positions(gpt2, "S3")
    with pytest.raises(UnknownPosition, match="end of pair 0 is position 9"):
        rs.pairs([{**ROWS[0], "end": 9}]).positions(gpt2, "end")
