"""Prompt pairs for what the bundled model was made to do, in wordings and with names that its training kept out."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from string import Formatter
from typing import Any

from residscope.demo.words import (
    CENTURIES,
    HELD_OUT_EVENTS,
    HELD_OUT_LAST_NAMES,
    HELD_OUT_NAMES,
    HELD_OUT_NOUNS,
    OBJECTS,
    PLACES,
    VERBS,
)
from residscope.running.arguments import read_choice, read_whole
from residscope.running.pairs import Pairs
from residscope.running.pairs import pairs as make_pairs

Row = dict[str, Any]

_TRIES = 100

# How many words may stand in each place of a frame.
_CHOICES = {
    "A": len(HELD_OUT_NAMES),
    "B": len(HELD_OUT_NAMES) - 1,
    "S": 2,
    "place": len(PLACES),
    "object": len(OBJECTS),
    "role": len(HELD_OUT_NOUNS),
    "first": len(HELD_OUT_NAMES),
    "last": len(HELD_OUT_LAST_NAMES),
    "noun": 2 * len(HELD_OUT_NOUNS),
    "others": len(HELD_OUT_NOUNS) - 1,
    "event": len(HELD_OUT_EVENTS),
    "century": len(CENTURIES),
    "year": 96,
}

# {S} gives something to the other of {A} and {B}.
FRAMES = {
    "ioi": (
        "When {A} and {B} went to the {place}, {S} gave the {object} to",
        "Once {A} and {B} came to the {place} together. There {S} handed the {object} to",
        "While {A} and {B} sat at the {place}, {S} offered a {object} to",
        "Because {A} and {B} met near the {place}, {S} brought the {object} to",
    ),
    "name": (
        "The name of our new {role} was {first} {last}. We all knew {first}",
        "A {role} called {first} {last} lived near the {place}. Nobody forgot {first}",
        "They met {first} {last} at the {place}. Later they wrote to {first}",
    ),
    "agreement": (
        "Near the {place} the {noun} that the {others} had seen",
        "Today at the {place} the {noun} next to the {others}",
        "In the {place} the {noun} who followed the {others}",
    ),
    "greater_than": (
        "The long {event} lasted from the year {century}{year} to the year {century}",
        "That {event} went on from {century}{year} until {century}",
    ),
}


def pairs(task: str, n: int = 50, seed: int = 0) -> Pairs:
    """Pairs of prompts for a task of the bundled model.

    Args:
      task: "ioi": who receives, where the corrupted prompt lets the other give (roles IO, S1, S2, end);
        "ioi_three_names": the same where a third one gives, and neither name is right;
        "name": the last name of someone named before, another in the corrupted prompt;
        "agreement": a verb's number across a clause, where the corrupted subject has the other;
        "greater_than": a later year, where the corrupted prompt begins in the year 01.
      n: How many, up to as many as there are different ones; both orders of names, both numbers, all wordings equally
        often.
      seed: Of what is drawn.
    Raises:
      BadArgument: There is no such task, or `n` is no whole number from one up, or there are not so many.
    Holds:
      Every answer and every role's word is one token; the clean and the corrupted prompt have equally many.
    """
    read_choice("task", task, _TASKS)
    most = _count_different(task)
    n = read_whole(
        "n", n, 1, most, f"There are {most:,} different pairs of {task!r}: give a whole number from 1 to that."
    )
    rng = random.Random(f"{task} {seed}")
    rows: list[Row] = []
    seen: set[str] = set()
    for number in range(n):
        row = _TASKS[task](number, rng)
        for _ in range(_TRIES):  # another one while there are others
            if row["clean"] not in seen:
                break
            row = _TASKS[task](number, rng)
        seen.add(row["clean"])
        rows.append(row)
    said = f", seed={seed!r}" if seed else ""
    return replace(make_pairs(rows), source=f"rs.demo.pairs({task!r}, n={n}{said})")


def _count_different(task: str) -> int:
    """How many clean prompts there are, when every wording is used as often as that with the fewest."""
    frames = FRAMES["ioi" if task == "ioi_three_names" else task]
    fields = ({field for _, field, _, _ in Formatter().parse(frame) if field} for frame in frames)
    return len(frames) * min(prod(_CHOICES[field] for field in one) for one in fields)


def _frame(task: str, number: int) -> str:
    """The wordings in turn; what else alternates does so within each."""
    frames = FRAMES[task]
    return frames[number // 2 % len(frames)]


def _who_receives(number: int, rng: random.Random, *, three_names: bool = False) -> Row:
    first, second, third = rng.sample(HELD_OUT_NAMES, 3)
    giver, receiver = (first, second) if number % 2 else (second, first)
    fill = {"A": first, "B": second, "place": rng.choice(PLACES), "object": rng.choice(OBJECTS)}
    frame = _frame("ioi", number)
    roles = {"IO": f" {receiver}", "S1": f" {giver}", "S2": f" {giver}", "end": -1}
    return {
        "clean": frame.format(S=giver, **fill),
        "corrupted": frame.format(S=third if three_names else receiver, **fill),
        "correct": f" {receiver}",
        "wrong": f" {giver}",
        **roles,
    }


def _last_name(number: int, rng: random.Random) -> Row:
    first, (last, other) = rng.choice(HELD_OUT_NAMES), rng.sample(HELD_OUT_LAST_NAMES, 2)
    fill = {"first": first, "role": rng.choice(HELD_OUT_NOUNS)[0], "place": rng.choice(PLACES)}
    frame = _frame("name", number)
    return {
        "clean": frame.format(last=last, **fill),
        "corrupted": frame.format(last=other, **fill),
        "correct": f" {last}",
        "wrong": f" {other}",
        "first1": f" {first}",
        "last": f" {last}",
        "first2": f" {first}",
        "end": -1,
    }


def _agreement(number: int, rng: random.Random) -> Row:
    several = number % 2
    noun, others = rng.sample(HELD_OUT_NOUNS, 2)
    fill = {"others": others[1 - several], "place": rng.choice(PLACES)}  # between stands one of the other number
    frame, verb = _frame("agreement", number), rng.choice(VERBS)
    return {
        "clean": frame.format(noun=noun[several], **fill),
        "corrupted": frame.format(noun=noun[1 - several], **fill),
        "correct": f" {verb[several]}",
        "wrong": f" {verb[1 - several]}",
        "subject": f" {noun[several]}",
        "between": f" {others[1 - several]}",
        "end": -1,
    }


def _greater_than(number: int, rng: random.Random) -> Row:
    year, century = rng.randint(2, 97), rng.choice(CENTURIES)
    fill = {"event": rng.choice(HELD_OUT_EVENTS), "century": century}
    frame = _frame("greater_than", number)
    return {
        "clean": frame.format(year=f"{year:02}", **fill),
        "corrupted": frame.format(year="01", **fill),
        "correct": f"{rng.randint(year + 1, 99):02}",
        "wrong": f"{rng.randint(1, year - 1):02}",
        "year": f"{year:02}",
        "end": -1,
    }


_TASKS: dict[str, Callable[[int, random.Random], Row]] = {
    "ioi": _who_receives,
    "ioi_three_names": partial(_who_receives, three_names=True),
    "name": _last_name,
    "agreement": _agreement,
    "greater_than": _greater_than,
}
