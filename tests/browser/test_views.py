"""The views as modules of their own: what a notebook does with them."""

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import OPEN, read_shades

HOST = """async ({view, payload, shape, values, keys}) => {
  // A page that knows nothing of us: only the six methods.
  const link = document.head.appendChild(document.createElement("link"));
  link.rel = "stylesheet";
  link.href = `/static/views/${view}.css`;
  await new Promise((resolve) => (link.onload = resolve));
  const header = new TextEncoder().encode(JSON.stringify({
    __metadata__: {payload: JSON.stringify(payload)},
    values: {dtype: "F32", shape, data_offsets: [0, 4 * values.length]},
  }));
  const bytes = new Uint8Array(8 + header.length + 4 * values.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  bytes.set(new Uint8Array(Float32Array.from(values).buffer), 8 + header.length);
  const state = {data: new DataView(bytes.buffer), ...keys}, listeners = {};
  window.saved = 0;
  window.model = {
    get: (key) => state[key],
    set: (key, value) => { state[key] = value; (listeners[`change:${key}`] ?? []).forEach((call) => call()); },
    on: (event, call) => (listeners[event] ??= []).push(call),
    off: (event, call) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== call)),
    save_changes: () => window.saved++,
    send: () => {},
  };
  window.listeners = listeners;
  window.leaked = [];
  document.addEventListener("keydown", (event) => window.leaked.push(event.key));
  const el = document.body.appendChild(document.createElement("div"));
  el.id = "cell";
  const {default: module} = await import(`/static/views/${view}.js`);
  window.cleanup = module.render({model: window.model, el});
}"""

PIECES = ["<s>", " a", "<b>", "\n", " cat"]
TEXT: dict[str, Any] = {
    "view": "coloured_text", "name": "PCA 4 of resid_pre.3", "site": "resid_pre.3", "pieces": [PIECES, ["<s>", " x"]],
    "special": [[True] + [False] * 4, [True, False]], "deviation": 2.0, "offset": 1.0, "centred": True, "left_out": [0],
}  # fmt: skip
NAN = float("nan")
VALUES = [90, 4, -2, 0, 1, 80, -4, NAN, NAN, NAN]
RIVER = TEXT | {
    "view": "river", "rows": ["resid_pre.0", "resid_pre.1", "resid_post.1"], "here": 1,
    "pieces": [PIECES], "special": [[True] + [False] * 4],
}  # fmt: skip


def show(page: Page, payload: dict[str, Any], shape: list[int], values: list[float], **keys: Any) -> None:
    known = [0.0 if value != value else value for value in values]
    page.evaluate(HOST, {"view": payload["view"], "payload": payload, "shape": shape, "values": known, "keys": keys})


def wait_for_shades(page: Page, *shades: str) -> None:
    """Until the tokens have these shades; one more look says what they have instead."""
    for _ in range(50):
        if read_shades(page) == list(shades):
            return
        page.wait_for_timeout(20)
    assert read_shades(page) == list(shades)


@pytest.fixture
def page(open_page: OPEN, context: BrowserContext) -> Page:
    """An empty page of the server's origin."""
    context.route("**/empty", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    return open_page("/empty", ready=False)


def test_coloured_text_stands_alone(page: Page) -> None:
    show(page, TEXT, [2, 5], VALUES)
    expect(page.locator("header")).to_contain_text("PCA 4 of resid_pre.3")
    expect(page.locator(".legend")).to_contain_text("position 0 left out")
    assert page.locator(".tokens").first.inner_text() == "<s> a<b>↵\n cat"
    wait_for_shades(page, "out", "p48", "n24", "", "p12", "out", "n48")
    page.get_by_label("Unit").select_option("stream")
    expect(page.locator(".legend")).to_contain_text("units")
    page.get_by_label("Centre").select_option("none")
    wait_for_shades(page, "out", "p48", "n10", "p10", "p20", "out", "n29")
    assert page.evaluate("[model.get('units'), model.get('centre'), saved]") == ["stream", "none", 2]


def test_shades_follow_theme_width_and_paper(page: Page) -> None:
    show(page, TEXT | {"pieces": [[*PIECES[:4], " cat" * 9], ["<s>", " x"]]}, [2, 5], VALUES)
    shades = ("out", "p48", "n24", "", "p12", "out", "n48")
    wait_for_shades(page, *shades)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        wait_for_shades(page, *shades)
    page.set_viewport_size({"width": 300, "height": 600})
    wait_for_shades(page, *shades)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".tokens > span[style*='--positive']").count() == 2
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".tokens > span[style*='--positive']").count() == 0


def test_new_values_repaint_and_rebuild_nothing(page: Page) -> None:
    show(page, TEXT, [2, 5], VALUES, scale={"mode": "fixed", "limit": 2})
    page.evaluate("window.spans = [...document.querySelectorAll('.tokens > span')]")
    page.evaluate("model.set('values', Float32Array.of(0, -4, 2, 4, 0, 0, 1, NaN, NaN, NaN))")
    wait_for_shades(page, "out", "n48", "p24", "p48", "", "out", "p12")
    assert page.evaluate("[...document.querySelectorAll('.tokens > span')].every((el, i) => el === spans[i])")


def test_picking_goes_both_ways_and_no_key_leaks(page: Page) -> None:
    show(page, TEXT, [2, 5], VALUES)
    page.locator(".tokens > span").nth(4).click()
    assert page.evaluate("[model.get('picked'), saved]") == [{"text": 0, "pos": 4}, 1]
    expect(page.locator("[aria-current]")).to_have_text(" cat")
    page.evaluate("model.set('picked', {text: 1, pos: 1})")
    expect(page.locator("[aria-current]")).to_have_text(" x")
    page.locator(".tokens").first.focus()
    for key in ("ArrowRight", "a", "d", "Escape", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("leaked") == []
    assert page.locator("[data-lm-suppress-shortcuts]").count() == 1
    page.evaluate("cleanup()")
    assert page.evaluate("document.querySelector('#cell').childElementCount") == 0
    assert page.evaluate("Object.values(listeners).flat().length") == 0


def test_each_river_of_several_has_its_label(page: Page) -> None:
    show(page, RIVER | {"pieces": TEXT["pieces"], "special": TEXT["special"]}, [2, 3, 5], [0.0] * 30)
    assert page.locator(".text:has(.river) h2").all_inner_texts() == ["text 0, 5 tokens", "text 1, 2 tokens"]


def test_river_stands_alone(page: Page) -> None:
    show(page, RIVER, [1, 3, 5], [float(i) for i in range(15)])
    page.locator("summary").click()
    expect(page.locator("tbody th")).to_have_text(["1 post", "1", "0"])
    cells = page.locator("tbody tr").first.locator("td")
    expect(cells).to_have_text(["+5.00", "+5.50", "+6.00", "+6.50", "+7.00"])
    canvas = page.locator("canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tip:popover-open")).to_contain_text("+3.00 sd")
    page.keyboard.press("Enter")
    assert page.evaluate("model.get('picked')") == {"text": 0, "pos": 1}
    assert page.evaluate("leaked") == []


def test_the_theme_of_the_notebook(page: Page) -> None:
    painted = """ground => {
      const {data} = document.querySelector("canvas").getContext("2d").getImageData(80, 6, 1, 1);
      return `rgb(${[...data].slice(0, 3).join(", ")})` === ground;
    }"""
    for light, ground in (("true", "rgb(251, 251, 250)"), ("false", "rgb(22, 24, 28)"), ("true", "rgb(251, 251, 250)")):
        page.evaluate("light => (document.body.dataset.jpThemeLight = light)", light)
        if not page.locator("canvas").count():
            show(page, RIVER, [1, 3, 5], [0.0] * 15)
        expect(page.locator("#cell")).to_have_css("background-color", ground)
        page.wait_for_function(painted, arg=ground)


def test_bytes_that_cannot_be_read_say_so(page: Page) -> None:
    show(page, TEXT, [2, 5], VALUES)
    page.evaluate("model.set('data', new Uint8Array(3))")
    expect(page.locator(".problem")).to_contain_text("This view cannot be drawn. These bytes are no safetensors file")
