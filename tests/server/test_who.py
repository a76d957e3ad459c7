"""Who is who: nothing is read by strangers, nothing is changed by others, and no other site's page does either."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.routing import APIRoute

import residscope as rs
from residscope.server import attempts
from residscope.server.analyses import ANALYSES
from residscope.server.guard import find_names, is_loopback
from residscope.server.questions import QUESTIONS
from residscope.store.library import Library
from residscope.store.values import Person
from tests.patience import PATIENCE
from tests.server.test_app import pca
from tests.serving import FEW_TEXTS, serve

PUBLIC = {"/", "/stream", "/lens", "/patch", "/heads", "/saved", "/runs", "/graph", "/api/v1/me"}
"""What strangers see: the pages, which hold nothing, and where one says who one is."""
ASKED = ("tokens", "export/{format}", "directions/nearest", *QUESTIONS)
COMPUTING = {f"/api/v1/{name}" for name in (*ASKED, *ANALYSES)}
"""What is asked for by POST and changes nothing."""
CREATING = {
    ("POST", path)
    for path in (
        "/api/v1/directions",
        "/api/v1/directions/file",
        "/api/v1/directions/{id}/descriptions",
        "/api/v1/directions/{id}/comments",
        "/api/v1/lists",
        "/api/v1/my_texts",
        "/api/v1/runs",
        "/api/v1/library",
    )
} | {("PUT", "/api/v1/descriptions/{id}/vote")}
"""What makes something of one's own, beside anybody's."""
BODIES: dict[tuple[str, str], Any] = {
    ("PUT", "/api/v1/directions/{id}"): {"site": "resid_pre.1", "along": pca(0)},
    ("PATCH", "/api/v1/directions/{id}"): {"name": "new"},
    ("PATCH", "/api/v1/descriptions/{id}"): {"text": "new"},
    ("PATCH", "/api/v1/lists/{id}"): {"name": "new"},
    ("POST", "/api/v1/lists/{id}/directions"): {"direction": 1},
    ("PATCH", "/api/v1/my_texts/{id}"): {"name": "new"},
}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
PASSWORDS = {"Ada": "correct horse", "Bob": "battery staple"}


@dataclass
class Closed:
    address: str
    app: FastAPI
    library: Library
    ada: Person

    def client(self, name: str | None = None) -> httpx.Client:
        client = httpx.Client(base_url=self.address, timeout=PATIENCE)
        if name:
            answer = client.post("/api/v1/me", json={"name": name, "password": PASSWORDS[name]})
            assert answer.status_code == 200, answer.text
        return client

    @property
    def routes(self) -> list[tuple[str, str]]:
        return [(method, route.path) for route in walk(self.app) for method in sorted(route.methods or ())]


def walk(router: Any) -> Iterator[APIRoute]:
    """Every route of ours; routers may keep those that they include in a router of their own."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif inner := getattr(route, "original_router", None):
            yield from walk(inner)


@pytest.fixture
def closed(stories: rs.Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Closed]:
    monkeypatch.setattr("residscope.store.people._HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    with serve(stories, FEW_TEXTS, closed=True, attempts=5) as (address, _, app):
        library: Library = app.state.library
        for name, password in PASSWORDS.items():
            library.people.add(name, password)
        yield Closed(address, app, library, library.people.name("Ada"))


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def fill(path: str) -> str:
    return path.format(id=1, site="resid_pre.1", format="csv")


@pytest.mark.slow
def test_every_route_is_public_or_refuses_strangers(closed: Closed) -> None:
    assert len(closed.routes) > 50
    client = closed.client()
    for method, path in closed.routes:
        answer = client.request(method, fill(path))
        if path in PUBLIC:
            assert answer.status_code in (200, 422), (method, path)
        else:
            assert code(answer) == (401, "not_signed_in"), (method, path)


@pytest.mark.slow
def test_under_public_read_strangers_read_and_change_nothing(stories: rs.Model) -> None:
    with serve(stories, FEW_TEXTS, closed=True, public_read=True) as (address, _, app):
        closed = Closed(address, app, app.state.library, Person(0, ""))
        client = closed.client()
        own = {"/api/v1/my_texts", "/api/v1/runs", "/api/v1/runs/{id}", "/api/v1/runs/{id}/result"}
        for method, path in closed.routes:
            answer = client.request(method, fill(path))
            if path in PUBLIC or (path not in own and (method == "GET" or path in COMPUTING)):
                assert answer.status_code in (200, 400, 404, 422), (method, path, answer.text)
            else:
                assert code(answer) == (401, "not_signed_in"), (method, path)


@pytest.mark.slow
def test_every_change_refuses_whose_it_is_not(closed: Closed, stories: rs.Model) -> None:
    library, ada = closed.library, closed.ada
    made = rs.pca(stories, FEW_TEXTS, "resid_pre.1")[0]
    saved = library.directions.save(ada, made, description="hers")
    library.comments.add(ada, saved.id, "hers")
    library.lists.add(ada, "hers", [saved.id])
    library.texts.add(ada, [("hers", "hers")])
    run = library.runs.add(ada, "lens", {})
    before = library.exchange.write(ada)
    bob, tried = closed.client("Bob"), 0
    for method, path in closed.routes:
        if method == "GET" or path in PUBLIC | COMPUTING or (method, path) in CREATING:
            continue
        asked: dict[str, Any] = {"params": {"ids": [1]}} if "my_texts" in path and "{id}" not in path else {}
        if (method, path) in BODIES:
            asked["json"] = BODIES[method, path]
        elif path.endswith("/file"):
            asked["content"] = made.to_bytes()
        assert code(bob.request(method, fill(path), **asked)) == (403, "not_yours"), (method, path)
        tried += 1
    assert tried == 20
    assert library.exchange.write(ada) == before
    assert library.runs.read(ada, run.id) == run
    assert bob.get("/api/v1/my_texts").json() == []


def test_signing_in_and_out(closed: Closed) -> None:
    client = closed.client()
    assert client.get("/api/v1/me").json() == {"name": None, "sign_in": True, "public_read": False}
    for asked in ({"name": "Ada"}, {"name": "Ada", "password": "wrong"}, {"name": "Eve", "password": "wrong"}):
        assert code(client.post("/api/v1/me", json=asked)) == (401, "sign_in_refused")
    answer = client.post("/api/v1/me", json={"name": "Ada", "password": PASSWORDS["Ada"]})
    assert answer.json()["name"] == "Ada"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # over http nothing would come back
    token = client.cookies["residscope"]
    assert client.get("/api/v1/directions").json()["total"] == 0
    client.delete("/api/v1/me")
    assert code(client.get("/api/v1/directions", headers={"Cookie": f"residscope={token}"})) == (401, "not_signed_in")


def test_cookies_stay_on_https_where_that_is_spoken(closed: Closed) -> None:
    asked = {"name": "Ada", "password": PASSWORDS["Ada"]}
    answer = closed.client().post("/api/v1/me", json=asked, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]


def test_sessions_end_when_they_are_revoked(closed: Closed) -> None:
    client = closed.client("Ada")
    assert client.get("/api/v1/directions").status_code == 200
    closed.library.people.revoke("Ada")
    assert code(client.get("/api/v1/directions")) == (401, "not_signed_in")
    asked = {"name": "Ada", "password": PASSWORDS["Ada"]}
    assert code(client.post("/api/v1/me", json=asked)) == (401, "sign_in_refused")


def test_a_name_alone_opens_no_closed_door(closed: Closed) -> None:
    token = closed.library.people.sign_in("Ada")  # as on a loopback address, over the same database
    client = closed.client()
    assert code(client.get("/api/v1/directions", headers={"Cookie": f"residscope={token}"})) == (401, "not_signed_in")


def sign_in(client: httpx.Client, name: str, password: str, address: str = "10.0.0.1") -> httpx.Response:
    """As if from another address: what a proxy on this machine says is believed."""
    return client.post("/api/v1/me", json={"name": name, "password": password}, headers={"X-Forwarded-For": address})


@pytest.mark.slow
def test_who_guesses_is_stopped_and_nobody_else(closed: Closed) -> None:
    client = closed.client()
    for _ in range(5):
        assert code(sign_in(client, "Ada", "wrong")) == (401, "sign_in_refused")
    refused = sign_in(client, " Ada ", PASSWORDS["Ada"])
    assert code(refused) == (429, "too_many_attempts")
    assert "10.0.0.1 failed 5 times" in refused.json()["error"]["message"]
    assert sign_in(client, "Ada", PASSWORDS["Ada"], "10.0.0.2").is_success
    for _ in range(12):  # what succeeds does not count
        assert sign_in(client, "Bob", PASSWORDS["Bob"]).is_success
    for number in range(20):
        assert code(sign_in(client, f"Nobody {number}", "wrong")) == (401, "sign_in_refused")
    assert code(sign_in(client, "Bob", PASSWORDS["Bob"])) == (429, "too_many_attempts")


def test_many_at_once_are_no_way_round(closed: Closed) -> None:
    client = closed.client()
    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(lambda _: sign_in(client, "Ada", "wrong").status_code, range(20))
    assert Counter(answers) == {401: 5, 429: 15}


def test_a_name_that_many_guess_is_answered_late(closed: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "SLOW_SECONDS", 0.5)
    client = closed.client()
    for number in range(5):
        sign_in(client, "Ada", "wrong", f"10.0.1.{number}")
    started = time.perf_counter()
    assert sign_in(client, "Ada", PASSWORDS["Ada"], "10.0.2.1").is_success
    assert time.perf_counter() - started >= 0.5
    counted = attempts.Attempts(1)
    counted.fail("10.0.1.1", "Ada")
    assert (counted.delay("Ada"), counted.delay("Bob")) == (0.5, 0.0)


@pytest.fixture(scope="module")
def opened(stories: rs.Model) -> Iterator[tuple[str, FastAPI]]:
    with serve(stories, FEW_TEXTS) as (address, _, app):
        yield address, app


def test_on_a_loopback_address_a_name_is_enough(opened: tuple[str, FastAPI]) -> None:
    address, _ = opened
    client = httpx.Client(base_url=address, timeout=PATIENCE)
    assert client.get("/api/v1/model").status_code == 200
    assert code(client.post("/api/v1/lists", json={"name": "mine"})) == (401, "not_signed_in")
    assert client.post("/api/v1/me", json={"name": " Ada "}).json()["name"] == "Ada"
    assert client.post("/api/v1/lists", json={"name": "mine"}).json()["owner"] == "Ada"
    assert code(client.post("/api/v1/me", json={"name": ""})) == (400, "bad_argument")


@pytest.mark.parametrize(
    ("path", "headers", "refused"),
    [
        ("/api/v1/me", {"Host": "evil.example"}, True),
        ("/api/v1/me", {"Origin": "http://evil.example"}, True),
        ("/api/v1/me", {"Origin": "null"}, True),
        ("/api/v1/me", {"Sec-Fetch-Site": "cross-site"}, True),
        ("/api/v1/me", {"Sec-Fetch-Site": "same-site"}, True),
        ("/api/v1/me", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, True),
        ("/stream", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True),
        ("/stream", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True),
        (
            "/stream",
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            False,
        ),
        ("/api/v1/me", {"Sec-Fetch-Site": "same-origin"}, False),
        ("/api/v1/me", {"Sec-Fetch-Site": "none"}, False),
        ("/api/v1/me", {"Host": "localhost:99"}, False),
    ],
)
def test_other_sites_pages_are_refused(
    opened: tuple[str, FastAPI], path: str, headers: dict[str, str], refused: bool
) -> None:
    answer = httpx.get(opened[0] + path, headers=headers, timeout=PATIENCE)
    if refused:
        assert code(answer) == (403, "foreign")
    else:
        assert answer.status_code in (200, 503)  # pages may not be built


def test_names_of_the_server() -> None:
    assert find_names("192.168.1.5", "Lab.example.org, other") == {"192.168.1.5", "lab.example.org", "other"}
    assert "127.0.0.1" in find_names("0.0.0.0")
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "lab", "", None)] == [
        *[True] * 3,
        *[False] * 4,
    ]
