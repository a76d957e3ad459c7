"""How much a request may ask for: every limit is a setting, which the error names."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import residscope as rs
from residscope.settings import Settings
from residscope.store.limits import Limits
from tests.patience import PATIENCE
from tests.serving import FEW_TEXTS, serve

SITE = "resid_pre.1"
LONG = "Once upon a time there was a girl"
LIMITS = Limits(request_texts_limit=2, request_tokens_limit=8, request_bytes_limit=1000, import_limit=2000)
ALONG = {"site": SITE, "along": [{"of": {"kind": "token", "token": "a", "read": "embed", "here": True}}]}
PATCH = {"clean": LONG, "corrupted": "Tom", "correct": "a", "wrong": "t"}
PROBE = {"kind": "probe", "positive": ["a"], "negative": ["b"] * 2}

SETS = [
    ("tokens", {"texts": ["a"] * 3}),
    ("projection", {"site": SITE, "texts": ["a"] * 3, "components": [0, 1]}),
    ("export/csv", {"texts": ["a"] * 3, "panels": [ALONG]}),
    ("describe", {"site": SITE, "directions": [{**PROBE, "kind": "contrast"}]}),
    ("describe", {"site": SITE, "directions": [PROBE]}),
    ("my_texts", {"texts": [{"text": "a"}] * 3}),
]
PROMPTS = [
    ("tokens", {"texts": ["a", LONG]}),
    ("projection", {"site": SITE, "texts": ["a", LONG], "components": [0, 1]}),
    ("active", {"site": SITE, "text": LONG}),
    ("river", {**ALONG, "text": LONG}),
    ("lens", {"text": LONG}),
    ("lens_vocabulary", {"text": LONG, "cell": {"site": SITE, "pos": 0}}),
    ("attention", {"text": LONG}),
    ("graph", {"text": LONG, "sites": []}),
    ("patch", PATCH),
    ("patch", {**PATCH, "clean": "Tom", "corrupted": LONG}),
    ("steer", {**ALONG, "prompt": LONG}),
]


@pytest.fixture(scope="module")
def client(stories: rs.Model) -> Iterator[httpx.Client]:
    with (
        serve(stories, FEW_TEXTS, limits=LIMITS) as (address, bench, _),
        httpx.Client(base_url=f"{address}/api/v1", timeout=PATIENCE) as client,
    ):
        bench.texts = ["Tom", "Lily"]
        client.post("/me", json={"name": "Ada"})
        yield client


@pytest.mark.parametrize(("path", "asked"), SETS)
def test_too_many_texts(client: httpx.Client, path: str, asked: dict[str, Any]) -> None:
    refused(client.post(path, json=asked), "request_texts_limit", "over_limit", "3 texts were given at once, and 2 are")


@pytest.mark.parametrize(("path", "asked"), PROMPTS)
def test_too_long_a_text(client: httpx.Client, path: str, asked: dict[str, Any]) -> None:
    refused(
        client.post(path, json=asked), "request_tokens_limit", "over_limit", "text has 11 tokens, and 8 are allowed"
    )


def test_too_large_a_request(client: httpx.Client) -> None:
    assert client.post("tokens", json={"texts": ["a"]}).is_success
    answer = client.post("tokens", json={"texts": ["a" * 1000]})
    refused(answer, "request_bytes_limit", "too_large", "A request may have 1,000 bytes")
    assert client.post("library", content=b"x" * 1500).json()["error"]["code"] == "bad_library"
    refused(client.post("library", content=b"x" * 2500), "import_limit", "too_large", "A request may have 2,000 bytes")


def test_every_limit_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(vars(Limits())):
        monkeypatch.setenv(f"RESIDSCOPE_{name.upper()}", str(number + 5))
    assert Settings().limits == Limits(*range(5, 5 + len(vars(Limits()))))


def refused(answer: httpx.Response, limit: str, code: str, says: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (413, code)
    assert says in error["message"]
    assert f"RESIDSCOPE_{limit.upper()}" in error["hint"]
