"""Functions are told apart by what they compute, wherever they are written."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from residscope.running.code import hash_code

SOURCE = """
K, W = 5, torch.arange(3.0)
def inner(x): return x[..., K]
def outer(x): return inner(x) + [one for one in x if one > K][0]
def loop(x): return loop(x)
def weighs(x): return (x * W).sum()
def default(x, k=5): return x[..., k]
def make(k): return lambda x: x[..., k]
closed, constant, bound = make(5), lambda x: x[..., 5], partial(default, k=5)
several, options = make([1, 2]), make({"a": {1, 2}})
"""
ROOT = Path(__file__).parents[2]
NAMES = ("outer", "loop", "weighs", "default", "closed", "constant", "bound", "several", "options")


def write(source: str) -> dict[str, Callable[..., Any]]:
    names: dict[str, Any] = {"torch": torch, "partial": partial}
    exec(source, names)
    return names


@pytest.mark.slow
def test_the_same_code_has_the_same_hash_in_another_process() -> None:
    first = {name: hash_code(write(SOURCE)[name]) for name in NAMES}
    assert first == {name: hash_code(write("\n\n" + SOURCE)[name]) for name in NAMES}
    code = "from tests.running.test_code import *; print([hash_code(write(SOURCE)[name]) for name in NAMES])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed.strip() == str([*first.values()])
    assert len({*first.values()}) == len(NAMES)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("K, W = 5", "K, W = 6", {"outer"}),
        ("return x[..., K]", "return x[..., -K]", {"outer"}),
        ("arange(3.0)", "arange(3.0) + 1e-3", {"weighs"}),
        ("k=5): return", "k=6): return", {"default", "bound"}),
        ("make(5)", "make(6)", {"closed"}),
        ("lambda x: x[..., 5]", "lambda x: x[..., 6]", {"constant"}),
        ("(default, k=5)", "(default, k=6)", {"bound"}),
        ("[1, 2]", "[1, 3]", {"several"}),
        ("{1, 2}", "{1, 3}", {"options"}),
        ("(x * W).sum()", "(x * W).mean()", {"weighs"}),
    ],
)
def test_other_code_or_values_have_another(old: str, new: str, changed: set[str]) -> None:
    one, other = write(SOURCE), write(SOURCE.replace(old, new))
    assert {name for name in NAMES if hash_code(one[name]) != hash_code(other[name])} == changed


def test_arrays_and_what_has_no_code_are_told() -> None:
    def make(value: Any) -> str:
        return hash_code(lambda x: x @ value)

    assert make(np.zeros(2)) == make(np.zeros(2)) != make(np.ones(2))
    assert make(torch.zeros(2, dtype=torch.bfloat16)) != make(torch.ones(2, dtype=torch.bfloat16))
    assert hash_code(torch.amax) == hash_code(torch.amax) != hash_code(torch.amin)
