"""The picture of the page Graph: cards and edges, how it fits its room, its files."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

import residscope as rs
from residscope.sites import read_site
from tests.browser.test_bench_pages import wait_until_done
from tests.browser.test_graph import OPEN, open_graph, pick
from tests.serving import FEW_TEXTS, serve

MID = "resid_mid.3"
misfits = pytest.mark.filterwarnings("ignore::residscope.errors.DictionaryMisfit")


@pytest.fixture(scope="module")
def origin_of_two(demo: rs.Model) -> Iterator[str]:
    """A server that has two dictionaries of layer 3."""
    site = read_site(MID)
    other = replace(rs.demo.dictionaries["resid_pre.3"], name="other", site=site)
    with serve(demo, FEW_TEXTS, dictionaries={**rs.demo.dictionaries, MID: other}) as (address, _, _):
        yield address


@pytest.fixture
def page_of_two(browser_context: Callable[[], BrowserContext], origin_of_two: str) -> Page:
    page = browser_context().new_page()
    page.goto(f"{origin_of_two}/graph")
    wait_until_done(page)
    return page


def save(page: Page, name: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name, exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def read_texts_of(svg: Path) -> list[str]:
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg.read_text())


@misfits
def test_cards_of_a_layer_with_two_dictionaries_say_number_and_site(page_of_two: Page, tmp_path: Path) -> None:
    said = read_texts_of(save(page_of_two, "SVG", tmp_path))
    assert "3.564" in said
    assert any(text.endswith(" resid_mid") for text in said)
    assert any(text.endswith(" resid_pre") for text in said)
    assert not any(text.startswith("resid") for text in said)


@misfits
def test_nodes_of_a_layer_with_two_dictionaries_have_ids_of_their_own(page_of_two: Page, tmp_path: Path) -> None:
    made = json.loads(save(page_of_two, "Attribution graph", tmp_path).read_text())
    ids = [node["node_id"] for node in made["nodes"]]
    assert len({*ids}) == len(ids)
    assert "3_564_14" in ids
    assert any(re.fullmatch(r"3_\d+_14_resid_mid", one) for one in ids)
    assert {node["ctx_idx"] for node in made["nodes"]} == {14}


@misfits
def test_a_graph_grows_from_a_node_that_its_site_names(page_of_two: Page) -> None:
    page = page_of_two
    pick(page, f"{MID}.758")
    with page.expect_request("**/api/v1/grow") as asked:
        page.get_by_role("button", name="Grow a graph from it").first.click()
    assert asked.value.post_data_json["node"] == [MID, 758, 14]
