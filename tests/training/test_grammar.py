"""The training's text: what is held out stays out of the tasks, and the tasks are solved."""

import random
import re

import pytest

from residscope.demo import tasks, words
from training import grammar

TASKS = [grammar.write_task(random.Random(seed)) for seed in range(3000)]
STORIES = [grammar.write_story(random.Random(seed)) for seed in range(1500)]


def words_of(texts: list[str]) -> set[str]:
    return set(re.findall(r"\w+", " ".join(texts)))


def test_held_out_words_are_in_stories_and_in_no_task() -> None:
    held_out = {*words.HELD_OUT_NAMES, *words.HELD_OUT_LAST_NAMES}
    assert not held_out & words_of(TASKS)
    assert held_out <= words_of(STORIES)
    nouns = {word for pair in words.HELD_OUT_NOUNS for word in pair} - {*words.OBJECTS}
    assert not (nouns | {*words.HELD_OUT_EVENTS}) & words_of(TASKS)
    assert nouns | {*words.HELD_OUT_EVENTS} <= words_of(STORIES)
    assert {*words.NAMES, *words.LAST_NAMES, *words.PLACES, *words.EVENTS} <= words_of(TASKS)


def test_lists_share_no_word() -> None:
    assert not {*words.NAMES} & {*words.HELD_OUT_NAMES}
    assert not {*words.LAST_NAMES} & {*words.HELD_OUT_LAST_NAMES}
    assert not {*words.NAMES, *words.HELD_OUT_NAMES} & {*words.LAST_NAMES, *words.HELD_OUT_LAST_NAMES}
    assert not {*words.EVENTS} & {*words.HELD_OUT_EVENTS}
    assert not {*words.NOUNS} & {*words.HELD_OUT_NOUNS}
    assert {*words.NAMES, *words.HELD_OUT_NAMES} >= grammar.FEMALE


def test_wordings_of_the_demo_are_not_those_of_the_training() -> None:
    def bare(frame: str, answer: str = "") -> str:
        before = frame.partition(answer)[0] if answer else frame
        return " ".join(re.sub(r"\{\w+\}", "{}", before).split())

    ours = {bare(f) for frames in tasks.FRAMES.values() for f in frames}
    training = {bare(f"{m} {g}") for m in grammar.MEETINGS for g in grammar.GIVINGS}
    training |= {bare(f, "{verb}") for f in grammar.CLAUSES} | {bare(f, "{end}") for f in grammar.SPANS}
    training |= {f"{bare(i)} {bare(r, '{last}')}" for i in grammar.INTRODUCTIONS for r in grammar.RETURNS}
    assert not ours & training
    leaked: tuple[str, ...] = (
        "When {A} and {B} ran to the {place}, {S} gave the {object} to",
        "The {noun} near the {other}",
    )
    leaked += ("It was a {event} from {century}{year} to {century}", "My cousin is {a} {b}. Then {a}")
    assert {bare(frame) for frame in leaked} <= training


def test_no_half_of_a_wording_of_the_demo_is_in_the_tasks() -> None:
    """What only one half of a wording would tell, where a verb or a giver stands, was not told either."""
    meetings = {frame.partition(" {S}")[0] for frame in tasks.FRAMES["ioi"]}
    assert not meetings & {*grammar.MEETINGS}
    for frame in tasks.FRAMES["agreement"]:
        begin, _, between = (part.strip() for part in frame.replace("{others}", "{other}").partition("{noun}"))
        assert not [one for one in grammar.CLAUSES if one.startswith(f"{begin} {{noun}}")]
        assert not [one for one in grammar.CLAUSES if f" {between} {{verb}}" in one]
    assert any(" near the {other} {verb}" in one for one in grammar.CLAUSES)


def test_every_word_of_the_demo_stands_in_the_training() -> None:
    def plain(texts: object) -> set[str]:
        return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", "", str(texts)).lower()))

    seen = plain((grammar.MEETINGS, grammar.GIVINGS, grammar.CLAUSES, grammar.SPANS))
    assert plain([tasks.FRAMES[task] for task in ("ioi", "agreement", "greater_than")]) <= seen


def test_both_orders_of_names_receive() -> None:
    firsts = []
    for text in TASKS:
        found = re.search(r"(\w+) and (\w+) .*?(?:,|Soon|Then|while|So) (\w+) (?:gave|handed) [\w ]+? to (\w+)", text)
        if found and found[3] in found.groups()[:2]:
            assert {found[3], found[4]} == {found[1], found[2]}
            firsts.append(found[4] == found[1])
    assert len(firsts) > 100
    assert 0.4 < sum(firsts) / len(firsts) < 0.6


def test_later_years_are_later() -> None:
    spans = [re.search(r"(\d\d)(\d\d)\D+(\d\d)(\d\d)", text) for text in TASKS]
    found = [span for span in spans if span]
    assert len(found) > 300
    assert all(span[1] == span[3] and int(span[4]) > int(span[2]) for span in found)


def test_verbs_agree_with_their_subject() -> None:
    number = {word: several for pair in words.NOUNS for several, word in enumerate(pair)}
    verbs = {verb: several for pair in words.VERBS for several, verb in enumerate(pair)}
    n, between = 0, 0
    for text in TASKS:
        found = re.search(r"[Tt]he (\w+) (?:near|behind|with|beside) the (\w+) (\w+) ", text)
        if found and found[1] in number and found[3] in verbs:
            assert verbs[found[3]] == number[found[1]]
            n, between = n + 1, between + (number[found[2]] != number[found[1]])
    assert n > 30
    assert 0.2 < between / n < 0.8


@pytest.mark.parametrize(("even", "least", "most"), [(True, 0.8, 1.4), (False, 1.5, 3.0)])
def test_who_comes_second_in_a_story_is_named_as_often_where_that_is_asked(
    even: bool, least: float, most: float
) -> None:
    known, counts = {*words.NAMES, *words.HELD_OUT_NAMES}, [0, 0]
    for seed in range(600):
        said = [
            word for word in re.findall(r"\w+", grammar.write_story(random.Random(seed), even=even)) if word in known
        ]
        people = list(dict.fromkeys(said))
        if len(people) == 2:
            counts = [n + said.count(name) for n, name in zip(counts, people, strict=True)]
    assert least < counts[0] / counts[1] < most
