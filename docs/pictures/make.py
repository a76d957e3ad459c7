"""Take the README's picture: `python docs/pictures/make.py`, with the workbench open at http://127.0.0.1:7474/."""

import os
from pathlib import Path

from playwright.sync_api import sync_playwright

ADDRESS = "http://127.0.0.1:7474/"
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    """Take it."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-sync"])
        page = browser.new_page(viewport={"width": 1200, "height": 720}, color_scheme="light")
        page.goto(ADDRESS)
        page.wait_for_selector(".river canvas")
        page.locator(".tokens > span").nth(8).click()
        page.wait_for_timeout(1000)  # until the card stands
        page.screenshot(path=Path(__file__).with_name("stream.png"))
        browser.close()


if __name__ == "__main__":
    main()
