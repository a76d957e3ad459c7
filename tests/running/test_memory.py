"""Memory that is predicted, against what tensors took."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, ResidscopeError, TooLarge
from residscope.running.memory import Allocations
from residscope.transformer.placement import _free_in_groups, read_free
from residscope.transformer.rotary import Rotary
from tests.models import own_model

FACTS: dict[str, Any] = {"n_layers": 3, "d_model": 64, "n_heads": 4, "d_mlp": 256, "d_vocab": 600, "n_ctx": 600}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"learned_positions": True},
    "gated, grouped": {"rotary": Rotary("default", 16, 100.0, 600), "n_kv_heads": 2, "gated": True, "norm": "rms"},
    "many heads": {"n_heads": 16, "learned_positions": True, "d_mlp": 64},
    "parallel, tied": {"parallel": True, "tied": True, "attn_cap": 20.0},
}
# Each of texts and tokens with one dtype: what is counted differs by its size alone.
SHAPES = [(1, 300, torch.float32), (20, 9, torch.bfloat16), (3, 60, torch.float32)]


def measure(call: Any) -> tuple[int, Any]:
    """The most bytes that living tensors had, of those made in the call; and what it gave."""
    with Allocations(shapes=False) as made:
        found = call()
    return made.peak_bytes, found


def texts_of(n_texts: int, n_tokens: int) -> torch.Tensor:
    return torch.randint(0, 256, (n_texts, n_tokens), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n_texts", "n_tokens", "dtype"), SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_runs_take_what_is_predicted(name: str, n_texts: int, n_tokens: int, dtype: torch.dtype) -> None:
    model = own_model(rs.Config(**{**FACTS, **MODELS[name]}), dtype=dtype)
    texts = texts_of(n_texts, n_tokens)
    for keep in ("logits", "resid_pre", "all", ["z", "pattern.1"]):
        peak, run = measure(lambda keep=keep: model.run(texts, keep))
        found = rs.memory(model, n_texts=n_texts, n_tokens=n_tokens, keep=keep)
        assert found.kept_bytes + found.working_bytes == pytest.approx(peak, rel=0.1), keep
        assert 0.9 * found.kept_bytes <= run.n_bytes, keep  # of which some may be views of others
        assert found.working_bytes >= 0, keep
        assert found.weights_bytes == sum(p.nbytes for p in model.transformer.parameters())
        config = rs.memory(
            model.config, n_texts=n_texts, n_tokens=n_tokens, keep=keep, dtype=str(dtype).removeprefix("torch.")
        )
        assert config == found


def sweeps_of(model: rs.Model, n_tokens: int) -> dict[str, list[Any]]:
    heads = [rs.ablate(f"z.{layer}", head=head) for layer in range(3) for head in range(model.config.n_heads)]
    vector = torch.ones(model.config.d_model, dtype=model.dtype)
    stream = [
        rs.add(f"resid_pre.{layer}", vector, pos=pos) for layer in range(3) for pos in range(0, n_tokens, n_tokens // 4)
    ]
    return {"heads": heads, "stream": stream}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "gated, grouped"])
def test_gradients_take_what_is_predicted(name: str) -> None:
    model = own_model(rs.Config(**{**FACTS, **MODELS[name]}), dtype=torch.float32)
    texts = texts_of(3, 60)
    peak, _ = measure(lambda: model.run(texts).gradients(rs.logit(7), ["resid_pre", "z.1"]))
    found = rs.memory(model, n_texts=3, n_tokens=60, keep=(), gradients=["resid_pre", "z.1"])
    assert found.kept_bytes + found.working_bytes == pytest.approx(peak, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("n_texts", "n_tokens", "dtype"), SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_sweeps_take_what_is_predicted(name: str, n_texts: int, n_tokens: int, dtype: torch.dtype) -> None:
    model = own_model(rs.Config(**{**FACTS, **MODELS[name]}), dtype=dtype)
    texts = texts_of(n_texts, n_tokens)
    for which, edits in sweeps_of(model, n_tokens).items():
        peak, _ = measure(lambda edits=edits: model.sweep(model.run(texts), edits, rs.logit(7)))
        found = rs.memory(model, n_texts=n_texts, n_tokens=n_tokens, keep=(), edits=edits)
        assert found.kept_bytes + found.working_bytes == pytest.approx(peak, rel=0.1), which


@pytest.mark.slow
@pytest.mark.parametrize(("which", "metric"), [("heads", rs.logit(7)), ("stream", rs.loss(pos=[-1]))])
@pytest.mark.parametrize("name", ["plain", "gated, grouped"])
def test_a_sweep_stays_within_its_budget_and_gives_the_same(name: str, which: str, metric: rs.Metric) -> None:
    model = own_model(rs.Config(**{**FACTS, **MODELS[name]}), dtype=torch.float64)
    edits, base = sweeps_of(model, 12)[which], model.run(texts_of(3, 12))
    whole = model.sweep(base, edits, metric)
    budget = 10_000
    for _ in range(3):  # what is said to fit, of the first limit that is met and then of the next
        sweep = partial(model.sweep, base, edits, metric, memory_bytes=budget)
        with pytest.raises(TooLarge) as caught:
            sweep()
        budget = int(str(caught.value).partition("memory_bytes=")[2].split(",")[0])
        try:
            peak, found = measure(partial(sweep, memory_bytes=budget))
        except TooLarge:
            continue
        break
    assert peak <= budget
    torch.testing.assert_close(found.values, whole.values, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_nine_billion_parameters_are_predicted_without_loading_them() -> None:
    from tests.transformer.test_placement import NINE_BILLION

    found = rs.memory(NINE_BILLION, n_tokens=1024, keep="resid_pre", dtype="bfloat16")
    assert found.kept_bytes == pytest.approx(42 * 1024 * 3584 * 2)
    assert str(found).startswith("18.9 GB: weights 18.5 GB, kept 308 MB")
    swept = rs.memory(NINE_BILLION, n_tokens=128, edits=64, dtype="bfloat16", memory_bytes=8 * 10**9)
    assert swept.working_bytes <= 8 * 10**9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["plain", "gated, grouped"])
def test_narrow_dtypes_sweep_as_they_run(name: str, dtype: torch.dtype) -> None:
    model = own_model(rs.Config(**{**FACTS, **MODELS[name], "n_layers": 2}), dtype=dtype)
    exact = own_model(rs.Config(**{**FACTS, **MODELS[name], "n_layers": 2}), dtype=torch.float64)
    exact.transformer.load_state_dict(model.transformer.state_dict())
    texts, metric = texts_of(3, 12), rs.logit_difference(7, 9)
    edits = [rs.ablate(f"z.{layer}", head=head, pos=2) for layer in range(2) for head in range(4)]
    found = model.sweep(model.run(texts), edits, metric)
    true = torch.stack([metric(exact.run(texts, edits=one)) for one in edits])
    alone = torch.stack([metric(model.run(texts, edits=one)) for one in edits])
    off, own = (found.values - true).abs().max(), (alone - true).abs().max()
    assert off <= 2 * own  # a sweep rounds elsewhere than a run, not more
    assert found.settings["dtype"] == str(dtype).removeprefix("torch.")
    assert found.settings["noise_floor"] == found.noise_floor > 0
    drowned = (found.values - found.base_values).abs() <= found.noise_floor
    assert found.to_frame()["drowned"].tolist() == (drowned & (found.values != found.base_values)).flatten().tolist()
    assert ("within the noise floor" in repr(found)) == bool(found.drowned.any())


def test_edits_of_a_config_are_predicted_as_those_of_its_model() -> None:
    config = rs.Config(**{**FACTS, **MODELS["plain"]})
    model = own_model(config, dtype=torch.float32)
    one = torch.ones(config.d_model)
    edits: list[rs.Edit | list[rs.Edit]] = [
        rs.add("resid_pre.0", 1.0, pos=0),
        rs.add("resid_pre.0", one, pos=1),
        rs.project_out("mlp_out.0", one),
        rs.replace("ln1_scale.1", 2.0),
        [rs.ablate("z.1", "mean", texts=[[1, 2, 3]], head=0), rs.ablate("z.0", "constant"), rs.noise("q.0", 1.0)],
    ]
    found = [rs.memory(source, n_tokens=12, n_texts=3, edits=edits) for source in (config, model)]
    assert found[0].working_bytes == pytest.approx(found[1].working_bytes, rel=0.02)


@pytest.mark.parametrize(("limit", "left"), [("1000000", 700_000), ("max", None)])
def test_what_a_containers_limit_leaves_counts_as_free(tmp_path: Path, limit: str, left: int | None) -> None:
    (tmp_path / "group/inner").mkdir(parents=True)
    (tmp_path / "group/memory.max").write_text(f"{limit}\n")
    (tmp_path / "group/memory.current").write_text("500000\n")
    (tmp_path / "group/memory.stat").write_text("anon 300000\ninactive_file 200000\n")
    (tmp_path / "group/inner/memory.max").write_text("max\n")
    (tmp_path / "cgroup").write_text("0::/group/inner\n")
    found = _free_in_groups(tmp_path, tmp_path / "cgroup")
    assert found == ([] if left is None else [left])
    assert _free_in_groups(tmp_path, tmp_path / "nothing") == []


@pytest.mark.parametrize("value", ["8GB", 0, -5, 2.5, True])
def test_memory_of_no_such_size_is_refused_at_loading(stories_path: Path, value: Any) -> None:
    with pytest.raises(BadArgument, match=f"memory_bytes={value!r} was asked for. Give a whole number, as 8_000"):
        rs.load(stories_path, memory_bytes=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("n_tokens", value) for value in (4000, -1, 0, "x", 2.5, None)),
        *(("n_texts", value) for value in (0, "x")),
        *(("edits", value) for value in (-1, 2.5, "x")),
        ("memory_bytes", "8GB"),
        ("metric", "logit"),
        ("source", "gpt2"),
    ],
)
def test_memory_of_what_cannot_run_is_not_predicted(name: str, value: Any) -> None:
    given: dict[str, Any] = {"source": rs.Config(**{**FACTS, **MODELS["plain"]}), "n_tokens": 12, name: value}
    with pytest.raises(ResidscopeError, match=f"{value!r} was (asked for|given).*Give "):
        rs.memory(given.pop("source"), **given)


@pytest.mark.parametrize("value", ["8GB", None, -1, float("nan"), float("inf"), True])
def test_what_is_no_number_of_free_bytes_is_refused(value: Any) -> None:
    assert read_free({"cpu": 8e9, "cuda:0": 5}) == {"cpu": 8_000_000_000, "cuda:0": 5}
    with pytest.raises(BadArgument, match=r"was given as free on cpu. Give bytes"):
        read_free({"cpu": value})
