"""`residscope directions`: what Python makes, as files and tables; texts in colours; the library in the data folder."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

import residscope as rs
from residscope.cli.direction_tables import ColouredText
from residscope.store.database import place_database
from tests.cli.conftest import CALL

TEXT = "Tom and Lily went to the park. She"
HOME = [f"{name} ran home. He" for name in ("Tom", "Sam", "Ben", "Tim")]
PARK = [f"{name} went to the park. She was" for name in ("Anna", "Lily", "Emma", "Alice")]
SITE = "resid_pre.2"

MADE: dict[str, tuple[list[str], Callable[[rs.Model], rs.Direction]]] = {
    "pca": (["demo", SITE, "--component", "3"], lambda model: rs.pca(model, rs.demo.texts, SITE)[3]),
    "pca of a head": (
        ["demo", "z.1", "--head", "2", "--texts", "home.json"],
        lambda model: rs.pca(model, HOME, "z.1", head=2)[0],
    ),
    "token": (
        ["demo", " Mary", "--minus", " John", "--read", "embed"],
        lambda model: rs.token_direction(model, " Mary", minus=" John", read="embed"),
    ),
    "token at a head": (
        ["demo", " Mary", "--site", "z.2", "--head", "1"],
        lambda model: rs.token_direction(model, " Mary", site="z.2", head=1),
    ),
    "position": (["demo", "5"], lambda model: rs.position_direction(model, 5)),
    "contrast": (
        ["demo", SITE, "--positive", "home.json", "--negative", "park.json", "--pos", "-2"],
        lambda model: rs.contrast(model, HOME, PARK, site=SITE, pos=-2),
    ),
    "probe": (
        ["demo", SITE, "--positive", "home.json", "--negative", "park.json"],
        lambda model: rs.probe(model, [*HOME, *PARK], [True] * 4 + [False] * 4, site=SITE),
    ),
    "head": (
        ["demo", "--layer", "1", "--head", "2", "--circuit", "QK", "--rank", "1", "--side", "query"],
        lambda model: rs.head_direction(model, layer=1, head=2, circuit="QK", rank=1, side="query"),
    ),
    "neuron": (
        ["demo", "--layer", "1", "--neuron", "5", "--side", "in"],
        lambda model: rs.neuron_direction(model, layer=1, neuron=5, side="in"),
    ),
    "feature": (
        ["demo/resid_pre.2-topk", "17", "--side", "encoder"],
        lambda _: rs.demo.dictionaries[SITE].direction(17, side="encoder"),
    ),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a data folder of its own and two files of texts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESIDSCOPE_DATA", str(tmp_path / "data"))
    (tmp_path / "home.json").write_text(json.dumps(HOME))
    (tmp_path / "park.json").write_text(json.dumps(PARK))
    return tmp_path


@pytest.fixture
def one(here: Path, demo: rs.Model) -> rs.Direction:
    """A direction, in the file one.safetensors."""
    made = rs.contrast(demo, HOME, PARK, site=SITE)
    made.save("one.safetensors")
    return made


@pytest.mark.parametrize("name", MADE)
def test_every_kind_is_the_one_that_python_makes(call: CALL, here: Path, demo: rs.Model, name: str) -> None:
    asked, make = MADE[name]
    done = call("directions", name.split()[0], *asked, "--out", "made.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    found, expected = rs.load_direction("made.safetensors"), make(demo)
    assert torch.equal(found.vector, expected.vector)
    assert (found.name, found.site, found.head) == (expected.name, expected.site, expected.head)
    assert found.name in done.stdout
    assert done.stdout.endswith("The direction: made.safetensors\n")
    shown = call("directions", "show", "made.safetensors", "--json")
    facts = json.loads(shown.stdout)
    assert (facts["vector"], facts["offset"]) == (expected.vector.tolist(), expected.offset)
    assert facts["history"] == json.loads(json.dumps(expected.facts))["history"]
    assert all(line in call("directions", "show", "made.safetensors").stdout for line in found.python)


def test_what_it_is_about(call: CALL, demo: rs.Model, one: rs.Direction) -> None:
    asked = ("explain", "demo", "one.safetensors", "--top", "4", "--n-contexts", "2", "--texts", "park.json")
    done = call("directions", *asked)
    assert (done.returncode, done.stderr) == (0, "")
    near = [rs.demo.dictionaries[SITE]]
    expected = rs.explain(demo, one, Path("park.json"), top=4, n_contexts=2, near=near)
    for side, values in zip(expected.texts, expected.values.tolist(), strict=True):
        for text, value in zip(side, values, strict=True):
            assert f"{text!r}" in done.stdout
            assert f"{value:+.3f}" in done.stdout
    for place in [*expected.contexts["top"], *expected.contexts["bottom"]]:
        assert f"{place['value']:+.3f}" in done.stdout
        assert "".join(place["pieces"]).replace("\n", " ").strip() in done.stdout
    assert expected.near[0]["name"] in done.stdout
    parsed = json.loads(call("directions", *asked, "--json").stdout)
    assert parsed == json.loads(expected.to_json())


def test_whether_the_model_uses_it(call: CALL, demo: rs.Model, one: rs.Direction) -> None:
    asked = ("check", "demo", "one.safetensors", "--texts", "home.json", "--n-texts", "2", "--n-draws", "3")
    done = call("directions", *asked, "--html", "check.html")
    assert (done.returncode, done.stderr) == (0, "")
    expected = rs.causal_check(demo, one, HOME[:2], n_draws=3)
    row = expected.summary().iloc[0]
    line = next(line.split() for line in done.stdout.splitlines() if line.split()[:2] == ["loss", "remove"])
    assert line[2] == f"{row['effect']:.4f}"
    assert f"{row['shuffled_high']:.4f}" in line
    assert expected.verdict.partition(";")[0] in " ".join(done.stdout.split())
    assert Path("check.html").read_text() == expected.to_html()


def test_a_text_in_colours_or_numbers(call: CALL, demo: rs.Model, one: rs.Direction) -> None:
    done = call("directions", "project", "demo", "one.safetensors", TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    expected = rs.project(demo.run(TEXT), one)
    values = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.split()[0].isdecimal()]
    assert values == pytest.approx(expected.values[0].tolist(), abs=1e-4)
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=200)
    console.print(ColouredText(expected))
    painted = console.file.getvalue()  # type: ignore[attr-defined]
    strongest = int(expected.values[0].abs().argmax())
    end = "86;147;222" if expected.values[0, strongest] > 0 else "221;104;87"
    assert f"\x1b[30;48;2;{end}m{expected.pieces[0][strongest]}\x1b[0m" in painted


def test_the_library(call: CALL, one: rs.Direction) -> None:
    saved = call(
        "directions", "save", "demo", "one.safetensors", "--user", "Ada", "--name", "home", "--tag", "a", "--json"
    )
    assert (saved.returncode, saved.stderr) == (0, "")
    id = json.loads(saved.stdout)["id"]
    call("directions", "save", "demo", "one.safetensors", "--user", "Bob", "--description", "of [houses]")
    listed = call("directions", "list", "demo")
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:3]] == [str(id + 1), str(id)]
    assert "of [houses]" in listed.stdout
    found = json.loads(call("directions", "list", "demo", "home", "--owner", "Ada", "--json").stdout)
    assert [(one["id"], one["name"], one["tags"]) for one in found["directions"]] == [(id, "home", ["a"])]
    assert call("directions", "load", "demo", str(id), "again.safetensors").returncode == 0
    assert torch.equal(rs.load_direction("again.safetensors").vector, one.vector)
    assert call("directions", "export", "demo", "all.safetensors").returncode == 0
    assert call("directions", "export", "demo", "some.safetensors", str(id)).returncode == 0
    for file, n in (("some", 1), ("all", 1), ("all", 0)):
        done = call(
            "directions", "import", "demo", f"{file}.safetensors", "--user", "Cleo", "--data", "other", "--json"
        )
        assert (done.returncode, json.loads(done.stdout)["n_directions"]) == (0, n)
    assert Path(place_database(Path("other")).removeprefix("sqlite:///")).is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["pca", "demo"], 2, "Missing argument 'SITE'"),
        (["pca", "demo", SITE, "--component", "999"], 1, "There is no component 999"),
        (["token", "demo", " Marygold"], 1, "Error: ' Marygold' is"),
        (["token", "demo", " Mary", "--read", "both"], 2, "'both' is not one of"),
        (["show", "one.json"], 1, "one.json is a bare vector"),
        (["explain", "demo", "one.json", "--site", SITE], 1, "has 3 entries, and demo vectors of 128"),
        (["project", "demo", "none.safetensors", TEXT], 1, "none.safetensors cannot be read"),
        (["project", "demo", "theirs.safetensors", TEXT], 1, "resid_pre.2-topk with the fingerprint 00000000"),
        (["save", "demo", "theirs.safetensors", "--user", "Ada"], 1, "with the fingerprint 00000000"),
        (["load", "demo", "7", "out.safetensors"], 1, "Direction 7 is not there"),
        (["import", "demo", "one.json", "--user", "Ada"], 1, "The file holds no library"),
        (["import", "demo", "none", "--user", "Ada"], 1, "none: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    call: CALL, here: Path, arguments: list[str], status: int, says: str
) -> None:
    Path("one.json").write_text("[1, 2, 3]")
    theirs = rs.demo.dictionaries[SITE].direction(3)
    theirs.history["fingerprint"] = "0" * 64  # type: ignore[index]
    theirs.save("theirs.safetensors")
    done = call("directions", *arguments)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
