"""The page Stream, as a person uses it."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from playwright.sync_api import BrowserContext, Page, Route, expect

import residscope as rs
from residscope.cards.search import find_texts
from residscope.running.texts import read_texts
from tests.browser.conftest import OPEN, read_shades
from tests.serving import serve

HOSTILE = '<img src=x onerror="window.hurt=1"></script><script>window.hurt=1</script><b>& &lt;'
READ_TEXTS = "() => [...document.querySelectorAll('.tokens')].map((el) => el.textContent)"


FIRST = '.text[data-text="0"]'


def wait_for_query(page: Page, **parts: str) -> None:
    wanted = json.dumps(parts)
    page.wait_for_function(
        f"() => {{ const query = new URLSearchParams(location.search);"
        f"return Object.entries({wanted}).every(([name, value]) => query.get(name) === value); }}"
    )


def wait_for_name(page: Page, name: str) -> None:
    """Until the picture, not just the sentence, is the one of that direction."""
    expect(page.locator(".card h3", has_text=name)).to_be_visible()
    expect(page.locator(".picture")).to_have_attribute("aria-busy", "false")


def add_text(page: Page, text: str) -> None:
    page.keyboard.press("t")
    page.locator("#add").fill(text)
    page.keyboard.press("Control+Enter")


def test_it_opens_with_coloured_texts_and_says_what_they_are(open_page: OPEN) -> None:
    page = open_page("/")
    expect(page.locator("header .chip").first).to_contain_text("demo")
    expect(page.locator(".sentence")).to_contain_text("Show resid_pre")
    expect(page.locator(".sentence small")).to_contain_text(re.compile(r"\d% of variance, [\d,]+ tokens"))
    expect(page.locator(".legend")).to_contain_text(re.compile(r"−\d\.\d.*\+\d\.\d sd.*position 0 left out", re.DOTALL))
    assert page.locator(".text").count() == 20
    shades = read_shades(page, FIRST)
    assert shades[0] == "out"
    assert {shade[:1] for shade in shades[1:]} >= {"p", "n"}
    assert page.title() == "Stream · demo · Residscope"


def test_shades_are_the_server_s_values(open_page: OPEN, origin: str) -> None:
    page = open_page("/stream?site=resid_pre.3&component=2&units=stream&scale=1.5&count=4")
    shades = read_shades(page, FIRST)
    values = page.evaluate(
        """async () => {
          const text = (await (await fetch("/api/v1/texts?count=1")).json()).texts[0];
          const body = JSON.stringify({texts: [text], site: "resid_pre.3", components: [2, 3]});
          const headers = {"Content-Type": "application/json"};
          const answer = await fetch("/api/v1/projection", {method: "POST", headers, body});
          const bytes = await answer.arrayBuffer();
          const start = 8 + Number(new DataView(bytes).getBigUint64(0, true));
          return [...new Float32Array(bytes.slice(start))];
        }"""
    )
    assert len(values) == len(shades)
    for value, shade in list(zip(values, shades, strict=True))[1:]:
        step = max(-48, min(48, value / 1.5 * 48))
        shown = int(shade[1:] or 0) * (-1 if shade.startswith("n") else 1) if shade else 0
        assert abs(step - shown) <= 0.51, (value, shade)


def test_the_texts_stay_when_the_layer_changes(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.1&component=0&count=4")
    before, texts = read_shades(page, FIRST), page.evaluate(READ_TEXTS)
    page.evaluate("document.querySelector('.tokens').dataset.same = 'yes'")
    page.get_by_label("Layer", exact=True).select_option("3")
    wait_for_name(page, "PCA 0 of resid_pre.3")
    assert read_shades(page, FIRST) != before
    assert page.evaluate(READ_TEXTS) == texts
    assert page.locator(".tokens").first.get_attribute("data-same") == "yes"
    wait_for_query(page, site="resid_pre.3")
    page.go_back()
    wait_for_name(page, "PCA 0 of resid_pre.1")
    assert read_shades(page, FIRST) == before


def test_every_component_can_be_chosen(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.2&count=4")
    before = read_shades(page, FIRST)
    page.get_by_role("button", name="Direction: PCA 0").click()
    expect(page.get_by_role("option", name=re.compile(r"^PCA 1 +\d"))).to_contain_text("%")
    number = page.get_by_role("spinbutton", name="Component")
    number.fill("63")
    expect(page.get_by_role("option", name=re.compile("^PCA 63"))).to_be_in_viewport()
    number.press("Enter")
    wait_for_name(page, "PCA 63 of resid_pre.2")
    wait_for_query(page, component="63")
    assert read_shades(page, FIRST) != before


def test_a_site_without_layers(open_page: OPEN) -> None:
    page = open_page()
    page.get_by_label("Site", exact=True).select_option("embed")
    wait_for_name(page, "PCA 0 of embed")
    expect(page.get_by_label("Layer", exact=True)).to_have_count(0)
    page.get_by_label("Site", exact=True).select_option("mlp_out")
    wait_for_name(page, re.compile(r"PCA 0 of mlp_out\.\d"))  # type: ignore[arg-type]


def test_a_text_of_one_s_own(open_page: OPEN) -> None:
    page = open_page()
    add_text(page, "The cat sat on the mat.\nIt was glad.")
    own = page.locator('.text[data-text="own.0"]')
    expect(own.locator("h2")).to_contain_text("your text 0")
    expect(own.locator(".tokens")).to_contain_text("The cat sat on the mat.")
    assert page.locator(".text").first.get_attribute("data-text") == "own.0"
    assert len({*read_shades(page, '[data-text="own.0"]')} - {"", "out"}) > 5
    expect(own.locator(".river canvas")).to_be_visible()
    page.get_by_role("button", name="Remove your text 0").click()
    expect(own).to_have_count(0)


def test_a_link_shows_what_was_seen(open_page: OPEN) -> None:
    page = open_page("/?site=resid_post.1&component=5&count=4")
    add_text(page, "A long text, again and again. " * 8)
    expect(page.locator('.text[data-text="own.0"]')).to_be_visible()
    page.get_by_label("Centre").select_option("none")
    page.get_by_label("Unit").select_option("stream")
    page.get_by_label(re.compile("Range of colours")).select_option("text")
    page.locator('.text[data-text="own.0"] .tokens > span').nth(7).click()
    page.get_by_role("button", name=re.compile("Theme")).click()
    wait_for_query(
        page, site="resid_post.1", component="5", centre="none", units="stream", scale="text", pos="7", theme="dark"
    )
    page.wait_for_function("() => location.hash.startsWith('#texts=')")
    address = page.evaluate("location.pathname + location.search + location.hash")
    assert len(address) < 400
    card = page.locator(".card h3", has_text="Token 7")
    expect(card).to_be_visible()
    again = open_page(address)
    expect(again.locator(".card h3", has_text="Token 7")).to_be_visible()
    for part in (".sentence", ".legend", ".text:first-child .tokens"):
        expect(again.locator(part).first).to_have_text(
            page.locator(part).first.inner_text().strip(), use_inner_text=True
        )
    page.mouse.move(2, 2)
    for one in (page, again):
        one.evaluate("scrollTo(0, 0)")
        one.wait_for_timeout(300)  # what comes into sight is drawn in the frame after
    read = "document.documentElement.dataset.theme"
    assert again.evaluate(read) == page.evaluate(read)
    own = '[data-text="own.0"]'
    assert read_shades(again, own) == read_shades(page, own)


def test_a_link_that_is_damaged_says_so_and_shows_something(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.99&component=9999&units=cosine&model=gpt2#texts=broken")
    notes = page.locator(".notes")
    for words in ("no site resid_pre.99", "units=cosine", "the model gpt2", "damaged or cut off", "there is no 9999"):
        expect(notes).to_contain_text(words)
    expect(page.locator(".sentence")).to_contain_text("PCA 127")
    while page.locator(".note").count():
        page.get_by_label("Dismiss this note").first.click()


def test_hostile_text_is_shown_as_text(open_page: OPEN) -> None:
    page = open_page()
    add_text(page, HOSTILE)
    own = page.locator('.text[data-text="own.0"]')
    expect(own.locator(".tokens")).to_contain_text(HOSTILE)
    own.locator(".tokens > span").nth(3).hover()
    own.locator(".tokens > span").nth(3).click()
    own.locator("summary").click()
    expect(own.locator("table")).to_be_visible()
    assert page.locator("#page :is(img, script, b:not(.tip b, .chip b, .card b))").count() == 0
    assert own.locator(".tokens *:not(span, i)").count() == 0
    page.reload()
    expect(own.locator(".tokens")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hurt") is None


def test_the_server_s_words_stand_beside_the_box(open_page: OPEN) -> None:
    page = open_page()
    problem = page.get_by_role("alert")
    for text, words in (("", "empty"), ("word " * 600, "context")):
        add_text(page, text)
        expect(problem).to_contain_text(words)
        expect(page.locator("#add")).to_have_value(text)
        expect(page.locator("#add")).to_have_attribute("aria-invalid", "true")
    page.locator("#add").fill("A good text.")
    page.keyboard.press("Control+Enter")
    expect(page.locator('.text[data-text="own.0"]')).to_be_visible()
    expect(problem).to_have_count(0)


def test_hovering_shows_the_token_its_position_and_its_value(open_page: OPEN) -> None:
    page = open_page()
    page.locator(".tokens > span").nth(5).hover()
    tip = page.locator(".tip:popover-open")
    expect(tip).to_contain_text(re.compile(r"[+−]?\d+\.\d+ sd.*position 5.*rank \d+ of \d+"))
    page.locator(".tokens > span").nth(0).hover()
    expect(tip).to_contain_text("left out")
    page.mouse.move(2, 400)
    expect(tip).to_have_count(0)


def test_the_river_reads_every_layer(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.3&count=4")
    page.locator(".river summary").click()
    labels = page.locator(".river tbody th")
    expect(labels).to_have_text(["3 post", "3", "2", "1", "0"])
    expect(page.locator(".river tbody [aria-current]")).to_have_text("3")
    page.locator(".river summary").click()
    canvas = page.locator(".river canvas")
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + 90, box["y"] + 4)
    expect(page.locator(".tip:popover-open")).to_contain_text("resid_post.3")
    page.mouse.click(box["x"] + 90, box["y"] + 4)
    expect(page.locator(".tokens > [aria-current]")).to_have_count(1)
    page.locator(".river summary").click()
    expect(page.locator(".river tbody tr")).to_have_count(5)
    # The row of the direction's own site has the values of the text.
    picked = page.locator(".card p b").first.inner_text().removesuffix(" sd")
    pos = int(re.findall(r"\d+", page.locator(".card h3").first.inner_text())[0])
    assert page.locator(".river tbody tr").nth(1).locator("td").nth(pos).inner_text() == picked


def test_the_inspector_has_what_is_picked(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.2&component=1&count=4")
    page.locator(".tokens > span").nth(9).click()
    card = page.locator(".card").first
    expect(card).to_contain_text(
        re.compile(r"Token 9.*along PCA 1 of resid_pre.2, rank \d+ of \d+ in sample 0", re.DOTALL)
    )
    assert card.locator(".curve circle").count() == 5
    active = card.locator(".ranking button")
    expect(active).to_have_count(8)
    card.get_by_role("button", name="Pin").click()
    name = active.first.locator("span").first.inner_text()
    active.first.click()
    wait_for_name(page, f"{name} of resid_pre.2")
    expect(page.locator(".card", has_text="along PCA 1 of resid_pre.2")).to_be_visible()  # the pinned one
    page.get_by_role("button", name="Unpin this card").click()
    expect(page.locator(".card", has_text="along PCA 1 of resid_pre.2")).to_have_count(0)


def test_what_takes_a_while_to_know_of_a_direction_is_computed_when_asked(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.2&component=1&count=4")
    shown = page.locator(".inspector .residscope.view")
    expect(shown).to_have_count(0)
    page.get_by_role("button", name="What is it about?").click()
    expect(shown.locator("header strong")).to_have_text("what PCA 1 of resid_pre.2 is about")
    expect(shown.locator(".contexts li")).to_have_count(10)
    page.get_by_role("button", name="Does the model use it?").click()
    expect(shown.locator("header strong")).to_have_text("causal check of PCA 1 of resid_pre.2")
    expect(shown.locator("tbody tr")).to_have_count(4)
    card = page.locator(".card", has=page.locator(".residscope.view"))
    expect(card).to_contain_text("On 4 texts of those shown, your own first, 8 at most, at strength")
    expect(card).to_contain_text(", 2.00 standard deviations")
    expect(card).to_contain_text("one in twenty looks like more than chance by luck")
    card.get_by_label("Strength of the check").fill("3")
    card.get_by_label("Strength of the check").press("Enter")
    expect(card).to_contain_text(", 3.00 standard deviations")
    card.get_by_label("Strength of the check").blur()
    page.keyboard.press("j")
    wait_for_name(page, "PCA 2 of resid_pre.2")
    expect(shown).to_have_count(0)
    page.get_by_role("button", name="What is it about?").click()
    expect(shown.locator("header strong")).to_have_text("what PCA 2 of resid_pre.2 is about")
    page.get_by_role("button", name="What is it about?").click()
    expect(shown).to_have_count(0)


def test_what_is_asked_of_a_direction_is_in_the_address(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.2&component=1&count=2&ask=causal_check:3")
    shown = page.locator(".inspector .residscope.view")
    expect(shown.locator("header strong")).to_have_text("causal check of PCA 1 of resid_pre.2")
    expect(page.get_by_label("Strength of the check")).to_have_value("3")
    page.get_by_role("button", name="What is it about?").click()
    wait_for_query(page, ask="explain")
    expect(shown.locator("header strong")).to_have_text("what PCA 1 of resid_pre.2 is about")
    page.reload()
    expect(shown.locator("header strong")).to_have_text("what PCA 1 of resid_pre.2 is about")
    page.go_back()
    expect(page.get_by_label("Strength of the check")).to_have_value("3")
    page.get_by_role("button", name="Does the model use it?").click()
    expect(shown).to_have_count(0)
    expect(page).not_to_have_url(re.compile("ask="))
    page.go_back()
    expect(shown).to_have_count(1)
    page.keyboard.press("j")
    wait_for_name(page, "PCA 2 of resid_pre.2")
    expect(shown).to_have_count(0)
    expect(page).not_to_have_url(re.compile("ask="))


def test_places_stay_apart_when_the_page_is_scrolled(open_page: OPEN) -> None:
    page = open_page("/?count=6")
    assert page.evaluate("scrollTo(0, 500), scrollY") > 300
    tops = [box["y"] for box in (link.bounding_box() for link in page.locator("nav a").all()) if box]
    assert len(tops) == 7
    assert all(below - above > 20 for above, below in pairwise(tops))
    assert tops[0] >= 48


def test_ranges_of_colour(open_page: OPEN) -> None:
    page = open_page()
    shared = read_shades(page, FIRST)
    choice = page.get_by_label(re.compile("Range of colours"))
    choice.select_option("text")
    expect(page.locator(".legend")).to_contain_text("each text has its own range")
    assert read_shades(page, FIRST) != shared
    choice.select_option("fixed")
    page.get_by_label("End of the range").fill("0.01")
    page.get_by_label("End of the range").press("Enter")
    wait_for_query(page, scale="0.01")
    expect(page.locator(".legend")).to_contain_text("−0.010")
    shades = [shade for shade in read_shades(page, FIRST) if shade != "out"]
    assert sum(shade in ("p48", "n48") for shade in shades) > 0.9 * len(shades)


def test_keys(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.2&component=3&count=4")
    for key, name in (
        ("j", "PCA 4 of resid_pre.2"),
        ("k", "PCA 3 of resid_pre.2"),
        ("]", "PCA 3 of resid_pre.3"),
        ("[", "PCA 3 of resid_pre.2"),
    ):
        page.keyboard.press(key)
        wait_for_name(page, name)
    page.keyboard.press("Control+j")
    page.keyboard.press("Alt+j")
    page.keyboard.press("t")
    page.keyboard.type("jk[]/?")
    expect(page.locator("#add")).to_have_value("jk[]/?")
    wait_for_name(page, "PCA 3 of resid_pre.2")
    page.locator("#add").evaluate("el => el.blur()")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("e")
    expect(page.locator(".tools button").first).to_be_focused()


def test_arrow_keys_go_from_token_to_token(open_page: OPEN) -> None:
    page = open_page()
    page.locator(".tokens").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".tip:popover-open")).to_contain_text("position 2")
    page.keyboard.press("Enter")
    wait_for_query(page, pos="2")
    page.keyboard.press("j")  # the page's keys work there too
    wait_for_name(page, "PCA 1 of")


def test_search_finds_sites_components_and_commands(open_page: OPEN) -> None:
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("resid_post 3")
    page.keyboard.press("Enter")
    wait_for_name(page, "of resid_post.3")
    page.keyboard.press("Control+k")
    page.keyboard.type("pca 7")
    page.keyboard.press("Enter")
    wait_for_name(page, "PCA 7 of resid_post.3")
    page.keyboard.press("/")
    page.keyboard.type("nothing like this")
    expect(page.get_by_role("dialog")).to_contain_text("Nothing is called")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


# Which texts are poor on what lies under them, as soon as the shades are painted anew.
READ_POOR_CONTRAST = """async () => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const decode = (c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const luminance = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    const linear = [...canvas.getImageData(0, 0, 1, 1).data].map(decode);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  const look = () => {
    const ground = getComputedStyle(document.documentElement).backgroundColor;
    const ink = luminance(getComputedStyle(document.querySelector(".tokens > span:not(.out)")).color);
    const {width, height} = document.querySelector(".shaded canvas");
    const {data} = document.querySelector(".shaded canvas").getContext("2d").getImageData(0, 0, width, height);
    const shades = new Set(Array.from({length: width * height}, (_, i) => data.slice(4 * i, 4 * i + 4).join()));
    if (shades.size < 20) return [`only ${shades.size} shades`];
    return [...shades].filter((rgba) => {
      const [a, b] = [luminance(ground, `rgba(${rgba})`), ink].sort((x, y) => y - x);
      return (a + .05) / (b + .05) < 4.5;
    });
  };
  const end = performance.now() + 20000;
  for (;;) {
    const poor = look();
    if (!poor.length || performance.now() > end) return poor;
    await new Promise(requestAnimationFrame);
  }
}"""


def test_themes(open_page: OPEN) -> None:
    page = open_page()
    ground = {"light": "rgb(251, 251, 250)", "dark": "rgb(22, 24, 28)"}
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_css("background-color", ground["light"])
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_css("background-color", ground["dark"])
    for chosen in ("light", "dark"):  # whatever the system's is
        page.get_by_role("button", name=re.compile("Theme")).click()
        expect(page.locator("html")).to_have_css("background-color", ground[chosen])
        wait_for_query(page, theme=chosen)
        assert page.evaluate(READ_POOR_CONTRAST) == []


def test_the_page_never_scrolls_sideways(open_page: OPEN) -> None:
    page = open_page()
    add_text(page, "x" * 120 + " " + HOSTILE)
    expect(page.locator('.text[data-text="own.0"]')).to_be_visible()
    page.locator(".tokens > span").nth(4).click()
    for width in (2560, 1280, 768, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.get_by_role("button", name=re.compile("Direction: PCA")).click()
        expect(page.get_by_role("listbox")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("Escape")
        if width < 900:
            page.locator(".inspector .handle").click()
        expect(page.locator(".card h3", has_text="Token 4")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width < 900:
            page.locator(".inspector .handle").click()


def test_more_texts(open_page: OPEN) -> None:
    page = open_page("/")
    page.get_by_role("button", name="Show 20 more").click()
    expect(page.locator(".text")).to_have_count(40)
    wait_for_query(page, count="40")


def test_exports(open_page: OPEN, context: BrowserContext, tmp_path: Path) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = open_page("/?site=resid_pre.2&component=1&count=4")
    add_text(page, HOSTILE)
    expect(page.locator('.text[data-text="own.0"]')).to_be_visible()
    assert page.locator(".tools button").all_inner_texts() == ["Link", "Python", "PNG", "SVG", "CSV", "HTML"]
    page.keyboard.press("l")
    expect(page.locator(".notes")).to_contain_text("Link copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    page.get_by_role("button", name="Python").click()
    expect(page.locator(".notes")).to_contain_text("Python code copied.")
    assert "rs.project" in page.evaluate("navigator.clipboard.readText()")

    def save(name: str) -> bytes:
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.name == f"PCA_1_of_resid_pre.2.{name.lower()}"
        return file.read_bytes()

    assert save("PNG").startswith(b"\x89PNG")
    drawing = ElementTree.fromstring(save("SVG"))
    words = "".join(text.text or "" for text in drawing.iter("{http://www.w3.org/2000/svg}text"))
    assert HOSTILE.replace(" ", "") in words.replace(" ", "")
    assert b"token" in save("CSV").splitlines()[0]
    assert save("HTML").startswith(b"<!doctype html>")


def test_what_the_clipboard_refuses_is_shown(open_page: OPEN) -> None:
    page = open_page()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.keyboard.press("l")
    expect(page.get_by_label("Text to copy")).to_have_value(page.url)


def test_a_saved_file_opens_with_no_network(
    open_page: OPEN, browser_context: Callable[[], BrowserContext], tmp_path: Path
) -> None:
    page = open_page("/?site=resid_pre.2&component=1&count=4")
    shades = read_shades(page, FIRST)
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML").click()
    file = tmp_path / "saved.html"
    download.value.save_as(file)
    offline = browser_context()
    asked: list[str] = []
    offline.on("request", lambda request: asked.append(request.url))
    offline.set_offline(True)
    saved = offline.new_page()
    saved.goto(file.as_uri())
    expect(saved.locator("header strong")).to_have_text("PCA 1 of resid_pre.2")
    assert saved.locator(".text").count() == 4
    assert read_shades(saved, ".text:first-child") == shades
    saved.locator(".tokens > span").nth(5).hover()
    expect(saved.locator(".tip:popover-open")).to_contain_text("position 5")
    saved.get_by_label("Unit").select_option("stream")
    expect(saved.locator(".legend")).to_contain_text("units")
    assert asked == [file.as_uri()]


# What goes wrong -----------------------------------------------------------------------------------------------


def answer(status: int, code: str, message: str, **headers: str) -> Callable[[Route], None]:
    body = json.dumps({"error": {"code": code, "message": message, "hint": "Do this."}})
    return lambda route: route.fulfill(
        status=status, body=body, headers={"Content-Type": "application/json", **headers}
    )


def test_an_error_of_the_server_is_shown_and_can_be_tried_again(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.1&count=4")
    page.route("**/api/v1/pca/resid_pre.3", answer(500, "internal", "The disk is full."))
    page.get_by_label("Layer", exact=True).select_option("3")
    panel = page.get_by_role("alert")
    expect(panel).to_contain_text("The disk is full. Do this.")
    expect(panel).to_contain_text("Below is still PCA 0 of resid_pre.1")
    assert page.locator(".text").count() == 4
    page.unroute("**/api/v1/pca/resid_pre.3")
    panel.get_by_role("button", name="Try again").click()
    wait_for_name(page, "PCA 0 of resid_pre.3")
    expect(panel).to_have_count(0)


def test_only_what_may_pass_is_tried_again(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.1&count=4")
    page.route("**/api/v1/pca/resid_pre.3", answer(404, "unknown_site", "No such site was found."))
    page.get_by_label("Layer", exact=True).select_option("3")
    panel = page.get_by_role("alert")
    expect(panel).to_contain_text("No such site was found. Do this.")
    expect(panel).to_contain_text("Below is still PCA 0 of resid_pre.1")
    expect(panel.get_by_role("button")).to_have_count(0)
    page.get_by_label("Layer", exact=True).select_option("1")
    expect(panel).to_have_count(0)
    for text, status, buttons in ((1, 413, 0), (2, 503, 1)):
        page.route("**/api/v1/river", answer(status, "told", "The river is not read."))
        page.locator(".text h2 button[aria-pressed]").nth(text).click()
        problem = page.locator(".chosen p.problem:not([hidden])")
        expect(problem).to_contain_text("The river is not read. Do this.")
        expect(problem.get_by_role("button", name="Try again")).to_have_count(buttons)


def test_a_full_queue_is_said_and_asked_again(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.1&count=4")
    turned_away = answer(429, "busy", "The queue is full.", **{"Retry-After": "1"})
    page.route("**/api/v1/projection", turned_away)
    page.get_by_label("Site", exact=True).select_option("attn_out")
    expect(page.locator(".progress")).to_contain_text("The server is busy; asking again in 1 s.")
    page.unroute("**/api/v1/projection")
    wait_for_name(page, "PCA 0 of attn_out")


def test_long_work_shows_how_far_and_can_be_stopped(open_page: OPEN) -> None:
    page = open_page("/?site=resid_pre.1&count=4")
    # A stream that tells one step and then says nothing more.
    page.evaluate(
        """() => {
          const real = window.fetch;
          const step = 'event: progress\\ndata: {"done": 3, "total": 8, "what": "components"}\\n\\n';
          window.fetch = async (url, options) => {
            if (!url.includes("/pca/")) return real(url, options);
            return new Response(new ReadableStream({
              start(controller) {
                controller.enqueue(new TextEncoder().encode(step));
                options.signal.addEventListener("abort", () => {
                  window.stopped = true;
                  controller.error(options.signal.reason);
                });
              },
            }));
          };
          window.restore = () => (window.fetch = real);
        }"""
    )
    page.get_by_label("Site", exact=True).select_option("mlp_out")
    expect(page.locator(".progress")).to_contain_text("components: 3 of 8")
    expect(page.locator(".picture")).to_have_class("picture old")  # dimmed, not gone
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("alert")).to_contain_text("Stopped.")
    assert page.evaluate("window.stopped")
    page.evaluate("window.restore()")
    page.get_by_role("button", name="Try again").click()
    wait_for_name(page, "PCA 0 of mlp_out")


def test_a_server_that_is_gone(open_page: OPEN, context: BrowserContext) -> None:
    context.route("**/api/v1/model", lambda route: route.abort())
    page = open_page("/", ready=False)
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    context.unroute("**/api/v1/model")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".tokens").first).to_be_visible()


def test_the_empty_state(context: BrowserContext, open_page: OPEN) -> None:
    body = json.dumps({"total": 0, "start": 0, "texts": []})
    context.route(
        "**/api/v1/texts?*", lambda route: route.fulfill(status=200, body=body, content_type="application/json")
    )
    page = open_page("/", ready=False)
    expect(page.locator(".panel")).to_contain_text("There is no text to show")
    add_text(page, "Once upon a time.")
    expect(page.locator('.text[data-text="own.0"] .tokens')).to_contain_text("Once upon a time.")
    expect(page.locator('.text[data-text="own.0"] h2')).to_contain_text("no other text is shown, to compare with")


def test_a_text_over_the_context_spoils_no_other(
    browser_context: Callable[[], BrowserContext], demo: rs.Model, tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("word " * 700 + "\n<|endoftext|>\nA good text.")
    with serve(demo, file) as (address, _, _):
        page = browser_context().new_page()
        page.goto(address)
        expect(page.locator('.text[data-text="1"] .tokens')).to_contain_text("A good text.")
        expect(page.locator('.text[data-text="0"] .problem')).to_contain_text("context")
        expect(page.locator(".warning:visible")).to_be_visible()  # few tokens for 128 components


def test_sample_texts_stand_in_the_order_that_is_chosen(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/?site=resid_pre.2&component=3&count=5")
    keys = "() => [...document.querySelectorAll('.text')].map((el) => el.dataset.text)"
    assert page.evaluate(keys) == ["0", "1", "2", "3", "4"]
    page.get_by_label("Order of the texts").select_option("strongest")
    basis = rs.pca(demo, read_texts(rs.demo.texts)[:60], "resid_pre.2")
    first = find_texts(demo, read_texts(rs.demo.texts)[:60], basis[3])[:5]
    expect(page.locator(".text").first).to_have_attribute("data-text", str(first[0][0]))
    assert page.evaluate(keys) == [str(number) for number, _ in first]
    page.keyboard.press("j")  # the texts stay where they are
    wait_for_name(page, "PCA 4 of")
    assert page.evaluate(keys) == [str(number) for number, _ in first]
    page.get_by_label("Order of the texts").select_option("drawn")
    wait_for_query(page, order="0")
    page.get_by_role("button", name="draw again").click()
    wait_for_query(page, order="1")
    expect(page.locator(".picture")).to_have_attribute("aria-busy", "false")
    drawn = page.evaluate(keys)
    assert sorted(drawn, key=int) != drawn
    page.reload()
    page.wait_for_selector(".river canvas")
    assert page.evaluate(keys) == drawn


def test_a_file_of_texts(open_page: OPEN, tmp_path: Path) -> None:
    page = open_page("/?site=resid_pre.2&count=2")
    (tmp_path / "texts.json").write_text(json.dumps(["One dog ran.", "Two dogs ran.", "a " * 900]))
    page.get_by_label("A file of texts").set_input_files(tmp_path / "texts.json")
    expect(page.locator('[data-text="own.1"] .tokens')).to_contain_text("Two dogs ran.")
    expect(page.locator(".note")).to_contain_text("1 of them cannot be read")
    (tmp_path / "broken.json").write_text("[1, 2]")
    page.get_by_label("A file of texts").set_input_files(tmp_path / "broken.json")
    expect(page.locator("#add-problem")).to_contain_text("broken.json: It is no list of texts.")
