"""`residscope users`, and a workbench that others reach."""

import io
import json
import re
import sys
from pathlib import Path

import httpx
import pytest

from residscope.store.database import Database, place_database
from residscope.store.limits import Limits
from residscope.store.people import People
from tests.cli.conftest import CALL, Serving
from tests.patience import PATIENCE


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIDSCOPE_DATA", str(tmp_path))
    return tmp_path


def add(call: CALL, monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
    done = call("users", "add", name, "--password-stdin")
    return done.returncode, done.stdout + done.stderr


def test_adding_listing_and_revoking(call: CALL, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert add(call, monkeypatch, "Ada", "correct horse") == (0, "Ada may sign in.\n")
    assert add(call, monkeypatch, "Bob", "short") == (1, "Error: The password has 5 characters. Take 8 or more.\n")
    people = People(Database(place_database(data)), Limits())
    token = people.sign_in("Ada", "correct horse")
    people.name("Cleo")
    assert json.loads(call("users", "list", "--json").stdout) == {"Ada": True, "Cleo": False}
    assert call("users", "list").stdout == "Ada\nCleo  (no password)\n"
    assert call("users", "revoke", "Ada").stdout == "Ada is signed out, and may sign in no more.\n"
    assert people.who(token) is None
    assert call("users", "revoke", "Eve").returncode == 1


@pytest.mark.slow
def test_others_reach_the_server_once_somebody_can_sign_in(
    call: CALL,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    stories_path: Path,
) -> None:
    refused = call("serve", str(stories_path), "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "nobody can sign in yet. Say who may, with `residscope users add NAME`" in refused.stderr
    add(call, monkeypatch, "Ada", "correct horse")
    serving = Serving("serve", str(stories_path), "--host", "0.0.0.0", "--port", "0", "--no-open")
    found = re.search(r":(\d+)/", serving.said)
    assert found, serving.stop()
    with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}/api/v1", timeout=PATIENCE) as client:
        assert client.get("/model").status_code == 401
        assert client.post("/me", json={"name": "Ada", "password": "correct horse"}).status_code == 200
        assert client.get("/model").json()["name"] == "stories260K"
    assert "Traceback" not in serving.stop()
