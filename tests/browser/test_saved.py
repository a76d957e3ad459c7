"""Saving on the page Stream and the place Saved: two people, each in a browser of their own."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

import residscope as rs
from residscope.directions.file import read_direction
from residscope.running.texts import read_texts
from tests.browser.conftest import OPEN
from tests.browser.test_stream import wait_for_name

SITE = "resid_pre.2"
Enter = Callable[[str, str], Page]


@pytest.fixture
def enter(browser_context: Callable[[], BrowserContext], origin: str) -> Enter:
    """Open an address as somebody, in a browser of their own."""

    def enter(name: str, path: str) -> Page:
        page = browser_context().new_page()
        page.goto(origin + path)
        page.get_by_role("button", name="who are you?").click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Work under this name").click()
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
        return page

    return enter


def save(page: Page, name: str, description: str = "", tags: str = "") -> None:
    page.wait_for_selector(".river canvas")
    page.keyboard.press("s")
    form = page.get_by_role("form", name="Save this direction")
    form.get_by_label("Name", exact=True).fill(name)
    form.get_by_label("What it means").fill(description)
    form.get_by_label("Tags").fill(tags)
    form.get_by_role("button", name="Save").click()


def test_a_direction_is_saved_found_and_shown_again(enter: Enter, demo: rs.Model) -> None:
    rows = [[0.5, {"kind": "pca", "component": 3}], [-1, {"kind": "pca", "component": 7}]]
    page = enter("Ann", f"/?site={SITE}&count=2&along={quote(json.dumps(rows))}")
    save(page, "a mixture", "Mixed <b>things</b>.", "mixed, two words")
    note = page.locator(".note", has_text="“a mixture” is saved.")
    note.get_by_role("link", name="See it").click()
    card = page.get_by_role("region", name="a mixture")
    expect(card).to_contain_text("Mixed <b>things</b>.")
    with page.expect_download() as download:
        card.get_by_role("button", name="File").click()
    found = read_direction(Path(download.value.path()).read_bytes(), "it")
    basis = rs.pca(demo, read_texts(rs.demo.texts)[:60], SITE)
    assert found.cosine(0.5 * basis[3] - basis[7]) == pytest.approx(1, abs=1e-6)
    page.get_by_role("button", name="two words", exact=True).click()
    expect(page.locator(".kept li")).to_have_count(1)
    expect(page).to_have_url(re.compile("tag=two"))
    card.get_by_role("button", name="What is it about?").click()
    expect(card.locator(".explained h2").first).to_have_text("promoted")
    expect(page).to_have_url(re.compile("ask=explain"))
    page.reload()
    expect(card.locator(".explained h2").first).to_have_text("promoted")
    page.go_back()
    expect(card.locator(".explained")).to_have_count(0)
    card.get_by_role("link", name="Show it on Stream").click()
    wait_for_name(page, "a mixture")
    expect(page.locator(".tokens").first).to_be_visible()


def test_a_saved_direction_is_mixed_in_and_put_beside(enter: Enter) -> None:
    page = enter("Nora", f"/?site={SITE}&count=2&component=3")
    save(page, "to be mixed")
    expect(page.locator(".note", has_text="is saved.")).to_be_visible()
    page.keyboard.press("k")
    wait_for_name(page, "PCA 2")
    for opened, pressed in (("Direction: PCA 2", "Add it to the mix"), ("Compare", "Put it beside")):
        page.get_by_role("button", name=opened).click()
        page.get_by_label("Kind of direction").select_option("saved")
        page.get_by_label("words of it").fill("be mixed")
        expect(page.get_by_label("which").locator("option")).to_have_text([f"to be mixed, Nora’s, at {SITE}"])
        page.get_by_role("button", name=pressed).click()
    expect(page.locator(".mix .name")).to_have_text([f"PCA 2 of {SITE}", "to be mixed"])
    expect(page.locator(".sentence .beside")).to_have_text("to be mixed")


def test_a_name_that_is_taken_is_said_and_nothing_is_lost(enter: Enter) -> None:
    page = enter("Ben", f"/?site={SITE}&count=2&component=1")
    save(page, "once", "first")
    expect(page.locator(".note", has_text="“once” is saved.")).to_be_visible()
    page.keyboard.press("j")
    wait_for_name(page, "PCA 2 of")
    save(page, "once", "second")
    form = page.get_by_role("form", name="Save this direction")
    expect(form.get_by_role("alert")).to_contain_text("You have a direction named 'once' already.")
    expect(form.get_by_label("What it means")).to_have_value("second")
    form.get_by_label("Save it as").select_option(label="the next revision of once")
    form.get_by_role("button", name="Save").click()
    expect(page.locator(".note", has_text="“once” is saved, as revision 1.")).to_be_visible()


def test_two_people_describe_vote_and_remark(enter: Enter) -> None:
    cleo = enter("Cleo", f"/?site={SITE}&count=2&component=8")
    save(cleo, "disputed", "About animals.")
    cleo.locator(".note").get_by_role("link", name="See it").click()
    expect(cleo).to_have_url(re.compile(r"id=\d+"))
    dan = enter("Dan", cleo.url.split(cleo.url.split("/")[2])[1])
    card = dan.get_by_role("region", name="disputed")
    card.get_by_label("Say what it means").fill("About verbs.")
    dan.keyboard.press("Enter")
    words = card.locator(".words").first.locator("li")
    expect(words).to_have_count(2)
    words.filter(has_text="verbs").get_by_label("Vote for it").click()
    expect(words.first).to_contain_text("About verbs.")
    expect(words.first.locator("b")).to_have_text("1")
    words.first.get_by_label("Vote for it").click()  # taken back
    expect(words.filter(has_text="verbs").locator("b")).to_have_text("0")
    words.filter(has_text="animals").get_by_label("Vote against it").click()
    expect(words.filter(has_text="animals").locator("b")).to_have_text("-1")
    card.get_by_label("Remark on it").fill("Why?")
    dan.keyboard.press("Enter")
    expect(card).to_contain_text("Why? Dan")
    expect(card.get_by_role("button", name="Delete", exact=True)).to_have_count(0)  # it is Cleo's
    cleo.reload()
    theirs = cleo.get_by_role("region", name="disputed")
    expect(theirs.locator(".words").first.locator("li").first).to_contain_text("About verbs. Dan")
    theirs.get_by_label("Name", exact=True).fill("settled")
    cleo.keyboard.press("Enter")
    expect(cleo.get_by_role("region", name="settled")).to_be_visible()


def test_what_is_deleted_comes_back(enter: Enter) -> None:
    page = enter("Eve", f"/?site={SITE}&count=2&component=9")
    save(page, "short-lived")
    page.locator(".note").get_by_role("link", name="See it").click()
    page.get_by_role("region", name="short-lived").get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".kept li", has_text="short-lived")).to_have_count(0)
    page.get_by_label("Whose").select_option("deleted")
    expect(page.locator(".kept li", has_text="short-lived")).to_have_count(1)
    page.get_by_role("button", name="Bring it back").click()
    page.get_by_label("Whose").select_option("mine")
    expect(page.locator(".kept li", has_text="short-lived")).to_have_count(1)


def test_lists(enter: Enter) -> None:
    page = enter("Flo", f"/?site={SITE}&count=2&component=10")
    save(page, "listed")
    page.locator(".note").get_by_role("link", name="See it").click()
    page.get_by_role("tab", name="lists").click()
    page.get_by_label("Name of a new list").fill("favourites")
    page.get_by_role("button", name="Begin", exact=True).click()
    expect(page.locator(".kept li", has_text="favourites")).to_contain_text("0 directions")
    page.get_by_role("tab", name="directions").click()
    page.get_by_role("button", name="listed", exact=True).click()
    page.get_by_role("region", name="listed").get_by_role("button", name="favourites").click()
    expect(page.get_by_role("region", name="listed").get_by_role("button", name="favourites")).to_have_attribute(
        "aria-pressed", "true"
    )
    page.get_by_label("List", exact=True).select_option(label="favourites, Flo's")
    expect(page.locator(".kept li")).to_have_count(1)


def test_kept_texts_stand_on_stream(enter: Enter) -> None:
    page = enter("Gus", f"/?site={SITE}&count=2&component=1")
    page.wait_for_selector(".river canvas")
    page.locator("#add").fill("The dog ran home.")
    page.locator("#add").press("Enter")
    page.locator('[data-text="own.0"]').get_by_role("button", name="keep").click()
    expect(page.locator(".note", has_text="kept and pinned")).to_be_visible()
    page.locator('[data-text="own.0"]').get_by_role("button", name="keep").click()
    expect(page.locator(".note", has_text="kept already")).to_be_visible()
    page.goto(page.url.split("?")[0])
    expect(page.locator('[data-text="own.0"] .tokens')).to_contain_text("The dog ran home.")
    page.goto(page.url.split("/?")[0] + "/saved?tab=texts")
    page.get_by_label("Name of the text").fill("a dog")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="unpin").click()
    expect(page.get_by_role("button", name="pin", exact=True)).to_be_visible()
    expect(page.get_by_label("Name of the text")).to_have_value("a dog")
    page.get_by_role("button", name="delete").click()
    page.locator(".note").get_by_role("button", name="Bring it back").click()
    expect(page.get_by_label("Name of the text")).to_have_value("a dog")


def test_all_goes_out_and_comes_in_as_one_file(enter: Enter, tmp_path: Path) -> None:
    hal = enter("Hal", f"/?site={SITE}&count=2&component=11")
    save(hal, "to be shared", "Shared.")
    hal.locator(".note").get_by_role("link", name="See it").click()
    expect(hal.get_by_role("region", name="to be shared")).to_be_visible()
    with hal.expect_download() as download:
        hal.get_by_role("button", name="Export").click()
    hal.get_by_role("region", name="to be shared").get_by_role("button", name="Delete", exact=True).click()
    expect(hal.locator(".note", has_text="is deleted")).to_be_visible()  # what is there is not brought again
    ida = enter("Ida", "/saved")
    ida.get_by_label("An exported library").set_input_files(download.value.path())
    expect(ida.locator(".note", has_text="Brought")).to_be_visible()
    ida.get_by_label("Whose").select_option("mine")
    expect(ida.locator(".kept li", has_text="to be shared")).to_contain_text("from Hal")
    (tmp_path / "broken.safetensors").write_bytes(Path(download.value.path()).read_bytes()[:500])
    ida.get_by_label("An exported library").set_input_files(tmp_path / "broken.safetensors")
    expect(ida.locator(".note", has_text="broken").or_(ida.locator(".note", has_text="library")).last).to_be_visible()
    (tmp_path / "bare.json").write_text(json.dumps([1.0] * 128))
    ida.get_by_label("Site of a bare vector").fill("resid_pre.1")
    ida.get_by_label("A direction's file").set_input_files(tmp_path / "bare.json")
    expect(ida.get_by_role("region", name="bare")).to_contain_text("resid_pre.1, 128 numbers")


def test_nobody_is_asked_who_they_are_before_anything_is_kept(open_page: OPEN) -> None:
    page = open_page(f"/?site={SITE}&count=2")
    page.keyboard.press("s")
    expect(page.get_by_role("form", name="Who works here")).to_be_visible()
    expect(page.get_by_role("form", name="Save this direction")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.get_by_role("form", name="Who works here")).to_have_count(0)


def test_what_is_deleted_is_brought_back(enter: Enter) -> None:
    page = enter("Deb", "/saved?tab=lists")
    for name in ("kept", "gone"):
        page.get_by_label("Name of a new list").fill(name)
        page.get_by_role("button", name="Begin", exact=True).click()
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    page.locator(".kept li", has_text="gone").get_by_role("button", name="delete").click()
    expect(page.get_by_role("button", name="gone", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Bring it back").click()
    expect(page.get_by_role("button", name="gone", exact=True)).to_be_visible()
    page.locator(".kept li", has_text="gone").get_by_role("button", name="delete").click()
    page.get_by_label("Name of kept").fill("gone")
    page.keyboard.press("Tab")
    page.get_by_label("Whose").select_option("deleted")
    expect(page.locator(".kept li")).to_have_count(1)
    page.get_by_role("button", name="bring it back", exact=True).click()
    page.get_by_role("button", name="Bring it back as “gone (2)”").click()  # its name is taken by now
    expect(page.locator(".kept li")).to_have_count(0)
    page.get_by_label("Whose").select_option("mine")
    expect(page.locator(".kept .title")).to_have_text(["gone", "gone (2)"])


def test_a_deleted_text_is_found_and_a_kept_one_opens_stream(enter: Enter) -> None:
    page = enter("Tex", "/saved?tab=texts")
    page.evaluate(
        """() => fetch("/api/v1/my_texts", {method: "POST", headers: {"Content-Type": "application/json"},
          body: JSON.stringify({texts: [{text: "one cat"}, {text: "two dogs"}]})})"""
    )
    page.reload()
    page.locator(".kept li", has_text="two dogs").get_by_role("button", name="delete").click()
    expect(page.locator(".kept li")).to_have_count(1)
    page.get_by_label("Whose").select_option("deleted")
    expect(page.locator(".kept .own")).to_have_text("two dogs")
    page.get_by_role("button", name="bring it back", exact=True).click()
    expect(page.locator(".kept li")).to_have_count(0)
    page.get_by_label("Whose").select_option("mine")
    page.locator(".kept li", has_text="two dogs").get_by_role("link", name="show it on Stream").click()
    expect(page.locator('[data-text="own.0"].chosen .tokens')).to_contain_text("two dogs")


def test_a_list_keeps_its_order(enter: Enter, origin: str) -> None:
    page = enter("Ord", "/saved")
    post = partial(page.request.post, headers={"Content-Type": "application/json"})
    ids = []
    for name in ("first", "second"):
        path = f"{origin}/api/v1/directions/file?file=a.json&site={SITE}&name={name}"
        ids.append(post(path, data=json.dumps([1.0] * 128)).json()["id"])
    listed = post(f"{origin}/api/v1/lists", data=json.dumps({"name": "ordered", "directions": ids})).json()
    page.goto(f"{origin}/saved?list={listed['id']}")
    expect(page.locator(".kept .title")).to_have_text(["first", "second"])
    page.get_by_role("button", name="second up").click()
    expect(page.locator(".kept .title")).to_have_text(["second", "first"])
    page.reload()
    expect(page.locator(".kept .title")).to_have_text(["second", "first"])


def test_all_of_many_are_shown(enter: Enter, origin: str) -> None:
    page = enter("Max", "/saved")
    post = partial(page.request.post, headers={"Content-Type": "application/json"}, data=json.dumps([1.0] * 128))
    ids = [
        post(f"{origin}/api/v1/directions/file?file=a.json&site={SITE}&name=many {n}").json()["id"] for n in range(101)
    ]
    data = json.dumps({"name": "all of them", "directions": ids})
    listed = post(f"{origin}/api/v1/lists", data=data).json()
    page.goto(f"{origin}/saved?list={listed['id']}")
    expect(page.locator(".count")).to_have_text("100 directions of 101")
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".kept .title").last).to_have_text("many 100")
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_a_description_has_a_link(enter: Enter, origin: str) -> None:
    page = enter("Lin", f"/?site={SITE}&count=2&component=12")
    save(page, "linked", "About links.")
    page.locator(".note").get_by_role("link", name="See it").click()
    page.get_by_role("region", name="linked").get_by_role("link", name="Link to this").click()
    expect(page).to_have_url(re.compile(r"id=\d+.*#description-\d+$"))
    page.goto("about:blank")
    page.go_back()
    expect(page.locator(".words .here")).to_contain_text("About links.")
    page.get_by_role("button", name="Close").click()
    expect(page).not_to_have_url(re.compile("#"))


def test_what_stream_cannot_show_is_not_led_there(enter: Enter, origin: str) -> None:
    page = enter("Flo", "/saved")
    path = "/api/v1/directions/file?file=a.json&site=z.1&name=all heads"
    answer = page.request.post(origin + path, data=json.dumps([1.0] * 128))
    page.goto(f"{origin}/saved?id={answer.json()['id']}")
    card = page.get_by_role("region", name="all heads")
    expect(card).to_contain_text("of all heads of z.1 side by side")
    expect(card.get_by_role("link", name="Show it on Stream")).to_have_count(0)
    expect(card.get_by_role("button", name="Does the model use it?")).to_have_count(0)


def test_a_name_that_is_refused_leaves_the_old_one(enter: Enter) -> None:
    page = enter("Gil", "/saved")
    asked = {"texts": [{"text": "one cat", "name": "A"}, {"text": "two dogs", "name": "B"}]}
    page.evaluate(
        """(asked) => fetch("/api/v1/my_texts",
          {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(asked)})""",
        asked,
    )
    page.goto(page.url.split("?")[0] + "?tab=texts")
    field = page.locator(".kept li", has_text="two dogs").get_by_label("Name of the text")
    field.fill("A")
    field.press("Tab")
    expect(page.locator(".note")).to_contain_text("named 'A' already")
    expect(field).to_have_value("B")


def test_what_is_clicked_before_the_model_is_known_is_not_forgotten(
    browser_context: Callable[[], BrowserContext], origin: str
) -> None:
    page = browser_context().new_page()

    def wait(route: Route) -> None:
        page.wait_for_timeout(600)
        route.continue_()

    page.route("**/api/v1/model", wait)
    page.goto(f"{origin}/saved?theme=odd")
    page.get_by_role("tab", name="lists").click()
    expect(page.locator(".note")).to_contain_text("theme=odd")
    expect(page.get_by_label("Name of a new list")).to_be_visible()
    expect(page).to_have_url(re.compile("tab=lists.*model=demo"))
