"""The pages Lens, Patch and Heads in a real browser, before a real server on the bundled model."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import torch
from playwright.sync_api import BrowserContext, Page, Route, expect

import residscope as rs
from residscope.running import sweep
from residscope.running.packed import Packed
from tests.patience import PATIENCE
from tests.serving import serve

OPEN = Callable[..., Page]
PROMPT = "When John and Mary went to the shops, John gave the bag to"
HOSTILE = "<img src=x onerror=document.title=1></script><script>document.title=1</script>"


def query(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def read_table(page: Page, within: str = ".picture") -> list[list[str]]:
    """What stands in place of the picture for readers who do not see it."""
    page.locator(f"{within} summary").first.click()
    rows: list[list[str]] = page.locator(f"{within} table").first.evaluate(
        "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


def wait_until_done(page: Page) -> None:
    expect(page.locator(".picture")).to_have_attribute("aria-busy", "false")


def test_the_lens_is_what_python_reads(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/lens?target=chosen&token=%20Mary", ready=False)
    expect(page.locator(".residscope.view header strong")).to_have_text("logit lens of demo")
    lens = rs.logit_lens(demo.run(PROMPT), target=" Mary")
    rows = read_table(page)
    assert len(rows) == 2 + demo.config.n_layers  # the head, every layer, and after the last
    best = [lens.texts[str(int(row[-1, 0]))] for row in lens.token_ids[0]]
    said = [row[-1] for row in rows[1:]][::-1]
    for token, prob, cell in zip(best, lens.values[0, :, -1].tolist(), sorted(said, key=said.index), strict=True):
        assert token.replace(" ", "·") in cell or f"{100 * prob:.0f}" in cell


def test_every_choice_is_in_the_address_and_back_undoes_it(open_page: OPEN) -> None:
    page = open_page("/lens", ready=False)
    expect(page.locator(".residscope.view canvas").first).to_be_visible()
    page.get_by_label("Value").select_option("entropy")
    expect(page.locator(".sentence .word").nth(0)).to_contain_text("entropy")
    page.get_by_label("Sub-blocks").select_option("1")
    prompt = page.get_by_label("Prompt")
    prompt.fill("Tom ran home")
    prompt.press("Enter")
    wait_until_done(page)
    asked = query(page)
    assert (asked["value"], asked["sub"], asked["text"], asked["model"]) == ("entropy", "1", "Tom ran home", "demo")
    rows = read_table(page)
    assert [row[0] for row in rows if "mid" in row[0]]
    page.go_back()
    expect(prompt).to_have_value(PROMPT)
    assert "text" not in query(page)
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".sentence .word").nth(0)).to_contain_text("entropy")


def test_a_cell_opens_and_the_link_opens_it_again(open_page: OPEN) -> None:
    page = open_page("/lens", ready=False)
    canvas = page.locator(".picture canvas").first
    canvas.click()
    card = page.locator(".closer")
    expect(card).to_be_visible()
    title = str(card.get_attribute("aria-label"))
    page.wait_for_function("() => location.search.includes('look')")
    assert "picked" in json.loads(query(page)["look"])
    page.reload()
    expect(card).to_have_attribute("aria-label", title)


def test_prompts_are_aligned_and_heads_lead_to_their_attention(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/patch?site=z", ready=False)
    expect(page.locator(".aligned .differs")).to_have_text(["·John", "·Mary"])
    expect(page.locator(".residscope.view header strong").first).to_have_text("patching z of demo")
    rows = read_table(page)
    assert len(rows) == 1 + demo.config.n_layers
    assert len(rows[0]) == 1 + demo.config.n_heads
    page.locator(".picture summary").first.click()
    page.locator(".picture canvas").first.click()
    closer = page.locator(".closer")
    expect(closer).to_have_count(2)
    expect(closer.first).to_have_attribute("aria-label", re.compile(r"Attention of head \d\.\d in the clean prompt"))
    expect(closer.first.locator(".residscope.view header strong")).to_contain_text("attention")
    closer.get_by_label("Close").first.click()
    expect(closer).to_have_count(0)


def test_prompts_that_do_not_align_are_refused_and_what_was_shown_stays(open_page: OPEN) -> None:
    page = open_page("/patch", ready=False)
    expect(page.locator(".picture canvas").first).to_be_visible()
    corrupted = page.get_by_label("Corrupted")
    corrupted.fill("When Mary gave")
    corrupted.press("Enter")
    expect(page.locator(".aligned .problem")).to_contain_text("patching needs equally many")
    panel = page.get_by_role("alert")
    expect(panel).to_contain_text("This could not be computed.")
    expect(panel).to_contain_text("Below is still patching resid_pre of demo")
    page.get_by_label("Right answer").fill("not one token")
    page.get_by_label("Right answer").press("Enter")
    corrupted.fill(PROMPT.replace("John gave", "Mary gave"))
    corrupted.press("Enter")
    expect(panel).to_contain_text("'not one token'")
    page.get_by_role("button", name="Where the name stands").click()
    wait_until_done(page)
    expect(panel).to_have_count(0)


def test_pairs_of_a_task_are_patched_by_role(open_page: OPEN) -> None:
    page = open_page("/patch?task=ioi&n=12", ready=False)
    expect(page.locator(".sentence").last).to_contain_text("the mean of 12 pairs")
    assert read_table(page)[0][1:] == ["IO", "S1", "S2", "end"]
    expect(page.get_by_label("Clean")).to_have_count(0)


def test_a_head_shows_where_it_looks(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/heads?look=" + json.dumps({"picked": {"layer": 1, "head": 2}}), ready=False)
    expect(page.locator(".closer")).to_have_count(2)
    attention, writes = page.locator(".closer").nth(0), page.locator(".closer").nth(1)
    expect(attention.locator("> h2")).to_contain_text("Attention of head 1.2")
    expect(attention.locator(".residscope.view header strong")).to_contain_text("attention")
    expect(writes.locator("> h2")).to_contain_text("What head 1.2 reads and writes")
    expect(writes.locator(".sides section")).to_have_count(2)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.locator(".closer").nth(0).get_by_role("button", name="Pin").click()
    page.get_by_role("textbox", name="Prompt").fill("Tom ran home")
    page.get_by_role("textbox", name="Prompt").press("Enter")
    expect(page.locator(".closer > h2")).to_contain_text(["Attention of head 1.2", "Attention", "What head"])
    cards = page.locator(".closer")
    expect(cards.nth(1).locator("canvas").first).to_have_attribute(
        "aria-label", re.compile("4 queries by as many keys")
    )
    assert query(page)["text"] == "Tom ran home"
    assert sorted(asked) == ["attention", "singular_vectors"]  # the scores do not depend on the prompt
    cards.nth(1).get_by_label("Close").first.click()
    expect(cards).to_have_count(1)
    cards.get_by_label("Close").first.click()
    expect(cards).to_have_count(0)


def test_the_heat_map_fills_in_as_cells_are_computed(open_page: OPEN, monkeypatch: pytest.MonkeyPatch) -> None:
    walk, n_walks, go_on = Packed.walk, iter(range(1000)), threading.Event()

    def wait_halfway(packed: Packed) -> None:
        if next(n_walks) == 4:
            go_on.wait(PATIENCE)
        walk(packed)

    monkeypatch.setattr(sweep, "WALK_BYTES", 0)  # cell by cell
    monkeypatch.setattr(Packed, "walk", wait_halfway)
    try:
        page = open_page("/patch", ready=False)
        expect(page.locator(".picture canvas").first).to_be_visible()
        expect(page.locator(".progress")).to_contain_text(re.compile(r"^sweeping: \d of 60"))
        cells = [cell for row in read_table(page)[1:] for cell in row[1:]]
        assert 4 < cells.count("n/a") < len(cells) - 4  # where both prompts agree nothing is computed
        expect(page.locator(".picture")).to_have_class("picture")
        expect(page.get_by_role("button", name="Save", exact=True)).to_have_count(0)
    finally:
        go_on.set()
    wait_until_done(page)
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_visible()
    expect(page.locator(".picture table").first).not_to_contain_text("n/a")


def test_a_result_is_saved_and_opened_again(open_page: OPEN, demo: rs.Model, tmp_path: Path) -> None:
    page = open_page("/heads?sequences=3&length=9", ready=False)
    wait_until_done(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save", exact=True).click()
    saved = tmp_path / "heads.safetensors"
    waiting.value.save_as(saved)
    ours, expected = rs.open(saved), rs.head_scores(demo, n_sequences=3, n_tokens=9)
    assert ours.to_json() == expected.to_json()
    rs.head_scores(demo, n_sequences=2, n_tokens=7).save(tmp_path / "other.safetensors")
    opener = page.locator("input[type=file]")
    opener.set_input_files(tmp_path / "other.safetensors")
    expect(page.get_by_role("button", name="HTML")).to_have_count(0)  # the server knows nothing of it
    assert page.locator(".picture canvas").count() > 0
    mosaic = rs.head_mosaic({"one": expected, "another": rs.open(tmp_path / "other.safetensors")})  # type: ignore[dict-item]
    mosaic.save(tmp_path / "mosaic.safetensors")
    opener.set_input_files(tmp_path / "mosaic.safetensors")
    expect(page.locator(".picture header strong")).to_have_text(mosaic.name)
    expect(page.locator(".picture")).to_contain_text("another")
    rs.logit_lens(demo.run("Tom ran")).save(tmp_path / "lens.safetensors")
    opener.set_input_files(tmp_path / "lens.safetensors")
    expect(page.locator(".note p")).to_have_text(
        "lens.safetensors holds logit lens of demo. Open it in the place Lens."
    )
    rs.project(demo.run("Tom ran"), rs.token_direction(demo, " a")).save(tmp_path / "text.safetensors")
    opener.set_input_files(tmp_path / "text.safetensors")
    expect(page.locator(".note p")).to_have_text(re.compile(r"^text.safetensors holds .* rs.open does, in Python.$"))
    (tmp_path / "no.safetensors").write_text("no result")
    opener.set_input_files(tmp_path / "no.safetensors")
    expect(page.locator(".note p")).to_have_text(re.compile(r"^no.safetensors is no saved result"))  # the only note


def test_one_file_is_saved_that_opens_alone(
    open_page: OPEN, browser_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    page = open_page("/lens?text=Tom%20ran", ready=False)
    wait_until_done(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="HTML").click()
    waiting.value.save_as(tmp_path / "lens.html")
    other = browser_context().new_page()
    other.goto((tmp_path / "lens.html").as_uri())
    expect(other.locator(".residscope.view header strong")).to_have_text("logit lens of demo")


def test_long_work_says_how_far_it_is_and_can_be_stopped(open_page: OPEN, origin: str) -> None:
    page = open_page("/heads?sequences=64&length=120&read=layer0", ready=False)
    status = page.locator(".progress")
    expect(status).to_be_visible()
    status.get_by_role("button", name="Stop").click()
    panel = page.get_by_role("alert")
    expect(panel).to_contain_text("Stopped.")
    assert httpx.get(f"{origin}/api/v1/model", timeout=PATIENCE).status_code == 200
    page.goto(page.url.replace("sequences=64&length=120", "sequences=2&length=9"))
    expect(page.locator(".picture canvas").first).to_be_visible()


def test_an_error_is_shown_and_can_be_tried_again(open_page: OPEN) -> None:
    page = open_page("/lens", ready=False)
    expect(page.locator(".picture canvas").first).to_be_visible()

    def fail(route: Route) -> None:
        error = {"code": "internal", "message": "The disk is full.", "hint": "Do this."}
        route.fulfill(status=500, json={"error": error})

    page.route("**/api/v1/lens", fail)
    page.get_by_label("Norm").select_option("final")
    panel = page.get_by_role("alert")
    expect(panel).to_contain_text("The disk is full. Do this.")
    page.unroute("**/api/v1/lens")
    panel.get_by_role("button", name="Try again").click()
    expect(panel).to_have_count(0)


@pytest.mark.parametrize("place", ["lens", "patch", "heads"])
def test_markup_in_a_prompt_does_nothing(open_page: OPEN, place: str) -> None:
    fields = {"clean": HOSTILE, "corrupted": HOSTILE} if place == "patch" else {"text": HOSTILE}
    look = {"look": json.dumps({"picked": {"layer": 0, "head": 0}})} if place == "heads" else {}
    page = open_page(f"/{place}?{httpx.QueryParams(fields | look)}", ready=False)
    expect(page.locator(".residscope.view").first).to_be_visible()
    wait_until_done(page)
    assert page.title().endswith("Residscope")
    assert page.locator("main img, main script").count() == 0


def test_what_a_link_says_wrong_is_named(open_page: OPEN) -> None:
    page = open_page("/lens?look={&theme=pink&model=other", ready=False)
    expect(page.locator(".note")).to_have_count(3)
    expect(page.locator(".picture canvas").first).to_be_visible()
    page.goto(page.url.split("?")[0] + "?value=colour")
    expect(page.get_by_role("alert")).to_contain_text("value")


def test_places_lead_to_each_other_on_wide_and_narrow_pages(open_page: OPEN) -> None:
    page = open_page("/")
    page.get_by_role("link", name="Which head moved the name?").click()
    expect(page.locator("nav [aria-current]")).to_have_text("Patch")
    page.set_viewport_size({"width": 360, "height": 700})
    for name in ("Lens", "Patch", "Heads"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.locator(".picture canvas").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.title() == f"{name} · demo · Residscope"


@pytest.mark.parametrize(
    ("place", "look", "left"),
    [
        ("lens", {"picked": {"text": 0, "cells": [{"row": 99, "column": 99}]}}, "picked="),
        ("lens", {"picked": {"text": "x"}}, "picked="),
        ("lens", {"scale": {"mode": "zzz"}}, "scale="),
        ("lens", {"scale": 5}, "scale=5"),
        ("lens", {"chosen": {"shade": "zzz", "text": 44}}, 'shade="zzz", text=44'),
        ("lens", {"chosen": 3}, "chosen=3"),
        ("patch", {"chosen": {"pair": 14, "slice": {"site": 3}, "against": 1}}, "pair=14"),
        ("heads", {"picked": {"layer": 4, "head": 0}, "chosen": {"score": "no"}}, "picked="),
    ],
)
def test_what_a_link_has_that_the_result_has_not_is_named_and_left_out(
    open_page: OPEN, place: str, look: object, left: str
) -> None:
    page = open_page(f"/{place}?{httpx.QueryParams({'look': json.dumps(look)})}", ready=False)
    expect(page.locator(".note p")).to_contain_text(left)
    expect(page.locator(".picture canvas").first).to_be_visible()
    expect(page.locator(".problem:visible")).to_have_count(0)
    page.wait_for_function("() => !location.search.includes('look')")


def test_a_pair_that_the_next_answer_has_not_is_let_go(open_page: OPEN) -> None:
    page = open_page("/patch?task=ioi&n=16", ready=False)
    page.get_by_label("Pair", exact=True).select_option("15")
    many = page.get_by_label("How many pairs")
    many.fill("5")
    many.press("Enter")
    wait_until_done(page)
    expect(page.locator(".picture .sentence")).to_contain_text("the mean of 5 pairs")
    expect(page.locator(".problem:visible")).to_have_count(0)
    page.get_by_label("Pair", exact=True).select_option("3")
    page.get_by_label("Pairs", exact=True).select_option("")
    wait_until_done(page)
    expect(page.locator(".problem:visible")).to_have_count(0)
    assert len(read_table(page)[0]) > 5  # positions, not roles


def test_nothing_old_stands_under_what_cannot_be_drawn(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/lens", ready=False)
    expect(page.locator(".picture canvas").first).to_be_visible()
    lens = rs.logit_lens(demo.run("Tom ran"))
    broken = replace(lens, settings={name: value for name, value in lens.settings.items() if name != "meaning"})
    event = f'event: result\ndata: {{"data": "{base64.b64encode(broken.to_bytes()).decode()}"}}\n\n'
    page.route("**/api/v1/lens", lambda route: route.fulfill(content_type="text/event-stream", body=event))
    page.get_by_label("Norm").select_option("final")
    expect(page.locator(".picture .problem")).to_contain_text("This view cannot be drawn.")
    expect(page.locator(".picture canvas, .picture .files")).to_have_count(0)
    page.unroute("**/api/v1/lens")
    page.get_by_label("Norm").select_option("own")
    expect(page.locator(".picture canvas").first).to_be_visible()


def test_a_cell_opens_its_whole_vocabulary_and_a_second_click_compares(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/lens", ready=False)
    canvas = page.locator(".picture canvas").first
    expect(canvas).to_be_visible()
    before = canvas.bounding_box()
    canvas.click(position={"x": 230, "y": 60})
    card = page.locator(".closer")
    expect(card.locator("[role=status]").last).to_have_text(f"{demo.config.d_vocab:,} tokens")
    assert canvas.bounding_box() == before
    expect(page.locator(".tip:popover-open")).to_have_count(0)
    site, pos = re.fullmatch(r"Vocabulary of (\S+) at (\d+)", str(card.get_attribute("aria-label"))).groups()  # type: ignore[union-attr]
    best = rs.lens_vocabulary(demo.run(PROMPT), site, int(pos)).texts[0][:3]
    expect(card.locator("[role=rowgroup] b").first).to_have_text(best[0].replace(" ", "·"))
    canvas.click(position={"x": 290, "y": 60})
    expect(card).to_have_attribute("aria-label", re.compile(r"^Vocabulary of \S+ at \d+, less that of \S+ at \d+$"))
    expect(card.get_by_role("button", name="change")).to_be_visible()
    assert canvas.bounding_box() == before
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("with Shift beside what is picked; plus and minus zoom a map")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(card).to_have_count(1)
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    canvas.click(position={"x": 230, "y": 60})
    expect(card).to_have_count(1)
    canvas.click(position={"x": 230, "y": 60})
    expect(card).to_have_count(0)


@pytest.fixture(scope="module")
def grouped(stories: rs.Model) -> Iterator[str]:
    """A server of a model whose key-value heads serve two heads each, and that knows no Mary."""
    with serve(stories, rs.demo.texts) as (address, _, _):
        yield address


def test_a_key_value_head_shows_the_heads_it_serves(grouped: str, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(
        f"{grouped}/patch?{httpx.QueryParams({'site': 'v', 'look': json.dumps({'picked': {'row': 1, 'column': 3}})})}"
    )
    expect(page.locator(".closer")).to_have_attribute("aria-label", "Attention of head 1.6 and 1.7 in the clean prompt")
    expect(page.locator(".closer .thumbs button")).to_have_text(["1.6", "1.7"])


def test_heads_are_looked_at_in_opened_results_too(open_page: OPEN, demo: rs.Model, tmp_path: Path) -> None:
    scores = rs.head_scores(demo, n_sequences=2, n_tokens=9)
    run = demo.run("Tom ran home")
    results: dict[str, rs.Result] = {
        "heads": scores,
        "mosaic": rs.head_mosaic({"demo": scores, "other": scores}),
        "composition": rs.composition(demo, "K"),
        "attribution": rs.attribute(run, rs.logit(" a"), by="head"),
    }
    page = open_page("/heads?sequences=2&length=9", ready=False)
    wait_until_done(page)
    closer = page.locator(".closer")
    for name, result in results.items():
        result.save(tmp_path / f"{name}.safetensors")
        page.locator("input[type=file]").set_input_files(tmp_path / f"{name}.safetensors")
        expect(page.locator(".picture header strong")).to_have_text(result.name)
        expect(closer).to_have_count(0)
        if name == "attribution":
            page.get_by_role("button", name="head.2.1", exact=True).click()
        else:
            page.locator(".picture canvas").first.click()
        heads = r"\d\.\d and \d\.\d" if name == "composition" else r"\d\.\d"
        expect(closer.first).to_have_attribute("aria-label", re.compile(rf"^Attention of head {heads} in the prompt$"))
        expect(closer.first.locator("header strong")).to_have_text("attention of demo")
    page.locator("input[type=file]").set_input_files(tmp_path / "mosaic.safetensors")
    page.locator(".picture canvas").nth(1).click()
    expect(page.locator(".onward")).to_contain_text("in any run of other: rs.attention(run, heads=[(")
    expect(closer).to_have_count(0)
    clean, corrupted = PROMPT, PROMPT.replace("John gave", "Mary gave")
    metric = rs.logit_difference(" Mary", " John")
    rs.patch(demo, clean=clean, corrupted=corrupted, site="z", metric=metric).save(tmp_path / "patch.safetensors")
    page.goto(page.url.split("/heads")[0] + "/patch?clean=Tom&corrupted=Tim")
    wait_until_done(page)
    page.locator("input[type=file]").set_input_files(tmp_path / "patch.safetensors")
    page.locator(".picture canvas").first.click()
    expect(closer.first).to_have_attribute(
        "aria-label", re.compile(r"^Attention of head \d\.\d in the clean prompt of")
    )
    expect(closer.first.locator("canvas").last).to_have_attribute("aria-label", re.compile("15 queries"))


def test_the_first_prompts_are_those_that_the_model_can_answer(grouped: str, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{grouped}/patch")
    expect(page.get_by_label("Right answer")).to_have_value(" Lily")
    expect(page.locator(".picture canvas").first).to_be_visible()
    assert set(query(page)) == {"model"}


def test_prompts_of_other_lengths_are_patched_at_roles(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page(f"/patch?{httpx.QueryParams({'corrupted': 'When Mary ran, Mary gave the bag to'})}", ready=False)
    expect(page.get_by_role("alert")).to_contain_text("Name roles")
    page.get_by_label("Positions").select_option("roles")
    roles = page.get_by_label("Roles")
    expect(roles).to_have_value("answer= Mary, end=-1")
    roles.fill("giver= John/ Mary, end=-1")
    roles.press("Enter")
    wait_until_done(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert query(page)["roles"] == "giver= John/ Mary, end=-1"
    frame = [
        {"clean": PROMPT, "corrupted": "When Mary ran, Mary gave the bag to", "correct": " Mary", "wrong": " John"}
        | {"giver": (" John", " Mary"), "end": -1}
    ]
    expected = rs.patch(demo, rs.pairs(frame), site="resid_pre", pos=["giver", "end"]).values[:, :, 0]
    page.get_by_label("Quantity").select_option("raw")
    table = read_table(page)
    assert table[0][1:] == ["giver", "end"]
    shown = [[float(cell.replace("−", "-")) for cell in row[1:]] for row in table[1:]][::-1]
    torch.testing.assert_close(torch.tensor(shown), expected, rtol=0.06, atol=0.006)


def test_where_the_model_knows_no_names_one_is_told_at_once(open_page: OPEN, context: BrowserContext) -> None:
    def forget(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "names": []})

    context.route("**/api/v1/model", forget)
    page = open_page("/patch", ready=False)
    said = page.get_by_text("write prompts and answers of your own")
    expect(said).to_be_visible()
    page.get_by_label("Right answer").fill(" the")
    page.get_by_label("Right answer").press("Enter")
    expect(said).to_have_count(0)


def test_what_is_changed_before_the_model_is_known_is_asked_for(
    browser_context: Callable[[], BrowserContext], origin: str
) -> None:
    page = browser_context().new_page()

    def wait(route: Route) -> None:
        page.wait_for_timeout(600)
        route.continue_()

    page.route("**/api/v1/model", wait)
    page.goto(f"{origin}/graph?amount=3")
    page.get_by_label("Beside features").select_option("tokens")
    expect(page).to_have_url(re.compile("extra=tokens"))
    wait_until_done(page)
    assert query(page)["amount"] == "3"
    expect(page.get_by_label("Beside features")).to_have_value("tokens")
    expect(page.locator(".graph .net .above")).to_have_attribute("aria-label", re.compile("causal graph"))
