"""Estimates: exact where the metric is linear, better with their options, and honest about their error."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from jaxtyping import config

import residscope as rs
from residscope.errors import BadArgument, BadEdit
from residscope.running.first_order import Estimate
from tests.models import random_gpt2, save
from tests.running.test_sweep import OTHERS, TEXTS, model_of

METRIC = rs.logit_difference("a", "b")


@pytest.mark.parametrize("steps", [0, 2])
def test_an_estimate_is_exact_where_the_metric_is_linear(steps: int) -> None:
    model = model_of("no norm")
    base, other = model.run(TEXTS), model.run(OTHERS)
    last = [rs.replace("resid_post.2", other, pos=p) for p in range(3)]
    sets: list[rs.Edit | list[rs.Edit]] = [*last, rs.ablate("resid_post.2", pos=-1)]
    sets += [[rs.add("mlp_out.2", 0.3), rs.scale("mlp_out.2", 2.0)]]
    found = model.sweep(base, sets, METRIC, method="attribution", integrated_gradients=steps)
    torch.testing.assert_close(found.values, model.sweep(base, sets, METRIC).values, rtol=0, atol=1e-10)


def test_integrated_gradients_reach_the_whole_effect() -> None:
    model = model_of("rotary, grouped, gated")
    base, other = model.run(TEXTS), model.run(OTHERS)
    whole = [rs.replace("resid_pre.1", other)]
    exact = model.sweep(base, whole, METRIC).values
    errors = [
        (model.sweep(base, whole, METRIC, method="attribution", integrated_gradients=n).values - exact).abs().max()
        for n in (0, 50)
    ]
    assert errors[1] < 1e-3 < errors[0]


def test_qk_fix_carries_queries_and_keys_through_the_softmax() -> None:
    model = model_of("no norm")
    base, other = model.run(TEXTS), model.run(OTHERS)
    sets = [rs.replace("q.2", other, head=head) for head in range(4)] + [rs.replace("k.2", other, pos=1)]
    exact = model.sweep(base, sets, METRIC).values
    plain, fixed = (
        (model.sweep(base, sets, METRIC, method="attribution", qk_fix=fix).values - exact).abs()
        for fix in (False, True)
    )
    assert fixed.mean() < plain.mean()


def test_a_knockout_is_carried_exactly_to_what_the_heads_mix() -> None:
    model = model_of("learned positions")
    base = model.run(TEXTS)
    sets = [rs.knockout("pattern.1", head=head, key=0, query=slice(1, None)) for head in range(4)]
    found = model.sweep(base, sets, METRIC, method="attribution")
    gradient = base.gradients(METRIC, "z.1")["z.1"].nan_to_num()
    for edit, value in zip(sets, found.values, strict=True):
        delta = (model.run(TEXTS, edits=edit)["z.1"] - base["z.1"]).nan_to_num()
        torch.testing.assert_close(value - found.base_values, (delta * gradient).flatten(1).sum(-1))


def test_the_error_is_that_of_the_exact_sample() -> None:
    model = model_of("learned positions")
    base, other = model.run(TEXTS), model.run(OTHERS)
    sets = [rs.replace(f"resid_pre.{layer}", other, pos=p) for layer in range(3) for p in range(3)]
    found = model.sweep(base, sets, METRIC, method="attribution", n_sample=6)
    assert isinstance(found, rs.Estimate)
    assert len(found.sample) == 6
    largest = (found.values - found.base_values).abs().mean(-1).topk(3).indices
    assert set(largest.tolist()) <= set(found.sample.tolist())
    exact = model.sweep(base, [sets[i] for i in found.sample], METRIC).values
    torch.testing.assert_close(found.exact, exact)
    assert -1 <= found.rank_correlation <= 1
    assert 0 <= found.missed <= found.n_top == 1


def test_a_freeze_has_no_estimate() -> None:
    model = model_of("learned positions")
    base = model.run(TEXTS)
    sets = [[rs.ablate("z.0"), rs.freeze("z", base)]]
    with pytest.raises(BadEdit, match="cannot hold one fixed"):
        model.sweep(base, sets, METRIC, method="attribution")


def test_what_a_function_of_the_base_run_changes_is_not_carried_past_it() -> None:
    model = model_of("learned positions")
    base = model.run(TEXTS, edits=rs.apply("z.1", lambda z: 0 * z))
    hidden = [rs.knockout("pattern.1", head=0, key=0, query=slice(1, None)), rs.replace("q.1", 1.0, head=1)]
    found = model.sweep(base, hidden, METRIC, method="attribution", qk_fix=True)
    torch.testing.assert_close(found.values, base_of(found))
    assert not torch.equal(model.sweep(model.run(TEXTS), hidden, METRIC, method="attribution").values, found.values)


def base_of(found: rs.Sweep) -> torch.Tensor:
    return found.base_values.expand(found.values.shape)


@pytest.mark.parametrize("method", ["exact", "attribution"])
def test_python_sweeps_again(method: Literal["exact", "attribution"], tmp_path: Path) -> None:
    hf, _ = random_gpt2()
    model = rs.load(save(hf, tmp_path / "model"))
    base, other = model.run("abcdefgh"), model.run("ABCDEFGH")
    edits = [rs.replace(f"z.{layer}", other, head=head) for layer in range(3) for head in range(4)]
    options: dict[str, Any] = {"n_sample": 4, "seed": 3, "integrated_gradients": 2} if method == "attribution" else {}
    found = model.sweep(base, edits, rs.logit_difference("a", "b"), method=method, **options)
    *lines, last = found.as_python().strip().split("\n")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    again = eval(last, space)
    torch.testing.assert_close(again.values, found.values)
    if isinstance(found, Estimate):
        assert torch.equal(again.sample, found.sample)


def test_an_estimate_of_one_has_json() -> None:
    model = model_of("learned positions")
    found = model.sweep(model.run("abc"), [rs.ablate("z.1")], METRIC, method="attribution")
    assert json.loads(found.to_json())["rank_correlation"] is None
    scores = model.sweep(model.run("abc"), [rs.ablate("z.1")], rs.read("scores.1", pos=1))
    assert json.loads(scores.to_json())["values"][0][0][0][2] == "-Infinity"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("n_sample", value) for value in (1, "x", 2.5, None)),
        *(("integrated_gradients", value) for value in (-1, 2.5, "x", None)),
        *(("seed", value) for value in (None, 1.5, 2**70)),
    ],
)
def test_an_option_of_no_such_value_is_refused(name: str, value: Any) -> None:
    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    model = model_of("no norm")
    options: dict[str, Any] = {name: value}
    with pytest.raises(BadArgument, match=f"{name}={value!r} was asked for. Give a whole number"):
        model.sweep(model.run(TEXTS), [rs.ablate("z.1")], METRIC, method="attribution", **options)
