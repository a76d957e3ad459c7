"""Directions as requests write them: each is what Python makes, and a sum is their sum."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import httpx
import pytest
import torch

import residscope as rs
from residscope.cards.search import find_active, find_nearest
from residscope.directions.pca import pca_of_sites
from residscope.running.texts import read_texts
from residscope.server.analyses import Explain
from residscope.server.workbench import Workbench
from tests.patience import PATIENCE
from tests.server.test_app import read_arrays
from tests.serving import FEW_TEXTS, serve

TEXTS = read_texts(FEW_TEXTS)[:3]
SITE = "resid_pre.2"
SETS = (["Anna ran home.", "Tom is big."], ["The sun is red.", "It was dark."])
PCA = {"kind": "pca", "component": 3}


@pytest.fixture(scope="module")
def server(demo: rs.Model) -> Iterator[tuple[httpx.Client, Workbench]]:
    with (
        serve(demo, FEW_TEXTS, dictionaries=rs.demo.dictionaries) as (address, bench, _),
        httpx.Client(base_url=address, timeout=PATIENCE) as client,
    ):
        yield client, bench


@pytest.fixture(scope="module")
def client(server: tuple[httpx.Client, Workbench]) -> httpx.Client:
    return server[0]


@pytest.fixture(scope="module")
def basis(demo: rs.Model) -> rs.Basis:
    kin = [site for site in demo.sites if site.kind == "resid_pre"]
    return pca_of_sites(demo, FEW_TEXTS, kin)[kin[2]]


MADE: dict[str, tuple[dict[str, Any], Callable[[rs.Model, rs.Basis], rs.Direction]]] = {
    "component": (PCA, lambda _, basis: basis[3]),
    "token": ({"kind": "token", "token": " the"}, lambda model, _: rs.token_direction(model, " the")),
    "tokens": (
        {"kind": "token", "token": " he", "minus": " she", "read": "embed"},
        lambda model, _: rs.token_direction(model, " he", minus=" she", read="embed"),
    ),
    "position": ({"kind": "position", "pos": 4}, lambda model, _: rs.position_direction(model, 4)),
    "head": (
        {"kind": "head", "layer": 1, "head": 2, "rank": 1},
        lambda model, _: rs.head_direction(model, layer=1, head=2, rank=1),
    ),
    "query": (
        {"kind": "head", "layer": 2, "head": 1, "circuit": "QK", "side": "query"},
        lambda model, _: rs.head_direction(model, layer=2, head=1, circuit="QK", side="query"),
    ),
    "what a head reads": (
        {"kind": "head", "layer": 2, "head": 1, "side": "in"},
        lambda model, _: rs.head_direction(model, layer=2, head=1, side="in"),
    ),
    "neuron": (
        {"kind": "neuron", "layer": 1, "neuron": 7},
        lambda model, _: rs.neuron_direction(model, layer=1, neuron=7),
    ),
    "feature": (
        {"kind": "feature", "feature": 11, "side": "encoder"},
        lambda *_: rs.demo.dictionaries[SITE].direction(11, side="encoder"),
    ),
    "contrast": (
        {"kind": "contrast", "positive": SETS[0], "negative": SETS[1]},
        lambda model, _: rs.contrast(model, *SETS, site=SITE),
    ),
    "probe": (
        {"kind": "probe", "positive": SETS[0] * 4, "negative": SETS[1] * 4},
        lambda model, _: rs.probe(model, [*SETS[0] * 4, *SETS[1] * 4], [1] * 8 + [0] * 8, site=SITE),
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_each_is_what_python_makes(client: httpx.Client, demo: rs.Model, basis: rs.Basis, name: str) -> None:
    asked, make = MADE[name]
    made = make(demo, basis)
    site, here = str(made.site), {**asked, "here": True}
    at_home = basis if site == SITE else rs.pca(demo, FEW_TEXTS, site)
    for at, spec, expected in (
        (site, asked, at_home.measure(made)),
        (SITE, here, basis.measure(made if site == SITE else made.at(SITE))),
    ):
        if at != SITE and asked["kind"] in ("pca", "feature", "contrast", "probe"):
            continue  # which are of the site that is asked for
        (found,) = client.post("/api/v1/describe", json={"site": at, "directions": [spec]}).json()["directions"]
        components = (at_home if at == site else basis).components
        assert found["name"] == expected.name
        assert found["history"]["kind"] == asked["kind"]
        torch.testing.assert_close(
            torch.tensor(found["cosines"], dtype=torch.float64), components @ expected.vector, rtol=0, atol=1e-6
        )
        assert found["deviation"] == pytest.approx(expected.deviation, abs=1e-6)
        assert found["offset"] == pytest.approx(expected.offset, abs=1e-5)
        answer = client.post("/api/v1/values", json={"site": at, "directions": [spec], "texts": TEXTS})
        _, values = read_arrays(answer.content)
        direct = rs.project(demo.run(TEXTS), expected).values
        torch.testing.assert_close(torch.tensor(values.copy())[0], direct, rtol=0, atol=1e-4, equal_nan=True)


def test_of_another_site_only_when_told(client: httpx.Client) -> None:
    spec = {"kind": "token", "token": " the"}
    home = client.post("/api/v1/home", json={"site": SITE, "direction": spec}).json()
    assert home == {"name": "' the', unembedded", "site": "resid_post.3"}
    answer = client.post("/api/v1/describe", json={"site": SITE, "directions": [spec]})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "another_site"
    assert "resid_post.3" in answer.json()["error"]["message"]
    there = client.post("/api/v1/describe", json={"site": SITE, "directions": [spec | {"here": True}]})
    (found,) = there.json()["directions"]
    assert found["name"].endswith(f"at {SITE}")
    assert found["history"]["moved_from"] == "resid_post.3"
    another = {"kind": "pca", "component": 0, "site": "resid_pre.1"}
    assert client.post("/api/v1/describe", json={"site": SITE, "directions": [another]}).status_code == 409


def test_a_sum_is_the_sum_of_its_values_over_its_length(
    client: httpx.Client, server: tuple[httpx.Client, Workbench], basis: rs.Basis
) -> None:
    specs = [PCA, MADE["feature"][0], {"kind": "token", "token": " the", "here": True}]
    weights = [0.7, -1.2, 0.4]
    described = client.post("/api/v1/describe", json={"site": SITE, "directions": specs}).json()["directions"]
    _, parts = read_arrays(
        client.post("/api/v1/values", json={"site": SITE, "directions": specs, "texts": TEXTS}).content
    )
    along = [{"weight": weight, "of": spec} for weight, spec in zip(weights, specs, strict=True)]
    csv = client.post("/api/v1/export/csv", json={"panels": [{"site": SITE, "along": along}], "texts": TEXTS}).text
    shown = torch.tensor([float(line.rsplit(",", 1)[1]) for line in csv.splitlines()[1:]])
    cosines = torch.tensor([one["cosines"] for one in described], dtype=torch.float64)
    summed = torch.tensor(weights, dtype=torch.float64) @ cosines
    length = float(summed.norm())
    values = torch.einsum("d,dbp->bp", torch.tensor(weights), torch.tensor(parts.copy())) / length
    torch.testing.assert_close(values[values.isfinite()], shown[shown.isfinite()], rtol=0, atol=1e-4)
    found = server[1].find(server[1].place(SITE), Explain.model_validate({"site": SITE, "along": along}).along)
    deviation = float((summed.square() @ basis.variances).sqrt()) / length
    assert found.deviation == pytest.approx(deviation, rel=1e-6)
    assert found.offset == pytest.approx(
        sum(w * one["offset"] for w, one in zip(weights, described, strict=True)) / length
    )


@pytest.mark.parametrize(
    ("spec", "status", "says"),
    [
        ({"kind": "token", "token": "no such token"}, 400, "no such token"),
        ({"kind": "token"}, 422, "token"),
        ({"kind": "spell"}, 422, "spell"),
        ({"kind": "pca", "component": 128}, 404, "no component 128"),
        ({"kind": "head", "layer": 0, "head": 9}, 400, "head"),
        ({"kind": "neuron", "layer": 9, "neuron": 0}, 400, "layer"),
        ({"kind": "feature", "feature": 10**6}, 400, "feature"),
        ({"kind": "feature", "feature": 0, "site": "mlp_out.1"}, 400, "No dictionary reads mlp_out.1"),
        ({"kind": "contrast", "positive": ["a b"], "negative": []}, 422, "negative"),
        ({"kind": "contrast", "positive": ["It ran."], "negative": ["It ran."]}, 400, "the same"),
        ({"kind": "probe", "positive": ["It ran."], "negative": ["He ran."]}, 400, ""),
        ({"kind": "position", "pos": 10**6}, 400, "pos=1000000"),
    ],
)
def test_what_is_no_direction_is_refused(client: httpx.Client, spec: dict[str, Any], status: int, says: str) -> None:
    answer = client.post("/api/v1/describe", json={"site": SITE, "directions": [spec]})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert says in answer.json()["error"]["message"]


def test_a_sum_of_nothing_is_refused(client: httpx.Client) -> None:
    along = [{"weight": 1, "of": PCA}, {"weight": -1, "of": PCA}]
    answer = client.post("/api/v1/river", json={"site": SITE, "along": along, "text": TEXTS[0]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_direction")
    body = json.dumps({"site": SITE, "along": [{"weight": float("nan"), "of": PCA}], "text": "x"})
    answer = client.post("/api/v1/river", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_directions_of_a_head(client: httpx.Client, demo: rs.Model) -> None:
    basis = rs.pca(demo, FEW_TEXTS, "z.1", head=2)
    shares = client.get("/api/v1/pca/z.1:2").json()["shares"]
    assert shares == pytest.approx(basis.shares.tolist(), abs=1e-9)
    along = [{"weight": 2.0, "of": {"kind": "pca", "component": 0}}, {"of": {"kind": "pca", "component": 4}}]
    asked = {"site": "z.1:2", "along": along, "text": TEXTS[0]}
    payload, values = read_arrays(client.post("/api/v1/river", json=asked).content)
    expected = rs.river(demo.run(TEXTS[0]), 2.0 * basis[0] + basis[4])
    assert payload["rows"] == list(expected.rows)
    torch.testing.assert_close(torch.tensor(values.copy()), expected.values[0], rtol=0, atol=1e-4)
    narrow = {"site": "z.1:2", "directions": [{"kind": "token", "token": " the", "here": True}]}
    answer = client.post("/api/v1/describe", json=narrow)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_direction")
    assert "128 entries" in answer.json()["error"]["message"]
    of_another = {"site": "z.1:2", "directions": [{"kind": "pca", "component": 0, "site": "z.1:3"}]}
    assert client.post("/api/v1/describe", json=of_another).json()["error"]["code"] == "another_site"


def test_search(client: httpx.Client, demo: rs.Model, basis: rs.Basis) -> None:
    dictionary = rs.demo.dictionaries[SITE]
    asked: dict[str, Any] = {"site": SITE, "text": TEXTS[0], "pos": 5, "top": 3}
    answer = client.post("/api/v1/active", json=asked).json()
    found = answer["found"]
    assert answer["saved"] == []
    assert found == [asdict(match) for match in find_active(demo.run(TEXTS[0]), basis, dictionary, pos=5, top=3)]
    near = client.post("/api/v1/nearest", json={"site": SITE, "along": [{"of": PCA}], "top": 2}).json()["found"]
    assert near == [asdict(match) for match in find_nearest(basis[3], basis, dictionary, top=2)]
    for site, place in (
        (SITE, {"site": SITE}),
        ("z.1:2", {"site": "z.1", "head": 2}),
        ("mlp_act.2", {"site": "mlp_act.2"}),
    ):
        found = client.post("/api/v1/promoting", json={"site": site, "token": " she", "top": 3}).json()
        wanted = rs.token_direction(demo, " she", **place)
        components = [one for one in found["found"] if one["kind"] == "pca"]
        of_place = rs.pca(demo, FEW_TEXTS, **place)
        assert found["through"] == wanted.history["through"]
        assert [one["value"] for one in components] == pytest.approx(
            sorted((of_place.components @ wanted.vector).tolist(), reverse=True)[:3], abs=1e-6
        )
    assert found["through"] == "W_out"
    none = client.post("/api/v1/promoting", json={"site": "q.1:2", "token": " she"}).json()["error"]
    assert none["message"].startswith("From q.1 no way leads to the logits")
    assert client.post("/api/v1/active", json=asked | {"pos": 999}).json()["error"]["code"] == "unknown_position"
    assert client.post("/api/v1/active", json=asked | {"site": "z.1:0", "pos": None}).status_code == 200


def test_what_is_saved_is_found_too(client: httpx.Client, demo: rs.Model, basis: rs.Basis) -> None:
    client.post("/api/v1/me", json={"name": "Ada"})
    kept = []
    for number in (3, 5):
        asked: dict[str, Any] = {"along": [{"of": PCA | {"component": number}}], "name": f"the {number}th"}
        kept.append(client.post("/api/v1/directions", json=asked | {"site": SITE}).json())
    answer = client.post("/api/v1/active", json={"site": SITE, "text": TEXTS[0], "pos": 5}).json()["saved"]
    run = demo.run(TEXTS[0])
    values = {f"the {n}th": float(rs.project(run, basis[n]).values[0, 5] / basis.deviations[n]) for n in (3, 5)}
    assert {one["name"]: one["value"] for one in answer} == pytest.approx(values, abs=1e-4)
    assert abs(answer[0]["value"]) >= abs(answer[1]["value"])
    assert (answer[0]["owner"], answer[0]["pos"]) == ("Ada", 5)
    near = client.post("/api/v1/nearest", json={"site": SITE, "along": [{"of": PCA}]}).json()["saved"]
    assert (near[0]["id"], near[0]["value"]) == (kept[0]["id"], pytest.approx(1))
    for one in kept:
        client.delete(f"/api/v1/directions/{one['id']}")


def test_a_sum_is_a_direction_too(client: httpx.Client, basis: rs.Basis) -> None:
    inner = {"kind": "sum", "terms": [{"of": PCA, "weight": 3.0}, {"of": PCA | {"component": 4}, "weight": -4.0}]}
    outer = {"kind": "sum", "terms": [{"of": inner, "weight": 5.0}, {"of": PCA, "weight": -3.0}]}
    for spec, expected in ((inner, {3: 0.6, 4: -0.8}), (outer, {4: -1.0})):
        (found,) = client.post("/api/v1/describe", json={"site": SITE, "directions": [spec]}).json()["directions"]
        cosines = torch.tensor(found["cosines"])
        wanted = torch.zeros(128).index_put((torch.tensor(list(expected)),), torch.tensor([*expected.values()]))
        torch.testing.assert_close(cosines, wanted, rtol=0, atol=1e-6)
    nothing = {"kind": "sum", "terms": [{"of": PCA}, {"of": PCA, "weight": -1.0}]}
    answer = client.post("/api/v1/describe", json={"site": SITE, "directions": [nothing]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_direction")


def test_a_probe_is_fitted_once(server: tuple[httpx.Client, Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[object] = []

    def fit(*args: Any, **options: Any) -> rs.Direction:
        fitted.append(args)
        return rs.probe(*args, **options)

    monkeypatch.setattr("residscope.server.directions.probe", fit)
    spec = {"kind": "probe", "positive": SETS[0] * 3, "negative": SETS[1] * 3}
    for path, asked in (("home", {"direction": spec}), ("describe", {"directions": [spec | {"here": True}]})):
        assert server[0].post(f"/api/v1/{path}", json={"site": SITE, **asked}).status_code == 200
    assert len(fitted) == 1


def test_sums_are_not_nested_without_end(client: httpx.Client) -> None:
    made: dict[str, Any] = PCA
    for _ in range(200):
        made = {"kind": "sum", "terms": [{"of": made}]}
    refused = client.post("/api/v1/nearest", json={"site": SITE, "along": [{"of": made}]})
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "Sums are nested more than 16 deep.")
