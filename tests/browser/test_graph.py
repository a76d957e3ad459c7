"""The page Graph in a real browser, before a real server on the bundled model."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

import residscope as rs
from tests.browser.test_bench_pages import query, wait_until_done
from tests.models import shared_path

OPEN = Callable[..., Page]
PROMPT = "When John and Mary went to the shops, John gave the bag to"
LARGE = "Find in the graph"


@pytest.fixture(scope="module")
def traced(demo: rs.Model) -> rs.Graph:
    """What the page opens with."""
    metric = rs.logit_difference(" Mary", " John")
    return rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, top=10, paths="any", outputs=[metric])


def open_graph(open_page: OPEN, path: str = "/graph") -> Page:
    page = open_page(path, ready=False)
    wait_until_done(page)
    expect(page.locator(".graph .net .above")).to_be_visible()
    return page


def read_edges(page: Page) -> list[list[str]]:
    page.locator(".graph summary").click()
    rows: list[list[str]] = page.locator(".graph .table table").evaluate(
        "table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


def pick(page: Page, words: str) -> None:
    """Find a card and open it, by keys alone."""
    page.get_by_label(LARGE).fill(words)
    page.get_by_label(LARGE).press("Enter")


def test_the_door_opens_a_finished_graph_that_is_what_python_traces(open_page: OPEN, traced: rs.Graph) -> None:
    page = open_page()
    page.get_by_role("link", name="Which feature caused which?").click()
    expect(page.locator(".picture .residscope.view header strong")).to_have_text(traced.name)
    keep = float(page.get_by_label("Share of the weight that is kept").input_value())
    small = traced.prune(edges=keep)
    said = page.locator(".picture .residscope.view header .legend")
    expect(said).to_contain_text(
        f"{len(small.values)} edges of {len(traced.values):,} between {len(small.levels)} of {len(traced.levels)} nodes"
    )
    expect(said).to_contain_text(f"{100 * small.share:.1f}% of the whole effect")
    rows = read_edges(page)
    order = small.values.abs().argsort(descending=True, stable=True)
    assert len(rows) == len(small.values)
    for row, edge in zip(rows, order.tolist(), strict=True):
        assert [row[0], row[3]] == [small.describe(int(end[edge])) for end in (small.sources, small.targets)]
        assert float(row[2].replace("−", "-")) == pytest.approx(float(small.values[edge]), rel=0.02)


def test_the_slider_keeps_what_prune_keeps_and_the_link_says_it(open_page: OPEN, traced: rs.Graph) -> None:
    page = open_graph(open_page)
    page.get_by_label("Share of the weight that is kept").fill("0.6")
    page.get_by_label("Paths").select_option("long")
    small = traced.prune(edges=0.6, paths="long")
    said = page.locator(".picture .residscope.view header .legend")
    expect(said).to_contain_text(f"{len(small.values)} edges of")
    page.wait_for_function("() => location.search.includes('look')")
    assert json.loads(query(page)["look"])["chosen"] == {"keep": 0.6, "paths": "long"}
    page.reload()
    expect(said).to_contain_text(f"{len(small.values)} edges of")


def test_all_edges_are_all_and_a_graph_without_any_says_what_helps(
    open_page: OPEN, demo: rs.Model, traced: rs.Graph
) -> None:
    said = ".picture .residscope.view header .legend"
    page = open_graph(open_page, "/graph?look=" + json.dumps({"chosen": {"keep": 1}}))
    expect(page.locator(said)).to_contain_text(f"{len(traced.values):,} edges of {len(traced.values):,} between")
    expect(page.get_by_label("Traced paths")).to_have_count(0)
    page = open_graph(open_page, "/graph?paths=long&look=" + json.dumps({"chosen": {"keep": 1}}))
    metric = rs.logit_difference(" Mary", " John")
    long = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, top=10, outputs=[metric])
    assert len(long.values) < len(traced.values)
    expect(page.locator(said)).to_contain_text(f"{len(long.values):,} edges of {len(long.values):,} between")
    page.get_by_label("Traced paths").select_option("any")
    expect(page.locator(said)).to_contain_text(f"{len(traced.values):,} edges of {len(traced.values):,} between")
    page = open_page("/graph?rule=threshold&amount=1000000", ready=False)
    expect(page.locator(".graph .problem")).to_contain_text("ask for more edges, or for smaller ones")


def test_a_click_pins_a_card_again_lets_it_go_and_hover_lights_its_paths(open_page: OPEN) -> None:
    page = open_graph(open_page)
    net, canvas = page.locator(".graph .net"), page.locator(".graph .net .above")
    expect(net).not_to_have_class("net dim")
    canvas.focus()
    canvas.press("ArrowRight")
    expect(net).to_have_class("net dim")
    said = page.locator(".graph .said")
    expect(said).not_to_be_empty()
    key = str(said.text_content()).split()[0]
    canvas.press("Enter")
    face = page.locator(".graph .face")
    expect(face).to_have_attribute("aria-label", key)
    expect(face.locator("li").first).to_be_visible()
    look: dict[str, Any] = json.loads(query(page)["look"])
    assert look["picked"] == {"item": key}
    assert look["chosen"]["pinned"] == [key]
    page.reload()
    expect(face).to_have_attribute("aria-label", key)
    face.locator("li button").first.click()
    expect(face).to_have_count(2)
    face.get_by_label(f"Unpin {key}").click()
    expect(face).to_have_count(1)


def test_groups_names_and_notes_are_kept_in_the_file_which_python_reads(
    open_page: OPEN, traced: rs.Graph, tmp_path: Path
) -> None:
    page = open_graph(open_page)
    strongest = traced.values.abs().argmax()
    keys = [traced.describe(int(end[strongest])) for end in (traced.sources, traced.targets)]
    for key in keys:
        pick(page, key)
    page.get_by_label(LARGE).fill("")
    page.get_by_label(f"Name of {keys[0]}").fill("the giver")
    page.get_by_label(f"Name of {keys[0]}").blur()
    page.get_by_label(f"Note on {keys[1]}").fill("rises with it")
    page.get_by_label(f"Note on {keys[1]}").blur()
    page.get_by_label("Name of the group").fill("names")
    page.get_by_role("button", name="Group", exact=True).click()
    expect(page.locator(".graph .face")).to_have_attribute("aria-label", "Group names")
    page.get_by_role("button", name="Fold layer 0").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="JSON", exact=True).click()
    waiting.value.save_as(tmp_path / "graph.json")
    read = rs.open(tmp_path / "graph.json")
    assert isinstance(read, rs.Graph)
    assert read.marks["groups"] == {"names": sorted(keys, key=read.marks["groups"]["names"].index)}
    assert set(read.marks["groups"]["names"]) == set(keys)
    assert (read.marks["names"], read.marks["notes"]) == ({keys[0]: "the giver"}, {keys[1]: "rises with it"})
    assert read.marks["folded"] == [0]
    assert read.values.tolist() == traced.values.tolist()
    assert read.nodes().equals(traced.nodes())
    other = open_graph(open_page, "/graph?text=Tom%20ran%20home&correct=&wrong=")
    other.locator("input[type=file]").set_input_files(tmp_path / "graph.json")
    expect(other.locator(".residscope.view header strong")).to_have_text(traced.name)
    expect(other.get_by_role("button", name="Unfold layer 0")).to_be_visible()


OPENED = "input[type=file]"
TITLE = ".picture .residscope.view header strong"
TOM = 'Tom ran home. He was "fine" 🙂'


@pytest.mark.parametrize(
    "asked",
    [
        {"top": 7},
        {"positions": [3, 5], "threshold": 0.2, "paths": "any", "errors": True, "tokens": True, "split": True},
        {"positions": "all", "share": 0.4, "method": "attribution"},
    ],
)
def test_a_graph_from_a_file_is_asked_for_as_it_was_made(
    open_page: OPEN, demo: rs.Model, tmp_path: Path, asked: dict[str, Any]
) -> None:
    outputs = [rs.logit_difference(" was", " the")] if "split" in asked else [rs.logit(" was")]
    graph = rs.causal_graph(demo, TOM, rs.demo.dictionaries, outputs=outputs, **asked)
    sizes = graph.values.abs() * graph.is_feature[graph.sources]
    strongest = int(graph.sources[sizes.argmax()])
    key, level = graph.describe(strongest), int(graph.levels[strongest])
    graph.mark(names={key: "Tom's"}, look={"across": "columns"}).save(tmp_path / "tom.json")
    page = open_graph(open_page)
    traced: list[str] = []
    page.on("request", lambda request: traced.append(request.url.rpartition("/")[2]))
    page.locator(OPENED).set_input_files(tmp_path / "tom.json")
    expect(page.locator(TITLE)).to_have_text(graph.name)
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(TOM)
    expect(page.get_by_label("Layers", exact=True)).to_have_value("columns")
    said = page.locator(".picture .residscope.view header .legend")
    expect(said).to_contain_text(f"of {len(graph.values):,} between")
    with page.expect_request("**/feature_life") as waiting:
        pick(page, key)
    site, feature = graph.dictionaries[level]["site"], int(graph.features[strongest])
    asked_for = {"text": TOM, "site": site, "feature": feature, "pos": int(graph.pos[strongest])}
    assert waiting.value.post_data_json == asked_for
    expect(page.get_by_label(f"Name of {key}")).to_have_value("Tom's")
    page.get_by_label("Intervention").select_option("ablate")
    expect(page.get_by_label(f"{key} ablated").locator(".intervention")).to_be_visible()
    expect(page.locator(TITLE)).to_have_text(graph.name)
    assert "graph" not in traced
    page.reload()
    wait_until_done(page)
    expect(page.locator(TITLE)).to_have_text(graph.name)
    expect(said).to_contain_text(f"of {len(graph.values):,} between")
    expect(page.get_by_label(f"Name of {key}")).to_have_value("Tom's")


def test_an_opened_graph_is_tried_and_the_way_back_leads_to_what_was_there(
    open_page: OPEN, demo: rs.Model, traced: rs.Graph, tmp_path: Path
) -> None:
    grown = rs.grow_graph(demo, "Tom ran home", rs.demo.dictionaries, (3, 758, -1), ways="causes", top=4)
    grown.save(tmp_path / "grown.json")
    graph = rs.causal_graph(demo, "Tom ran home", rs.demo.dictionaries)
    graph.save(tmp_path / "tom.safetensors")
    page = open_graph(open_page)
    page.locator(OPENED).set_input_files(tmp_path / "grown.json")
    expect(page.locator(TITLE)).to_have_text(grown.name)
    expect(page.get_by_role("textbox", name="Node")).to_have_value("3.758@-1")
    expect(page.get_by_label("Ways")).to_have_value("causes")
    expect(page.get_by_label("How much")).to_have_value("4")
    page.locator(OPENED).set_input_files(tmp_path / "tom.safetensors")
    page.get_by_label("Whether it is right").select_option("zero")
    keep = float(page.get_by_label("Share of the weight that is kept").input_value())
    found = graph.prune(keep).evaluate(demo, rs.demo.dictionaries)
    said = f"{found.completeness:.2f}".replace("-", "−")
    expect(page.locator(".closer .evaluation")).to_contain_text(f"all but them{said}")
    for _ in range(3):
        page.go_back()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(PROMPT)
    expect(page.locator(TITLE)).to_have_text(traced.name)


@pytest.mark.parametrize(
    ("changed", "says", "explained"),
    [
        ("model", "It is a graph of other, and this server has demo.", False),
        ("fingerprint", "Its dictionaries of resid_pre.3 are not this server's.", False),
        ("rule", "in a way that this page cannot ask for: later=True.", True),
        ("pruned", "changed by graph = graph.prune(edges=0.9)", True),
        ("outputs", "This page cannot ask for effects on rs.logit(' was', pos=-2).", True),
    ],
)
def test_of_a_graph_that_cannot_be_asked_for_nothing_is_asked(
    open_page: OPEN, demo: rs.Model, tmp_path: Path, changed: str, says: str, explained: bool
) -> None:
    how: dict[str, Any] = {"rule": {"later": True}, "outputs": {"outputs": [rs.logit(" was", pos=-2)]}}
    graph = rs.causal_graph(demo, "Tom ran home", rs.demo.dictionaries, **how.get(changed, {}))
    graph = graph.prune(0.9) if changed == "pruned" else graph
    nodes = graph.nodes()
    feature, pos = nodes[(nodes["layer"] == 3) & (nodes["activation"] > 0)].iloc[0][["feature", "pos"]]
    data = json.loads(graph.to_file())
    if changed == "model":
        data["settings"]["model"] = "other"
    if changed == "fingerprint":
        next(one for one in data["dictionaries"] if one["site"] == "resid_pre.3")["fingerprint"] = "0" * 64
    (tmp_path / "tom.json").write_text(json.dumps(data))
    page = open_graph(open_page)
    before = query(page)
    page.locator(OPENED).set_input_files(tmp_path / "tom.json")
    expect(page.locator(TITLE)).to_have_text(graph.name)
    note = page.get_by_role("note")
    expect(note).to_contain_text("tom.json is shown, and what is asked for above is not what it was made of.")
    expect(note).to_contain_text(says)
    page.get_by_label("Share of the weight that is kept").fill("1")
    pick(page, f"3.{feature}@{pos}")
    expect(page.locator(".graph .face")).to_be_visible()
    card = page.get_by_label(f"Feature {feature} of resid_pre.3")
    expect(card).to_have_count(int(explained))
    expect(page.locator(".closer")).to_have_count(int(explained))
    for button in ("Link", "HTML", "Keep", "Grow a graph from it"):
        expect(page.get_by_role("button", name=button, exact=True)).to_have_count(0)
    for word in ("Intervention", "Whether it is right"):
        expect(page.get_by_label(word)).to_have_count(0)
    assert query(page) == before
    page.get_by_label("Positions").select_option("all")
    wait_until_done(page)
    expect(note).to_have_count(0)
    expect(page.get_by_role("button", name="Link", exact=True)).to_be_visible()


def test_a_file_that_is_opened_before_the_model_is_known_is_shown(
    browser_context: Callable[[], BrowserContext], origin: str, traced: rs.Graph, tmp_path: Path
) -> None:
    traced.save(tmp_path / "graph.json")
    page = browser_context().new_page()

    def wait(route: Route) -> None:
        page.wait_for_timeout(600)
        route.continue_()

    page.route("**/api/v1/model", wait)
    page.goto(f"{origin}/graph?text=Tom%20ran%20home&correct=&wrong=")
    page.locator(OPENED).set_input_files(tmp_path / "graph.json")
    expect(page.locator(TITLE)).to_have_text(traced.name)
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(PROMPT)


def test_a_damaged_file_is_refused_and_what_is_shown_stays(open_page: OPEN, traced: rs.Graph, tmp_path: Path) -> None:
    data = json.loads(traced.to_file())
    data["edges"][7]["source"] = 99999
    (tmp_path / "graph.json").write_text(json.dumps(data))
    page = open_graph(open_page)
    pick(page, "3.564")
    page.locator(OPENED).set_input_files(tmp_path / "graph.json")
    expect(page.locator(".notes")).to_contain_text("graph.json is no saved result. The file's edge 7 has no ends.")
    expect(page.locator(".graph .face")).to_have_attribute("aria-label", "3.564@14")
    expect(page.locator(".closer").first).to_be_visible()


def test_what_cannot_be_traced_is_said_in_words(open_page: OPEN) -> None:
    page = open_page("/graph?positions=at&at=99", ready=False)
    panel = page.get_by_role("alert")
    expect(panel).to_contain_text("99")
    page.get_by_label("Which positions").fill("3")
    page.get_by_label("Which positions").press("Enter")
    wait_until_done(page)
    expect(panel).to_have_count(0)
    page.get_by_role("textbox", name="Prompt").fill("")
    page.get_by_role("textbox", name="Prompt").press("Enter")
    expect(panel).to_contain_text("empty")


def test_a_saved_file_has_the_marks_and_opens_from_disk(
    open_page: OPEN, browser_context: Callable[[], BrowserContext], traced: rs.Graph, tmp_path: Path
) -> None:
    key = traced.describe(int(traced.sources[traced.values.abs().argmax()]))
    chosen = {"keep": 0.4, "names": {key: "<b>giver</b>"}, "pinned": [key]}
    stance = {"across": "columns", "sign": "ablation", "paths": "long", "output": 1}
    scale = {"mode": "fixed", "limit": 2.5}
    page = open_graph(
        open_page,
        "/graph?look=" + json.dumps({"chosen": chosen | stance, "picked": {"item": key}, "scale": scale}),
    )
    with page.expect_download() as waiting:
        page.get_by_role("button", name="JSON", exact=True).click()
    waiting.value.save_as(tmp_path / "graph.json")
    kept = rs.open(tmp_path / "graph.json")
    assert isinstance(kept, rs.Graph)
    assert kept.marks == {**chosen, "look": {**stance, "picked": key, "limit": 2.5}}
    with page.expect_download() as waiting:
        page.get_by_role("button", name="HTML").click()
    waiting.value.save_as(tmp_path / "graph.html")
    disk = browser_context()
    disk.set_offline(True)
    saved = disk.new_page()
    saved.goto((tmp_path / "graph.html").as_uri())
    expect(saved.locator(".graph .face")).to_have_attribute("aria-label", key)
    expect(saved.get_by_label(f"Name of {key}")).to_have_value("<b>giver</b>")
    assert float(saved.get_by_label("Share of the weight that is kept").input_value()) == 0.4
    for label, word in (("Layers", "columns"), ("Sign", "ablation"), ("Paths", "long"), ("Effect on", "1")):
        expect(saved.get_by_label(label, exact=True)).to_have_value(word)
    expect(saved.get_by_label("End of the range")).to_have_value("2.5")
    expect(saved.locator(".graph .face.open")).to_have_attribute("aria-label", key)
    saved.get_by_label("Layers", exact=True).select_option("rows")
    saved.get_by_label(f"Unpin {key}").click()
    expect(saved.locator(".graph .face")).to_have_count(0)
    expect(saved.get_by_label("Layers", exact=True)).to_have_value("rows")


def test_a_feature_opens_its_card_and_leads_to_texts_coloured_by_it(open_page: OPEN) -> None:
    page = open_graph(open_page)
    pick(page, "3.564")
    card = page.locator(".closer")
    expect(card.first.locator("> h2")).to_contain_text("Feature 564 of resid_pre.3")
    expect(card.nth(1).locator("> h2")).to_contain_text("Life of 3.564@14 in the stream")
    expect(card.nth(1).locator("canvas")).to_be_visible()
    expect(card.locator(".contexts li")).to_have_count(8)
    shades = card.locator(".contexts mark").evaluate_all("all => all.map(el => getComputedStyle(el).backgroundColor)")
    assert all(shade != "rgba(0, 0, 0, 0)" for shade in shades)
    expect(card.locator(".tokens-of")).to_have_count(2)
    card.get_by_role("link", name="Colour texts by it").click()
    page.wait_for_selector(".tokens > span")
    expect(page.locator("main")).to_contain_text("feature 564")


def test_what_is_pinned_is_ablated_as_in_python(open_page: OPEN, demo: rs.Model, traced: rs.Graph) -> None:
    page = open_graph(open_page)
    pick(page, "3.564")
    pick(page, "2.94")
    page.get_by_label("Intervention").select_option("ablate")
    card = page.locator(".closer").first
    expect(card.locator("> h2")).to_contain_text("What is pinned, 2 nodes ablated")
    found = rs.intervene(
        demo,
        PROMPT,
        rs.demo.dictionaries,
        ["3.564@14", "2.94@14"],
        outputs=[rs.logit_difference(" Mary", " John")],
    )
    [output] = found.outputs
    expect(card.locator(".intervention p b").first).to_have_text(
        f"+{output['before']:.2f} → {output['after']:+.2f}".replace("-", "−")
    )
    expect(card.locator(".intervention li > span:first-child").first).to_have_text(found.texts[0].replace(" ", "·"))
    page.get_by_label("Name of the group").fill("both")
    page.get_by_role("button", name="Group", exact=True).click()
    expect(card.locator("> h2")).to_contain_text("Group both ablated")
    page.get_by_label("Intervention").select_option("scale")
    expect(card.locator("> h2")).to_contain_text("Group both times 2")
    page.get_by_label("By how much").fill("x")
    page.get_by_label("By how much").press("Enter")
    expect(card.locator(".problem")).to_have_text("“x” is no number. Give one, as 2.")
    page.get_by_label("Intervention").select_option("add")
    page.get_by_label("By how much").fill("1e38")
    page.get_by_label("By how much").press("Enter")
    expect(card.locator(".problem")).to_contain_text("add=1e+38 was asked for, and demo then gives NaN or infinity.")
    page.get_by_label("By how much").fill("")
    page.get_by_label("By how much").press("Enter")
    expect(card.locator(".problem")).to_have_text("No number is given. Give one, as 2.")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("rule=threshold&amount=abc", "“abc” is no number. Give one, as 0.1."),
        ("rule=share&amount=", "No number is given. Give one, as 0.5."),
        ("method=attribution&rule=influence&amount=1e999", "“1e999” is no number. Give one, as 0.5."),
        ("node=3.564@14&amount=x", "“x” is no number. Give one, as 5."),
        ("positions=at&at=2-5", "“2-5” is no position. Give whole numbers"),
        ("positions=at&at=", "No position is given. Give whole numbers"),
        ("amount=1.5", "Give a whole number."),
    ],
)
def test_what_is_no_number_is_said_where_it_was_typed(open_page: OPEN, fields: str, says: str) -> None:
    page = open_page(f"/graph?{fields}", ready=False)
    expect(page.get_by_role("alert")).to_contain_text(says)
    expect(page.locator(".graph")).to_have_count(0)


def test_words_of_a_link_that_are_none_are_named_and_left_out(open_page: OPEN) -> None:
    look = json.dumps({"chosen": {"pinned": ["3.564@14"]}})
    page = open_graph(open_page, f"/graph?rule=zzz&act=zzz&extra=everything&look={look}")
    for said in ("rule=zzz", "act=zzz", "extra=everything"):
        expect(page.locator(".notes")).to_contain_text(f"The link says {said}, which is not understood")
    expect(page.get_by_label("Edges", exact=True)).to_have_value("top")
    expect(page.get_by_label("Intervention")).to_have_value("")
    expect(page.locator(".closer")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen(open_page: OPEN, scheme: Any) -> None:
    page = open_page("/graph", ready=False)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    wait_until_done(page)
    pick(page, "3.564")
    expect(page.locator(".closer").first).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_files_of_what_is_shown_are_those_of_python(open_page: OPEN, traced: rs.Graph, tmp_path: Path) -> None:
    page = open_graph(open_page, "/graph?look=" + json.dumps({"chosen": {"keep": 0.2, "paths": "long"}}))
    small = traced.prune(0.2, paths="long")
    kept = {}
    for name in ("CSV", "DOT", "Attribution graph", "SVG", "PNG"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name, exact=True).click()
        kept[name] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(kept[name])
    ours = pd.read_csv(kept["CSV"])
    pd.testing.assert_frame_equal(ours, small.to_frame(), check_dtype=False, rtol=1e-6)
    ends = re.compile(r"n\d+ -> n\d+ \[color=(blue|red)")
    assert ends.findall(kept["DOT"].read_text()) == ends.findall(small.to_dot())
    made = json.loads(kept["Attribution graph"].read_text())
    schema = json.loads(shared_path("reference/attribution_graph_schema.json").read_text())
    form = next(value for key, value in schema.items() if key.startswith("neuronpedia_graph_schema"))
    jsonschema.Draft7Validator(form).validate(made)
    assert len(made["nodes"]) == len(small.levels) + 1
    assert kept["SVG"].read_text().count("<rect") > len(small.levels)
    assert kept["PNG"].read_bytes().startswith(b"\x89PNG")


def test_the_python_of_what_is_shown_makes_it_again(open_page: OPEN, traced: rs.Graph) -> None:
    key = traced.describe(int(traced.sources[traced.values.abs().argmax()]))
    chosen = {"keep": 0.2, "names": {key: 'the "giver"'}, "groups": {"g": [key]}, "folded": [1]}
    page = open_graph(open_page, "/graph?look=" + json.dumps({"chosen": chosen}))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Python", exact=True).click()
    expect(page.locator(".files [role=status]").first).to_have_text("Python copied")
    code = str(page.evaluate("() => navigator.clipboard.readText()"))
    made: dict[str, Any] = {}
    exec(code.rpartition("\n")[0], made)
    graph, shown = made["graph"], eval(code.rpartition("\n")[2], made)
    assert graph.marks == chosen
    assert len(shown.values) == len(traced.prune(0.2).values)


def test_dragging_moves_the_picture_and_keys_go_from_card_to_card(open_page: OPEN) -> None:
    page = open_graph(open_page, "/graph?positions=all&amount=3&look=" + json.dumps({"chosen": {"keep": 0.4}}))
    scroll, canvas = page.locator(".graph .scroll"), page.locator(".graph .net .above")
    canvas.evaluate("el => el.scrollIntoView()")
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 100, steps=4)
    page.mouse.up()
    at = scroll.evaluate("el => [el.scrollLeft, el.scrollTop]")
    assert at[1] >= 150
    expect(page.locator(".graph .face")).to_have_count(0)  # a drag is no click
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        canvas.press(key)
    said = str(page.locator(".graph .said").text_content())
    canvas.press("Enter")
    expect(page.locator(".graph .face")).to_have_attribute("aria-label", said.split()[0])
    canvas.press("0")
    assert scroll.evaluate("el => el.scrollHeight - el.clientHeight") <= 1


def test_a_graph_grows_from_a_feature_as_in_python(open_page: OPEN, demo: rs.Model) -> None:
    page = open_graph(open_page)
    pick(page, "4.49")  # which the grown one has not
    pick(page, "3.758")
    page.get_by_label("Name of 3.758@14").fill("the recipient")
    page.get_by_label("Name of 3.758@14").blur()
    page.get_by_role("button", name="Grow a graph from it").click()
    expect(page.get_by_role("textbox", name="Node")).to_have_value("3.758@14")
    grown = rs.grow_graph(
        demo, PROMPT, rs.demo.dictionaries, (3, 758, 14), outputs=[rs.logit_difference(" Mary", " John")]
    )
    said = page.locator(".picture .residscope.view header .legend")
    expect(said).to_contain_text(f"{len(grown.values)} edges of {len(grown.values)} between {len(grown.levels)} of")
    expect(said).to_contain_text("of the stream's change attention brings")
    expect(page.locator(".graph .face")).to_have_count(1)
    expect(page.get_by_label("Name of 3.758@14")).to_have_value("the recipient")
    with page.expect_download():
        page.get_by_role("button", name="HTML").click()
    page.get_by_role("textbox", name="Node").fill("3.758")
    page.get_by_role("textbox", name="Node").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("node")
    page.get_by_label("What is traced").select_option("exact")
    wait_until_done(page)
    expect(said).to_contain_text("between")


def test_the_search_of_the_page_finds_nodes(open_page: OPEN) -> None:
    page = open_graph(open_page)
    page.keyboard.press("Control+k")
    page.keyboard.type("3.758")
    page.get_by_role("option", name="Node 3.758@14").click()
    expect(page.locator(".graph .face")).to_have_attribute("aria-label", "3.758@14")


def test_a_node_that_the_slider_cuts_is_found(open_page: OPEN, traced: rs.Graph) -> None:
    small = traced.prune(0.1)
    left = {small.describe(node) for node in range(len(small.levels))}
    cut, other = [key for key in map(traced.describe, range(len(traced.levels))) if key not in left][:2]
    page = open_graph(open_page, "/graph?look=" + json.dumps({"chosen": {"keep": 0.1}}))
    page.get_by_label(LARGE).fill(cut)
    expect(page.locator(".graph .bar [role=status]")).to_have_text(
        "0 cards, 1 node not shown: Enter pins the most active"
    )
    page.get_by_label(LARGE).press("Enter")
    expect(page.locator(".graph .face.open")).to_have_attribute("aria-label", cut)
    expect(page.locator(".closer").first).to_contain_text(f"Feature {cut.split('.')[1].split('@')[0]} of")
    page.keyboard.press("Control+k")
    page.keyboard.type(other)
    page.get_by_role("option", name=f"Node {other}").click()
    expect(page.locator(".graph .face.open")).to_have_attribute("aria-label", other)
    expect(page.locator(".graph .face")).to_have_count(2)
    assert json.loads(query(page)["look"])["chosen"]["pinned"] == [cut, other]


def test_a_graph_is_tried_and_says_what_python_says(
    open_page: OPEN, demo: rs.Model, traced: rs.Graph, tmp_path: Path
) -> None:
    page = open_graph(open_page)
    keep = float(page.get_by_label("Share of the weight that is kept").input_value())
    page.get_by_label("Whether it is right").select_option("zero")
    card = page.locator(".closer").first
    expect(card.locator("> h2")).to_contain_text("Is the graph right?")
    metric = rs.logit_difference(" Mary", " John")
    found = traced.prune(keep).evaluate(demo, rs.demo.dictionaries, metric=metric)
    facts = card.locator(".evaluation")
    for said in (f"they alone{found.faithfulness:.2f}", f"all but them{found.completeness:.2f}", f"CPR{found.cpr:.2f}"):
        expect(facts).to_contain_text(said)
    expect(facts).to_contain_text(f"signs right{100 * found.sign_agreement:.1f}%")
    expect(facts).to_contain_text(f"random nodes {float(found.random_cpr.mean()):.2f}")
    with page.expect_download() as download:
        card.get_by_role("button", name="CSV").click()
    values = pd.read_csv(download.value.path(), comment="#")["f"]
    assert values.tolist() == pytest.approx(found.values.flatten().tolist(), abs=1e-4)
    assert query(page)["tried"] == "zero"
    page.reload()
    expect(facts).to_contain_text(f"all but them{found.completeness:.2f}")
    page.get_by_label("Whether it is right").select_option("")
    expect(facts).to_have_count(0)


def test_a_graph_is_estimated_as_in_python(open_page: OPEN, demo: rs.Model) -> None:
    page = open_graph(open_page)
    page.get_by_label("What is traced").select_option("attribution")
    metric = rs.logit_difference(" Mary", " John")
    found = rs.causal_graph(
        demo, PROMPT, rs.demo.dictionaries, top=10, paths="any", method="attribution", outputs=[metric]
    )
    said = page.locator(".picture .residscope.view header .legend")
    error = 100 * found.settings["error"]["error"]
    expect(said).to_contain_text(f"estimated: off by {error:.1f}% of what a sample was measured to be")
    expect(said).to_contain_text(f"edges of {len(found.values):,} between")
    page.get_by_label("Edges", exact=True).select_option("influence")
    wait_until_done(page)
    estimated = rs.causal_graph(
        demo, PROMPT, rs.demo.dictionaries, share=1.0, paths="any", method="attribution", outputs=[metric]
    )
    small = estimated.prune(0.5, by="influence")
    expect(said).to_contain_text(f"edges of {len(small.values):,} between")
    page.get_by_label("What is traced").select_option("exact")
    wait_until_done(page)
    expect(page.get_by_label("Edges", exact=True)).to_have_value("top")


def test_edges_are_split_as_in_python(open_page: OPEN, demo: rs.Model) -> None:
    page = open_graph(open_page)
    page.get_by_label("Parts of edges").select_option("1")
    wait_until_done(page)
    pick(page, "3.564")
    metric = rs.logit_difference(" Mary", " John")
    found = rs.causal_graph(
        demo, PROMPT, rs.demo.dictionaries, top=10, paths="any", split=True, outputs=[metric]
    ).to_frame()
    own = found.query("target_layer == 3 and target_feature == 564")
    edge = own.sort_values("value", key=abs).iloc[-1]
    columns = [*found.columns]
    largest = edge[columns[columns.index("before") + 1 : -1]].astype(float).sort_values(key=abs, ascending=False)[:3]

    def show(value: float) -> str:
        return f"{value:+.{1 if abs(value) >= 10 else 2}f}".replace("-", "−")

    said = ", ".join(f"{name} {show(value)}" for name, value in largest.items())
    expect(page.locator(".face li small").first).to_have_text(f"{show(edge['before'])} before its threshold: {said}, …")
