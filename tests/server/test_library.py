"""The routes of the library: uploads of every kind, what the page saves, and bad input."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import torch

import residscope as rs
from residscope.direction import combine
from residscope.directions.file import read_direction
from tests.patience import PATIENCE
from tests.server.test_app import pca, read_arrays
from tests.serving import FEW_TEXTS, serve

SITE = "resid_pre.2"
MARY = {"kind": "token", "token": "a", "read": "embed", "here": True}


@pytest.fixture(scope="module")
def client(stories: rs.Model) -> Iterator[httpx.Client]:
    with (
        serve(stories, FEW_TEXTS) as (address, _, _),
        httpx.Client(base_url=f"{address}/api/v1", timeout=PATIENCE) as client,
    ):
        client.post("/me", json={"name": "Ada"})
        yield client


def save(client: httpx.Client, content: bytes, **asked: Any) -> httpx.Response:
    return client.post("/directions/file", content=content, params=asked)


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array), **options)
    return file.getvalue()


def test_what_the_page_shows_is_saved(client: httpx.Client, stories: rs.Model) -> None:
    asked = {
        "site": SITE,
        "along": [{"of": {"kind": "pca", "component": 0}, "weight": 0.7}, {"of": MARY, "weight": -0.3}],
        "name": "subject number",
        "description": "plural",
        "tags": ["number"],
    }
    saved = client.post("/directions", json=asked).json()
    assert (saved["owner"], saved["name"], saved["site"], saved["tags"]) == ("Ada", "subject number", SITE, ["number"])
    assert saved["description"]["text"] == "plural"
    basis = rs.pca(stories, FEW_TEXTS, SITE)
    token = rs.token_direction(stories, "a", read="embed").at(SITE)
    expected = combine([(0.7, basis[0]), (-0.3, basis.measure(token))])
    file = client.get(f"/directions/{saved['id']}/file")
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''subject%20number.safetensors"
    found = read_direction(file.content, "it")
    torch.testing.assert_close(found.vector, expected.vector, rtol=0, atol=1e-12)
    assert found.offset == pytest.approx(expected.offset)


def test_what_is_saved_is_shown_again_as_a_revision_was(client: httpx.Client, stories: rs.Model) -> None:
    basis = rs.pca(stories, FEW_TEXTS, SITE)
    saved = save(client, basis[1].to_bytes(), name="shown").json()
    client.put(f"/directions/{saved['id']}/file", content=basis[2].to_bytes())
    for revision, component in ((0, 1), (1, 2)):
        of = {"kind": "saved", "id": saved["id"], "revision": revision}
        described = client.post("/describe", json={"site": SITE, "directions": [of]}).json()["directions"][0]
        assert described["name"] == "shown"
        assert np.argmax(np.abs(described["cosines"])) == component
    elsewhere = client.post("/describe", json={"site": "resid_pre.3", "directions": [of]})
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (409, "another_site")
    gone = client.post("/describe", json={"site": SITE, "directions": [{**of, "revision": 9}]})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_saved")


def test_bare_vectors_are_taken_where_their_site_is_said(client: httpx.Client) -> None:
    numbers = [3.0, 4.0, *[0.0] * 62]
    for name, content in (("list.json", json.dumps(numbers).encode()), ("array.npy", npy(numbers))):
        answer = save(client, content, file=name)
        assert answer.json()["error"]["message"] == f"{name} is a bare vector."
        saved = save(client, content, file=name, site=SITE).json()
        assert (saved["name"], saved["width"]) == (name.partition(".")[0], 64)
        found = read_direction(client.get(f"/directions/{saved['id']}/file").content, "it")
        assert found.vector[:3].tolist() == [0.6, 0.8, 0.0]
    saved = save(client, npy([3.0, 4.0, *[0.0] * 6]), file="head.npy", site="z.2:1").json()
    assert (saved["site"], saved["width"]) == ("z.2:1", 8)
    found = read_direction(client.get(f"/directions/{saved['id']}/file").content, "it")
    assert (str(found.site), found.head) == ("z.2", 1)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("a.json", b"[1, 2, 3]", "has 3 entries, and resid_pre.2 of stories260K has 64"),
        ("a.json", json.dumps([0.0] * 64).encode(), "zero everywhere"),
        ("a.json", b"[NaN]", "nan at entry 0"),
        ("a.json", b"[1e999]", "inf at entry 0"),
        ("a.json", b"[" * 100_000, "holds no vector"),
        ("a.json", b'{"a": 1}', "no vector of numbers"),
        ("a.json", b"[1" + b"0" * 400 + b"]", "no vector of numbers"),
        ("a.json", b"\xff", "holds no vector"),
        ("a.npy", npy(np.ones((8, 8))), "has the shape"),
        ("a.npy", npy(np.array([{}], dtype=object), allow_pickle=True), "holds no vector"),
        ("a.npy", npy(np.ones(64))[:-1], "holds no vector"),
        ("a.npy", npy(np.ones(64)).replace(b"(64,)", b"(9" + b"9" * 14 + b",)"), "holds no vector"),
        ("a.safetensors", b"", "holds no direction"),
        ("a.safetensors", b"\xff" * 100, "holds no direction"),
    ],
)
def test_what_is_no_direction_is_refused(client: httpx.Client, file: str, content: bytes, says: str) -> None:
    before = client.get("/directions").json()["total"]
    answer = save(client, content, file=file, site=SITE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_direction")
    assert says in answer.json()["error"]["message"]
    assert client.get("/directions").json()["total"] == before


@pytest.mark.parametrize(
    ("method", "path", "asked", "status", "code", "says"),
    [
        ("GET", "/directions/9999", {}, 404, "not_saved", "Direction 9999 is not there"),
        ("GET", "/directions/99999999999999", {}, 422, "bad_request", "99999999999999' was asked for"),
        ("GET", "/library?ids=99999999999999", {}, 422, "bad_request", "99999999999999' was asked for"),
        ("GET", "/library?ids=9999", {}, 404, "not_saved", "Direction 9999 is not there"),
        ("GET", "/runs/9999/result", {}, 404, "not_saved", "Run 9999"),
        ("POST", "/lists", {"json": {"name": "a", "directions": [9999]}}, 404, "not_saved", "Direction 9999"),
        ("POST", "/lists", {"json": {"name": "a\0"}}, 400, "bad_argument", "no text"),
        ("POST", "/my_texts", {"json": {"texts": [{"text": "x" * 300_000}]}}, 413, "over_limit", "262,144"),
        ("POST", "/library", {"content": b"x" * 5_000_000}, 400, "bad_library", "cut short"),
        ("POST", "/directions/file", {"content": b"x" * 5_000_000}, 413, "too_large", "4,194,304"),
        (
            "POST",
            "/directions",
            {"json": {"site": SITE, "along": [{"of": {"kind": "pca", "component": 999}}], "name": "x"}},
            404,
            "unknown_component",
            "999",
        ),
        (
            "POST",
            "/directions",
            {"json": {"site": "resid_pre.9", "along": [{"of": {"kind": "pca", "component": 0}}], "name": "x"}},
            404,
            "unknown_site",
            "layers 0 to 4",
        ),
        (
            "POST",
            "/directions",
            {"json": {"site": SITE, "along": [{"of": {"kind": "pca", "component": 0}, "weight": 0}], "name": "x"}},
            400,
            "bad_direction",
            "Nothing is left",
        ),
    ],
)
def test_bad_requests(
    client: httpx.Client, method: str, path: str, asked: dict[str, Any], status: int, code: str, says: str
) -> None:
    answer = client.request(method, path, **asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert says in answer.json()["error"]["message"]


def test_texts_over_http(client: httpx.Client) -> None:
    first, second = client.post("/my_texts", json={"texts": [{"text": "one", "name": "a"}, {"text": "two"}]}).json()
    assert client.patch(f"/my_texts/{second['id']}", json={"pinned": True}).json()["name"] is None
    assert client.patch(f"/my_texts/{first['id']}", json={"name": None}).json()["name"] is None
    assert [one["text"] for one in client.get("/my_texts").json()] == ["two", "one"]
    ids = {"ids": [first["id"], second["id"]]}
    assert client.delete("/my_texts", params=ids).status_code == 204
    assert client.get("/my_texts").json() == []
    client.post("/my_texts/restore", params=ids)
    assert len(client.get("/my_texts").json()) == 2


def test_what_is_saved_is_shown_again_and_revised(client: httpx.Client, stories: rs.Model) -> None:
    asked: dict[str, Any] = {"site": "z.2:1", "along": pca(3), "name": "of a head"}
    saved = client.post("/directions", json=asked).json()
    assert (saved["site"], saved["revision"]) == ("z.2:1", 0)
    kept = {"kind": "saved", "id": saved["id"], "revision": 0}
    assert client.post("/home", json={"site": SITE, "direction": kept}).json() == {"name": "of a head", "site": "z.2:1"}
    assert client.post("/describe", json={"site": SITE, "directions": [kept]}).json()["error"]["code"] == "another_site"
    revised = client.put(f"/directions/{saved['id']}", json={"site": "z.2:1", "along": pca(5)}).json()
    assert revised["revision"] == 1
    for revision, component in ((0, 3), (1, 5)):
        spec = {**kept, "revision": revision}
        (found,) = client.post("/describe", json={"site": "z.2:1", "directions": [spec]}).json()["directions"]
        assert found["cosines"][component] == pytest.approx(1)
    gone = client.post("/home", json={"site": SITE, "direction": kept | {"id": 10**6}})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_saved")


def test_a_bare_vector_of_a_head_is_uploaded(client: httpx.Client) -> None:
    asked = {"file": "a.json", "site": "z.2:1", "name": "bare"}
    saved = client.post("/directions/file", params=asked, content=json.dumps([1.0] * 8)).json()
    assert (saved["site"], saved["width"]) == ("z.2:1", 8)
    wide = client.post("/directions/file", params=asked | {"name": "wide"}, content=json.dumps([1.0] * 64))
    assert (wide.status_code, wide.json()["error"]["code"]) == (400, "bad_direction")


def test_the_code_of_an_export_is_not_what_a_file_says(client: httpx.Client, stories: rs.Model) -> None:
    lines = ("import os", "os.system('true')", "direction = 1")
    made = replace(rs.pca(stories, FEW_TEXTS, SITE)[4], python=lines)
    saved = save(client, made.to_bytes(), name="with a past").json()
    kept = {"of": {"kind": "saved", "id": saved["id"], "revision": 0}}
    asked = {"texts": ["Once upon"], "panels": [{"site": SITE, "along": [kept]}]}
    code = client.post("/export/python", json=asked).text
    assert "os.system" not in code
    assert "direction = rs.load_direction('with a past.safetensors')" in code


def test_what_lies_near_a_saved_direction_is_not_itself(client: httpx.Client, stories: rs.Model) -> None:
    basis = rs.pca(stories, FEW_TEXTS, SITE)
    first = save(client, basis[6].to_bytes(), name="near one").json()
    save(client, (basis[6] + 0.5 * basis[7]).to_bytes(), name="near two")
    along = [{"of": {"kind": "saved", "id": first["id"], "revision": 0}}]
    answer = client.post("/explain", json={"site": SITE, "along": along, "n_contexts": 0})
    payload, _ = read_arrays(answer.content)
    names = [one["name"] for one in payload["near"]]
    assert "near two" in names
    assert "near one" not in names
