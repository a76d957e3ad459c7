"""`residscope lens`, `attribute`, `patch` and `run --answer`: Python's numbers as tables, as JSON and as pages."""

import json
from pathlib import Path

import pytest

import residscope as rs
from residscope.analyses import attribution, logit_lens
from residscope.cli import attribute, lens
from tests.cli.conftest import CALL

TEXT = "When John and Mary went to the shops, John gave the bag to"
OTHER = "When John and Mary went to the shops, Mary gave the bag to"
ANSWERS = ("--answer", " Mary", "--wrong", " John")
METRIC = rs.logit_difference(" Mary", " John")


def rows(printed: str) -> dict[str, list[str]]:
    """A table's lines by their first word."""
    return {words[0]: words[1:] for words in map(str.split, printed.splitlines()) if words}


def test_the_words_that_are_offered_are_those_there_are() -> None:
    assert list(lens.VALUES) == list(logit_lens.VALUES)
    assert list(attribute.BY) == list(attribution._READS)


def test_the_lens_of_one_position(call: CALL, demo: rs.Model, tmp_path: Path) -> None:
    page = tmp_path / "lens.html"
    done = call("lens", "demo", TEXT, "--target", " Mary", "--pos", "4", "--sub-blocks", "--html", str(page))
    assert (done.returncode, done.stderr) == (0, "")
    expected = rs.logit_lens(demo.run(TEXT), target=" Mary", sub_blocks=True)
    table = rows(done.stdout)
    for row, site in enumerate(expected.sites):
        assert float(table[site][0]) == pytest.approx(float(expected.values[0, row, 4]), rel=1e-3)
    assert "after position 4, ' Mary'" in done.stdout
    assert page.read_text() == expected.to_html()
    parsed = json.loads(call("lens", "demo", TEXT, "--target", " Mary", "--sub-blocks", "--json").stdout)
    assert parsed == json.loads(expected.to_json())


@pytest.mark.parametrize("by", attribute.BY)
def test_the_parts_sum_to_the_metric(call: CALL, demo: rs.Model, by: str) -> None:
    expected = rs.attribute(demo.run(TEXT), METRIC, by=by)  # type: ignore[arg-type]
    done = call("attribute", "demo", TEXT, *ANSWERS, "--by", by, "--top", "4")
    assert (done.returncode, done.stderr) == (0, "")
    table = rows(done.stdout)
    assert float(table["sum"][0]) == pytest.approx(float(expected.metric_values[0]), abs=1e-3)
    largest = expected.to_frame().sort_values("value", key=abs).iloc[-1]
    assert float(table[largest.component][-1]) == pytest.approx(largest.value, abs=1e-4)
    others = float(table[f"{len(expected.to_frame()) - 4}"][-1])
    assert others == pytest.approx(expected.to_frame()["value"].sort_values(key=abs)[:-4].sum(), abs=1e-3)
    alone = json.loads(call("attribute", "demo", TEXT, "--answer", " Mary", "--by", by, "--json").stdout)
    assert alone["settings"]["metric"] == "rs.logit(' Mary', pos=-1)"


def test_patching_two_prompts_and_a_task(call: CALL, demo: rs.Model) -> None:
    done = call("patch", "demo", TEXT, OTHER, *ANSWERS)
    assert (done.returncode, done.stderr) == (0, "")
    expected = rs.patch(demo, clean=TEXT, corrupted=OTHER, site="resid_pre", metric=METRIC).mean()
    assert [float(value) for value in rows(done.stdout)["10"][-4:]] == pytest.approx(expected[:, 10].tolist(), abs=1e-3)
    pairs = rs.demo.pairs("ioi", n=3)
    noised = rs.patch(demo, pairs, site="z", direction="noise")
    done = call("patch", "demo", "--task", "ioi", "--n", "3", "--site", "z", "--direction", "noise", "--raw")
    assert [float(value) for value in rows(done.stdout)["2"]] == pytest.approx(
        noised.mean(raw=True)[:, 2].tolist(), abs=1e-3
    )
    by_role = rows(call("patch", "demo", "--task", "ioi", "--n", "3", "--site", "attn_out").stdout)
    assert list(pairs.roles) == [role for role in by_role if role in pairs.roles]
    parsed = json.loads(call("patch", "demo", "--task", "ioi", "--n", "3", "--site", "z", "--json").stdout)
    assert parsed["reference"] == 0
    assert parsed["python"][-1].startswith("rs.patch(model, rs.demo.pairs('ioi', n=3), site='z'")


def test_an_answer_after_every_position(call: CALL, demo: rs.Model) -> None:
    expected = rs.next_tokens(demo.run(TEXT), " Mary")
    done = call("run", "demo", TEXT, "--answer", " Mary")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(done.stdout)["14"][2:5] == ["0", f"{float(expected.logits[0, -1]):.3f}", "0.9846"]
    assert "' Mary'  " in done.stdout
    assert "'Mary' is 2 tokens" in call("run", "demo", TEXT, "--answer", "Mary").stdout
    parsed = json.loads(call("run", "demo", TEXT, "--answer", " Mary", "--json").stdout)
    assert parsed == json.loads(expected.to_json())


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["lens", "demo", "x", "--value", "odds"], 2, "'odds' is not one of"),
        (["lens", "demo", "x", "--pos", "9"], 1, "Position 9 was asked for, and text 0 has 2 tokens"),
        (["lens", "demo", "x", "--target", "no such"], 1, "'no such' is"),
        (["attribute", "demo", "x"], 2, "Missing option '--answer'"),
        (["attribute", "demo", "x", "--answer", " Mary Ann"], 1, "' Mary Ann' is 3 tokens"),
        (["patch", "demo", TEXT], 2, "or --task and none of them"),
        (["patch", "demo", TEXT, OTHER, *ANSWERS, "--task", "ioi"], 2, "or --task and none of them"),
        (["patch", "demo", TEXT, TEXT, *ANSWERS], 1, "too near to zero to divide by"),
        (["patch", "demo", "--task", "chess"], 1, "task='chess' was asked for. Choose 'ioi'"),
        (["lens", "demo", "x", "--html", "/nowhere/lens.html"], 1, "/nowhere/lens.html cannot be written (No such"),
        (["heads", "demo", "--seed", "99999999999999999999"], 1, "Give a whole number of at most 63 bits"),
    ],
)
def test_failures_are_one_clear_line(call: CALL, arguments: list[str], status: int, says: str) -> None:
    done = call(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr
    if status == 1:
        assert len(done.stderr.splitlines()) == 1
