"""Search on the page Stream: what it lists is what Python finds."""

import re

import pytest
from playwright.sync_api import expect

import residscope as rs
from residscope.cards.search import find_active, find_nearest
from residscope.running.texts import read_texts
from tests.browser.conftest import OPEN
from tests.browser.test_stream import FIRST, wait_for_name

SITE = "resid_pre.2"


@pytest.fixture(scope="module")
def basis(demo: rs.Model) -> rs.Basis:
    return rs.pca(demo, read_texts(rs.demo.texts)[:60], SITE)


# What others have saved is a ranking of its own.
MADE = "section:not([aria-label$='saved directions']) .ranking button > span:first-child"


def name_of(kind: str, number: int) -> str:
    return f"PCA {number}" if kind == "pca" else f"feature {number}"


def test_what_is_most_active(open_page: OPEN, demo: rs.Model, basis: rs.Basis) -> None:
    page = open_page(f"/?site={SITE}&component=2&count=3")
    page.get_by_role("button", name="Find", exact=True).click()
    run, dictionary = demo.run(read_texts(rs.demo.texts)[0]), rs.demo.dictionaries[SITE]
    rows = page.get_by_role("region", name="Search").locator(MADE)
    for pos in (None, 6):
        if pos is not None:
            page.locator(f"{FIRST} .tokens > span").nth(pos).click()
            expect(page.locator(".find .sentence")).to_contain_text(f"at token {pos}")
        found = find_active(run, basis, dictionary, pos=pos, top=12)
        expect(rows).to_have_text([name_of(match.kind, match.number) for match in found])
    rows.get_by_text(name_of("feature", found[12].number), exact=True).click()
    wait_for_name(page, f"feature {found[12].number} of")


def test_by_token_and_by_likeness(open_page: OPEN, demo: rs.Model, basis: rs.Basis) -> None:
    page = open_page(f"/?site={SITE}&component=2&count=3&find=text")
    page.get_by_label("Search by").select_option("token")
    search = page.get_by_role("region", name="Search")
    expect(search).to_contain_text("Write a token")
    page.get_by_label("Token", exact=True).fill(" she")
    page.keyboard.press("Enter")
    dictionary = rs.demo.dictionaries[SITE]
    rows = search.locator(MADE)
    found = find_nearest(rs.token_direction(demo, " she", site=SITE), basis, dictionary, top=12, same_way=True)
    expect(rows).to_have_text([name_of(match.kind, match.number) for match in found])
    page.get_by_label("Token", exact=True).fill("no such token")
    page.keyboard.press("Enter")
    expect(search.get_by_role("alert")).to_contain_text("'no such token'")
    page.get_by_label("Search by").select_option("vector")
    near = find_nearest(basis[2], basis, dictionary, top=12)
    expect(rows).to_have_text([name_of(match.kind, match.number) for match in near])
    expect(page).to_have_url(re.compile("find=vector"))
    page.reload()
    expect(rows).to_have_count(24)


def test_by_token_through_the_matrices_behind_a_site(open_page: OPEN, demo: rs.Model) -> None:
    page = open_page("/?site=mlp_act.2&component=2&count=3&find=token:%20she")
    search = page.get_by_role("region", name="Search")
    expect(search).to_contain_text("the norm folded in, read through W_out")
    basis = rs.pca(demo, read_texts(rs.demo.texts)[:60], "mlp_act.2")
    found = find_nearest(rs.token_direction(demo, " she", site="mlp_act.2"), basis, top=12, same_way=True)
    expect(search.locator(MADE)).to_have_text([name_of("pca", match.number) for match in found])
    page.goto(page.url.replace("mlp_act.2", "mlp_pre.2"))
    expect(search.get_by_role("alert")).to_contain_text("From mlp_pre.2 no way leads to the logits")
