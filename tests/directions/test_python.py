"""The Python that a direction of any kind says runs as it is printed, and makes it again; results of it likewise."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import residscope as rs
from residscope.server.directions import Of

SITE = "resid_pre.2"
TEXTS = ["Tom and Lily went to the park.", "One day a cat sat down.", "She had a red ball", "They ran home"]
HOME = [f"{name} ran home. He" for name in ("Tom", "Sam", "Ben", "Tim")]
PARK = [f"{name} went to the park. She was" for name in ("Anna", "Lily", "Emma", "Alice")]
NUMBERS = np.linspace(-1, 2, 128)


def sum_of_sums(model: rs.Model) -> rs.Direction:
    basis, other = rs.pca(model, TEXTS, SITE), rs.pca(model, HOME, SITE)
    one = (basis[0] - 2 * other[0]).named("one")
    return one + (basis[1] + rs.Direction.of(NUMBERS, SITE)).named("two") - 0.5 * one


def from_file(model: rs.Model) -> rs.Direction:
    Path("numbers.json").write_text(json.dumps(NUMBERS.tolist()))
    return rs.load_direction("numbers.json", site=SITE)


def feature(model: rs.Model, **changes: Any) -> rs.Direction:
    dictionary = rs.load_dictionary("demo/resid_pre.2-jumprelu")
    return (replace(dictionary, **changes) if changes else dictionary).direction(17, side="encoder")


KINDS: dict[str, Callable[[rs.Model], rs.Direction]] = {
    "pca": lambda model: rs.pca(model, TEXTS, SITE)[-2],
    "pca of a part": lambda model: rs.pca(model, rs.demo.texts, SITE, n=6)[2:5][1],
    "pca of a head": lambda model: rs.pca(model, TEXTS, "z.1", head=2)[0],
    "pca of ids": lambda model: rs.pca(model, model.tokenize(TEXTS), SITE, left_out=(0, 1))[0],
    "token": lambda model: rs.token_direction(model, " Mary"),
    "token by its id": lambda model: rs.token_direction(model, np.int64(7), minus=torch.tensor(9), read="embed"),  # type: ignore[arg-type]
    "position": lambda model: rs.position_direction(model, np.int64(3)),  # type: ignore[arg-type]
    "head": lambda model: rs.head_direction(model, layer=1, head=2, circuit="QK", rank=1, side="query"),
    "neuron": lambda model: rs.neuron_direction(model, layer=1, neuron=5, side="in"),
    "contrast": lambda model: rs.contrast(model, HOME, PARK, site=SITE, pos=None),
    "contrast where told": lambda model: rs.contrast(
        model, HOME, PARK, site="z.1", head=1, pos=torch.tensor([[2]] * 4)
    ),
    "probe": lambda model: rs.probe(model, [*HOME, *PARK], ["h"] * 4 + ["p"] * 4, site=SITE),
    "probe of numbers": lambda model: rs.probe(model, [*HOME, *PARK], torch.arange(8) // 4, site=SITE),  # type: ignore[arg-type]
    "probe of names": lambda model: rs.probe(model, [*HOME, *PARK], [*np.array(["h", "p"]).repeat(4)], site=SITE),
    "feature": feature,
    "feature of one in memory": lambda model: feature(model, centred=True),
    "saved": from_file,
    "vector": lambda model: rs.Direction.of(NUMBERS[:32], "z.1", "mine", head=2),
    "vector with a mean": lambda model: replace(
        rs.Direction.of(NUMBERS, SITE), mean=torch.ones(128).double(), deviation=2.0
    ),
    "sum": sum_of_sums,
    "projected out": lambda model: feature(model).project_out(
        rs.Direction.of(NUMBERS, SITE), rs.token_direction(model, " a").at(SITE)
    ),
    "at another site": lambda model: rs.Direction.of(NUMBERS, SITE).at("resid_pre.3").at("attn_out.1"),
    "orthonormal": lambda model: rs.orthonormalize([*rs.pca(model, TEXTS, SITE, n=3), feature(model)])[-1],
    "measured": lambda model: rs.pca(model, TEXTS, SITE).measure(feature(model)),
    "measured on other texts": lambda model: rs.pca(model, TEXTS, SITE).measure(
        rs.pca(model, TEXTS, SITE)[0] + rs.pca(model, HOME, SITE)[0] + rs.token_direction(model, " a").at(SITE)
    ),
}


def run_lines(lines: list[str]) -> Any:
    """What the last line gives, which says no name."""
    names: dict[str, Any] = {}
    exec("\n".join(lines[:-1]), names)
    return eval(lines[-1], names)


@pytest.mark.untyped
@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_the_direction_again(
    demo: rs.Model, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = KINDS[kind](demo)
    names: dict[str, Any] = {}
    exec(one.as_python(), names)
    again = names["direction"]
    torch.testing.assert_close(again.vector, one.vector, rtol=0, atol=1e-6)
    assert (again.name, again.place, again.left_out) == (one.name, one.place, one.left_out)
    assert again.offset == pytest.approx(one.offset, abs=1e-5)
    assert again.deviation == (one.deviation and pytest.approx(one.deviation, rel=1e-5))
    one.save("one.safetensors")
    assert rs.load_direction("one.safetensors").as_python() == one.as_python()
    assert one.as_python().count("rs.load(") <= 1


@pytest.mark.parametrize("kind", ["vector", "feature", "sum", "saved", "measured on other texts"])
def test_results_of_it_are_made_again(
    demo: rs.Model, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, run = KINDS[kind](demo), demo.run(TEXTS[:2])
    results = [
        rs.project(run, one),
        rs.river(run, one),
        rs.causal_check(demo, one, TEXTS[:2], n_draws=2),
        rs.explain(demo, one, TEXTS, top=2),
        rs.steer(demo, one, TEXTS[0], strength=2.0, unit="stream", n_tokens=2),
    ]
    if one.place == SITE:
        results.append(rs.project(run, one, centre=rs.position_means(demo, HOME, SITE)))
        results.append(rs.vocabulary(one, minus=rs.token_direction(demo, " Mary"), model=demo, top=3))
    for result in results:
        found = run_lines(result.as_python().splitlines())
        torch.testing.assert_close(found.values, result.values, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_every_kind_that_pages_make_is_here() -> None:
    pages = {one.model_fields["kind"].annotation.__args__[0] for one in Of.__origin__.__args__}  # type: ignore[attr-defined]
    assert pages <= {name.split()[0] for name in KINDS}
