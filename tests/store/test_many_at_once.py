"""Several processes at once, and processes that are killed: nothing is lost, and nothing is half there."""

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from residscope.errors import NameTaken
from residscope.store.library import Library
from tests.patience import PATIENCE
from tests.store.conftest import HOME, Opened, direction

PROCESSES = multiprocessing.get_context("fork")  # one that starts anew would import torch first
WRITERS, EACH = 8, 12


def write(url: str, folder: Path, number: int) -> None:
    """One of several writers, each as a person of their own who votes for what all vote for."""
    library = Library(folder, HOME, url=url)
    me = library.people.name(f"writer {number}")
    everybody = library.people.name("everybody")
    for turn in range(EACH):
        saved = library.directions.save(me, direction(number + 1, turn, 1, 0), name=f"{number} {turn}", description="d")
        assert saved.description
        library.descriptions.vote(everybody, saved.description.id, 1)
        library.descriptions.vote(me, 1, (-1) ** turn)
        library.descriptions.vote(everybody, 1, 1)
        library.directions.revise(everybody, 1, direction(number + 1, turn, 1, 0))
        try:
            library.directions.save(everybody, direction(), name=f"first come {turn}")
        except NameTaken:
            library.lists.append(everybody, 1, saved.id)


@pytest.mark.slow
def test_eight_writers_at_once_lose_nothing(url: str, tmp_path: Path, opened: Opened) -> None:
    library = opened()
    everybody = library.people.name("everybody")
    voted = library.directions.save(everybody, direction(), name="voted", description="voted")
    library.lists.add(everybody, "list")
    library.close()
    writers = [PROCESSES.Process(target=write, args=(url, tmp_path, number)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)
        assert writer.exitcode == 0
    found = library.directions.find(everybody, count=1000)
    names = {f"{number} {turn}" for number in range(WRITERS) for turn in range(EACH)}
    assert {one.name for one in found.directions} == names | {f"first come {turn}" for turn in range(EACH)} | {"voted"}
    assert found.total == WRITERS * EACH + EACH + 1
    assert all(one.description and one.description.score == 1 for one in found.directions if one.name in names)
    (description,) = library.directions.card(everybody, voted.id).descriptions
    assert description.score == 1 - WRITERS  # the last votes of all were against
    assert len(library.lists.read(everybody, 1).directions) == (WRITERS - 1) * EACH
    revisions = library.directions.card(everybody, voted.id).revisions
    assert [one.number for one in revisions] == [*range(WRITERS * EACH + 1)]
    vectors = {tuple(library.directions.load(None, voted.id, one.number).vector.tolist()) for one in revisions[1:]}
    made = [direction(number + 1, turn, 1, 0) for number in range(WRITERS) for turn in range(EACH)]
    assert vectors == {tuple(one.vector.tolist()) for one in made}


@pytest.mark.slow
def test_eight_processes_make_one_new_database(url: str, tmp_path: Path, opened: Opened) -> None:
    writers = [PROCESSES.Process(target=open_and_name, args=(url, tmp_path)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)
        assert writer.exitcode == 0
    assert list(opened().people.list()) == ["everybody"]


def open_and_name(url: str, folder: Path) -> None:
    Library(folder, HOME, url=url).people.name("everybody")


def save_until_killed(url: str, folder: Path, told: Connection, round: int) -> None:
    """Save and revise without end, and say each time what has been kept."""
    library = Library(folder, HOME, url=url)
    me = library.people.name("Ada")
    told.send("begun")
    for turn in range(10_000):
        new = direction(round + 1, turn, 1, 0)
        saved = library.directions.save(me, new, name=f"{round} {turn}", description="of it", tags=["tag"])
        told.send(("saved", saved.id))
        library.directions.revise(me, saved.id, direction(round + 1, turn, 2, 0))
        told.send(("revised", saved.id))


@pytest.mark.slow
def test_a_kill_leaves_the_old_state_or_the_new(url: str, tmp_path: Path, opened: Opened) -> None:
    chance, said = random.Random(0), {"saved": set[int](), "revised": set[int]()}
    for round in range(8):
        here, there = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=save_until_killed, args=(url, tmp_path, there, round))
        process.start()
        there.close()
        assert here.poll(PATIENCE)
        assert here.recv() == "begun"
        for _ in range(chance.randint(2, 6)):
            assert here.poll(PATIENCE)
            what, id = here.recv()
            said[what].add(id)
        time.sleep(chance.uniform(0, 0.03))  # into the midst of the next
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL
        while True:
            try:
                what, id = here.recv()
            except EOFError:
                break
            said[what].add(id)
        library = opened()
        found = library.directions.find(None, count=10_000).directions
        assert said["saved"] <= {one.id for one in found}
        assert said["revised"] <= {one.id for one in found if one.revision == 1}
        for one in found:
            card = library.directions.card(None, one.id)
            assert [each.text for each in card.descriptions] == ["of it"]
            assert one.tags == ("tag",)
            assert [each.number for each in card.revisions] == [*range(one.revision + 1)]
            start, turn = map(int, one.name.split())
            for each in card.revisions:
                expected = direction(start + 1, turn, each.number + 1, 0)
                assert torch.equal(library.directions.load(None, one.id, each.number).vector, expected.vector)
    assert len(said["saved"]) > 8
    assert pytest.approx(len(said["saved"]), abs=8) == len(found)
