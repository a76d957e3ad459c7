"""Any module by hooks: what is read and edited equals the same model, loaded."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import residscope as rs
from residscope.errors import BadArgument, BadEdit, BadMetric, NotKept, UnknownSite
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


class Slow(nn.Module):
    """Lets other threads go on between its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        time.sleep(0.005)
        found: Tensor = self.second(x) * 2
        return found


def test_threads_do_not_see_each_others_edits() -> None:
    module, x = Slow(), torch.ones(1, 2, 3)
    one, other = (rs.wrap(module, {"resid_pre.0": "first", "resid_pre.1": "second"}) for _ in range(2))
    jobs: list[Callable[[], Tensor]] = [
        lambda: one.sweep(x, edits=[rs.add("resid_pre.0", float(i)) for i in range(4)], metric=lambda r: r.output),
        lambda: other.sweep(x, edits=[rs.scale("resid_pre.1", float(i)) for i in range(4)], metric=lambda r: r.output),
        lambda: torch.stack([one.run(x, keep="resid_pre.1").output for _ in range(4)]),
    ]
    expected = [job() for job in jobs]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda job: job(), jobs))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_is_a_mapping(both: tuple[rs.Wrapped, rs.Model]) -> None:
    run = both[0].run(IDS, keep="resid_pre.0")
    assert "resid_pre.0" in run
    assert "n_tokens" in run
    for name in ("resid_pre.1", "nothing", 5):
        assert name not in run
    assert run.get("resid_pre.1") is None
    assert run.get("nothing", 5) == 5
    assert run.get("resid_pre.0") is run["resid_pre.0"]
    nothing = both[0].run(IDS)
    assert dict(nothing) == {}
    assert len(nothing) == 0
    with pytest.raises(NotKept, match="n_tokens was not kept"):
        nothing["n_tokens"]


@pytest.mark.parametrize(
    ("edits", "metric", "error", "says"),
    [
        ([], lambda run: run["resid_pre.1"], BadEdit, "no set of edits"),
        ([[]], 0.5, BadMetric, "float was given as a metric"),
        ([[]], rs.logit(3), BadMetric, r"rs\.logit\(3, pos=-1\) was given"),
        ([[]], lambda run: 0.5, BadMetric, "The metric gave float"),
        ([[], rs.ablate("resid_pre.1")], lambda run: torch.zeros(1 + len(run.edits)), BadMetric, r"gave \[2\]"),
    ],
)
def test_sweeps_that_do_not_fit(
    both: tuple[rs.Wrapped, rs.Model], edits: Any, metric: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        both[0].sweep(IDS, edits=edits, metric=metric)


@pytest.mark.parametrize("sites", [["z.1"], None, {"z.1": 5}, {"z.1": ("once", "input", "output")}, {5: "once"}])
def test_sites_of_the_wrong_type(sites: Any) -> None:
    with pytest.raises(BadArgument):
        rs.wrap(Odd(), sites)
