"""Sums of directions on the page Stream: their sliders, and directions of every kind."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

import residscope as rs
from residscope.running.texts import read_texts
from tests.browser.conftest import OPEN, read_shades
from tests.browser.test_stream import FIRST, wait_for_name
from tests.serving import FEW_TEXTS, serve

SITE = "resid_pre.2"
PCA = [{"kind": "pca", "component": 2}, {"kind": "pca", "component": 5}]


def address(*rows: tuple[float, dict[str, object]], more: str = "&mix=1") -> str:
    return f"/?site={SITE}&count=4&units=stream{more}&along={quote(json.dumps(rows))}"


def read_value(page: Page, pos: int) -> float:
    """Of a token of the first text, as its card says it."""
    page.locator(f"{FIRST} .tokens > span").nth(pos).click()
    card = page.locator(".card", has_text=f"Token {pos},")
    text = card.locator("p b").first.inner_text()
    return float(re.split(r"\s", text)[0].replace("−", "-"))


def wait_for_along(page: Page, check: Callable[[list[list[Any]]], bool]) -> None:
    """Until the rows that the address has pass."""
    page.wait_for_url(lambda url: check(json.loads(parse_qs(urlsplit(url).query).get("along", ["[]"])[0])))


@pytest.fixture(scope="module")
def basis(demo: rs.Model) -> rs.Basis:
    return rs.pca(demo, read_texts(rs.demo.texts)[:60], SITE)


@pytest.mark.parametrize("free", [False, True])
def test_a_sum_is_what_python_gives(open_page: OPEN, demo: rs.Model, basis: rs.Basis, free: bool) -> None:
    page = open_page(address((0.75, PCA[0]), (-1.5, PCA[1]), more="&mix=1&free=1" if free else "&mix=1"))
    direction = 0.75 * basis[2] - 1.5 * basis[5]
    length = (0.75**2 + 1.5**2) ** 0.5
    run = demo.run(read_texts(rs.demo.texts)[0])
    values = rs.project(run, direction).values[0] * (length if free else 1)
    for pos in (3, 11):
        assert read_value(page, pos) == pytest.approx(float(values[pos]), abs=0.011 * max(1, abs(float(values[pos]))))
    expect(page.locator(".mix")).to_contain_text("has the length 1.68")
    csv = page.evaluate(
        """async ([site, along, free]) => {
          const {texts} = await (await fetch("/api/v1/texts?count=1")).json();
          const panels = [{site, along: along.map(([weight, of]) => ({weight, of}))}];
          const body = JSON.stringify({texts, panels, free});
          const headers = {"Content-Type": "application/json"};
          return (await fetch("/api/v1/export/csv", {method: "POST", body, headers})).text();
        }""",
        [SITE, [[0.75, PCA[0]], [-1.5, PCA[1]]], free],
    )
    assert float(csv.splitlines()[4].rsplit(",", 1)[1]) == pytest.approx(float(values[3]), abs=1e-4)


def test_a_sum_is_centred_on_the_mean_of_each_position(open_page: OPEN, demo: rs.Model, basis: rs.Basis) -> None:
    page = open_page(address((0.75, PCA[0]), (-1.5, PCA[1])))
    page.get_by_label("Centre").select_option("position")
    page.evaluate("() => new Promise(requestAnimationFrame)")  # until it shows that it works
    expect(page.locator(".picture")).to_have_attribute("aria-busy", "false")
    direction = 0.75 * basis[2] - 1.5 * basis[5]
    means = rs.position_means(demo, read_texts(rs.demo.texts)[:60], SITE)
    run = demo.run(read_texts(rs.demo.texts)[0])
    values, plain = (rs.project(run, direction, centre=centre).values[0] for centre in (means, "mean"))
    for pos in (3, 11):
        assert read_value(page, pos) == pytest.approx(float(values[pos]), abs=0.011)
        assert abs(float(values[pos] - plain[pos])) > 0.05
    page.wait_for_url(re.compile("pos=11"))  # a moment later; the token that it names is left by a click
    page.reload()
    expect(page.locator(".sentence")).to_contain_text("the mean of each position")
    assert read_value(page, 3) == pytest.approx(float(values[3]), abs=0.011)


def test_a_slider_repaints_and_asks_nothing(open_page: OPEN) -> None:
    page = open_page(address((1, PCA[0]), (-0.5, PCA[1])))
    expect(page.locator(".mix li")).to_have_count(2)
    before = read_shades(page, FIRST)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    slider = page.get_by_role("slider").nth(1)
    for value in ("0.3", "0.9", "1.4"):
        slider.fill(value)
    expect(page.locator(".card h3", has_text="+ 1.40 (PCA 5")).to_be_visible()
    assert read_shades(page, FIRST) != before
    page.wait_for_timeout(400)  # longer than any request waits
    assert asked == []
    wait_for_along(page, lambda rows: rows[1][0] == 1.4)
    page.get_by_label("Weight of PCA 5 of resid_pre.2, typed").fill("-0.5")
    page.keyboard.press("Enter")
    expect(page.locator(".card h3", has_text="− 0.50 (PCA 5")).to_be_visible()
    assert read_shades(page, FIRST) == before


def test_solo_mute_and_remove(open_page: OPEN) -> None:
    page = open_page(address((1, PCA[0]), (-0.5, PCA[1])))
    both = read_shades(page, FIRST)
    page.get_by_role("button", name="solo").first.click()
    wait_for_name(page, "PCA 2 of resid_pre.2")
    wait_for_along(page, lambda rows: [len(row) for row in rows] == [2, 3])
    page.get_by_role("button", name="mute").first.click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing is left of the sum.")
    page.get_by_role("button", name="mute").first.click()
    page.get_by_role("button", name="solo").first.click()
    expect(page.locator(".card h3", has_text="− 0.50 (PCA 5")).to_be_visible()
    assert read_shades(page, FIRST) == both
    page.get_by_role("button", name="Remove PCA 2 of resid_pre.2").click()
    wait_for_along(page, lambda rows: len(rows) == 1)
    page.go_back()
    expect(page.locator(".mix li")).to_have_count(2)


def test_others_are_taken_out_of_one(open_page: OPEN, demo: rs.Model, basis: rs.Basis) -> None:
    token = {"kind": "token", "token": " the", "here": True}
    page = open_page(address((1, token), (0.2, PCA[0]), (0.2, PCA[1])))
    page.get_by_role("button", name=re.compile("Take the others out of ' the'")).click()
    expect(page.locator(".cosine").nth(1)).to_have_text("0.00")
    expect(page.locator(".cosine").nth(2)).to_have_text("0.00")
    token_vector = rs.token_direction(demo, " the").vector
    weights = [-float(token_vector @ basis[number].vector) for number in (2, 5)]
    wait_for_along(page, lambda rows: [row[0] for row in rows] == pytest.approx([1, *weights], abs=1e-5))


def test_rows_are_made_orthonormal(open_page: OPEN, demo: rs.Model) -> None:
    token = {"kind": "token", "token": " the", "here": True}
    page = open_page(address((1, PCA[0]), (1, token)))
    page.get_by_role("button", name="Make them orthonormal").click()
    names = page.locator(".mix .name")
    expect(names.first).to_have_text("PCA 2 of resid_pre.2")
    expect(names.nth(1)).to_have_attribute("title", re.compile("cosine 0.00 to PCA 2"))
    wait_for_along(page, lambda rows: rows[1][1]["kind"] == "sum")
    page.get_by_role("button", name="mute").nth(1).click()
    expect(page.locator(".picture")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".mix p")).to_contain_text("has the length 1.41")


def test_a_weight_that_is_emptied_is_seen_to_stay(open_page: OPEN) -> None:
    page = open_page(address((0.75, PCA[0]), (-1.5, PCA[1])))
    typed = page.get_by_label(re.compile("Weight of PCA 2 .*, typed"))
    typed.fill("")
    typed.press("Enter")
    expect(typed).to_have_value("0.75")
    expect(page.locator(".mix p")).to_contain_text("has the length 1.68")


def choose_token(page: Page, token: str, minus: str = "") -> None:
    page.get_by_role("button", name=re.compile("^Direction: ")).click()
    page.get_by_label("its text, spaces and all").fill(token)
    page.get_by_label("less another").fill(minus)
    page.get_by_role("button", name="Show it").click()


def test_a_direction_of_another_site_asks_where_it_is_meant(open_page: OPEN) -> None:
    page = open_page(f"/?site={SITE}&count=4")
    choose_token(page, " she", " he")
    panel = page.get_by_role("alertdialog")
    expect(panel).to_contain_text("lives at resid_post.3, and resid_pre.2 is shown")
    panel.get_by_role("button", name="Read it at resid_pre.2, marked").click()
    wait_for_name(page, "' she' less ' he', unembedded, at resid_pre.2")
    expect(
        page.locator(".card", has_text="It lives at resid_post.3 and is read here, where it was not made.")
    ).to_be_visible()
    page.wait_for_timeout(1100)  # what follows sooner is the same step back
    choose_token(page, " she", " he")
    panel.get_by_role("button", name="Go to resid_post.3").click()
    wait_for_name(page, "' she' less ' he', unembedded")
    expect(page.get_by_label("Site", exact=True)).to_have_value("resid_post")
    page.go_back()
    wait_for_name(page, "at resid_pre.2")


def test_a_link_to_a_direction_of_another_site_asks_too(open_page: OPEN) -> None:
    page = open_page(address((1, {"kind": "token", "token": " the"})), ready=False)
    panel = page.get_by_role("alertdialog")
    expect(panel).to_contain_text("lives at resid_post.3, and resid_pre.2 is shown")
    panel.get_by_role("button", name="Read it at resid_pre.2, marked").click()
    wait_for_name(page, "' the', unembedded, at resid_pre.2")


def test_what_is_no_direction_is_said_in_the_form(open_page: OPEN) -> None:
    page = open_page(f"/?site={SITE}&count=4")
    choose_token(page, "no such token")
    expect(page.locator(".maker [role=alert]")).to_contain_text("'no such token'")
    wait_for_name(page, "PCA 0 of resid_pre.2")


CHOSEN: dict[str, tuple[dict[str, str], str]] = {
    "contrast": ({"texts of one kind": "Anna ran home.\nTom ran.", "texts of the other": "It was dark."}, "contrast"),
    "feature": ({"number": "12"}, "feature 12"),
    "head": ({"layer": "2", "head": "1", "number, from 0": "0"}, "OV 0 of head 2.1 (out)"),
    "head in": ({"layer": "2", "head": "1", "side": "in", "number, from 0": "0"}, "OV 0 of head 2.1 (in)"),
    "head query": (
        {"layer": "2", "head": "1", "circuit": "QK", "side": "query", "number, from 0": "3"},
        "QK 3 of head 2.1 (query)",
    ),
    "neuron": ({"layer": "1", "number": "40"}, "neuron 1.40 (out)"),
    "position": ({"position": "3"}, "position 3"),
    "pca": ({"its site": "resid_post.3", "number": "4"}, "PCA 4 of resid_post.3, at resid_pre.2"),
}


def fill(page: Page, kind: str, fields: dict[str, str]) -> None:
    """The form of a direction, of which some fields are menus."""
    page.get_by_label("Kind of direction").select_option(kind)
    for label, value in fields.items():
        field = page.locator(".maker").get_by_label(label).first
        if field.evaluate("(el) => el.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)


@pytest.mark.parametrize("kind", CHOSEN)
def test_every_kind_can_be_chosen(open_page: OPEN, kind: str) -> None:
    page = open_page(f"/?site={SITE}&count=4")
    page.get_by_role("button", name="Direction: PCA 0").click()
    fields, name = CHOSEN[kind]
    fill(page, kind.split(" ")[0], fields)
    page.get_by_role("button", name="Add it to the mix").click()
    if kind not in ("contrast", "feature", "head in", "head query"):
        page.get_by_role("alertdialog").get_by_role("button", name="Read it").click()
    expect(page.locator(".mix li")).to_have_count(2)
    expect(page.locator(".mix .name").nth(1)).to_contain_text(name)
    expect(page.locator(".picture")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_form_is_above_the_sheet_where_the_window_is_narrow(open_page: OPEN) -> None:
    page = open_page(f"/?site={SITE}&count=4")
    page.set_viewport_size({"width": 360, "height": 640})
    page.get_by_role("button", name="Direction: PCA 0").click()
    fill(page, "feature", {"number": "12"})
    page.get_by_role("button", name="Show it").click(timeout=10_000)
    expect(page.get_by_role("button", name="Direction: feature 12")).to_be_visible()


def test_a_component_of_another_site_is_gone_to(open_page: OPEN) -> None:
    page = open_page(f"/?site={SITE}&count=4")
    page.get_by_role("button", name="Direction: PCA 0").click()
    fill(page, "pca", {"its site": "resid_post.3", "number": "4"})
    page.get_by_role("button", name="Show it").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Go to resid_post.3").click()
    wait_for_name(page, "PCA 4 of resid_post.3")
    page.keyboard.press("j")
    wait_for_name(page, "PCA 5 of resid_post.3")


@pytest.mark.parametrize("model", ["demo", "stories"])
def test_a_neuron_s_gate_is_there_where_the_model_has_one(
    browser_context: Callable[[], BrowserContext], request: pytest.FixtureRequest, model: str
) -> None:
    with serve(request.getfixturevalue(model), FEW_TEXTS) as (address, _, _):
        page = browser_context().new_page()
        page.goto(f"{address}/?site=resid_mid.1&count=2")
        page.get_by_role("button", name="Direction: PCA 0").click()
        fill(page, "neuron", {"layer": "1", "number": "7"})
        side = page.locator(".maker").get_by_label("its")
        if model == "demo":
            expect(side.locator("option")).to_have_text(["output weights", "input weights"])
        else:
            side.select_option("gate")
            page.get_by_role("button", name="Show it").click()
            wait_for_name(page, "neuron 1.7 (gate)")


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("token", {}, "Write the token's text."),
        ("contrast", {"texts of one kind": " \n"}, "Give at least one text of the one kind."),
        ("probe", {"texts of one kind": "Anna ran."}, "Give at least one text of the other kind."),
        ("head", {"head": "1"}, "Say which layer, from 0 on."),
        ("head", {"layer": "two", "head": "1"}, "“two” is no whole number. Say which layer, from 0 on."),
        ("pca", {"number": "1"}, "Say the site, as resid_post.0."),
        ("saved", {"words of it": "no such words"}, "No saved direction has these words."),
    ],
)
def test_what_is_left_empty_is_said_in_words(open_page: OPEN, kind: str, fields: dict[str, str], said: str) -> None:
    page = open_page(f"/?site={SITE}&count=4")
    page.get_by_role("button", name="Direction: PCA 0").click()
    fill(page, kind, fields)
    page.get_by_role("button", name="Show it").click()
    expect(page.locator(".maker [role=alert]")).to_contain_text(said)


def test_a_head_of_a_site_is_chosen(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page(f"/?site={SITE}&count=4&units=stream")
    page.get_by_label("Site", exact=True).select_option("z")
    wait_for_name(page, "PCA 0 of z.2 head 0")
    page.get_by_label("Head", exact=True).select_option("3")
    wait_for_name(page, "PCA 0 of z.2 head 3")
    basis = rs.pca(demo, read_texts(rs.demo.texts)[:60], "z.2", head=3)
    values = rs.project(demo.run(read_texts(rs.demo.texts)[0]), basis[0]).values[0]
    assert read_value(page, 9) == pytest.approx(float(values[9]), abs=0.006)
    expect(page.get_by_role("img", name=re.compile("PCA 0 of z.2 head 3 at 4 layers"))).to_be_visible()
    page.keyboard.press("[")
    wait_for_name(page, "PCA 0 of z.1 head 3")
    page.get_by_label("Site", exact=True).select_option("mlp_act")
    wait_for_name(page, "PCA 0 of mlp_act.1")
    expect(page.get_by_label("Head", exact=True)).to_have_count(0)


def read_tip(page: Page, strip: int, pos: int) -> float:
    """The value of a token of a strip of the first text, as its tooltip says it."""
    page.locator(f"{FIRST} .strip-of").nth(strip).locator(".tokens > span").nth(pos).hover()
    text = page.locator(".tip:popover-open .value").inner_text()
    return float(re.split(r"\s", text)[0].replace("−", "-"))


def read_values(demo: rs.Model, direction: rs.Direction) -> list[float]:
    """What the first text has along it, in standard deviations."""
    assert direction.deviation
    run = demo.run(read_texts(rs.demo.texts)[0])
    found: list[float] = (rs.project(run, direction).values[0] / direction.deviation).tolist()
    return found


def test_two_directions_stand_beside_each_other_with_their_difference(
    open_page: OPEN, demo: rs.Model, basis: rs.Basis
) -> None:
    page = open_page(f"/?site={SITE}&component=2&count=3")
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("Kind of direction").select_option("feature")
    page.locator(".maker").get_by_label("number").fill("12")
    page.get_by_role("button", name="Put it beside").click()
    strips = page.locator(f"{FIRST} .strip-of")
    expect(strips).to_have_count(4)
    expect(strips.last.locator("h3")).to_have_text("PCA 2 of resid_pre.2, every layer")
    expect(strips.last.locator("canvas")).to_be_visible()
    feature = basis.measure(rs.demo.dictionaries[SITE].direction(12))
    first, second = read_values(demo, basis[2]), read_values(demo, feature)
    for pos in (4, 20):
        assert read_tip(page, 0, pos) == pytest.approx(first[pos], abs=0.006)
        assert read_tip(page, 1, pos) == pytest.approx(second[pos], abs=0.006)
        assert read_tip(page, 2, pos) == pytest.approx(second[pos] - first[pos], abs=0.006)
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    assert download.value.path().read_text().count("the second less the first") == 3
    page.reload()
    expect(strips).to_have_count(4)
    page.get_by_role("button", name="Leave the second direction out").click()
    expect(strips).to_have_count(1)


def test_every_layer_at_once(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page(f"/?site={SITE}&component=1&count=2")
    page.get_by_label("Layer", exact=True).select_option("all")
    strips = page.locator(f"{FIRST} .strip-of")
    expect(strips.locator("h3")).to_have_text([f"PCA 1 of resid_pre.{layer}" for layer in (3, 2, 1, 0)])
    for strip, layer in ((0, 3), (3, 0)):
        basis = rs.pca(demo, read_texts(rs.demo.texts)[:60], f"resid_pre.{layer}")
        assert read_tip(page, strip, 9) == pytest.approx(read_values(demo, basis[1])[9], abs=0.006)
    page.get_by_label("Layer", exact=True).select_option("3")
    wait_for_name(page, "PCA 1 of resid_pre.3")
    expect(strips).to_have_count(1)


def compare(page: Page, *texts: str) -> Locator:
    """Two texts of one's own, the last first; what is shown of it compared with the other."""
    for text in texts:
        page.locator("#add").fill(text)
        page.locator("#add").press("Control+Enter")
        expect(page.locator(".text .tokens", has_text=text)).to_have_count(1)
    page.get_by_label("Compared with").select_option(label="your text 1")
    strips = page.locator('[data-text="own.0"] .strip-of')
    expect(strips.locator("h3")).to_have_text(
        ["your text 0", "your text 1", "your text 1 less your text 0", "PCA 2 of resid_pre.2, every layer"]
    )
    return strips


def test_two_texts_of_as_many_tokens_are_compared(open_page: OPEN, demo: rs.Model, basis: rs.Basis) -> None:
    page = open_page(f"/?site={SITE}&component=2&count=2")
    texts = ["Tom gave the ball to Tom.", "Tom gave the ball to Anna."]
    strips = compare(page, *texts)
    expect(page.locator(".aligned")).to_have_text("Both have 8 tokens, which are compared position by position.")
    assert basis[2].deviation
    values = rs.project(demo.run(texts[::-1]), basis[2]).values / basis[2].deviation
    strips.nth(2).locator(".tokens > span").nth(6).hover()
    text = page.locator(".tip:popover-open .value").inner_text()
    shown = float(re.split(r"\s", text)[0].replace("−", "-"))
    assert shown == pytest.approx(float(values[1, 6] - values[0, 6]), abs=0.006)


def test_two_texts_of_unlike_length_are_compared_where_they_are_aligned(
    open_page: OPEN, demo: rs.Model, basis: rs.Basis
) -> None:
    page = open_page(f"/?site={SITE}&component=2&count=2")
    texts = ["Tom gave the ball to Anna.", "Tom gave the big red ball to Anna."]
    strips = compare(page, *texts)
    expect(page.locator(".aligned")).to_have_text(
        "Of 10 tokens here and 8 there, 8 are the same. Compared with none: 2 here, hatched, and 0 there."
    )
    difference = strips.nth(2).locator(".tokens > span")
    expect(strips.nth(2).locator(".tokens > .out")).to_have_text(["<|endoftext|>", " big", " red"])
    short, long = (rs.project(demo.run(text), basis[2]).values[0] / (basis[2].deviation or 1) for text in texts)
    tip = page.locator(".tip:popover-open .value")
    for pos, counterpart in ((2, 2), (6, 4), (8, 6)):
        difference.nth(pos).hover()
        shown = float(re.split(r"\s", tip.inner_text())[0].replace("−", "-"))
        assert shown == pytest.approx(float(short[counterpart] - long[pos]), abs=0.006)
    difference.nth(4).hover()
    expect(page.locator(".tip:popover-open")).to_contain_text("nothing to compare it with")
    strips.nth(1).locator(".tokens > span").nth(5).click()  # which is the seventh of the longer
    expect(page.locator(".card h3", has_text="Token 7,")).to_be_visible()
    expect(strips.nth(1).locator("[aria-current]")).to_have_text(" to")
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    assert "your text 0, your text 1 less your text 0" in download.value.path().read_text()
    page.reload()
    expect(strips).to_have_count(4)


def test_what_is_opened_while_a_direction_is_found_stays_open(open_page: OPEN) -> None:
    page = open_page(address((1, PCA[0])))
    held: list[Route] = []
    page.route("**/api/v1/home", lambda route: held.append(route))
    page.get_by_role("button", name="Direction: PCA 2").click()
    page.get_by_label("its text, spaces and all").fill(" cat")
    page.get_by_role("button", name="Add it to the mix").click()
    page.get_by_role("button", name="Compare").click()
    beside = page.get_by_role("dialog", name="Put a direction beside")
    beside.get_by_label("its text, spaces and all").fill(" dog")
    held[0].continue_()
    expect(page.get_by_role("alertdialog")).to_contain_text("' cat', unembedded lives at")
    expect(beside.get_by_label("its text, spaces and all")).to_have_value(" dog")
