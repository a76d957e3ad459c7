"""The client speaks to a real server: what it gives is what the library holds."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

import residscope as rs
from residscope import errors
from residscope.direction import Direction
from residscope.store.values import Imported
from tests.serving import FEW_TEXTS, serve

SITE = "resid_pre.2"


@pytest.fixture(scope="module")
def workbench(stories: rs.Model) -> Iterator[Callable[[str], rs.Client]]:
    with serve(stories, FEW_TEXTS) as (address, _, _), ExitStack() as opened:
        yield lambda name: opened.enter_context(rs.Client(f"{address}/", user=name))


@pytest.fixture
def ada(workbench: Callable[[str], rs.Client], request: pytest.FixtureRequest) -> rs.Client:
    return workbench(f"Ada {request.node.name}")


@pytest.fixture
def bob(workbench: Callable[[str], rs.Client], request: pytest.FixtureRequest) -> rs.Client:
    return workbench(f"Bob {request.node.name}")


def direction(seed: int = 0, width: int = 64) -> Direction:
    numbers = torch.randn(width, generator=torch.manual_seed(seed), dtype=torch.float64)
    return Direction.of(numbers, SITE, f"random {seed}")


def test_what_is_saved_is_loaded_bit_for_bit(ada: rs.Client, bob: rs.Client, stories: rs.Model) -> None:
    component = rs.pca(stories, FEW_TEXTS, SITE)[3]
    saved = ada.save(component, name="näme ☃", description="number", tags=["x", "a b"])
    assert (saved.name, saved.owner, saved.site, saved.tags) == ("näme ☃", ada.user, SITE, ("a b", "x"))
    found = bob.load(saved)
    assert torch.equal(found.vector, component.vector)
    assert (found.name, found.history, found.python) == ("näme ☃", component.history, component.python)
    assert [one.id for one in bob.directions("NUMBER", owner=ada.user, site=SITE, tag="x")] == [saved.id]
    assert bob.directions("nothing like it", owner=ada.user) == ()


def test_people_say_what_it_means(ada: rs.Client, bob: rs.Client) -> None:
    saved = ada.save(direction(1), description="first")
    better = bob.describe(saved, "better")
    assert ada.vote(better, 1).score == 1
    assert bob.comment(saved.id, "sure?").author == bob.user
    card = ada.card(saved)
    assert [(one.text, one.my_vote) for one in card.descriptions] == [("better", 1), ("first", 0)]
    assert [one.text for one in card.comments] == ["sure?"]
    with pytest.raises(errors.NotYours):
        ada.delete(better)
    bob.delete(better)
    bob.delete(card.comments[0])
    card = ada.card(saved)
    assert (len(card.descriptions), card.comments) == (1, ())
    bob.restore(better)
    assert ada.card(saved).direction.description == ada.vote(better, 1)
    assert bob.reword(better, "best").text == "best"
    with pytest.raises(errors.NotYours):
        ada.reword(better, "mine")
    with pytest.raises(errors.BadArgument, match="has no name"):
        bob.restore(better, name="x")


def test_changing_revising_deleting(ada: rs.Client) -> None:
    saved = ada.save(direction(2))
    assert ada.change(saved, name="other", tags=["t"]).name == "other"
    assert ada.revise(saved, direction(3)).revision == 2
    assert torch.equal(ada.load(saved, revision=0).vector, direction(2).vector)
    assert torch.equal(ada.load(saved).vector, direction(3).vector)
    ada.delete(saved)
    assert [one.id for one in ada.directions(deleted=True)] == [saved.id]
    with pytest.raises(errors.NotSaved):
        ada.change(saved, name="third")
    ada.restore(saved)
    assert ada.card(saved).direction.name == "other"


def test_nearest(ada: rs.Client) -> None:
    saved = ada.save(direction(4))
    ada.save(-1.0 * direction(4) + 0.1 * direction(5), name="close")
    names = [one.direction.name for one in ada.nearest(direction(4), count=2)]
    assert names == ["random 4", "close"]
    (close,) = ada.nearest(saved, count=1)
    assert (close.direction.name, close.cosine < -0.9) == ("close", True)


def test_lists_and_texts(ada: rs.Client, bob: rs.Client) -> None:
    one, two = ada.save(direction(6)), ada.save(direction(7))
    listed = ada.add_list("mine", [two, one])
    assert [each.directions for each in bob.lists() if each.id == listed.id] == [(two.id, one.id)]
    assert [each.id for each in bob.directions(list=listed)] == [two.id, one.id]
    assert ada.change_list(listed, directions=[one]).directions == (one.id,)
    ada.delete(listed)
    assert listed.id not in [each.id for each in ada.lists()]
    assert [each.id for each in ada.lists(deleted=True)] == [listed.id]
    ada.add_list("mine")
    with pytest.raises(errors.NameTaken):
        ada.restore(listed)
    ada.restore(listed, name="mine too")
    assert [each.name for each in ada.lists() if each.id == listed.id] == ["mine too"]
    text, other = ada.add_texts(["Once upon", "a time"])
    ada.delete(text)
    assert [each.text for each in ada.texts()] == ["a time"]
    assert [each.text for each in ada.texts(deleted=True)] == ["Once upon"]
    ada.restore(text)
    assert (len(ada.texts()), bob.texts()) == (2, [])
    assert other.name is None
    assert ada.change_text(other, pinned=True).pinned
    named = ada.change_text(other, name="end")
    assert (named.name, named.pinned, ada.texts()[0].id) == ("end", True, other.id)
    assert ada.change_text(other, name="").name is None


def test_runs(ada: rs.Client, bob: rs.Client, stories: rs.Model) -> None:
    run = ada.start("heads", n_sequences=2, n_tokens=10)
    while (run := ada.run(run)).state in ("waiting", "running"):
        time.sleep(0.02)
    assert (run.state, [one.id for one in ada.runs()], bob.runs()) == ("done", [run.id], [])
    expected = rs.head_scores(stories, n_sequences=2, n_tokens=10)
    torch.testing.assert_close(ada.result(run).values, expected.values, rtol=0, atol=1e-5, equal_nan=True)
    with pytest.raises(errors.NotYours):
        bob.result(run)
    with pytest.raises(errors.BadArgument, match="does not run on this server; it is done"):
        ada.stop(run)
    ada.delete(run)
    assert ada.runs() == []


def test_all_of_it_goes_out_and_comes_in(ada: rs.Client, bob: rs.Client, tmp_path: Path, stories: rs.Model) -> None:
    saved = ada.save(direction(8), description="words")
    ada.export_library(tmp_path / "one.safetensors", [saved])
    ada.export_library(tmp_path / "all.safetensors")
    with serve(stories, FEW_TEXTS) as (address, _, _), rs.Client(address, user="Cleo") as there:
        assert there.import_library(tmp_path / "one.safetensors") == Imported(1, 0, 0, 0)
        (found,) = there.directions()
        assert (found.origin, found.owner) == (ada.user, "Cleo")
        assert torch.equal(there.load(found).vector, direction(8).vector)
        assert there.import_library(tmp_path / "all.safetensors").n_directions == len(ada.directions()) - 1
    (tmp_path / "cut").write_bytes((tmp_path / "all.safetensors").read_bytes()[:-1])
    with pytest.raises(errors.BadLibrary, match="cut short"):
        ada.import_library(tmp_path / "cut")
    with pytest.raises(errors.BadArgument, match="cannot be read"):
        ada.import_library(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (
            lambda client: client.save(direction(9, 63)),
            errors.BadDirection,
            "has 63 entries, and resid_pre",
        ),
        (lambda client: client.save(direction(9).at("resid_pre.99")), errors.UnknownSite, "layers 0 to 4"),
        (lambda client: client.load(10**6), errors.NotSaved, "Direction 1000000 is not there"),
        (lambda client: client.save(direction(9), name="x" * 121), errors.OverLimit, "120 are allowed"),
        (lambda client: client.vote(1, 2), errors.ResidscopeError, "value=2 was asked for"),
        (lambda client: client.delete(7), errors.BadArgument, "7 was given"),
    ],
)
def test_what_the_server_refuses_is_the_same_error(
    ada: rs.Client, ask: Callable[[rs.Client], Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        ask(ada)


def test_a_name_that_is_taken(ada: rs.Client) -> None:
    ada.save(direction(10))
    with pytest.raises(errors.NameTaken, match="'random 10' already") as caught:
        ada.save(direction(10))
    assert caught.value.hint == "Choose another name."


def test_a_password(stories: rs.Model) -> None:
    with serve(stories, FEW_TEXTS, closed=True) as (address, _, app):
        app.state.library.people.add("Ada", "correct horse")
        with pytest.raises(errors.SignInRefused):
            rs.Client(address, user="Ada", password="wrong horse")
        with rs.Client(address, user="Ada", password="correct horse") as client:
            assert client.directions() == ()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:1", "does not answer"),
        ("nonsense", "does not answer"),
        ("http://[::1", "cannot be asked"),
    ],
)
def test_nobody_there(address: str, says: str) -> None:
    with pytest.raises(errors.Unreachable, match=says):
        rs.Client(address, user="Ada")


def test_another_server_there(tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        Thread(target=other.serve_forever).start()
        with pytest.raises(errors.Unreachable, match=r"of another kind \(501\)"):
            rs.Client(f"http://127.0.0.1:{other.server_address[1]}", user="Ada")
        other.shutdown()
