"""The contract of the library, over both databases."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from residscope.errors import (
    BadArgument,
    BadDatabase,
    BadDirection,
    NameTaken,
    NotSaved,
    NotYours,
    OverLimit,
    UnknownSite,
)
from residscope.store.home import Home
from residscope.store.library import Library
from residscope.store.values import Person
from tests.store.conftest import HOME, Opened, direction

ONE_DATABASE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


def test_a_direction_is_read_back_bit_for_bit(library: Library, ada: Person, opened: Opened) -> None:
    given = direction(0.1, 0.2, 0.3, 0.4, mean=True)
    saved = library.directions.save(ada, given, name="number", description="plural nouns", tags=["b", "a", "a"])
    assert (saved.name, saved.owner, saved.site, saved.width) == ("number", "Ada", "resid_pre.1", 4)
    assert (saved.tags, saved.revision, saved.origin, saved.deleted) == (("a", "b"), 0, None, None)
    assert saved.description
    assert (saved.description.text, saved.description.author) == ("plural nouns", "Ada")
    found = opened().directions.load(None, saved.id)  # another process would see it so
    assert (found.name, found.site, found.history) == ("number", given.site, {"kind": "test"})
    assert found.mean is not None
    assert given.mean is not None
    assert torch.equal(found.vector, given.vector)
    assert torch.equal(found.mean, given.mean)


def test_history_is_kept(library: Library, ada: Person) -> None:
    first, second = direction(1, 0, 0, 0), direction(0, 1, 0, 0, site="resid_pre.0")
    id = library.directions.save(ada, first, name="a").id
    library.directions.change(ada, id, name="b")
    assert library.directions.change(ada, id, name="b").revision == 1  # nothing new
    saved = library.directions.revise(ada, id, second)
    assert (saved.revision, saved.site, saved.name) == (2, "resid_pre.0", "b")
    assert [(one.number, one.name) for one in library.directions.card(ada, id).revisions] == [
        (0, "a"),
        (1, "b"),
        (2, "b"),
    ]
    for revision, expected in ((0, first), (1, first), (2, second), (None, second)):
        assert torch.equal(library.directions.load(None, id, revision).vector, expected.vector)
    assert library.directions.load(None, id, 0).name == "a"
    with pytest.raises(NotSaved, match=r"has no revision 3\. Name one of 0 to 2"):
        library.directions.load(None, id, 3)


def test_names_are_unique_among_what_is_kept(library: Library, ada: Person, bob: Person, opened: Opened) -> None:
    id = library.directions.save(ada, direction(), name="x").id
    with pytest.raises(NameTaken, match="You have a direction named 'x' already"):
        library.directions.save(ada, direction(), name=" x ")
    library.directions.save(bob, direction(), name="x")
    opened(Home("other", "f2", HOME.widths)).directions.save(ada, direction(), name="x")
    other = library.directions.save(ada, direction(), name="y").id
    with pytest.raises(NameTaken):
        library.directions.change(ada, other, name="x")
    library.directions.delete(ada, id)
    library.directions.change(ada, other, name="x")
    with pytest.raises(NameTaken):
        library.directions.restore(ada, id)
    assert [one.id for one in library.directions.find(ada, owner="Ada").directions] == [other]
    library.directions.restore(ada, id, name="z")
    assert library.directions.card(ada, id).direction.name == "z"


def test_deleting_is_soft_and_restored(library: Library, ada: Person, bob: Person) -> None:
    id = library.directions.save(ada, direction(), name="x", description="words").id
    library.directions.delete(ada, id)
    for reader in (bob, None):
        with pytest.raises(NotSaved, match="was deleted"):
            library.directions.card(reader, id)
        assert library.directions.find(reader, deleted=True).total == 0
    with pytest.raises(NotSaved):
        library.directions.change(ada, id, name="y")
    with pytest.raises(NotSaved):
        library.comments.add(bob, id, "why?")
    assert library.directions.find(ada).total == 0
    assert [one.id for one in library.directions.find(ada, deleted=True).directions] == [id]
    assert library.directions.card(ada, id).direction.deleted
    library.directions.restore(ada, id)
    assert library.directions.card(bob, id).descriptions[0].text == "words"


def test_deleting_several_is_all_or_nothing(library: Library, ada: Person, bob: Person) -> None:
    mine, his = (library.directions.save(one, direction()).id for one in (ada, bob))
    with pytest.raises(NotYours):
        library.directions.delete(ada, mine, his)
    assert library.directions.find(None).total == 2


CHANGES: dict[str, Callable[[Library, Person, dict[str, int]], Any]] = {
    "directions.change": lambda all, who, ids: all.directions.change(who, ids["direction"], name="new", tags=["new"]),
    "directions.revise": lambda all, who, ids: all.directions.revise(who, ids["direction"], direction(4, 3, 2, 1)),
    "directions.delete": lambda all, who, ids: all.directions.delete(who, ids["direction"]),
    "directions.restore": lambda all, who, ids: all.directions.restore(who, ids["direction"]),
    "descriptions.revise": lambda all, who, ids: all.descriptions.revise(who, ids["description"], "new"),
    "descriptions.delete": lambda all, who, ids: all.descriptions.delete(who, ids["description"]),
    "descriptions.restore": lambda all, who, ids: all.descriptions.restore(who, ids["description"]),
    "comments.delete": lambda all, who, ids: all.comments.delete(who, ids["comment"]),
    "comments.restore": lambda all, who, ids: all.comments.restore(who, ids["comment"]),
    "lists.change": lambda all, who, ids: all.lists.change(who, ids["list"], name="new", directions=[]),
    "lists.append": lambda all, who, ids: all.lists.append(who, ids["list"], ids["direction"]),
    "lists.delete": lambda all, who, ids: all.lists.delete(who, ids["list"]),
    "lists.restore": lambda all, who, ids: all.lists.restore(who, ids["list"]),
    "texts.change": lambda all, who, ids: all.texts.change(who, ids["text"], pinned=True),
    "texts.delete": lambda all, who, ids: all.texts.delete(who, ids["text"]),
    "texts.restore": lambda all, who, ids: all.texts.restore(who, ids["text"]),
    "runs.read": lambda all, who, ids: all.runs.read(who, ids["run"]),
    "runs.finish": lambda all, who, ids: all.runs.finish(who, ids["run"], "done"),
    "runs.delete": lambda all, who, ids: all.runs.delete(who, ids["run"]),
    "runs.restore": lambda all, who, ids: all.runs.restore(who, ids["run"]),
}
OPEN_TO_ALL = {"save", "add", "vote", "load", "card", "find", "nearest", "read", "result"}


def keep_one_of_each(library: Library, owner: Person) -> dict[str, int]:
    saved = library.directions.save(owner, direction(), description="old")
    assert saved.description
    return {
        "direction": saved.id,
        "description": saved.description.id,
        "comment": library.comments.add(owner, saved.id, "old").id,
        "list": library.lists.add(owner, "old", [saved.id]).id,
        "text": library.texts.add(owner, [("old", "old")])[0].id,
        "run": library.runs.add(owner, "lens", {}).id,
    }


@pytest.mark.parametrize("change", CHANGES)
def test_only_the_owner_changes(library: Library, ada: Person, bob: Person, change: str) -> None:
    ids = keep_one_of_each(library, ada)
    part = getattr(library, change.partition(".")[0])
    if change.endswith("restore"):
        part.delete(ada, ids[part._table.__name__.lower()])
    with pytest.raises(NotYours, match="is another's"):
        CHANGES[change](library, bob, ids)
    CHANGES[change](library, ada, ids)


def test_no_change_is_left_out_of_that(library: Library) -> None:
    for name in ("directions", "descriptions", "comments", "lists", "texts", "runs"):
        part = getattr(library, name)
        public = {word for word in dir(type(part)) if not word.startswith("_") and callable(getattr(part, word))}
        assert {f"{name}.{word}" for word in public - OPEN_TO_ALL} <= CHANGES.keys()


def test_best_voted_comes_first_and_ties_stay_in_order(library: Library, ada: Person, bob: Person) -> None:
    id = library.directions.save(ada, direction(), description="first").id
    second = library.descriptions.add(bob, id, "second")
    third = library.descriptions.add(ada, id, "third")

    def texts() -> list[str]:
        return [one.text for one in library.directions.card(None, id).descriptions]

    assert texts() == ["first", "second", "third"]
    assert library.descriptions.vote(bob, third.id, 1).my_vote == 1
    assert library.descriptions.vote(bob, third.id, 1).score == 1  # one vote a person
    assert texts() == ["third", "first", "second"]
    assert library.descriptions.vote(ada, third.id, -1).score == 0
    assert texts() == ["first", "second", "third"]
    library.descriptions.vote(ada, second.id, 1)
    best = library.directions.find(ada).directions[0].description
    assert best
    assert (best.text, best.score, best.my_vote, best.author) == ("second", 1, 1, "Bob")
    assert library.descriptions.vote(ada, second.id, 0).score == 0
    library.descriptions.delete(ada, third.id)
    assert texts() == ["first", "second"]
    with pytest.raises(BadArgument, match="The vote 2 was given"):
        library.descriptions.vote(ada, second.id, 2)
    with pytest.raises(NotSaved):
        library.descriptions.vote(ada, third.id, 1)


def test_descriptions_and_comments(library: Library, ada: Person, bob: Person) -> None:
    id = library.directions.save(ada, direction()).id
    described = library.descriptions.add(bob, id, "plrual")
    revised = library.descriptions.revise(bob, described.id, "plural")
    assert revised.changed > described.changed
    for who, words in ((ada, "sure?"), (bob, "yes")):
        library.comments.add(who, id, words)
    card = library.directions.card(ada, id)
    assert [(one.author, one.text) for one in card.comments] == [("Ada", "sure?"), ("Bob", "yes")]
    library.comments.delete(ada, card.comments[0].id)
    assert [one.text for one in library.directions.card(None, id).comments] == ["yes"]
    library.comments.restore(ada, card.comments[0].id)
    assert [one.text for one in library.directions.card(None, id).comments] == ["sure?", "yes"]
    assert card.descriptions[0].text == "plural"


def test_lists_keep_their_order(library: Library, ada: Person, bob: Person) -> None:
    a, b, c = (library.directions.save(bob, direction(), name=name).id for name in "abc")
    id = library.lists.add(ada, "best", [c, a, c]).id
    assert library.lists.read(bob, id).directions == (c, a)
    assert library.lists.append(ada, id, b).directions == (c, a, b)
    assert library.lists.append(ada, id, c).directions == (c, a, b)
    assert library.lists.change(ada, id, directions=[b, a]).directions == (b, a)
    assert [one.id for one in library.directions.find(ada, list=id).directions] == [b, a]
    assert [one.id for one in library.directions.find(ada, list=id, words="a").directions] == [a]
    assert library.directions.card(None, b).lists == (id,)
    library.directions.delete(bob, b)
    assert library.lists.read(None, id).directions == (a,)
    library.directions.restore(bob, b)
    assert library.lists.read(None, id).directions == (b, a)
    with pytest.raises(NotSaved, match="Direction 999 is not there"):
        library.lists.change(ada, id, directions=[a, 999])
    assert library.lists.change(ada, id, name="better").name == "better"
    with pytest.raises(NameTaken, match="You have a list named 'better'"):
        library.lists.add(ada, "better")
    library.lists.delete(ada, id)
    assert (library.lists.find(bob), library.lists.find(bob, deleted=True)) == ([], [])
    assert [one.id for one in library.lists.find(ada, deleted=True)] == [id]
    assert library.directions.card(None, a).lists == ()


def test_search(library: Library, ada: Person, bob: Person) -> None:
    first = library.directions.save(ada, direction(), name="Ärger 100%", description="Anger in NOUNS", tags=["mood"]).id
    second = library.directions.save(bob, direction(site="resid_pre.0"), name="number", tags=["mood", "noun"]).id
    library.descriptions.add(bob, first, "rage")

    def found(**asked: Any) -> list[int]:
        return [one.id for one in library.directions.find(ada, **asked).directions]

    assert found() == [second, first]  # the last changed first
    assert found(words="äRGER") == found(words="100% anger nouns") == found(words="rage") == [first]
    assert found(words="noun") == [second, first]
    assert found(words="mood number") == [second]
    assert found(words="_") == found(words="100x") == []
    assert found(owner="Ada") == found(site="resid_pre.1") == [first]
    assert found(tag="noun") == [second]
    assert found(start=1, count=1) == [first]
    assert library.directions.find(ada, count=1).total == 2
    library.directions.change(bob, second, tags=["other"])
    assert found(tag="noun") == []


def test_nearest(library: Library, ada: Person, opened: Opened) -> None:
    library.directions.save(ada, direction(1, 1, 0, 0), name="diagonal")
    library.directions.save(ada, direction(-1, 0.1, 0, 0), name="opposite")
    library.directions.save(ada, direction(1, 0, site="z.0", head=1), name="narrow")
    library.directions.delete(ada, library.directions.save(ada, direction(1, 0, 0, 0), name="gone").id)
    opened(Home("other", "f2", HOME.widths)).directions.save(ada, direction(1, 0, 0, 0))
    near = library.directions.nearest(None, direction(1, 0, 0, 0))
    assert [one.direction.name for one in near] == ["opposite", "diagonal"]
    assert [one.cosine for one in near] == pytest.approx([-1 / 1.01**0.5, 0.5**0.5])
    assert len(library.directions.nearest(None, direction(1, 0, 0, 0), 1)) == 1
    assert library.directions.nearest(None, direction(1, 0, 0, 0, 0, 0, site="z.0")) == []


def test_another_models_library_is_apart(library: Library, ada: Person, opened: Opened) -> None:
    ids = keep_one_of_each(library, ada)
    other = opened(Home("other", "f2", HOME.widths))
    assert other.directions.find(ada).total == 0
    assert (other.lists.find(ada), other.runs.find(ada)) == ([], [])
    for read in (other.directions.card, other.directions.load):
        with pytest.raises(NotSaved):
            read(ada, ids["direction"])
    with pytest.raises(NotSaved):
        other.directions.delete(ada, ids["direction"])
    with pytest.raises(NotSaved):
        other.descriptions.add(ada, ids["direction"], "x")
    assert len(other.texts.find(ada)) == 1  # texts go with any model


def test_texts(library: Library, ada: Person, bob: Person) -> None:
    first, second = library.texts.add(ada, [("a", "Once upon"), (None, "a time")])
    spaced = library.texts.add(ada, [(None, " Mary\n")])[0]
    assert spaced.text == " Mary\n"  # space is part of a text
    library.texts.delete(ada, spaced.id)
    library.texts.add(ada, [(None, "unnamed too")])
    assert library.texts.find(bob) == []
    library.texts.change(ada, second.id, pinned=True)
    assert [(one.text, one.pinned) for one in library.texts.find(ada)][:2] == [("a time", True), ("Once upon", False)]
    with pytest.raises(NameTaken, match="You have a text named 'a'"):
        library.texts.add(ada, [(None, "lost"), ("a", "again")])
    assert len(library.texts.find(ada)) == 3
    library.texts.delete(ada, first.id, second.id)
    assert len(library.texts.find(ada)) == 1
    library.texts.restore(ada, first.id)
    assert library.texts.change(ada, first.id, name=None).name is None
    assert [one.id for one in library.texts.find(ada, deleted=True)] == [second.id, spaced.id]


def test_runs(library: Library, ada: Person, bob: Person) -> None:
    run = library.runs.add(ada, "lens", {"text": "a\0b", "layers": [1, 2]})
    assert (run.state, run.settings, run.owner) == ("waiting", {"text": "a\0b", "layers": [1, 2]}, "Ada")
    with pytest.raises(NotSaved, match=r"has no result; it is waiting"):
        library.runs.result(ada, run.id)
    log = [("2026-01-02T03:04:05+00:00", "reading")]
    assert library.runs.finish(ada, run.id, "done", log, b"result").log == tuple(log)
    assert library.runs.result(ada, run.id) == b"result"
    with pytest.raises(NotYours, match=f"Run {run.id} is another's"):
        library.runs.read(bob, run.id)
    newer = library.runs.add(ada, "patch", {})
    assert [one.id for one in library.runs.find(ada)] == [newer.id, run.id]
    assert library.runs.find(bob) == []
    with pytest.raises(BadArgument, match="no end 'dancing'"):
        library.runs.finish(ada, run.id, "dancing")
    with pytest.raises(BadArgument, match="no JSON"):
        library.runs.add(ada, "lens", {"x": float("nan")})


def test_the_same_words_are_the_same_run(library: Library, ada: Person, bob: Person) -> None:
    first = library.runs.add(ada, "patch", {"site": "z", "n": 3})
    library.runs.finish(ada, first.id, "done", [], b"result")
    other = library.runs.add(ada, "patch", {"site": "q", "n": 3})
    again = library.runs.add(ada, "patch", {"n": 3, "site": "z"})
    assert (again.id, again.state, again.artefact) == (first.id, "waiting", None)
    assert [one.id for one in library.runs.find(ada)] == [first.id, other.id]
    assert library.runs.add(bob, "patch", {"site": "z", "n": 3}).id not in (first.id, other.id)


def test_of_too_many_runs_the_oldest_go(opened: Opened) -> None:
    library = opened(runs_limit=2)
    ada = library.people.name("Ada")
    runs = [library.runs.add(ada, "patch", {"n": n}).id for n in range(4)]
    assert [one.id for one in library.runs.find(ada)] == runs[:1:-1]
    assert {one.id for one in library.runs.find(ada, deleted=True)} == {*runs[:2]}


@pytest.mark.parametrize(
    ("limits", "ask", "says"),
    [
        ({"name_limit": 3}, lambda all, me: all.directions.save(me, direction(), name="four"), "NAME_LIMIT"),
        ({"name_limit": 3}, lambda all, me: all.directions.save(me, direction(), tags=["four"]), "NAME_LIMIT"),
        ({"name_limit": 3}, lambda all, me: all.lists.add(me, "four"), "NAME_LIMIT"),
        ({"name_limit": 3}, lambda all, me: all.people.name("Charles"), "NAME_LIMIT"),
        ({"tags_limit": 1}, lambda all, me: all.directions.save(me, direction(), tags="ab"), "TAGS_LIMIT"),
        ({"description_limit": 2}, lambda all, me: all.comments.add(me, 1, "xyz"), "DESCRIPTION_LIMIT"),
        ({"text_limit": 2}, lambda all, me: all.texts.add(me, [(None, "äö")]), "TEXT_LIMIT"),
        ({"text_limit": 9}, lambda all, me: all.runs.add(me, "lens", {"text": "long"}), "TEXT_LIMIT"),
        ({"texts_limit": 1}, lambda all, me: all.texts.add(me, [(None, "a"), (None, "b")]), "TEXTS_LIMIT"),
        ({"directions_limit": 0}, lambda all, me: all.directions.save(me, direction()), "DIRECTIONS_LIMIT"),
    ],
)
def test_limits_are_named(
    opened: Opened, ada: Person, limits: dict[str, int], ask: Callable[[Library, Person], Any], says: str
) -> None:
    library = opened(**limits)
    with pytest.raises(OverLimit, match=f"RESIDSCOPE_{says}"):
        ask(library, ada)
    assert library.directions.find(ada).total == 0
    assert library.texts.find(ada) == []


def test_bad_words_are_refused(library: Library, ada: Person) -> None:
    for words, says in (("", "is empty"), ("  ", "is empty"), ("a\0", "a sign that is no text"), ("\ud800", "no text")):
        for ask in (
            lambda words: library.directions.save(ada, direction(), name=words),
            lambda words: library.directions.save(ada, direction(), tags=[words]),
            lambda words: library.lists.add(ada, words),
            lambda words: library.texts.add(ada, [(None, words)]),
        ):
            with pytest.raises(BadArgument, match=says):
                ask(words)


def test_what_is_no_direction_of_the_model_is_refused(library: Library, ada: Person) -> None:
    with pytest.raises(BadDirection, match=r"has 3 entries, and resid_pre.1 of small has 4"):
        library.directions.save(ada, direction(1, 2, 3))
    with pytest.raises(BadDirection, match=r"has 3 entries, and z\.0 head 1 of small has 2"):
        library.directions.save(ada, direction(1, 2, 3, site="z.0", head=1))
    with pytest.raises(BadDirection, match=r"is of z\.0 head 3, which small has not"):
        library.directions.save(ada, direction(1, 2, site="z.0", head=3))
    assert library.directions.save(ada, direction(1, 2, site="z.0", head=1), name="two").site == "z.0:1"
    with pytest.raises(UnknownSite, match="layers 0 to 1"):
        library.directions.save(ada, direction(site="resid_pre.7"))
    id = library.directions.save(ada, direction()).id
    with pytest.raises(BadDirection):
        library.directions.revise(ada, id, direction(1, 2, 3))


def test_a_damaged_artefact_is_found(library: Library, ada: Person, tmp_path: Any) -> None:
    id = library.directions.save(ada, direction()).id
    (path,) = (tmp_path / "artefacts").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BadDatabase, match="is damaged"):
        library.directions.load(ada, id)
    path.unlink()
    with pytest.raises(BadDatabase, match="cannot be read"):
        library.directions.load(ada, id)


@ONE_DATABASE
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40).filter(str.strip),
    st.lists(st.floats(1e-6, 1e6), min_size=4, max_size=4),
)
def test_any_name_and_vector_come_back(library: Library, ada: Person, name: str, numbers: list[float]) -> None:
    given = direction(*numbers)
    saved = library.directions.save(ada, given, name=name)
    assert saved.name == name.strip()
    assert torch.equal(library.directions.load(None, saved.id).vector, given.vector)
    assert saved.id in [one.id for one in library.directions.find(ada, words=name, count=1000).directions]
    library.directions.delete(ada, saved.id)


@pytest.mark.slow
@ONE_DATABASE
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([-1, 0, 1])), max_size=12))
def test_a_score_is_the_sum_of_everybodys_last_vote(
    library: Library, ada: Person, votes: list[tuple[int, int, int]]
) -> None:
    id = library.directions.save(ada, direction()).id
    people = [library.people.name(f"voter {number}") for number in range(4)]
    described = [library.descriptions.add(ada, id, text).id for text in "abc"]
    last: dict[tuple[int, int], int] = {}
    for person, which, value in votes:
        library.descriptions.vote(people[person], described[which], value)
        last[person, which] = value
    scores = [sum(value for (_, which), value in last.items() if which == n) for n in range(3)]
    card = library.directions.card(people[0], id)
    assert [one.score for one in card.descriptions] == sorted(scores, reverse=True)
    assert [one.id for one in card.descriptions] == sorted(described, key=lambda one: -scores[described.index(one)])
    assert {one.id: one.my_vote for one in card.descriptions} == {
        one: last.get((0, number), 0) for number, one in enumerate(described)
    }
    library.directions.delete(ada, id)
