"""A library as one file: what goes out comes in, all of it or nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from residscope.errors import BadArgument, BadDirection, BadLibrary, NotSaved, OverLimit, ResidscopeError, UnknownSite
from residscope.store.home import Home
from residscope.store.library import Library
from residscope.store.limits import Limits
from residscope.store.values import Imported, Person
from tests.store.conftest import HOME, direction


@pytest.fixture
def other(tmp_path: Path) -> Library:
    """Another library of the same model, where Cleo is at home."""
    return Library(tmp_path / "other", HOME)


@pytest.fixture
def cleo(other: Library) -> Person:
    return other.people.name("Cleo")


@pytest.fixture
def filled(library: Library, ada: Person, bob: Person) -> Library:
    first = library.directions.save(
        ada, direction(1, 2, 3, 4, mean=True), name="number", description="nouns", tags="ba"
    )
    library.directions.revise(ada, first.id, direction(4, 3, 2, 1, mean=True))
    better = library.descriptions.add(bob, first.id, "plural nouns")
    library.descriptions.vote(bob, better.id, 1)
    library.descriptions.vote(ada, better.id, -1)
    library.descriptions.vote(library.people.name("Dan"), better.id, 1)
    library.descriptions.vote(library.people.name("Eva"), better.id, 0)
    library.comments.add(bob, first.id, "sure?")
    second = library.directions.save(bob, direction(1, 0, site="z.0", head=1), name="number")
    gone = library.directions.save(bob, direction(), name="gone")
    library.lists.add(bob, "best", [second.id, gone.id, first.id])
    library.directions.delete(bob, gone.id)
    library.texts.add(ada, [("mine", "Once upon"), (None, "a time")])
    library.texts.add(bob, [(None, "Bob's own")])
    return library


def test_everything_that_one_may_see_comes_in(filled: Library, ada: Person, other: Library, cleo: Person) -> None:
    content = filled.exchange.write(ada)
    assert other.exchange.bring(cleo, content) == Imported(2, 1, 2, 3)
    found = {one.origin: one for one in other.directions.find(cleo).directions}
    assert {origin: (one.name, one.owner) for origin, one in found.items()} == {
        "Ada": ("number", "Cleo"),
        "Bob": ("number (Bob)", "Cleo"),
    }
    card = other.directions.card(cleo, found["Ada"].id)
    before = filled.directions.card(ada, filled.directions.find(ada, owner="Ada").directions[0].id)
    assert card.direction.tags == ("a", "b")
    assert card.direction.created == before.direction.created
    assert card.revisions == before.revisions
    assert [(one.text, one.author, one.origin, one.score) for one in card.descriptions] == [
        ("plural nouns", "Cleo", "Bob", 0),
        ("nouns", "Cleo", "Ada", 0),
    ]
    assert [(one.text, one.origin) for one in card.comments] == [("sure?", "Bob")]
    for revision in (0, 1):
        theirs, ours = other.directions.load(cleo, card.direction.id, revision), direction(4, 3, 2, 1, mean=True)
        ours = filled.directions.load(ada, before.direction.id, revision)
        assert torch.equal(theirs.vector, ours.vector)
        assert theirs.mean is not None
        assert ours.mean is not None
        assert torch.equal(theirs.mean, ours.mean)
        assert theirs.facts == ours.facts
    (listed,) = other.lists.find(cleo)
    assert (listed.name, listed.directions) == ("best", (found["Bob"].id, found["Ada"].id))
    assert [(one.name, one.text) for one in other.texts.find(cleo)] == [("mine", "Once upon"), (None, "a time")]


def test_a_second_time_brings_nothing(filled: Library, ada: Person, other: Library, cleo: Person) -> None:
    content = filled.exchange.write(ada)
    assert filled.exchange.bring(ada, content) == Imported(0, 0, 0, 0)
    other.exchange.bring(cleo, content)
    assert other.exchange.bring(cleo, content) == Imported(0, 0, 0, 0)
    assert other.exchange.bring(cleo, other.exchange.write(cleo)) == Imported(0, 0, 0, 0)


def test_chosen_directions_come_alone(filled: Library, ada: Person, other: Library, cleo: Person) -> None:
    (mine,) = filled.directions.find(ada, owner="Ada").directions
    assert other.exchange.bring(cleo, filled.exchange.write(ada, [mine.id])) == Imported(1, 0, 0, 3)
    with pytest.raises(NotSaved, match="Direction 999 is not there"):
        filled.exchange.write(ada, [mine.id, 999])


def test_the_file_is_what_its_documentation_says(filled: Library, ada: Person, tmp_path: Path) -> None:
    (tmp_path / "all.safetensors").write_bytes(filled.exchange.write(ada))
    with safetensors.safe_open(tmp_path / "all.safetensors", "pt") as file:
        header = json.loads(file.metadata()["residscope"])
        assert (header["format"], header["model"]) == ("residscope library 1", {"name": "small", "fingerprint": "f1"})
        assert [one["site"] for one in header["vectors"]] == ["resid_pre.1", "resid_pre.1", "z.0"]
        assert [one["revisions"][-1]["vector"] for one in header["directions"]] == [1, 2]
        assert header["lists"] == [{"name": "best", "owner": "Bob", "directions": [1, 0]}]
        assert header["exported_by"] == "Ada"
        tallies = [(one["votes_for"], one["votes_against"]) for one in header["directions"][0]["descriptions"]]
        assert tallies == [(2, 1), (0, 0)]
        assert header["texts"][0] == {"name": "mine", "text": "Once upon", "pinned": False}
        assert {*file.keys()} == {"0.vector", "0.mean", "1.vector", "1.mean", "2.vector"}
        assert torch.equal(file.get_tensor("1.vector"), direction(4, 3, 2, 1).vector)


def spoil(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with another header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["residscope"])
    change(header)
    return safetensors.torch.save(safetensors.torch.load(content), metadata={"residscope": json.dumps(header)})


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda all: all.update(format="residscope library 2"), BadLibrary, "its format is 'residscope library 2'"),
        (lambda all: all["directions"][0].pop("owner"), BadLibrary, r"directions\.0\.owner: Field required"),
        (lambda all: all["directions"][0]["revisions"].clear(), BadLibrary, "number has no vector"),
        (lambda all: all["directions"][0]["revisions"][0].update(vector=3), BadLibrary, "counts 3 and names 3"),
        (
            lambda all: all["directions"][0]["descriptions"][0].update(votes_for=-1),
            BadLibrary,
            r"votes_for: Input should",
        ),
        (lambda all: all["lists"][0].update(directions=[-1]), BadLibrary, "counts 2 and names -1"),
        (lambda all: all["vectors"].pop(), BadLibrary, "cut short"),
        (lambda all: all["vectors"][0].update(deviation="x"), BadLibrary, "its deviation is no number"),
        (lambda all: all["vectors"][0].update(site="resid_pre.9"), UnknownSite, "no site 'resid_pre.9'"),
        (lambda all: all["vectors"][0].update(site="z.0"), BadDirection, r"z\.0 of small has 6"),
        (lambda all: all["directions"][0].update(name="x" * 200), OverLimit, "RESIDSCOPE_NAME_LIMIT"),
        (lambda all: all["directions"][0].update(tags=["x\0"]), BadArgument, "no text"),
        (lambda all: all["texts"][0].update(text="x" * 10**6), OverLimit, "RESIDSCOPE_TEXT_LIMIT"),
        (lambda all: all["texts"].extend(all["texts"][:1] * 1001), OverLimit, "RESIDSCOPE_TEXTS_LIMIT"),
    ],
)
def test_what_does_not_fit_is_refused_whole(
    filled: Library,
    ada: Person,
    other: Library,
    cleo: Person,
    change: Callable[[dict[str, Any]], Any],
    error: type[ResidscopeError],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        other.exchange.bring(cleo, spoil(filled.exchange.write(ada), change))
    assert other.directions.find(cleo).total == 0
    assert (other.lists.find(cleo), other.texts.find(cleo)) == ([], [])


def test_another_models_file_is_refused(filled: Library, ada: Person, tmp_path: Path) -> None:
    elsewhere = Library(tmp_path / "elsewhere", Home("large", "f2", HOME.widths))
    with pytest.raises(BadLibrary, match=r"of the model small \(f1\), and this library of large \(f2\)"):
        elsewhere.exchange.bring(elsewhere.people.name("Cleo"), filled.exchange.write(ada))
    assert not list((tmp_path / "elsewhere").rglob("*.safetensors"))


@dataclass(frozen=True)
class Known:
    """A dictionary, as far as a library knows it."""

    name: str
    fingerprint: str


def test_a_feature_of_another_dictionary_is_refused_whole(
    library: Library, ada: Person, other: Library, cleo: Person, tmp_path: Path
) -> None:
    made = {"kind": "feature", "feature": 3, "dictionary": "topk", "fingerprint": "d1"}
    feature = replace(direction(), history={"kind": "combination", "terms": [{"history": made}, "x", 1]})
    library.directions.save(ada, direction(), name="plain")
    library.directions.save(ada, feature, name="feature")
    content = library.exchange.write(ada)
    assert other.exchange.bring(cleo, content).n_directions == 2
    elsewhere = Library(tmp_path / "elsewhere", replace(HOME, dictionaries=[Known("topk", "d2"), Known("other", "d3")]))
    user = elsewhere.people.name("Cleo")
    mine = elsewhere.directions.save(user, direction(), name="mine")
    for bring in (
        lambda: elsewhere.exchange.bring(user, content),
        lambda: elsewhere.directions.save(user, feature, name="feature"),
        lambda: elsewhere.directions.revise(user, mine.id, feature),
    ):
        with pytest.raises(BadDirection, match=r"topk with the fingerprint d1, and the one of that name here has d2"):
            bring()
    assert [(one.name, one.revision) for one in elsewhere.directions.find(user).directions] == [("mine", 0)]
    assert len(list((tmp_path / "elsewhere").rglob("*.safetensors"))) == 1


def test_a_direction_of_another_model_is_refused_however_it_comes(
    library: Library, ada: Person, other: Library, tmp_path: Path
) -> None:
    known = Library(tmp_path / "known", replace(HOME, weights_hash="w1"))
    user = known.people.name("Ada")
    for weights in ("w1", None):
        known.directions.save(user, replace(direction(), history={"weights": weights}), name=f"of {weights}")
    bare, made = direction(), {"kind": "pca", "model": "large", "weights": "w2"}
    for history in (made, {"kind": "combination", "terms": [{"history": {"weights": "w1"}}, {"history": made}]}):
        theirs = replace(bare, history=history)
        says = r"made of the model large \(w2\), and this is small \(w1\)"
        with pytest.raises(BadDirection, match=says):
            known.directions.save(user, theirs, name="theirs")
        with pytest.raises(BadDirection, match=says):
            known.directions.revise(user, 1, theirs)
        library.directions.save(ada, theirs, name=f"theirs {len(history)}")  # which knows no hash of its model
    with pytest.raises(BadDirection, match="made of the model large"):
        known.exchange.bring(user, library.exchange.write(ada))
    assert known.directions.find(user).total == 2


def test_a_file_cut_short_is_refused_wherever_it_is_cut(
    filled: Library, ada: Person, other: Library, cleo: Person, tmp_path: Path
) -> None:
    content = filled.exchange.write(ada)
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(BadLibrary, match="cut short"):
            other.exchange.bring(cleo, content[:length])
    with pytest.raises(OverLimit, match="RESIDSCOPE_IMPORT_LIMIT"):
        Library(Path(other._artefacts._folder).parent, HOME, limits=Limits(import_limit=100)).exchange.bring(
            cleo, content
        )
    assert other.directions.find(cleo).total == 0
