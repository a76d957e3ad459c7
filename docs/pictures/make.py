"""Take the pictures: `python docs/pictures/make.py`, with the workbench open at http://127.0.0.1:7474/."""

import os
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ADDRESS = "http://127.0.0.1:7474/"
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


def open_stream(page: Page) -> None:
    """The first page, with a token's card."""
    page.goto(ADDRESS)
    page.wait_for_selector(".river canvas")
    page.locator(".tokens > span").nth(8).click()


def open_graph(page: Page) -> None:
    """Which feature caused which, with a feature's paths and card."""
    page.goto(f"{ADDRESS}graph")
    page.wait_for_selector(".graph .above")
    search = page.get_by_label("Find in the graph")
    search.fill("3.758")
    search.press("Enter")
    search.fill("")
    page.wait_for_selector(".closer .contexts li")


PICTURES = {"stream": (open_stream, 720), "graph": (open_graph, 900)}


def main() -> None:
    """Take them."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-sync"])
        for name, (show, height) in PICTURES.items():
            page = browser.new_page(viewport={"width": 1200, "height": height}, color_scheme="light")
            show(page)
            page.wait_for_timeout(1000)  # until the card stands
            page.screenshot(path=Path(__file__).with_name(f"{name}.png"))
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
