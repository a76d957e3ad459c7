"""Steering on the page Stream: what is written is what Python writes."""

import json
from urllib.parse import quote

from playwright.sync_api import expect

import residscope as rs
from residscope.running.texts import read_texts
from tests.browser.conftest import OPEN

PROMPT = "One day Lily went to the"


def test_both_texts_are_what_python_writes(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/?site=resid_pre.2&component=3&count=4")
    page.keyboard.press("w")
    steering = page.get_by_role("region", name="Steering")
    steering.get_by_label("Strength", exact=True).fill("-5")
    steering.get_by_label("New tokens").fill("12")
    steering.get_by_label("Where it is added").select_option("new")
    steering.get_by_label("Prompt to write on from").fill(PROMPT)
    page.keyboard.press("Enter")
    basis = rs.pca(demo, read_texts(rs.demo.texts)[:60], "resid_pre.2")
    found = rs.steer(demo, basis[3], PROMPT, strength=-5.0, on="new", n_tokens=12)
    for number, name in enumerate(("as the model writes on", "with the direction added")):
        text = steering.get_by_label(name).locator("p")
        expect(text).to_have_text("".join(found.pieces[number]))
        shaded = text.locator("span").first
        expect(shaded).to_have_attribute(
            "title",
            f"·{found.pieces[number][found.n_prompt].strip()}, position 7: "
            f"{-float(found.values[number, found.n_prompt]):.2f} nats",
        )
    expect(steering).to_contain_text("not at position 0")
    page.reload()
    expect(steering.get_by_label("Strength", exact=True)).to_have_value("-5")
    expect(steering.get_by_label("Prompt to write on from")).to_have_value(PROMPT)


def test_what_cannot_be_written_is_said_and_nothing_is_lost(open_page: OPEN) -> None:
    steer = {"prompt": PROMPT, "n_tokens": 999}
    page = open_page(f"/?site=resid_pre.2&component=3&count=4&steer={quote(json.dumps(steer))}")
    steering = page.get_by_role("region", name="Steering")
    steering.get_by_role("button", name="Write").click()
    expect(steering.get_by_role("alert")).to_contain_text("the model's context is 256")
    steering.get_by_label("New tokens").fill("2")
    steering.get_by_role("button", name="Write").click()
    expect(steering.get_by_label("with the direction added").locator("span")).to_have_count(2)
    steering.get_by_label("Strength", exact=True).fill("much")
    page.keyboard.press("Tab")
    expect(steering.get_by_label("Strength", exact=True)).to_have_value("4")
