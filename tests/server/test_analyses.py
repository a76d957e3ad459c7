"""The routes of the bench: each gives the result that Python gives, tells how far it is, and refuses in words."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

import residscope as rs
from residscope.directions.pca import pca_of_sites
from residscope.running import sweep
from residscope.running.texts import read_texts
from residscope.server import app
from residscope.server.analyses import ANALYSES, Lens
from tests.patience import PATIENCE
from tests.server.test_app import pca
from tests.serving import FEW_TEXTS, serve

TEXT = "Lily saw a big cat. Lily was"
OTHER = "Lily saw a big dog. Lily was"
MARKS: dict[str, Any] = {
    "keep": 0.5,
    "names": {"token@2": "who"},
    "groups": {"both": ["token@2", "token@9"]},
    "look": {"paths": "long"},
}
PAIR = {"clean": TEXT, "corrupted": OTHER, "correct": " very", "wrong": " the"}


@pytest.fixture(scope="module")
def dictionaries(stories: rs.Model) -> dict[str, rs.SparseAutoencoder]:
    """One feature for each entry of the stream and one for its opposite: they explain all of it."""
    both = torch.cat((torch.eye(stories.config.d_model), -torch.eye(stories.config.d_model)))
    biases = torch.zeros(len(both)), torch.zeros(len(both.T))
    return {
        str(site): rs.SparseAutoencoder(str(site), site, both.T.contiguous(), both, *biases)
        for site in (rs.Site("resid_pre", layer) for layer in (0, 1, 3))
    }


@pytest.fixture(scope="module")
def client(stories: rs.Model, dictionaries: dict[str, rs.SparseAutoencoder]) -> Iterator[httpx.Client]:
    with (
        serve(stories, FEW_TEXTS, dictionaries=dictionaries) as (address, _, _),
        httpx.Client(base_url=address, timeout=PATIENCE) as client,
    ):
        yield client


def expect(stories: rs.Model, dictionaries: dict[str, rs.SparseAutoencoder], name: str) -> rs.Result:
    run = stories.run([TEXT])

    def component(number: int) -> rs.Direction:
        kin = [site for site in stories.sites if site.kind == "resid_pre"]
        return pca_of_sites(stories, FEW_TEXTS, kin)[kin[2]][number]

    calls: dict[str, Callable[[], rs.Result]] = {
        "lens": lambda: rs.logit_lens(run, value="rank", target=stories.single_token(" very"), sub_blocks=True, top=3),
        "patch": lambda: rs.patch(stories, rs.pairs([PAIR]), site="z", direction="noise"),
        "heads": lambda: rs.head_scores(stories, n_sequences=2, n_tokens=9, seed=4, read="layer0"),
        "graph": lambda: rs.causal_graph(
            stories,
            TEXT,
            [dictionaries["resid_pre.1"], dictionaries["resid_pre.3"]],
            [-1, 2],
            threshold=0.5,
            paths="any",
            tokens=True,
            split=True,
            outputs=[rs.logit_difference(" very", " the")],
        ).mark(**MARKS),
        "evaluate": lambda: (
            rs.causal_graph(
                stories, TEXT, list(dictionaries.values()), method="attribution", outputs=[rs.logit(" very")]
            )
            .mark(keep=0.4)
            .prune(0.4, paths="long")
            .evaluate(stories, list(dictionaries.values()), metric=rs.logit(" very"), with_="mean", over=FEW_TEXTS)
        ),
        "feature_life": lambda: rs.feature_life(run, dictionaries["resid_pre.1"][70], pos=4),
        "grow": lambda: rs.grow_graph(
            stories, TEXT, list(dictionaries.values()), (1, 70, 9), ways="causes", top=3, outputs=[rs.logit(" very")]
        ).mark(notes={"1.70@9": "where it began"}),
        "intervene": lambda: rs.intervene(
            stories,
            TEXT,
            list(dictionaries.values()),
            ["1.70@-1", "0.3@2"],
            add=0.5,
            outputs=[rs.logit(" very")],
        ),
        "feature": lambda: rs.explain_feature(stories, dictionaries["resid_pre.1"], 70, FEW_TEXTS, top=3, n_contexts=2),
        "attention": lambda: rs.attention(run, heads=[(2, 1), (0, 3)], value_weighted=True),
        "lens_vocabulary": lambda: rs.lens_vocabulary(run, "resid_pre.2", 4, norm="final", minus=("resid_mid.1", 3)),
        "explain": lambda: rs.explain(stories, component(3), FEW_TEXTS, top=4, n_contexts=2),
        "causal_check": lambda: rs.causal_check(
            stories, component(5), read_texts(FEW_TEXTS)[:2], strength=1.5, n_draws=3
        ),
        "steer": lambda: rs.steer(
            stories, component(1), TEXT, strength=-3.0, unit="norm", on="new", n_tokens=6, temperature=0.8, seed=3
        ),
        "singular_vectors": lambda: rs.singular_vectors(stories, "QK", layer=1, head=3, n=2, top=4),
    }
    return calls[name]()


ASKED: dict[str, dict[str, Any]] = {
    "lens": {"text": TEXT, "value": "rank", "chosen": " very", "sub_blocks": True, "top": 3},
    "patch": PAIR | {"site": "z", "direction": "noise"},
    "heads": {"n_sequences": 2, "n_tokens": 9, "seed": 4, "read": "layer0"},
    "graph": {"text": TEXT, "sites": ["resid_pre.1", "resid_pre.3"], "positions": [-1, 2], "threshold": 0.5}
    | {"paths": "any", "tokens": True, "split": True, "correct": " very", "wrong": " the"}
    | {"marks": MARKS},
    "evaluate": {"text": TEXT, "method": "attribution", "correct": " very", "marks": {"keep": 0.4}, "shown": "long"}
    | {"with_": "mean"},
    "feature_life": {"text": TEXT, "site": "resid_pre.1", "feature": 70, "pos": 4},
    "grow": {"text": TEXT, "node": [1, 70, 9], "ways": "causes", "top": 3, "correct": " very"}
    | {"marks": {"notes": {"1.70@9": "where it began"}}},
    "intervene": {"text": TEXT, "nodes": ["1.70@-1", "0.3@2"], "add": 0.5, "correct": " very"},
    "feature": {"site": "resid_pre.1", "feature": 70, "top": 3, "n_contexts": 2},
    "attention": {"text": TEXT, "heads": [[2, 1], [0, 3]], "value_weighted": True},
    "lens_vocabulary": {"text": TEXT, "cell": {"site": "resid_pre.2", "pos": 4}, "norm": "final"}
    | {"minus": {"site": "resid_mid.1", "pos": 3}},
    "explain": {"site": "resid_pre.2", "along": pca(3), "top": 4, "n_contexts": 2},
    "causal_check": {
        "site": "resid_pre.2",
        "along": pca(5),
        "n_texts": 2,
        "strength": 1.5,
        "n_draws": 3,
    },
    "steer": {"site": "resid_pre.2", "along": pca(1), "prompt": TEXT, "strength": -3.0, "unit": "norm", "on": "new"}
    | {"n_tokens": 6, "temperature": 0.8, "seed": 3},
    "singular_vectors": {"matrix": "QK", "layer": 1, "head": 3, "n": 2, "top": 4},
}


def test_every_analysis_is_tried() -> None:
    assert set(ASKED) == set(ANALYSES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_it_is_the_result_that_python_gives(
    client: httpx.Client,
    stories: rs.Model,
    dictionaries: dict[str, rs.SparseAutoencoder],
    tmp_path: Path,
    name: str,
) -> None:
    answer = client.post(f"/api/v1/{name}", json=ASKED[name])
    assert answer.headers["content-type"] == "application/octet-stream"
    (tmp_path / "result").write_bytes(answer.content)
    ours, expected = rs.open(tmp_path / "result"), expect(stories, dictionaries, name)
    assert json.loads(ours.to_json()).keys() == json.loads(expected.to_json()).keys()
    assert ours.as_python().splitlines()[-1] == expected.as_python().splitlines()[-1]
    assert answer.content == expected.to_bytes()


def test_a_causal_check_takes_the_texts_that_are_given(client: httpx.Client, stories: rs.Model) -> None:
    texts = [TEXT, "Lily saw a cat and a dog."]
    asked = {"site": "resid_pre.2", "along": pca(5), "texts": texts, "strength": 3.0, "n_draws": 2}
    answer = client.post("/api/v1/causal_check", json=asked)
    direction = rs.pca(stories, FEW_TEXTS, "resid_pre.2")[5]
    expected = rs.causal_check(stories, direction, texts, strength=3.0, n_draws=2)
    assert answer.content == expected.to_bytes()
    refused = client.post("/api/v1/causal_check", json=asked | {"texts": ["word " * 2000]})
    assert refused.status_code == 400


def read_events(answer: httpx.Response) -> list[tuple[str, Any]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in answer.text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


@pytest.mark.slow
def test_it_tells_how_far_it_is(client: httpx.Client, stories: rs.Model) -> None:
    asked: dict[str, Any] = {"n_sequences": 64, "n_tokens": 60}
    events = read_events(client.post("/api/v1/heads", json=asked, headers={"Accept": "text/event-stream"}))
    assert events[0][0] == "progress"
    assert set(events[0][1]) == {"done", "total", "what"}
    assert [name for name, _ in events[1:]] == ["progress"] * (len(events) - 2) + ["result"]
    expected = rs.head_scores(stories, **asked)
    assert base64.b64decode(events[-1][1]["data"]) == expected.to_bytes()


def test_patches_that_are_known_are_told_before_the_others(
    client: httpx.Client, stories: rs.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sweep, "WALK_BYTES", 0)  # set by set
    monkeypatch.setattr(app, "_EVENT_SECONDS", 0.001)
    events = read_events(client.post("/api/v1/patch", json=PAIR, headers={"Accept": "text/event-stream"}))
    expected = rs.patch(stories, rs.pairs([PAIR]), site="resid_pre")
    n_known, before = [], -1
    for name, event in events[:-1]:
        assert name == "progress"
        assert ("data" in event) == (event["done"] > before)
        before = event["done"]
        if "data" not in event:
            continue
        (tmp_path / "part").write_bytes(base64.b64decode(event["data"]))
        part = rs.open(tmp_path / "part").values
        known = ~part.isnan()
        assert torch.equal(part[known], expected.values[known])
        n_known.append(int(known.sum()))
    assert n_known == sorted(n_known)
    assert len({*n_known}) > 2
    assert base64.b64decode(events[-1][1]["data"]) == expected.to_bytes()


def test_it_is_a_page_of_its_own_on_request(client: httpx.Client, stories: rs.Model) -> None:
    answer = client.post("/api/v1/heads", json=ASKED["heads"], headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text == expect(stories, {}, "heads").to_html()


@pytest.mark.parametrize(
    ("name", "asked", "status", "code", "says"),
    [
        ("lens", {"text": ""}, 400, "empty_prompt", "empty"),
        ("lens", {"text": TEXT, "chosen": "no such token"}, 400, "unknown_token", "'no such token'"),
        ("lens", {"text": TEXT, "value": "loss"}, 422, "bad_request", "value"),
        ("lens", {"text": TEXT, "colour": "red"}, 422, "bad_request", "colour"),
        ("lens", {"text": TEXT, "value": "rank"}, 400, "bad_argument", "rank of each cell's own best token"),
        ("patch", PAIR | {"correct": "not one token"}, 400, "unknown_token", "'not one token'"),
        ("patch", PAIR | {"corrupted": "Lily was"}, 400, "bad_argument", "tokens"),
        ("patch", PAIR | {"corrupted": ""}, 400, "bad_argument", "corrupted"),
        (
            "explain",
            {"site": "resid_pre.2", "along": pca(64)},
            404,
            "unknown_component",
            "no component 64",
        ),
        ("causal_check", {"site": "z.2", "along": pca(0)}, 400, "bad_argument", "z.2"),
        ("patch", PAIR | {"site": "nowhere"}, 400, "bad_argument", "nowhere"),
        ("steer", {"site": "resid_pre.2", "along": pca(0), "prompt": ""}, 400, "empty_prompt", "empty"),
        ("steer", {"site": "resid_pre.2", "along": pca(0), "prompt": TEXT, "unit": "inch"}, 422, "bad_request", "unit"),
        ("patch", {"task": "chess"}, 400, "bad_argument", "'chess'"),
        ("heads", {"n_tokens": 1}, 422, "bad_request", "n_tokens=1 was asked for."),
        ("heads", {"n_sequences": 1.5}, 422, "bad_request", "n_sequences=1.5 was asked for."),
        ("heads", {"seed": 99999999999999999999}, 400, "bad_argument", "seed=99999999999999999999 was asked for."),
        ("attention", {"text": TEXT, "layer": 99}, 400, "bad_argument", "layer"),
    ],
)
def test_what_cannot_be_had_is_refused(
    client: httpx.Client, name: str, asked: dict[str, Any], status: int, code: str, says: str
) -> None:
    answer = client.post(f"/api/v1/{name}", json=asked)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["hint"] != "") == (code, True)
    assert says in error["message"]
    streamed = client.post(f"/api/v1/{name}", json=asked, headers={"Accept": "text/event-stream"})
    found = {"status": 422, **streamed.json()} if status == 422 else read_events(streamed)[-1][1]
    assert found == {"status": status, "error": error}


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("patch", {"n": "abc"}, "n='abc' was asked for. Give a whole number."),
        ("patch", {"n": None}, "n=None was asked for. Give a whole number."),
        ("patch", {"n": 0}, "n=0 was asked for. Give one from 1 on."),
        ("patch", {"n": 1001}, "n=1001 was asked for. Give 1000 at most."),
        ("patch", {"direction": "up"}, "direction='up' was asked for. Choose 'denoise' or 'noise'."),
        ("patch", {"colour": "red"}, "colour='red' was asked for. Nothing has that name here: leave it out."),
        ("lens", {"text": 5}, "text=5 was asked for. Give a text."),
        ("lens", {}, "text is missing. Give it."),
        ("lens", {"text": "a", "sub_blocks": "maybe"}, "sub_blocks='maybe' was asked for. Give true or false."),
        (
            "graph",
            {"text": TEXT, "positions": [None]},
            'positions=[None] was asked for. Give "last", "all" or a list of whole numbers.',
        ),
        (
            "graph",
            {"text": TEXT, "positions": "first"},
            'positions=\'first\' was asked for. Give "last", "all" or a list of whole numbers.',
        ),
        ("lens", [], "The request=[] was asked for. Give an object."),
        (
            "causal_check",
            {"site": "z.1", "along": pca(0), "strength": 0},
            "strength=0 was asked for. Give more than 0.",
        ),
        ("causal_check", {"site": "z.1", "along": []}, "along=[] was asked for. Give 1 at least."),
        ("lens", {"text": ["x" * 200]}, f"text=['{'x' * 78} ... was asked for. Give a text."),
    ],
)
def test_what_is_typed_wrongly_is_told_in_plain_words(client: httpx.Client, name: str, asked: Any, says: str) -> None:
    answer = client.post(f"/api/v1/{name}", json=asked)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], f"{error['message']} {error['hint']}") == ("bad_request", says)


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("intervene", {"nodes": ["1.70@-1"], "add": None}, "Neither scale nor add is a number."),
        ("graph", {"threshold": None}, "threshold=None was asked for."),
    ],
)
def test_no_number_is_not_taken_for_the_usual_one(
    client: httpx.Client, name: str, asked: dict[str, Any], says: str
) -> None:
    answer = client.post(f"/api/v1/{name}", json={"text": TEXT, **asked})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, says)


def test_what_is_no_json(client: httpx.Client) -> None:
    answer = client.post("/api/v1/lens", content="{", headers={"Content-Type": "application/json"})
    assert answer.json()["error"]["message"].startswith("The request is no JSON: ")
    assert client.post("/api/v1/lens").json()["error"]["message"] == "The body of the request is missing."


def test_equal_requests_are_one() -> None:
    assert Lens(text="a") == Lens(text="a", value="prob")
    assert hash(Lens(text="a")) == hash(Lens(text="a", value="prob"))
    assert Lens(text="a") != Lens(text="b")
