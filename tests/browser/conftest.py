"""A real server on a small real model, and a real browser in front of it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

import residscope as rs
from residscope.results.static_files import STATIC
from residscope.running.texts import read_texts
from tests.patience import PATIENCE
from tests.serving import serve

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OPEN = Callable[..., Page]

# The step of each token's shade, "p48" to "n48", by the pixel in the middle of its widest box; "out" where left out.
READ_SHADES = """(within) => [...document.querySelectorAll(`${within} .shaded`)].flatMap((el) => {
  const [canvas, paragraph] = el.children;
  const probe = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const mark = el.appendChild(document.createElement("i"));
  const steps = new Map();
  for (const [sign, pole] of [["p", "positive"], ["n", "negative"]])
    for (let step = 1; step <= 48; step++) {
      mark.style.color = `color-mix(in oklab, var(--${pole}) ${step / .48}%, var(--ground))`;
      probe.fillStyle = getComputedStyle(mark).color;
      probe.fillRect(0, 0, 1, 1);
      steps.set(probe.getImageData(0, 0, 1, 1).data.join(), sign + step);
    }
  mark.remove();
  if (!canvas.width) return [...paragraph.children].map(() => "out of sight");
  const frame = canvas.getBoundingClientRect(), ratio = canvas.width / frame.width;
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [...paragraph.children].map((span) => {
    if (span.className) return span.className;
    const [box] = [...span.getClientRects()].sort((a, b) => b.width - a.width);
    const x = Math.round(((box.left + box.right) / 2 - frame.left) * ratio);
    const y = Math.round(((box.top + box.bottom) / 2 - frame.top) * ratio);
    const rgba = data.slice(4 * (y * canvas.width + x)).slice(0, 4);
    return rgba[3] ? steps.get(rgba.join()) ?? `no shade: ${rgba}` : "";
  });
})"""


def read_shades(page: Page, within: str = "body") -> list[str]:
    shades: list[str] = page.evaluate(READ_SHADES, within)
    return shades


expect.set_options(timeout=PATIENCE * 1000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def origin(demo: rs.Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (STATIC / "index.html").is_file():
        pytest.skip("the pages are not built; run `make build`")
    texts = tmp_path_factory.mktemp("texts") / "texts.json"
    texts.write_text(json.dumps(read_texts(rs.demo.texts)[:60]))
    with serve(demo, texts, dictionaries=rs.demo.dictionaries) as (address, _, _):
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def browser_context(browser: Browser) -> Iterator[Callable[[], BrowserContext]]:
    """More contexts, of which each is a browser of its own."""
    made: list[BrowserContext] = []

    def make() -> BrowserContext:
        made.append(browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True))
        made[-1].set_default_timeout(PATIENCE * 1000)
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def context(browser_context: Callable[[], BrowserContext]) -> BrowserContext:
    return browser_context()


@pytest.fixture
def open_page(context: BrowserContext, origin: str) -> Iterator[OPEN]:
    """Open an address of the server; afterwards: no error was thrown, and nothing was asked of anybody else."""
    asked: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: errors.append(str(error.error)))

    def open_address(path: str = "/?count=4", *, ready: bool = True) -> Page:
        page = context.new_page()
        page.goto(origin + path)
        if ready:
            page.wait_for_selector(".tokens > span")
            page.wait_for_selector(".river canvas")
        return page

    yield open_address
    strangers = [
        url for url in asked if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(origin + "/")
    ]
    assert not strangers, strangers
    assert not errors, errors
