"""The picture of the page Graph: cards and edges, how it fits its room, its files."""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import BrowserContext, Page, expect

import residscope as rs
from residscope.sites import read_site
from tests.browser.test_bench_pages import wait_until_done
from tests.browser.test_graph import OPEN, PROMPT, open_graph, pick
from tests.serving import FEW_TEXTS, serve

MID = "resid_mid.3"
misfits = pytest.mark.filterwarnings("ignore::residscope.errors.DictionaryMisfit")


@pytest.fixture(scope="module")
def two(demo: rs.Model) -> dict[str, rs.SparseAutoencoder]:
    """Dictionaries, two of layer 3 among them."""
    other = replace(rs.demo.dictionaries["resid_pre.3"], name="other", site=read_site(MID))
    return {**rs.demo.dictionaries, MID: other}


@pytest.fixture(scope="module")
def origin_of_two(demo: rs.Model, two: dict[str, rs.SparseAutoencoder]) -> Iterator[str]:
    with serve(demo, FEW_TEXTS, dictionaries=two) as (address, _, _):
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
def test_files_of_a_layer_with_two_dictionaries_are_those_of_python(
    page_of_two: Page, demo: rs.Model, two: dict[str, rs.SparseAutoencoder], tmp_path: Path
) -> None:
    keep = float(page_of_two.get_by_label("Share of the weight that is kept").input_value())
    metric = rs.logit_difference(" Mary", " John")
    small = rs.causal_graph(demo, PROMPT, two, top=10, paths="any", outputs=[metric]).prune(keep)
    made = json.loads(save(page_of_two, "Attribution graph", tmp_path).read_text())
    ids = [node["node_id"] for node in made["nodes"]]
    assert len({*ids}) == len(ids)
    assert any(re.fullmatch(r"3_\d+_14_resid_mid", one) for one in ids)
    assert ids == [node["node_id"] for node in small.to_attribution_graph("two", "demo")["nodes"]]
    table = pd.read_csv(save(page_of_two, "CSV", tmp_path))
    pd.testing.assert_frame_equal(table, small.to_frame(), check_dtype=False, rtol=1e-6)


@misfits
def test_a_graph_grows_from_a_node_that_its_site_names(
    page_of_two: Page, demo: rs.Model, two: dict[str, rs.SparseAutoencoder]
) -> None:
    page = page_of_two
    pick(page, f"{MID}.758")
    page.get_by_role("button", name="Grow a graph from it").first.click()
    wait_until_done(page)
    grown = rs.grow_graph(demo, PROMPT, two, (MID, 758, 14), outputs=[rs.logit_difference(" Mary", " John")])
    said = page.locator(".picture .residscope.view header .legend")
    expect(said).to_contain_text(re.compile(rf"edges of {len(grown.values)} between \d+ of {len(grown.levels)} nodes"))


def test_most_of_the_picture_is_seen_at_first(open_page: OPEN) -> None:
    page = open_graph(open_page)
    box = page.locator(".graph .net").bounding_box()
    assert box
    assert box["y"] < 450
    page.set_viewport_size({"width": 360, "height": 740})
    lines = page.locator(".picture .residscope.view header .legend > span")
    expect(lines).to_have_count(1)


@pytest.mark.parametrize("asked", ["tried=zero", "tried=mean", "method=attribution&rule=influence&amount=0.5"])
def test_it_fits_a_narrow_screen_whatever_is_asked(open_page: OPEN, asked: str) -> None:
    page = open_page(f"/graph?{asked}", ready=False)
    page.set_viewport_size({"width": 360, "height": 740})
    wait_until_done(page)
    if "tried" in asked:
        expect(page.locator(".curves svg")).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_a_trial_is_drawn_as_curves_with_axes_and_areas(open_page: OPEN, demo: rs.Model, tmp_path: Path) -> None:
    page = open_graph(open_page, "/graph?tried=zero")
    keep = float(page.get_by_label("Share of the weight that is kept").input_value())
    metric = rs.logit_difference(" Mary", " John")
    traced = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, top=10, paths="any", outputs=[metric])
    found = traced.prune(keep).evaluate(demo, rs.demo.dictionaries, metric=metric)
    card = page.locator(".closer").first
    picture = card.locator(".curves svg")
    for said in (f"CPR {found.cpr:.2f}", f"CMD {found.cmd:.2f}", "0.1%", "1%", "10%", "100%", "0.50", "1.00"):
        expect(picture.get_by_text(said).first).to_be_attached()
    # The dots of faithfulness: their height is f, their distance the share by powers of ten.
    dots = picture.locator("circle[fill='var(--positive)'][r='2.5']").evaluate_all(
        "all => all.map(dot => [dot.cx.baseVal.value, dot.cy.baseVal.value])"
    )
    assert len(dots) == len(found.shares)
    for (x, y), share, f in zip(dots, found.shares.tolist(), found.values[0].tolist(), strict=True):
        (x0, y0), (x1, y1) = dots[0], dots[-1]
        first, last = found.values[0, 0].item(), found.values[0, -1].item()
        assert (x - x0) / (x1 - x0) == pytest.approx(1 + math.log10(share) / 3, abs=0.01)
        assert (y - y0) / (y1 - y0) == pytest.approx((f - first) / (last - first), abs=0.01)
    with page.expect_download() as waiting:
        card.get_by_role("button", name="SVG").click()
    waiting.value.save_as(tmp_path / "curves.svg")
    assert f"CMD {found.cmd:.2f}" in " ".join(read_texts_of(tmp_path / "curves.svg"))


def test_what_is_pinned_in_a_folded_layer_can_be_unpinned(open_page: OPEN) -> None:
    chosen = {"pinned": ["3.564@14"], "folded": [3], "names": {"3.564@14": "the giver"}}
    page = open_graph(open_page, "/graph?look=" + json.dumps({"chosen": chosen}))
    face = page.locator(".graph .face")
    expect(face).to_have_attribute("aria-label", "3.564@14")
    expect(face).to_contain_text("the giver in layer 3, which is folded")
    face.get_by_label("Unpin 3.564@14").click()
    expect(face).to_have_count(0)


def test_an_intervention_says_the_names_of_nodes_and_what_is_read_after_it(open_page: OPEN, demo: rs.Model) -> None:
    found = rs.intervene(demo, PROMPT, rs.demo.dictionaries, ["3.564@14"], scale=0.5)
    other = found.feature_names[1]
    chosen = {"pinned": ["3.564@14"], "names": {"3.564@14": "the giver", other: "changed"}}
    page = open_graph(open_page, "/graph?act=scale&by=0.5&look=" + json.dumps({"chosen": chosen}))
    card = page.locator(".closer").first
    expect(card.locator("> h2")).to_contain_text("the giver 3.564@14 times 0.5")
    names = card.locator(".intervention ol").nth(1).locator("li > span:first-child")
    expect(names.nth(0)).to_have_text("3.564@14 the giver")
    expect(names.nth(1)).to_have_text(f"{other} changed")
    expect(card).to_contain_text("read near what was set")
    page.get_by_label("Name of 3.564@14").fill("the donor")
    page.get_by_label("Name of 3.564@14").blur()
    expect(names.nth(0)).to_have_text("3.564@14 the donor")
    expect(card.locator("> h2")).to_contain_text("the donor 3.564@14 times 0.5")


def test_a_saved_page_has_the_cards_of_what_was_shown(
    open_page: OPEN, browser_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    page = open_graph(open_page)
    pick(page, "3.564")
    shown = page.locator(".closer .contexts li").first
    expect(shown).to_be_visible()
    first = str(shown.text_content())
    path = save(page, "HTML", tmp_path)
    disk = browser_context()
    disk.set_offline(True)
    saved = disk.new_page()
    saved.goto(path.as_uri())
    card = saved.get_by_role("complementary", name="Card of what is picked")
    expect(card.locator(".contexts li").first).to_have_text(first)
    expect(card.locator(".tokens-of")).to_have_count(2)
    saved.locator(".graph .net .above").press("Escape")
    expect(card).to_have_text("What is picked in the graph is shown here closer.")
    pick(saved, "2.94")
    expect(card).to_contain_text("feature 94 of")
    saved.get_by_label("Find in the graph").fill("")
    saved.get_by_label("Share of the weight that is kept").fill("1")
    pick(saved, "0.")
    expect(card).to_contain_text("This file has no card of 0.")
    saved.set_viewport_size({"width": 360, "height": 740})
    assert saved.evaluate("() => document.documentElement.scrollWidth") <= 360
