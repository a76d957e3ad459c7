"""The place Runs: what was asked for at length, its progress, its result; it goes on without the page that asked."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

import residscope as rs
from tests.browser.test_saved import Enter, enter

__all__ = ["enter"]


def test_nobody_has_no_runs(browser_context: Callable[[], BrowserContext], origin: str) -> None:
    page = browser_context().new_page()
    page.goto(f"{origin}/runs")
    page.get_by_role("button", name="Say who you are").click()
    page.get_by_label("Name", exact=True).fill("Pia")
    page.get_by_role("button", name="Work under this name").click()
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()


def test_a_run_is_kept_opened_run_again_deleted_and_restored(enter: Enter, tmp_path: Path) -> None:
    page = enter("Rob", "/heads?sequences=2&length=12")
    page.reload()
    page.wait_for_selector(".picture canvas")
    page.get_by_role("link", name="Runs").click()
    title = page.get_by_role("button", name="Head scores")
    expect(page.locator(".kept li")).to_contain_text("n sequences 2, n tokens 12")
    expect(page.locator(".kept .facts")).to_contain_text("done in")
    title.click()
    page.wait_for_selector(".opened canvas")
    expect(page.get_by_role("list", name="Log")).to_contain_text("scoring")
    with page.expect_download() as download:
        page.locator(".opened").get_by_role("button", name="Save", exact=True).first.click()
    download.value.save_as(tmp_path / "heads.safetensors")
    assert isinstance(rs.open(tmp_path / "heads.safetensors"), rs.HeadScores)
    page.reload()
    page.wait_for_selector(".opened canvas")
    page.get_by_role("button", name="run again").click()
    expect(page.locator(".kept li .facts")).to_contain_text("done in")
    expect(page.get_by_role("button", name="Head scores")).to_have_count(1)
    page.get_by_role("button", name="delete").click()
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    page.get_by_label("Which").select_option("deleted")
    page.get_by_role("button", name="restore").click()
    page.get_by_label("Which").select_option("mine")
    expect(page.get_by_role("button", name="Head scores")).to_have_count(1)


def test_what_takes_long_goes_on_and_is_stopped(enter: Enter) -> None:
    page = enter("Sue", "/heads?sequences=2&length=11")
    page.goto(f"{page.url.split('?')[0]}?sequences=64&length=120")
    page.get_by_role("button", name="Go on in Runs").click()
    page.get_by_role("link", name="See your runs").click()
    run = page.locator(".kept li", has_text="n sequences 64")
    expect(run.get_by_role("progressbar")).to_be_visible()
    run.get_by_role("button", name="Stop").click()
    expect(run.locator(".facts")).to_contain_text("cancelled")
    expect(run.get_by_role("list", name="Log")).to_contain_text("was cancelled")


def test_a_run_that_failed_says_why(enter: Enter) -> None:
    page: Page = enter("Tom", "/runs")
    asked = {"kind": "patch", "settings": {"clean": "a b", "corrupted": "a", "correct": " c", "wrong": " d"}}
    page.evaluate(
        """(asked) => fetch("/api/v1/runs",
          {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(asked)})""",
        asked,
    )
    page.reload()
    run = page.locator(".kept li")
    expect(run.locator(".facts")).to_contain_text("failed")
    run.get_by_role("button", name="Patching").click()
    expect(run.get_by_role("list", name="Log").locator("li").last).not_to_be_empty()


def test_a_graph_is_kept_with_what_is_put_on_it(enter: Enter) -> None:
    page = enter("Gil", "/graph")
    page.get_by_label("Find in the graph").fill("3.564")
    page.get_by_label("Find in the graph").press("Enter")
    page.get_by_label("Name of 3.564@14").fill("the answer")
    page.get_by_label("Name of 3.564@14").blur()
    page.get_by_label("Layers", exact=True).select_option("columns")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_role("link", name="See your runs").click()
    page.wait_for_selector(".opened .graph canvas")
    expect(page.get_by_label("Name of 3.564@14")).to_have_value("the answer")
    expect(page.get_by_label("Layers", exact=True)).to_have_value("columns")
    page.goto(page.url.split("/runs")[0] + "/graph?tried=zero")
    page.wait_for_selector(".closer .evaluation")
    page.get_by_role("link", name="Runs").click()
    page.get_by_role("button", name="Whether a graph is right").click()
    expect(page.locator(".opened .evaluation")).to_contain_text("signs right")
