"""Models over several devices: plans made of configs alone, and the same numbers wherever the blocks are."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, BadEdit, TooLarge
from residscope.transformer.placement import Plan
from tests.devices import Pretended, device_of, place
from tests.models import own_model, random_llama, save
from tests.running.test_sweep import _FACTS, MODELS, OTHERS, TEXTS

NINE_BILLION = rs.Config(
    n_layers=42,
    d_model=3584,
    n_heads=16,
    n_kv_heads=8,
    d_head=256,
    d_mlp=14336,
    d_vocab=256_000,
    n_ctx=8192,
    norm="rms",
    post_norm=True,
    gated=True,
    tied=True,
    qkv_bias=False,
    attn_out_bias=False,
    mlp_bias=False,
)


def test_nine_billion_parameters_are_planned_without_loading_them() -> None:
    found = rs.plan(NINE_BILLION, devices={"cuda:0": 16e9, "cuda:1": 16e9, "cpu": 64e9}, dtype="bfloat16")
    assert found.n_bytes == 2 * 9_241_705_984  # as many parameters as the published model of this shape has
    assert sum(found.bytes_on(device) for device in found.devices) == found.n_bytes
    assert found.devices == ("cuda:0", "cuda:1")
    assert all(found.bytes_on(device) <= 12e9 for device in found.devices)
    assert list(found.blocks) == sorted(found.blocks)
    assert "18.5 GB of weights in bfloat16" in str(found)
    assert "cuda:1: 16 GB free" in str(found)


def test_a_plan_uses_as_few_devices_as_it_needs_and_says_what_does_not_fit() -> None:
    assert rs.plan(NINE_BILLION, devices={"cuda:0": 80e9, "cpu": 64e9}, dtype="bfloat16").devices == ("cuda:0",)
    assert rs.plan(NINE_BILLION, devices={"cuda:0": 16e9, "cpu": 64e9}, dtype="bfloat16").blocks[-1] == "cpu"
    with pytest.raises(TooLarge, match=r"37 GB of weights in float32, and cuda:0 may hold 18 GB"):
        rs.plan(NINE_BILLION, devices={"cuda:0": 24e9})


def test_a_model_is_loaded_by_its_plan(tmp_path: Path) -> None:
    hf, _ = random_llama()
    path = save(hf, tmp_path / "model")
    found = rs.plan(path, devices=["cpu"])
    model = rs.load(path, device=found)
    assert found.n_bytes == sum(p.nbytes for p in model.transformer.parameters())
    assert model.devices == (torch.device("cpu"),)
    (path / "model.safetensors").unlink()
    assert rs.plan(path, devices=["cpu"]).n_bytes == found.n_bytes
    with pytest.raises(BadArgument, match="places 2 blocks, and the model has 3"):
        rs.load(path, device=Plan("own", rs.Config(**{**_FACTS, "n_layers": 2}), "float32", "cpu", ("cpu", "cpu")))


def test_each_tensor_is_read_straight_to_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from residscope.transformer import checkpoint

    path = save(random_llama()[0], tmp_path / "model")
    asked: dict[str, str] = {}
    read = checkpoint.Checkpoint.read

    def noted(self: Any, name: str, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        asked[name] = str(device)
        return read(self, name, dtype, torch.device("cpu"))

    monkeypatch.setattr(checkpoint.Checkpoint, "read", noted)
    found = rs.plan(path, devices=["cpu"])
    rs.load(path, device=Plan("own", found.config, "float32", "cuda:0", ("cuda:0", "cuda:1", "cpu")))
    assert asked["model.embed_tokens.weight"] == asked["lm_head.weight"] == asked["model.norm.weight"] == "cuda:0"
    for layer, device in enumerate(("cuda:0", "cuda:1", "cpu")):
        assert {asked[name] for name in asked if f"layers.{layer}." in name} == {device}


def spread_model(name: str) -> rs.Model:
    """One of the blocks' kinds, its layers said to be on three devices."""
    model = own_model(rs.Config(**{**_FACTS, **MODELS[name]}), dtype=torch.float64)
    place(model.transformer, "cuda:0")
    for layer, device in enumerate(("cpu", "cuda:1", "cpu")):
        place(model.transformer.blocks[layer], device)
    return model


def do_everything(model: rs.Model) -> list[torch.Tensor]:
    """Runs, edits, sweeps and writing that cross from layer to layer."""
    run, other = model.run(TEXTS, keep="all"), model.run(OTHERS)
    edits = [rs.replace("resid_pre.1", other, pos=0), rs.add("resid_pre.2", other["resid_pre.2"][0, 0], pos=[-1])]
    base = model.run(TEXTS, edits=edits)
    sets: list[list[rs.Edit]] = [
        [rs.ablate(f"z.{layer}", with_=how, head=1)] for layer in range(3) for how in ("zero", "mean")
    ]
    sets += [[rs.replace("resid_pre.0", other, pos=1), rs.freeze(["resid_pre.2"], run, pos=-1)]]
    sets += [[rs.add("embed", 0.3, pos=0), rs.noise("z.2", 0.2)], [rs.apply("resid_pre.1", lambda x: 1.1 * x)]]
    sets += [[rs.knockout("pattern.1", key=0, query=slice(1, None))], [rs.ablate("z.1", with_="constant")]]
    sets += [[rs.project_out("resid_post.0", other["resid_pre.0"][1, 0])], [rs.scale("attn_out.2", 0.5)]]
    found = [run.logits, base.logits, *(run[site] for site in run.kept)]
    for metric in (rs.logit_difference("a", "b"), rs.loss(), rs.read("resid_pre.1", pos=0), rs.kl(run)):
        for start in (run, base):
            found.append(model.sweep(start, sets, metric, memory_bytes=10**8).values)
    found += list(base.gradients(rs.loss(), ["resid_pre.1", "z.2", "mlp_out.0"]).values())
    some = [edits for edits in sets if not {"apply", "freeze"} & {edit.name for edit in edits}]
    found.append(model.sweep(base, some, rs.loss(), method="attribution", memory_bytes=10**8).values)
    both = rs.metric(lambda early, late: early.sum(-1) * late.sum(-1), reads=["resid_mid.1", "resid_post.2"])
    found += [both(base), model.sweep(base, sets, both, memory_bytes=10**8).values]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rotary, grouped, gated", "alibi"])
def test_a_spread_model_gives_the_same_numbers(name: str) -> None:
    expected = do_everything(own_model(rs.Config(**{**_FACTS, **MODELS[name]}), dtype=torch.float64))
    with Pretended():
        model = spread_model(name)
        assert list(map(str, model.devices)) == ["cuda:0", "cpu", "cuda:1"]
        found = do_everything(model)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10, equal_nan=True)


def test_activations_stay_where_they_are_computed() -> None:
    with Pretended():
        run = spread_model("learned positions").run(TEXTS, keep="all")
        assert {
            str(site): str(device_of(run[site])) for site in map(run.model.find, ("embed", "z.0", "z.1", "logits"))
        } == {
            "embed": "cuda:0",
            "z.0": "cpu",
            "z.1": "cuda:1",
            "logits": "cuda:0",
        }
        assert str(device_of(run["resid_pre.1"])) == "cuda:1"
        with pytest.raises(RuntimeError, match="called on tensors of"):
            run["z.0"] + run["z.1"]


def test_what_was_stored_goes_where_the_model_is(tmp_path: Path) -> None:
    """JSON and Python give tensors on the CPU; another accelerator's are refused."""
    vector = torch.ones(16, dtype=torch.float64)
    with Pretended():
        model = spread_model("learned positions")
        there = vector.to("cuda:0")
        edits = [
            rs.add("resid_pre.1", there.to("cuda:1")),
            rs.replace("z.1", model.run(OTHERS), head=1),
            rs.project_out("resid_pre.0", there),
        ]
        for edit in edits:
            again = rs.Edit.from_json(edit.to_json(tmp_path), tmp_path)
            expected = model.run(TEXTS, edits=edit).at("logits", -1)
            torch.testing.assert_close(model.run(TEXTS, edits=again).at("logits", -1), expected)
        with pytest.raises(BadEdit, match=r"on cuda:7, and the model torch.float64 on cuda:0, cpu, cuda:1"):
            model.run(TEXTS, edits=rs.add("resid_pre.1", vector.to("cuda:7")))


COUNT_FRESH_PAGES = """
import resource, sys, torch
import residscope as rs
model = rs.load(sys.argv[1])
counts = []
for _ in range(5):
    arrays = [torch.ones(5_000_000) for _ in range(10)]  # 20 MB each
    del arrays
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(min(after - before for before, after in zip(counts, counts[1:])))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what is kept is glibc's")
@pytest.mark.parametrize(("settings", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "1000000"}, False)])
def test_what_arrays_leave_is_kept_for_the_next(stories_path: Path, settings: dict[str, str], kept: bool) -> None:
    command = [sys.executable, "-c", COUNT_FRESH_PAGES, str(stories_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **settings})
    n_pages = 10 * 20_000_000 // 4096
    assert (int(said.stdout) < n_pages / 2) == kept
