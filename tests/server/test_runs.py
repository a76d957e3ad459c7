"""Runs: what people ask for at length is kept, goes on without them, is stopped, and says how it ended."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import residscope as rs
from residscope.running.progress import report
from residscope.server.work import WorkQueue
from tests.patience import PATIENCE
from tests.server.test_app import pca
from tests.serving import FEW_TEXTS, serve

STEER = {"site": "resid_pre.1", "along": pca(2), "prompt": "Once upon", "n_tokens": 3}


@pytest.fixture(scope="module")
def opened(stories: rs.Model) -> Iterator[tuple[str, FastAPI]]:
    with serve(stories, FEW_TEXTS) as (address, bench, app):
        bench.basis(bench.place("resid_pre.1"))
        yield address, app


@pytest.fixture
def enter(opened: tuple[str, FastAPI]) -> Iterator[Callable[..., httpx.Client]]:
    made = []

    def open_client(name: str | None = None) -> httpx.Client:
        made.append(httpx.Client(base_url=f"{opened[0]}/api/v1", timeout=PATIENCE))
        if name:
            made[-1].post("/me", json={"name": name}).raise_for_status()
        return made[-1]

    yield open_client
    for client in made:
        client.close()


@pytest.fixture
def gate(opened: tuple[str, FastAPI]) -> Iterator[threading.Event]:
    """Nothing is computed until it is set."""
    queue: WorkQueue = opened[1].state.queue
    event, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        event.wait(PATIENCE)

    queue.submit(object(), hold, long=True)
    begun.wait(PATIENCE)
    yield event
    event.set()


def wait_for(client: httpx.Client, id: int, state: str) -> dict[str, Any]:
    for _ in range(int(PATIENCE * 50)):
        run: dict[str, Any] = client.get(f"/runs/{id}").json()
        if run["state"] == state:
            return run
        time.sleep(0.02)
    raise AssertionError(run)


def test_what_a_known_person_asks_for_at_length_is_kept(enter: Callable[..., httpx.Client]) -> None:
    ada = enter("Ada")
    answer = ada.post("/steer", json=STEER)
    (run,) = ada.get("/runs").json()
    run = wait_for(ada, run["id"], "done")
    assert ada.get(f"/runs/{run['id']}/result").content == answer.content
    assert (run["kind"], run["owner"], run["settings"]["prompt"]) == ("steer", "Ada", "Once upon")
    assert [what for _, what in run["log"]] == ["writing"]
    ada.post("/lens", json={"text": "Once upon"})
    enter().post("/steer", json={**STEER, "seed": 5})
    assert [one["id"] for one in ada.get("/runs").json()] == [run["id"]]
    assert ada.post("/steer", json=STEER).content == answer.content
    assert [one["id"] for one in ada.get("/runs").json()] == [run["id"]]


def test_a_run_goes_on_though_nobody_waits(enter: Callable[..., httpx.Client], gate: threading.Event) -> None:
    bob = enter("Bob")
    asked = {**STEER, "seed": 1}

    def ask_and_leave() -> None:
        with pytest.raises(httpx.ReadTimeout):
            bob.post("/steer", json=asked, timeout=0.5)

    page = threading.Thread(target=ask_and_leave)
    page.start()
    started = bob.post("/runs", json={"kind": "steer", "settings": asked}).json()
    assert (started["state"], started["progress"]) == ("waiting", None)
    page.join()
    assert [one["id"] for one in bob.get("/runs").json()] == [started["id"]]
    gate.set()
    wait_for(bob, started["id"], "done")


def test_a_run_is_stopped_by_its_owner(enter: Callable[..., httpx.Client], gate: threading.Event) -> None:
    eve, bob = enter("Eve"), enter("Bob")
    run = eve.post("/runs", json={"kind": "steer", "settings": {**STEER, "seed": 2}}).json()
    refused = bob.post(f"/runs/{run['id']}/stop")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_yours")
    eve.post(f"/runs/{run['id']}/stop").raise_for_status()
    assert wait_for(eve, run["id"], "cancelled")["log"][-1][1].startswith("It was stopped.")
    again = eve.post(f"/runs/{run['id']}/stop")
    assert (again.status_code, again.json()["error"]["message"]) == (
        400,
        f"Run {run['id']} does not run on this server; it is cancelled.",
    )


def test_how_far_a_run_is(
    enter: Callable[..., httpx.Client], opened: tuple[str, FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = threading.Semaphore(0)

    def compute(self: object, bench: object) -> None:
        for step in range(3):
            report(step, 3, "counting" if step else "beginning")
            steps.acquire(timeout=PATIENCE)

    monkeypatch.setattr("residscope.server.analyses.Steer.compute", compute)
    cid = enter("Cid")
    run = cid.post("/runs", json={"kind": "steer", "settings": STEER}).json()
    steps.release()
    for _ in range(int(PATIENCE * 50)):
        found = cid.get(f"/runs/{run['id']}").json()
        if found["progress"] and found["progress"]["done"] == 1:
            break
        time.sleep(0.02)
    assert found["progress"] == {"done": 1, "total": 3, "what": "counting"}
    assert (found["state"], [what for _, what in found["log"]]) == ("running", ["beginning", "counting"])
    cid.post(f"/runs/{run['id']}/stop").raise_for_status()
    steps.release(2)
    wait_for(cid, run["id"], "cancelled")


def test_why_a_run_failed(enter: Callable[..., httpx.Client]) -> None:
    dan = enter("Dan")
    settings = {**STEER, "prompt": "a " * 600}
    run = dan.post("/runs", json={"kind": "steer", "settings": settings}).json()
    assert "the model's context is 512" in wait_for(dan, run["id"], "failed")["log"][-1][1]
    missing = dan.get(f"/runs/{run['id']}/result")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_saved")


def test_a_run_that_ended_with_its_server_is_interrupted(
    enter: Callable[..., httpx.Client], opened: tuple[str, FastAPI]
) -> None:
    fay = enter("Fay")
    library = opened[1].state.library
    run = library.runs.add(library.people.name("Fay"), "steer", STEER)
    assert [one["state"] for one in fay.get("/runs").json()] == ["interrupted"]
    assert fay.get(f"/runs/{run.id}").json()["state"] == "interrupted"


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"kind": "dance", "settings": {}}, 400, "There is no analysis 'dance'."),
        ({"kind": "steer", "settings": {**STEER, "unit": "mile"}}, 422, "settings.unit='mile' was asked for."),
        ({"kind": "steer", "settings": {"site": "resid_pre.1"}}, 422, "settings.along is missing."),
        ({"kind": "lens", "settings": {"text": "x" * 300_000}}, 413, "262,144"),
    ],
)
def test_what_is_no_run(enter: Callable[..., httpx.Client], asked: dict[str, Any], status: int, says: str) -> None:
    gus = enter("Gus")
    refused = gus.post("/runs", json=asked)
    assert (refused.status_code, says in refused.json()["error"]["message"]) == (status, True)
    assert gus.get("/runs").json() == []
