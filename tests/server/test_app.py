"""The routes, over a real connection."""

import io
import json
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import torch

import residscope as rs
from residscope.running.progress import report
from residscope.running.texts import read_texts
from residscope.server.work import WorkQueue
from residscope.server.workbench import Workbench
from tests.patience import PATIENCE
from tests.serving import FEW_TEXTS, serve

TEXTS = ["Once upon a time", "<img src=x onerror=alert(1)></script>"]


def pca(component: int) -> list[dict[str, Any]]:
    """A component of the site that is asked for, as requests write it."""
    return [{"of": {"kind": "pca", "component": component}}]


@dataclass
class Server:
    client: httpx.Client
    bench: Workbench
    queue: WorkQueue
    address: str


@pytest.fixture(scope="module")
def server(stories: rs.Model) -> Iterator[Server]:
    anew = httpx.Limits(max_keepalive_connections=0)  # one that is kept may be closed just when it is used again
    with (
        serve(stories, FEW_TEXTS, queue_limit=3) as (address, bench, app),
        httpx.Client(base_url=address, timeout=PATIENCE, limits=anew) as client,
    ):
        yield Server(client, bench, app.state.queue, address)


def read_arrays(content: bytes) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """The payload and `values` of safetensors bytes."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    begin, end = header["values"]["data_offsets"]
    values = np.frombuffer(content[8 + size + begin : 8 + size + end], "<f4").reshape(header["values"]["shape"])
    return json.loads(header["__metadata__"]["payload"]), values


def assert_error(answer: httpx.Response, status: int, code: str, says: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == code
    assert says in error["message"]


def test_model(server: Server) -> None:
    facts = server.client.get("/api/v1/model").json()
    assert (facts["name"], facts["n_layers"], facts["d_model"]) == ("stories260K", 5, 64)
    assert (facts["n_texts"], facts["prepends_bos"], facts["n_parameters"]) == (24, True, 260032)
    assert facts["names"] == [" Lily", " Tim"]
    stream = {"kind": "resid_pre", "n_layers": 5, "n_heads": None, "meaning": "residual stream before the layer"}
    assert stream in facts["sites"]
    assert {one["kind"]: one["n_heads"] for one in facts["sites"]}.items() >= {"z": 8, "k": 4, "mlp_act": None}.items()
    assert "pattern" not in [one["kind"] for one in facts["sites"]]


def test_texts(server: Server) -> None:
    answer = server.client.get("/api/v1/texts", params={"start": 3, "count": 2}).json()
    assert answer == {"total": 24, "start": 3, "texts": read_texts(FEW_TEXTS)[3:5]}
    assert server.client.get("/api/v1/texts", params={"start": 300}).json()["texts"] == []
    chosen = server.client.get("/api/v1/texts", params={"only": [7, 2, 999]}).json()["texts"]
    assert chosen == [read_texts(FEW_TEXTS)[number] for number in (7, 2)]


def test_tokens(server: Server, stories: rs.Model) -> None:
    answer = server.client.post("/api/v1/tokens", json={"texts": TEXTS}).json()["texts"]
    assert [text["pieces"] for text in answer] == stories.tokenize(TEXTS).pieces
    assert answer[0]["special"] == [True, False, False, False, False]


def test_components(server: Server, stories: rs.Model) -> None:
    answer = server.client.get("/api/v1/pca/resid_pre.3").json()
    basis = rs.pca(stories, FEW_TEXTS, "resid_pre.3")
    assert (answer["n_texts"], answer["n_tokens"], answer["left_out"]) == (24, basis.n_tokens, [0])
    np.testing.assert_allclose(answer["shares"], basis.shares)
    np.testing.assert_allclose(answer["deviations"], basis.deviations)
    np.testing.assert_allclose(answer["offsets"], basis.offsets)


def test_progress_is_streamed(server: Server, stories: rs.Model) -> None:
    server.bench._bases.clear()
    with server.client.stream("GET", "/api/v1/pca/mlp_out.1", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).strip().split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    assert [event["event"] for event in events] == ["progress"] * (len(events) - 1) + ["result"]
    assert len(events) > 1
    assert json.loads(events[-1]["data"])["site"] == "mlp_out.1"
    assert set(json.loads(events[0]["data"])) == {"done", "total", "what"}


def test_errors_are_streamed_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise rs.ResidscopeError("It broke.", "Mend it.")

    monkeypatch.setattr(server.bench, "basis", fail)
    answer = server.client.get("/api/v1/pca/mlp_out.2", headers={"Accept": "text/event-stream"})
    assert answer.text.startswith("event: error\n")
    assert json.loads(answer.text.split("data: ")[-1])["error"]["message"] == "It broke."


def test_projections_are_binary(server: Server, stories: rs.Model) -> None:
    asked = {"texts": TEXTS, "site": "resid_pre.3", "components": [2, 5]}
    answer = server.client.post("/api/v1/projection", json=asked)
    assert answer.headers["content-type"] == "application/octet-stream"
    payload, values = read_arrays(answer.content)
    basis = rs.pca(stories, FEW_TEXTS, "resid_pre.3")
    expected = rs.project(stories.run(TEXTS), basis[2:5]).values
    assert payload["axes"] == ["component", "batch", "pos"]
    torch.testing.assert_close(torch.tensor(values.copy()), expected, rtol=0, atol=1e-5, equal_nan=True)


def test_rivers_are_binary(server: Server, stories: rs.Model) -> None:
    asked = {"text": TEXTS[0], "site": "resid_pre.3", "along": pca(2)}
    payload, values = read_arrays(server.client.post("/api/v1/river", json=asked).content)
    basis = rs.pca(stories, FEW_TEXTS, "resid_pre.3")
    expected = rs.river(stories.run(TEXTS[0]), basis[2])
    assert payload["rows"] == list(expected.rows)
    torch.testing.assert_close(torch.tensor(values.copy()), expected.values[0], rtol=0, atol=1e-5)


def test_exports(server: Server) -> None:
    asked = {"texts": TEXTS, "panels": [{"site": "resid_pre.3", "along": pca(2)}]}
    csv = server.client.post("/api/v1/export/csv", json=asked)
    assert csv.text.splitlines()[0] == "batch,pos,token,value"
    python = server.client.post("/api/v1/export/python", json=asked).text
    assert "rs.project(run, direction)" in python
    html = server.client.post("/api/v1/export/html", json=asked).text
    assert html.startswith("<!doctype html>")
    assert "onerror=alert" not in html


def test_several_directions_are_exported_together(server: Server, stories: rs.Model) -> None:
    panels = [{"site": f"resid_pre.{layer}", "along": pca(2)} for layer in (3, 1)]
    asked = {"texts": TEXTS, "panels": panels, "centre": "position"}
    files = {
        format: server.client.post(f"/api/v1/export/{format}", json=asked).text for format in ("csv", "python", "html")
    }
    frame = pd.read_csv(io.StringIO(files["csv"]))
    assert list(frame.columns) == ["panel", "site", "direction", "batch", "pos", "token", "value"]
    run = stories.run(TEXTS)
    told: dict[str, Any] = {}
    exec(files["python"], told)
    for number, layer in enumerate((3, 1)):
        direction = rs.pca(stories, FEW_TEXTS, f"resid_pre.{layer}")[2]
        means = rs.position_means(stories, FEW_TEXTS, f"resid_pre.{layer}")
        expected = rs.project(run, direction, centre=means)
        ours = frame[frame["panel"] == number]
        assert set(ours["direction"]) == {direction.name}
        np.testing.assert_allclose(ours["value"], expected.to_frame()["value"], atol=1e-4)
        torch.testing.assert_close(told[f"projection_{number}"].values, expected.values, equal_nan=True)
    assert files["html"].count('class="data"') == 2
    alone = server.client.post("/api/v1/export/csv", json={**asked, "panels": panels[:1]}).text
    assert alone.splitlines()[0] == "batch,pos,token,value"
    nothing = server.client.post("/api/v1/export/csv", json={**asked, "panels": []})
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (422, "bad_request")


def test_what_position_means_take_off(server: Server, stories: rs.Model) -> None:
    made = [term["of"] for term in pca(2) + pca(0)]
    content = server.client.post("/api/v1/by_position", json={"site": "resid_pre.3", "directions": made}).content
    _, values = read_arrays(content)
    basis = rs.pca(stories, FEW_TEXTS, "resid_pre.3")
    means = rs.position_means(stories, FEW_TEXTS, "resid_pre.3").values
    for row, direction in zip(values, (basis[2], basis[0]), strict=True):
        expected = (means @ direction.vector - direction.offset).float()
        torch.testing.assert_close(torch.tensor(row.copy()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "says"),
    [
        ("GET", "/api/v1/pca/resid_pre.9", None, 404, "unknown_site", "resid_pre has layers 0 to 4"),
        ("GET", "/api/v1/pca/z.0", None, 400, "bad_argument", "none was chosen"),
        ("GET", "/api/v1/pca/z.0:99", None, 400, "bad_argument", "head=99"),
        ("GET", "/api/v1/pca/resid_pre.0:1", None, 400, "bad_argument", "has no heads"),
        ("POST", "/api/v1/tokens", {"texts": [""]}, 400, "empty_prompt", "The prompt is empty"),
        ("POST", "/api/v1/tokens", {"texts": []}, 422, "bad_request", "texts"),
        ("POST", "/api/v1/tokens", {"texts": ["a " * 600]}, 400, "prompt_too_long", "the model's context is 512"),
        ("POST", "/api/v1/tokens", {"texts": ["\ud800"]}, 400, "bad_texts", "no text in Unicode"),
        ("POST", "/api/v1/tokens", {"txt": 1}, 422, "bad_request", "texts is missing."),
        (
            "POST",
            "/api/v1/projection",
            {"texts": ["x"], "site": "resid_pre.1", "components": [60, 99]},
            404,
            "unknown_component",
            "has 64",
        ),
        (
            "POST",
            "/api/v1/projection",
            {"texts": ["x"], "site": "resid_pre.1", "components": [-3, 2]},
            404,
            "unknown_component",
            "has 64",
        ),
        (
            "POST",
            "/api/v1/river",
            {"text": "x", "site": "resid_pre.1", "along": pca(64)},
            404,
            "unknown_component",
            "has 64",
        ),
        (
            "POST",
            "/api/v1/export/pdf",
            {"texts": ["x"], "panels": [{"site": "embed", "along": pca(0)}]},
            422,
            "bad_request",
            "format",
        ),
        ("GET", "/api/v1/pca/pattern.1", None, 404, "unknown_site", "pattern.1 has the axes"),
        ("POST", "/api/v1/river", {"text": "x", "site": "embed", "along": []}, 422, "bad_request", "along"),
        ("POST", "/api/v1/tokens", {"texts": ["a" * 2_000_000]}, 400, "prompt_too_long", "2,000,000 characters"),
        ("POST", "/api/v1/tokens", {"texts": ["a" * 5_000_000]}, 413, "too_large", "4,194,304 bytes"),
        ("GET", "/api/v1/nothing", None, 404, "http", "/api/v1/nothing"),
        ("DELETE", "/api/v1/model", None, 405, "http", "/api/v1/model"),
    ],
)
def test_every_error_has_one_shape_and_the_server_goes_on(
    server: Server, method: str, path: str, body: Any, status: int, code: str, says: str
) -> None:
    assert_error(
        server.client.request(method, path, content=json.dumps(body), headers={"Content-Type": "application/json"}),
        status,
        code,
        says,
    )
    assert server.client.get("/api/v1/model").status_code == 200


def test_a_defect_has_the_same_shape(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.bench, "tokens", lambda texts: 1 / 0)
    answer = server.client.post("/api/v1/tokens", json={"texts": ["once"]})
    assert_error(answer, 500, "internal", "ZeroDivisionError")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.7", "", "["])
def test_a_foreign_host_is_refused(server: Server, host: str) -> None:
    assert_error(server.client.get("/api/v1/model", headers={"Host": host}), 403, "foreign", "Host")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
def test_a_foreign_origin_is_refused(server: Server, origin: str) -> None:
    assert_error(server.client.get("/api/v1/model", headers={"Origin": origin}), 403, "foreign", "Origin")


def test_the_own_origin_is_welcome(server: Server) -> None:
    answer = server.client.get("/api/v1/model", headers={"Origin": server.address})
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_full_queue_answers_429(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = threading.Event(), threading.Event()

    def work(texts: object) -> list[Any]:
        begun.set()
        gate.wait(PATIENCE)
        return []

    def ask(text: str) -> int:
        return httpx.post(f"{server.address}/api/v1/tokens", json={"texts": [text]}, timeout=PATIENCE).status_code

    monkeypatch.setattr(server.bench, "tokens", work)
    with ThreadPoolExecutor(4) as pool:
        try:
            answers = [pool.submit(ask, "one runs")]
            assert begun.wait(PATIENCE)
            answers += [pool.submit(ask, f"{n} waits") for n in range(3)]
            deadline = time.monotonic() + PATIENCE
            while len(server.queue._short) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            refused = server.client.post("/api/v1/tokens", json={"texts": ["one more"]})
        finally:
            gate.set()
    assert_error(refused, 429, "queue_full", "waiting already")
    assert refused.headers["retry-after"] == "1"
    assert [answer.result() for answer in answers] == [200] * 4


class SlowWork:
    """Work of minutes that can be cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()

    def __call__(self, asked: object) -> None:
        self.begun.set()
        try:
            for step in range(20_000):
                time.sleep(0.01)
                report(step, 20_000, "slow")
        except rs.Cancelled:
            self.cancelled.set()
            raise


def test_work_ends_when_the_page_goes_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    work = SlowWork()
    monkeypatch.setattr(server.bench, "tokens", work)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.address}/api/v1/tokens", json={"texts": ["gone"]}, timeout=0.5)
    assert work.begun.wait(PATIENCE)
    assert work.cancelled.wait(PATIENCE)
    monkeypatch.undo()
    assert server.client.post("/api/v1/tokens", json={"texts": ["gone"]}).status_code == 200


def test_a_stream_ends_when_the_page_goes_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    work = SlowWork()
    monkeypatch.setattr(server.bench, "has_basis", lambda site: False)
    monkeypatch.setattr(server.bench, "basis", work)
    with server.client.stream("GET", "/api/v1/pca/embed", headers={"Accept": "text/event-stream"}) as answer:
        next(answer.iter_text())
    assert work.cancelled.wait(PATIENCE)


def test_pages(server: Server) -> None:
    for path in ("/", "/stream", "/lens", "/patch", "/heads"):
        page = server.client.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
    assert server.client.get("/static/workbench.js").status_code == 200
    assert_error(server.client.get("/static/../app.py"), 404, "http", "app.py")


def test_every_route_is_described(server: Server) -> None:
    described = server.client.get("/api/openapi.json").json()["paths"]
    documented = (Path(__file__).parents[2] / "docs/reference/http.md").read_text()
    assert len(described) == 59
    for path, methods in described.items():
        for method in methods:
            assert f"`{method.upper()} {path}" in documented, (method, path)


def test_kept_runs_stay_within_their_memory(stories: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residscope.server.workbench._RUNS_BYTES", 200_000)
    bench = Workbench(stories, FEW_TEXTS)
    before = bench.projections(TEXTS, bench.place("resid_pre.3"), 0, 2)
    for layer in range(5):
        for number in range(3):
            bench.projections([f"text {number} is here"] * 3, bench.place(f"resid_pre.{layer}"), 0, 2)
    assert len(bench._runs) > 1
    assert sum(run.n_bytes for run in bench._runs.values()) < 2 * 200_000
    assert bench.projections(TEXTS, bench.place("resid_pre.3"), 0, 2) == before
