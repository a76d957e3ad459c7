"""Dictionaries that a server is given: tried before they are used, refused or warned of."""

import json
import shutil
from pathlib import Path

import httpx
import pytest

import residscope as rs
from residscope.dictionaries.loading import BUNDLED
from residscope.errors import BadDictionary
from residscope.server.dictionaries import open_dictionaries
from tests.patience import PATIENCE
from tests.serving import serve


def test_dictionaries_are_found_by_their_site(demo: rs.Model) -> None:
    given = open_dictionaries(demo, ["demo/resid_pre.2-jumprelu", "demo/resid_pre.3-topk"], rs.demo.texts)
    assert list(given.dictionaries) == ["resid_pre.2", "resid_pre.3"]
    assert given.misfits == {}


def test_two_of_one_site_and_one_of_another_width_are_refused(demo: rs.Model, stories: rs.Model) -> None:
    with pytest.raises(BadDictionary, match=r"jumprelu and demo/resid_pre.2-topk both read resid_pre.2"):
        open_dictionaries(demo, ["demo/resid_pre.2-topk", "demo/resid_pre.2-jumprelu"], rs.demo.texts)
    with pytest.raises(BadDictionary, match=r"reads 128 entries, and resid_pre.2 of stories260K has 64"):
        open_dictionaries(stories, ["demo/resid_pre.2-topk"], rs.demo.texts)


def test_one_that_reads_another_layer_is_warned_of(demo: rs.Model, tmp_path: Path) -> None:
    folder = tmp_path / "off"
    shutil.copytree(BUNDLED / "resid_pre.2-topk", folder)
    config = json.loads((folder / "cfg.json").read_text())
    config["metadata"]["hook_name"] = "blocks.1.hook_resid_pre"
    (folder / "cfg.json").write_text(json.dumps(config))
    given = open_dictionaries(demo, [str(folder)], rs.demo.texts)
    [misfit] = given.misfits.items()
    assert misfit[0] == "resid_pre.1"
    assert "does not fit resid_pre.1 of demo" in misfit[1]
    assert "resid_pre.2" in misfit[1]  # the likely cause


def test_a_server_says_which_dictionaries_it_has_as_a_graphs_file_does(demo: rs.Model) -> None:
    with serve(demo, rs.demo.texts, dictionaries=rs.demo.dictionaries) as (address, _, _):
        ours = httpx.get(f"{address}/api/v1/dictionaries", timeout=PATIENCE).json()
    graph = rs.causal_graph(demo, "Lily was", rs.demo.dictionaries)
    assert ours == {one["site"]: one["fingerprint"] for one in graph.dictionaries}


def test_a_server_without_dictionaries_says_how_to_give_some(stories: rs.Model) -> None:
    with serve(stories, rs.demo.texts) as (address, _, _):
        answer = httpx.post(f"{address}/api/v1/graph", json={"text": "Lily was"}, timeout=PATIENCE)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "code": "bad_dictionary",
        "message": "This server has no dictionaries of stories260K.",
        "hint": "Start it with residscope serve MODEL --dictionary PATH, one for each layer.",
    }


@pytest.mark.slow
def test_a_features_card_names_what_is_saved_near_it(demo: rs.Model, tmp_path: Path) -> None:
    with (
        serve(demo, rs.demo.texts, dictionaries=rs.demo.dictionaries) as (address, _, app),
        httpx.Client(base_url=address, timeout=PATIENCE) as client,
    ):
        people, directions = app.state.library.people, app.state.library.directions
        directions.save(people.name("Ada"), rs.demo.dictionaries["resid_pre.3"].direction(758), name="a name follows")
        asked = {"site": "resid_pre.3", "feature": 758, "n_contexts": 1}
        (tmp_path / "card").write_bytes(client.post("/api/v1/feature", json=asked).content)
    card = rs.open(tmp_path / "card")
    assert isinstance(card, rs.FeatureExplanation)
    assert card.near[0] == {"name": "a name follows", "cosine": pytest.approx(1)}
