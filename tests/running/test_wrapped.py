"""Any module by hooks: what is read and edited equals the same model, loaded."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import residscope as rs
from residscope.errors import BadArgument, BadEdit, NotKept, UnknownSite
from residscope.running.wrapped import Where, WrappedRun
from tests.models import random_gpt2, random_llama

IDS = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(1))
MASK = torch.ones(2, 12, dtype=torch.long)
MASK[1, 8:] = 0
GPT2: dict[str, Where] = {f"resid_pre.{layer}": f"transformer.h.{layer}" for layer in range(3)}
GPT2 |= {f"attn_out.{layer}": f"transformer.h.{layer}.attn" for layer in range(3)}  # whose output is a tuple
GPT2 |= {"resid_post.2": "transformer.h.2", "mlp_act.1": ("transformer.h.1.mlp.c_proj", "input")}
GPT2 |= {"ln_final": "transformer.ln_f", "logits": "lm_head"}
LLAMA: dict[str, Where] = {f"resid_pre.{layer}": ("model.layers." + str(layer), "input") for layer in range(3)}
LLAMA |= {
    "mlp_out.0": "model.layers.0.mlp",
    "attn_out.2": "model.layers.2.self_attn",
    "ln1.1": "model.layers.1.input_layernorm",
}
CASES = {"gpt2": (random_gpt2, GPT2), "llama": (random_llama, LLAMA)}
VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
EDITS = {
    "add": [rs.add("resid_pre.1", VECTOR, scale=2.0, pos=-1)],
    "several": [rs.scale("resid_pre.1", 0.5, pos=[0, 3]), rs.noise("resid_pre.2", 1.0, 3), rs.ablate("resid_pre.1")],
    "attention": [rs.ablate("attn_out.2", pos=2)],
    "project out": [rs.project_out("resid_pre.2", VECTOR)],
    "function": [rs.apply("resid_pre.1", lambda x: x.flip(1))],
}


@pytest.fixture(scope="module", params=CASES)
def both(request: pytest.FixtureRequest) -> tuple[rs.Wrapped, rs.Model]:
    make, sites = CASES[request.param]
    hf, tokenizer = make(dtype=torch.float64)
    return rs.wrap(hf, sites), rs.load(hf, tokenizer=tokenizer)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)  # transformers' angles of rotation are in float32


def test_sites_are_those_of_the_same_model_loaded(both: tuple[rs.Wrapped, rs.Model]) -> None:
    wrapped, model = both
    run, expected = wrapped.run(IDS, keep="all"), model.run(IDS, keep="all")
    assert run.kept == wrapped.sites
    for site in wrapped.sites:
        close(run[site], expected[site])
    close(run.output.logits, expected.logits)
    assert torch.equal(run["blocks.1.hook_resid_pre"], run["resid_pre.1"])


@pytest.mark.parametrize("which", EDITS)
def test_edits_are_those_of_the_same_model_loaded(both: tuple[rs.Wrapped, rs.Model], which: str) -> None:
    wrapped, model = both
    run, expected = wrapped.run(IDS, keep="all", edits=EDITS[which]), model.run(IDS, edits=EDITS[which])
    for site in wrapped.sites:
        close(run[site], expected[site])
    close(run.output.logits, expected.logits)
    assert (expected.logits - model.run(IDS).logits).abs().max() > 1e-3


def test_positions_count_within_each_text(both: tuple[rs.Wrapped, rs.Model]) -> None:
    wrapped, model = both
    edit = rs.add("resid_pre.1", VECTOR, scale=3.0, pos=-1)
    run = wrapped.run(IDS, attention_mask=MASK, keep="resid_pre", edits=edit)
    expected = model.run([IDS[0].tolist(), IDS[1, :8].tolist()], edits=edit)
    close(run["resid_pre.2"][1, :8], expected["resid_pre.2"][1, :8])
    close(run["resid_pre.2"][0], expected["resid_pre.2"][0])


def test_a_sweep_is_as_many_runs(both: tuple[rs.Wrapped, rs.Model]) -> None:
    wrapped, model = both
    edits = [[rs.ablate("resid_pre.1", pos=pos)] for pos in (0, 5, -1)] + [[]]

    def last(run: WrappedRun) -> Tensor:
        found: Tensor = run.output.logits[:, -1, 7]
        return found

    swept = model.sweep(model.run(IDS), edits, rs.logit(7))
    steps: list[Any] = []
    with rs.progress(steps.append) as work:
        close(wrapped.sweep(IDS, edits=edits, metric=last), swept.values)
        assert [(step.done, step.total) for step in steps][-1] == (4, 4)
        work.cancel()
        with pytest.raises(rs.Cancelled):
            wrapped.sweep(IDS, edits=edits, metric=last)


def test_the_module_is_left_as_it_was(both: tuple[rs.Wrapped, rs.Model]) -> None:
    module = both[0].module
    both[0].run(IDS, keep="all", edits=EDITS["several"])
    with pytest.raises(UnknownSite):
        both[0].run(IDS, edits=rs.ablate("z.0"))
    with pytest.raises(BadArgument):
        rs.wrap(module, {"z.0": "lm_head"}).run(IDS, keep="all")
    assert not [m for m in module.modules() if m._forward_hooks or m._forward_pre_hooks]


class Odd(nn.Module):
    """Names its inputs, writes in place, calls one part twice and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice, self.never = nn.Identity(), nn.Identity(), nn.Identity()
        self.named = Named()

    def forward(self, x: Tensor) -> Any:
        x = self.once(x + 0)
        x.mul_(2)
        return self.named(stream=self.twice(self.twice(x)), factor=3.0)


class Named(nn.Module):
    def forward(self, stream: Tensor, factor: float) -> tuple[Tensor, float]:
        return stream * factor, factor


def test_inputs_by_name_and_values_written_over() -> None:
    wrapped = rs.wrap(
        Odd(), {"resid_pre.0": "once", "resid_mid.0": "once", "resid_pre.1": "named", "resid_post.1": "named"}
    )
    run = wrapped.run(torch.ones(1, 2, 3), keep="all", edits=rs.add("resid_pre.1", [1.0, 0.0, 0.0], pos=0))
    assert torch.equal(run["resid_mid.0"], torch.ones(1, 2, 3))
    assert run["resid_pre.1"].tolist() == [[[3.0, 2.0, 2.0], [2.0, 2.0, 2.0]]]
    assert torch.equal(run["resid_post.1"], 3 * run["resid_pre.1"])
    assert torch.equal(run.output[0], run["resid_post.1"])
    assert run.output[1] == 3.0


def test_the_stream_after_a_layer_is_the_stream_before_the_next() -> None:
    hf, _ = random_gpt2(dtype=torch.float64)
    wrapped = rs.wrap(
        hf, {f"resid_{side}.{layer}": f"transformer.h.{layer}" for layer in (1, 2) for side in ("pre", "post")}
    )
    edit = rs.add("resid_pre.2", VECTOR)
    run = wrapped.run(IDS, keep="all", edits=edit)
    assert run.kept == wrapped.sites
    assert torch.equal(run["resid_pre.2"], run["resid_post.1"])
    torch.testing.assert_close(run["resid_post.1"], wrapped.run(IDS, keep="all")["resid_pre.2"] + VECTOR)
    both = wrapped.run(IDS, keep="all", edits=[edit, rs.scale("resid_post.1", 2.0)])  # at one place the list's order
    torch.testing.assert_close(both["resid_pre.2"], 2 * run["resid_pre.2"])


def test_a_runs_value_takes_the_place(both: tuple[rs.Wrapped, rs.Model]) -> None:
    wrapped = both[0]
    other = wrapped.run(IDS.flip(1), keep="all")
    run = wrapped.run(IDS, keep="all", edits=rs.replace("resid_pre.1", other))
    torch.testing.assert_close(run["resid_pre.2"], other["resid_pre.2"])
    held = wrapped.run(IDS, keep="all", edits=[rs.ablate("resid_pre.1"), rs.freeze("attn_out.2", other)])
    assert torch.equal(held["attn_out.2"], other["attn_out.2"])
    edit = rs.replace("resid_pre.2", other, pos=-1)
    shorter = wrapped.run(IDS, attention_mask=MASK, keep="all", edits=edit)
    assert torch.equal(shorter["resid_pre.2"][1, 7], other["resid_pre.2"][1, 11])
    with pytest.raises(BadEdit, match="other texts or lengths"):
        wrapped.run(IDS, attention_mask=MASK, edits=rs.replace("resid_pre.2", other))


@pytest.mark.parametrize(
    ("sites", "says"),
    [
        ({"resid_pre.0": "twice"}, "a second time"),
        ({"resid_pre.0": "never"}, r"did not call resid_pre\.0 \(never\)"),
        ({"z.0": "once"}, r"held \[1, 2, 3\]"),
        ({"resid_pre.0": ("nothing", "input")}, "no such submodule"),
        ({"resid_pre": "once"}, "no site 'resid_pre'"),
        ({"stream.0": "once"}, r"no site 'stream\.0'"),
    ],
)
def test_places_that_do_not_fit(sites: dict[str, Any], says: str) -> None:
    with pytest.raises(BadArgument, match=says):
        rs.wrap(Odd(), sites).run(torch.ones(1, 2, 3), keep="all")


def test_what_a_wrapped_module_has_not(both: tuple[rs.Wrapped, rs.Model]) -> None:
    wrapped = both[0]
    for with_ in ("mean", "resample", "constant"):
        with pytest.raises(BadEdit, match="more than a wrapped module has"):
            wrapped.run(IDS, edits=rs.ablate("resid_pre.1", with_))
    wrongs: list[Any] = ["abc", 5, ["abc"]]
    for wrong in wrongs:
        with pytest.raises(BadEdit, match="was given as edits"):
            wrapped.run(IDS, edits=wrong)
    with pytest.raises(NotKept, match=r"resid_pre\.1 was not kept"):
        wrapped.run(IDS, keep="resid_pre.0")["resid_pre.1"]
    with pytest.raises(UnknownSite):
        wrapped.run(IDS)["z.0"]
    with pytest.raises(BadArgument, match="padding on the right"):
        wrapped.run(IDS, attention_mask=MASK.flip(1), edits=EDITS["add"])
