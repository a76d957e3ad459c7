"""The analyst's views, as saved files without a network and as modules of a notebook."""

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from playwright.sync_api import BrowserContext, Locator, Page, expect

import residscope as rs
from residscope.results.static_files import STATIC

OPEN_FILE = Callable[[rs.Result], Page]
HOSTILE = "Once <img src=x onerror=window.hit=1> upon </script><script>window.hit=1</script> a time"
MAPS = ["attention", "comparison", "composition", "head_mosaic", "heads", "logit_lens", "next_tokens", "patching"]
TABLES = ["ablation", "attribution", "singular_vectors", "vocabulary"]
DRAWN = ["causal_check", "explanation", "steering"]


@pytest.fixture(scope="module")
def results(stories: rs.Model) -> dict[str, rs.Result]:
    run = stories.run([HOSTILE, "One day a cat"])
    starts = ["Once upon a time,", "One day", "Then"]
    frame = [
        {"clean": f"{start} there was a little", "corrupted": f"{start} there was a big", "verb": -3, "end": -1}
        | {"correct": " g", "wrong": " b"}
        for start in starts
    ]
    scores = rs.head_scores(stories, n_sequences=2, n_tokens=20)
    return {
        "ablation": rs.ablate_head(stories, run, layer=2, head=1, metric=rs.logit(" a")),
        "causal_check": rs.causal_check(
            stories, rs.token_direction(stories, " a").named(HOSTILE), ["One day a cat ran", "Tim was sad."], n_draws=4
        ),
        "explanation": rs.explain(
            stories, rs.token_direction(stories, " a").named(HOSTILE), [HOSTILE, "One day a cat ran"], top=5
        ),
        "steering": rs.steer(
            stories,
            rs.contrast(stories, ["One day"], ["The cat"], site="resid_pre.2").named(HOSTILE),
            HOSTILE,
            strength=2.0,
            unit="norm",
            n_tokens=8,
        ),
        "comparison": rs.compare(run, stories.run([HOSTILE, "One day a cat"], edits=[rs.scale("resid_pre.2", 0.5)])),
        "composition": rs.composition(stories, "K"),
        "head_mosaic": rs.head_mosaic({HOSTILE: scores, "other": scores}),
        "heads": scores,
        "next_tokens": rs.next_tokens(run, " a"),
        "singular_vectors": rs.singular_vectors(stories, "OV", layer=2, head=1),
        "logit_lens": rs.logit_lens(run, target="next"),
        "vocabulary": rs.vocabulary(run, top=None, minus=stories.run("The cat")),
        "patching": rs.patch(stories, rs.pairs(frame), site=["resid_pre", "mlp_out"], pos=["verb", "end"]),
        "attention": rs.attention(run),
        "attribution": rs.attribute(run, rs.logit(" a")),
    }


@pytest.fixture
def open_file(context: BrowserContext, tmp_path: Path) -> Iterator[OPEN_FILE]:
    """Open a result's saved file; afterwards: no error was thrown, nothing was asked of anybody, and no token ran."""
    if not (STATIC / "saved.js").is_file():
        pytest.skip("the pages are not built; run `make build`")
    asked: list[str] = []
    errors: list[str] = []
    pages: list[Page] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: errors.append(str(error.error)))

    def open_result(result: rs.Result) -> Page:
        result.save_html(tmp_path / "saved.html")
        pages.append(context.new_page())
        pages[-1].goto(f"file://{tmp_path / 'saved.html'}")
        pages[-1].wait_for_selector("header strong")
        return pages[-1]

    yield open_result
    assert not [url for url in asked if not url.startswith(("file:///tmp", f"file://{tmp_path}", "data:", "blob:"))]
    assert not errors
    assert all(page.evaluate("window.hit === undefined") for page in pages)


def press(page: Page, *keys: str) -> None:
    page.locator(".heat canvas").focus()
    for key in keys:
        page.keyboard.press(key)


def tip(page: Page) -> Locator:
    return page.locator(".tip:popover-open")


def shown(page: Page) -> float:
    """The number in the tooltip."""
    return float(tip(page).locator(".value").inner_text().replace("−", "-"))


@pytest.mark.parametrize("name", [*MAPS, *TABLES, *DRAWN])
@pytest.mark.parametrize("width", [360, 1440])
def test_a_saved_file_says_what_it_shows_and_fits(
    results: dict[str, rs.Result], open_file: OPEN_FILE, name: str, width: int
) -> None:
    page = open_file(results[name])
    page.set_viewport_size({"width": width, "height": 800})
    expect(page.locator("header strong")).to_have_text(results[name].name)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert page.locator(".problem:visible").count() == 0


@pytest.mark.parametrize("name", [*MAPS, *TABLES, *DRAWN])
def test_every_view_gives_its_files(results: dict[str, rs.Result], open_file: OPEN_FILE, name: str) -> None:
    page = open_file(results[name])
    content: dict[str, bytes] = {}
    for kind in ("SVG", "PNG", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
        content[kind] = Path(download.value.path()).read_bytes()
    parse = (
        "text => new DOMParser().parseFromString(text, 'image/svg+xml').querySelectorAll('parsererror, script, img')"
    )
    assert page.evaluate(f"{parse}.length", content["SVG"].decode()) == 0
    assert content["PNG"].startswith(b"\x89PNG")
    assert content["CSV"].decode().count("\n") >= 3


def save(page: Page, kind: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=kind, exact=True).click()
    return Path(download.value.path()).read_text()


def test_files_say_what_they_leave_out_and_nothing_twice(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    assert "the first 40 of 512 tokens" in save(open_file(results["vocabulary"]), "SVG")
    patterns = results["attention"]
    assert isinstance(patterns, rs.Attention)
    page = open_file(patterns)
    drawn = save(page, "SVG")
    assert f"Head 0.0, one of {len(patterns.heads)} heads" in drawn
    assert drawn.count("queries downwards") == 1
    length = len(patterns.pieces[0])
    assert save(page, "CSV").count("\n") == 1 + len(patterns.heads) * length * (length + 1) // 2
    assert save(open_file(results["ablation"]), "SVG").count("Mean of") == 1
    vectors = results["singular_vectors"]
    assert isinstance(vectors, rs.SingularVectors)
    page = open_file(vectors)
    drawn, table = save(page, "SVG"), save(page, "CSV")
    assert all(f">{side}</text>" in drawn and f"\n{side}," in table for side in vectors.sides)


def test_position_0_has_no_colour_and_no_part_in_the_range(stories: rs.Model, open_file: OPEN_FILE) -> None:
    run = stories.run("Once upon a time")
    lens, other = (
        rs.logit_lens(run, value="entropy"),
        stories.run("Once upon a time", edits=[rs.scale("resid_pre.2", 0.5)]),
    )
    for result in (lens, rs.next_tokens(run, " a"), rs.compare(run, other)):
        loud = result.values.clone()
        loud[..., 0] = 1e6
        page = open_file(replace(result, values=loud))
        expect(page.locator(".legend")).to_contain_text("position 0 has no colour")
        assert (
            float(re.findall(r"now ([\d.]+)", str(page.locator(".range select").get_attribute("aria-label")))[0]) < 10
        )
        assert "url(#out)" in save(page, "SVG")


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_a_patch_that_does_nothing_has_no_colour(
    results: dict[str, rs.Result], open_file: OPEN_FILE, direction: str
) -> None:
    patched = results["patching"]
    assert isinstance(patched, rs.Patching)
    base = patched.clean_values if direction == "noise" else patched.corrupted_values
    still = replace(
        patched,
        values=base.expand_as(patched.values),
        settings={**patched.settings, "direction": direction},
        reference=float(direction == "noise"),
        meaning="what one is told",
    )
    page = open_file(still)
    expect(page.locator(".legend")).to_contain_text("what one is told")
    coloured = """() => {
      const canvas = document.querySelector(".heat canvas");
      const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.some((_, i) => i % 4 === 0 && data[i + 3] > 250 && Math.abs(data[i] - data[i + 2]) > 40);
    }"""
    assert not page.evaluate(coloured)
    page = open_file(patched)
    assert page.evaluate(coloured)


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_drawn_again_in_the_other_theme(
    results: dict[str, rs.Result], open_file: OPEN_FILE, name: str
) -> None:
    page = open_file(results[name])
    drawn = """light => {
      const canvas = document.querySelector(".heat canvas");
      const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let bright = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i + 3]) bright += data[i + 1] > 128 ? 1 : -1;
      return bright > 0 === light;
    }"""
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(drawn, arg=False)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(drawn, arg=True)


def test_a_causal_check_says_what_python_says(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    check = results["causal_check"]
    assert isinstance(check, rs.CausalCheck)
    page = open_file(check)
    for measure in ("kl", "loss"):
        page.get_by_label("Measure").select_option(measure)
        summary = check.summary().query(f"measure == '{measure}'")
        cells = page.locator(".strips tbody tr").all()
        for (_, row), shown in zip(summary.iterrows(), cells, strict=True):
            edit, nats, beside = shown.locator("th, td").all_inner_texts()
            assert edit == row["action"]
            assert float(nats.replace("−", "-")) == pytest.approx(row["effect"], rel=0.06, abs=0.006)
            assert beside.endswith(f"(p {row['p']:.2f})")
            # Four directions of a kind cannot tell: one over five is the smallest p.
            assert beside.startswith("too few others to tell" if row["p"] == 1 / 5 else "no more than chance")
    assert page.locator(".strips circle").count() == 4 * 8  # edits, and four directions of each kind


def test_an_explanation_says_what_python_says(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    found = results["explanation"]
    assert isinstance(found, rs.Explanation)
    page = open_file(found)
    for side, texts in enumerate(found.texts):
        table = page.locator(".explained .tokens-table").nth(side)
        shown = table.locator("[role=rowgroup] b").all_inner_texts()
        assert shown == [text.replace(" ", "·") for text in texts]
    for side, name in enumerate(("top", "bottom")):
        lines = page.locator(".contexts").nth(side).locator("li").all()
        for line, place in zip(lines, found.contexts[name], strict=True):
            assert line.locator("q").text_content() == "".join(place["pieces"])
            assert line.locator("mark").text_content() == place["pieces"][place["at"]]
    assert page.locator(".explained rect").count() == len(found.counts)
    best = found.writers[0]
    expect(page.locator(".explained dd").first).to_contain_text(f"{best['layer']}.{best['head']} ×")


def test_an_explanation_without_tokens_says_why(stories: rs.Model, open_file: OPEN_FILE) -> None:
    keys = rs.pca(stories, ["One day a cat ran", "Tim was sad."], "k.1", 1, head=2)[0]
    page = open_file(rs.explain(stories, keys, ["One day a cat ran", "Tim was sad."]))
    expect(page.locator("header")).to_contain_text("k.1 head 2")
    expect(page.get_by_text("no tokens: what k.1 head 2 does to the logits depends on the text").first).to_be_visible()
    assert page.locator(".explained .tokens-table").count() == 0
    assert page.locator(".explained rect").count() == 40


@pytest.mark.parametrize("name", ["heads", "head_mosaic", "composition", "attribution"])
def test_a_head_that_is_picked_is_followed_in_python(
    results: dict[str, rs.Result], open_file: OPEN_FILE, stories: rs.Model, name: str
) -> None:
    run = stories.run("One day a cat")
    page = open_file(rs.attribute(run, rs.logit(" a"), by="head") if name == "attribution" else results[name])
    if name == "attribution":
        page.get_by_role("button", name="head.1.3", exact=True).click()
    else:
        page.locator(".heat canvas").first.focus()
        for key in ("ArrowUp", "ArrowRight", "Enter"):
            page.keyboard.press(key)
    line = page.locator(".onward code").inner_text()
    shown = eval(line, {"rs": rs, "run": run})  # it runs as it is written
    assert isinstance(shown, rs.Attention)
    assert shown.heads == {"attribution": [[1, 3]], "composition": [[0, 1], [1, 1]]}.get(name, [[1, 1]])


def test_heads_show_one_score_all_scores_and_one_against_another(
    results: dict[str, rs.Result], open_file: OPEN_FILE
) -> None:
    scores = results["heads"]
    assert isinstance(scores, rs.HeadScores)
    page = open_file(scores)
    expect(page.locator(".multiples canvas")).to_have_count(len(scores.scores))
    page.locator(".multiples canvas").first.click()
    expect(page.locator(".multiples details").first).to_have_css("opacity", "0")
    page.locator(".multiples canvas").first.click()
    page.get_by_label("Score", exact=True).select_option("previous_token")
    expect(page.locator(".heat canvas")).to_have_count(1)
    press(page, "ArrowUp", "ArrowRight")
    expect(tip(page)).to_contain_text("head 1.1")
    page.keyboard.press("Enter")
    expect(page.locator(".head-card h2")).to_have_text("Head 1.1")
    said = page.locator(".head-card dd").first.inner_text().split(" ± ")[0]
    assert float(said) == pytest.approx(float(scores["previous_token"][1, 1]), rel=0.06, abs=0.006)
    page.get_by_label("Other score").select_option("copying")
    expect(page.locator(".scatter circle")).to_have_count(scores.values[0].numel())
    expect(page.locator(".scatter circle.picked")).to_have_count(1)
    page.locator(".scatter circle").nth(3).focus()
    expect(tip(page)).to_contain_text("head 0.3")


def test_lens_opens_a_cell_and_compares_two(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    lens = results["logit_lens"]
    assert isinstance(lens, rs.LogitLens)
    page = open_file(lens)
    press(page, "ArrowUp", "ArrowRight", "Enter")
    best = lens.texts[str(int(lens.token_ids[0, 1, 1, 0]))].replace(" ", "·")
    expect(tip(page).locator("b")).to_have_text(best)
    card = page.locator(".lens aside")
    expect(card.locator("h2")).to_contain_text("resid_pre.1 at 1")
    expect(card.locator("b").first).to_have_text(best)
    expect(card.locator("[role=rowgroup] [role=row]")).to_have_count(lens.token_ids.shape[-1])
    place = page.locator(".heat canvas").bounding_box()
    press(page, "ArrowUp", "Enter")
    expect(card.locator("h2")).to_contain_text("then resid_pre.")
    expect(card.get_by_role("button", name="log ratio")).to_be_visible()
    expect(card).to_contain_text(f"of each cell the {lens.token_ids.shape[-1]} best tokens were kept")
    page.get_by_label("Close").click()
    expect(card.locator("h2")).to_have_count(0)
    press(page, "Enter")
    expect(card.locator("h2")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(card.locator("h2")).to_have_count(0)
    assert page.locator(".heat canvas").bounding_box() == place  # nothing has moved it
    page.get_by_label("Text").select_option("1")
    assert "6 positions" in str(page.locator(".heat canvas").get_attribute("aria-label"))


def test_a_map_can_be_read_as_a_table(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    page = open_file(results["logit_lens"])
    page.locator("summary").click()
    expect(page.locator("thead th").nth(1)).to_have_text("0 <s>")
    heads = page.locator("thead th").all_inner_texts()
    assert heads[1:3] == ["0 <s>", "1 ·Once"]
    assert page.locator("tbody tr").first.locator("th").inner_text() == "4 post"


def test_vocabulary_scrolls_sorts_and_searches(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    page = open_file(results["vocabulary"])
    table = page.locator(".tokens-table [role=table]")
    assert table.get_attribute("aria-rowcount") == "513"
    assert page.locator("[role=rowgroup] [role=row]").count() < 40
    table.evaluate("el => (el.scrollTop = el.scrollHeight)")
    expect(page.locator("[aria-rowindex='513']")).to_be_visible()
    page.get_by_role("button", name="logit").click()
    page.get_by_role("button", name="logit").click()
    table.evaluate("el => (el.scrollTop = 0)")
    expect(page.locator("[aria-rowindex='2'] [role=cell]").nth(2)).to_have_text("511")
    page.get_by_role("searchbox").fill("·upon")
    expect(page.locator("[role=rowgroup] b")).to_have_text(["·upon"])
    page.get_by_role("searchbox").fill("407")
    expect(page.locator("[role=rowgroup] b")).to_have_text(["·upon"])


def test_patching_shows_means_intervals_and_each_pair(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    patched = results["patching"]
    assert isinstance(patched, rs.Patching)
    page = open_file(patched)
    page.get_by_label("site", exact=True).select_option("1")
    press(page, "ArrowUp", "End", "Enter")
    expect(tip(page)).to_contain_text("layer 1, role end")
    assert shown(page) == pytest.approx(float(patched.mean()[1, 1, 1]), rel=0.06, abs=0.006)
    said = re.search(r"95% (\S+) to ([+−]?[\d.]+)", tip(page).inner_text())
    low, high = patched.interval()[1, 1, 1].tolist()
    assert said
    ends = [float(end.replace("−", "-")) for end in said.groups()]
    assert ends == pytest.approx([low, high], abs=0.006 + 0.1 * (high - low))
    expect(page.locator(".pairs li")).to_have_count(3)
    page.get_by_label("Quantity").select_option("raw")
    page.get_by_label("Pair", exact=True).select_option("2")
    press(page, "ArrowUp", "ArrowDown")
    assert shown(page) == pytest.approx(float(patched.values[1, 1, 1, 2]), rel=0.06, abs=0.006)


def test_attention_shows_every_head_and_the_picked_one(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    patterns = results["attention"]
    assert isinstance(patterns, rs.Attention)
    page = open_file(patterns)
    expect(page.locator(".thumbs canvas")).to_have_count(len(patterns.heads))
    page.locator(".thumbs button").nth(11).click()
    expect(page.locator(".pattern h2")).to_have_text("Head 1.3")
    press(page, "ArrowDown", "ArrowDown")
    assert shown(page) == pytest.approx(float(patterns.values[0, 11, 2, 0]), rel=0.06, abs=0.006)


def test_144_patterns_of_100_tokens_are_a_small_file(stories: rs.Model, tmp_path: Path) -> None:
    noise = torch.randn(1, 144, 100, 100, generator=torch.Generator().manual_seed(0))
    seen = noise.masked_fill(~torch.ones(100, 100).tril().bool(), -torch.inf).softmax(-1)
    one = rs.attention(stories.run("Once upon a time"))
    names = [[layer, head] for layer in range(12) for head in range(12)]
    pieces = [[f" token{i}" for i in range(100)]]
    many = replace(one, values=seen, heads=names, pieces=pieces, special=[[False] * 100])
    many.save_html(tmp_path / "patterns.html")
    assert (tmp_path / "patterns.html").stat().st_size < 3_000_000


def test_attribution_adds_up(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    page = open_file(results["attribution"])
    values = results["attribution"].values[0]
    said = re.search(r"sum to \+([\d.]+) logits", page.locator(".legend").inner_text())
    assert said
    assert float(said[1]) == pytest.approx(float(values.sum()), abs=0.06)
    boxes = page.locator("[role=rowgroup] .running > i > i")
    read = "els => els.map((el) => el.getBoundingClientRect()).map(({left, right}) => [left, right])"
    ends = boxes.evaluate_all(read)
    for (left, right), (next_left, next_right), value in zip(ends, ends[1:], values, strict=False):
        end = right if value > 0 else left
        assert min(abs(end - next_left), abs(end - next_right)) < 1.5


def test_a_cell_of_the_lens_is_played_through_layers(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    page = open_file(results["logit_lens"])
    press(page, "ArrowRight", "Enter")
    title = page.locator(".lens aside h2")
    before = title.inner_text()
    page.get_by_label("Play through every layer").click()
    expect(title).not_to_have_text(before)
    expect(page.get_by_label("Play through every layer")).to_be_visible()  # it stops after the last
    expect(title).to_contain_text("resid_post.4")
    page.get_by_label("layer", exact=True).fill("0")
    expect(title).to_contain_text("resid_pre.0")
    page.get_by_label("position", exact=True).fill("2")
    expect(title).to_contain_text("at 2")


def test_probability_is_shown_by_what_tokens_are(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    table = results["vocabulary"]
    assert isinstance(table, rs.Vocabulary)
    page = open_file(table)
    page.get_by_label("As").select_option("mass")
    page.locator(".icicle summary").click()
    expect(page.locator(".icicle tr").first).to_be_visible()
    expect(page.locator(".icicle .box").first).to_have_text("all tokens 100.0%")
    page.locator(".icicle .box").first.focus()
    page.keyboard.press("ArrowDown")
    first = page.locator(".icicle tr th").nth(1).inner_text()
    expect(tip(page)).to_contain_text(first)
    expect(tip(page).locator(".value")).to_have_text(page.locator(".icicle tr td").nth(1).inner_text())
    page.keyboard.press("ArrowRight")
    expect(tip(page)).not_to_contain_text(first)
    page.keyboard.press("ArrowUp")
    expect(tip(page)).to_contain_text("all tokens")
    rows = dict(
        page.locator(".icicle tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    )
    assert rows["all tokens"] == "100.0%"
    probs = table.log_probs[0].exp()
    spaced = sum(float(p) for p, text in zip(probs, table.texts[0], strict=True) if text.startswith(" "))
    assert float(rows["·…"].rstrip("%")) == pytest.approx(100 * spaced, abs=0.06)
    widths = page.locator(".icicle .box").evaluate_all("all => all.map(el => parseFloat(el.style.width))")
    assert widths[0] == 100
    assert max(widths[1:]) == pytest.approx(100 * max(spaced, 1 - spaced), abs=0.1)


def test_changes_are_shown_site_by_site(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    changes = results["comparison"]
    assert isinstance(changes, rs.Comparison)
    page = open_file(changes)
    page.get_by_label("Kind of site").select_option("resid_mid")
    press(page, "ArrowRight")
    expect(tip(page)).to_contain_text("resid_mid.0")
    assert shown(page) == pytest.approx(float(changes["resid_mid.0"][0, 1]), abs=0.006)
    press(page, "ArrowUp", "ArrowUp", "ArrowUp")
    expect(tip(page)).to_contain_text("resid_mid.3")
    assert shown(page) == pytest.approx(float(changes["resid_mid.3"][0, 1]), rel=0.06)


def test_an_answer_stands_above_the_best_tokens(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    expected = results["next_tokens"]
    assert isinstance(expected, rs.NextTokens)
    page = open_file(expected)
    page.locator(".heat summary").click()
    expect(page.locator(".heat tr")).to_have_count(12)
    rows = page.locator(".heat tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    ranks = [int(cell.split(" ")[0].lstrip("#")) for cell in rows[1][1:]]
    assert ranks == expected.ranks[0, : len(ranks)].tolist()
    best = [expected.texts[str(i)] for i in expected.top_ids[0, :, 0].tolist()]
    assert [cell.rsplit(" ", 1)[0].replace("·", " ") for cell in rows[2][1:3]] == best[:2]


def test_effects_of_an_ablation_stand_side_by_side(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    gone = results["ablation"]
    assert isinstance(gone, rs.Ablation)
    page = open_file(gone)
    heads = page.locator('[role="columnheader"]')
    expect(heads).to_have_text(["text", "before", "total", "direct", "self repair", "norm"])
    cells = page.locator('[role="row"]').nth(1).locator('[role="cell"]').all_inner_texts()
    assert cells[0] == f"0 {gone.texts[0]}"
    numbers = [float(cell.replace("−", "-")) for cell in cells[2:]]
    assert numbers == pytest.approx(gone.values[:, 0].tolist(), rel=0.06, abs=0.006)


def test_models_are_side_by_side(results: dict[str, rs.Result], open_file: OPEN_FILE) -> None:
    mosaic = results["head_mosaic"]
    assert isinstance(mosaic, rs.HeadMosaic)
    page = open_file(mosaic)
    expect(page.locator(".multiples h2")).to_have_text([HOSTILE, "other"])
    page.get_by_label("Score", exact=True).select_option("copying")
    page.locator(".heat canvas").nth(1).focus()
    page.keyboard.press("ArrowRight")
    expect(tip(page)).to_contain_text("head 0.1")
    assert shown(page) == pytest.approx(float(mosaic.values[1, mosaic.scores.index("copying"), 0, 1]), abs=0.006)


def test_one_kind_of_patching_is_scattered_against_another(stories: rs.Model, open_file: OPEN_FILE) -> None:
    starts = ["Once upon a time,", "One day", "Then"]
    frame = [{"clean": f"{start} there was a little", "corrupted": f"{start} there was a big"} for start in starts]
    pairs = rs.pairs([row | {"correct": " g", "wrong": " b"} for row in frame])
    patched = rs.patch(stories, pairs, site=["z", "q"])
    page = open_file(patched)
    page.get_by_label("Quantity").select_option("raw")
    page.get_by_label("Other site").select_option("q")
    dots = page.locator(".scatter circle")
    expect(dots).to_have_count(stories.config.n_layers * stories.config.n_heads)
    expect(page.locator(".legend .range")).to_have_count(0)  # dots have no shades
    dots.nth(11).focus()
    expect(tip(page)).to_contain_text("layer 1, head 3")
    assert shown(page) == pytest.approx(float(patched.mean(raw=True)[0, 1, 3]), rel=0.06, abs=0.006)
    page.keyboard.press("Enter")
    expect(page.locator(".pairs h2")).to_have_text("layer 1, head 3")


# A page that knows nothing of us, as a notebook's: anywidget's six methods, and keys of its own.
NOTEBOOK = """async ({view, bytes}) => {
  const link = document.head.appendChild(document.createElement("link"));
  Object.assign(link, {rel: "stylesheet", href: `/static/views/${view}.css`});
  const data = Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0));
  const state = {data: new DataView(data.buffer)}, listeners = {};
  const model = {
    get: (key) => state[key],
    set: (key, value) => { state[key] = value; (listeners[`change:${key}`] ?? []).forEach((call) => call()); },
    on: (event, call) => (listeners[event] ??= []).push(call),
    off: (event, call) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== call)),
    save_changes() {},
    send() {},
  };
  window.state = state;
  window.leaked = [];
  document.addEventListener("keydown", (event) => window.leaked.push(event.key));
  const {default: module} = await import(`/static/views/${view}.js`);
  window.cleanup = module.render({model, el: document.body.appendChild(document.createElement("div"))});
}"""


@pytest.mark.parametrize("name", [*MAPS, *TABLES, *DRAWN])
def test_a_notebook_shows_it_and_keeps_its_keys(
    results: dict[str, rs.Result], name: str, context: BrowserContext, open_page: Callable[..., Page]
) -> None:
    context.route("**/empty", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page = open_page("/empty", ready=False)
    result = results[name]
    bytes_ = base64.b64encode(result.to_bytes(result.view_dtype)).decode()
    page.evaluate(NOTEBOOK, {"view": result.view, "bytes": bytes_})
    expect(page.locator(".residscope.view header strong")).to_have_text(result.name)
    if name in MAPS and name != "attention":  # which picks by its small patterns
        page.locator(".heat canvas").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_function("state.picked !== undefined && state.picked !== null")
    elif name in TABLES:
        page.get_by_role("searchbox").first.fill("a")
    assert page.evaluate("leaked.length") == 0
    assert page.evaluate("window.hit === undefined")
    page.evaluate("cleanup()")
    assert page.locator(".residscope.view *").count() == 0
