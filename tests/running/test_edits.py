"""Every edit does what the conventions say: against hooks on the transformers model, and against arithmetic."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.errors import BadEdit
from residscope.sites import KINDS, Site
from tests.models import assert_equal, random_gpt2, random_llama

TEXTS = ["a short one", "xyz", "the longest of these texts"]
OTHERS = ["A SHORT ONE", "XYZ", "THE LONGEST OF THESE TEXTS"]
LONG_TEXTS = ["a text that is as long as any", "another of the same long kind"]
WHICH = ["gpt2", "llama"]


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[Any, rs.Model]]:
    """Transformers models, and ours with the same weights."""
    made = {"gpt2": random_gpt2(dtype=torch.float64), "llama": random_llama(dtype=torch.float64)}
    return {name: (hf, rs.load(hf, tokenizer=tokenizer)) for name, (hf, tokenizer) in made.items()}


@contextmanager
def hooked(hf: Any, site: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let `change` have a site's value, `[pos ...]` with heads apart, in a transformers model that runs one text."""
    kind, layer = site.split(".")[0], int(site.rpartition(".")[2])
    gpt2 = hasattr(hf, "transformer")
    block = hf.transformer.h[layer] if gpt2 else hf.model.layers[layer]
    attention = block.attn if gpt2 else block.self_attn
    heads = hf.config.num_attention_heads
    d_head = hf.config.hidden_size // heads

    def changed(x: Tensor, first: int = 0, size: int | None = None) -> Tensor:
        size = x.shape[-1] if size is None else size
        part = x[0, :, first : first + size]
        split = part.view(*part.shape[:-1], -1, d_head) if kind in ("q", "k", "v", "z") else part
        new = x.clone()
        new[0, :, first : first + size] = change(split.clone()).reshape(part.shape)
        return new

    def before(module: Any, args: tuple[Tensor, ...], kwargs: Any) -> Any:
        return (changed(args[0]), *args[1:]), kwargs

    def after(module: Any, args: Any, out: Tensor) -> Tensor:
        if kind in ("q", "k", "v") and gpt2:
            size = hf.config.hidden_size
            return changed(out, "qkv".index(kind) * size, size)
        return changed(out)

    modules = {
        "resid_pre": (block, before),
        "z": (attention.c_proj if gpt2 else attention.o_proj, before),
        "mlp_act": (block.mlp.c_proj if gpt2 else block.mlp.down_proj, before),
        "attn_out": (attention.c_proj if gpt2 else attention.o_proj, after),
        "ln1": (block.ln_1 if gpt2 else block.input_layernorm, after),
        "ln2": (block.ln_2 if gpt2 else block.post_attention_layernorm, after),
        "mlp_out": (block.mlp, after),
        **{name: (attention.c_attn if gpt2 else getattr(attention, f"{name}_proj"), after) for name in "qkv"},
    }
    module, hook = modules[kind]
    register = module.register_forward_pre_hook if hook is before else module.register_forward_hook
    handle = register(hook, with_kwargs=True) if hook is before else register(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def run_theirs(hf: Any, tokens: rs.Tokens, site: str, change: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
    """Logits of every text, alone, with the site's value changed: `change` takes `[pos ...]` and the text's number."""
    found = []
    for text, ids in enumerate(tokens.lists()):

        def own(x: Tensor, text: int = text) -> Tensor:
            return change(x, text)

        with hooked(hf, site, own):
            found.append(hf(torch.tensor([ids])).logits[0])
    return found


def assert_runs_equal(run: rs.Run, theirs: list[Tensor]) -> None:
    for row, expected in zip(run.logits, theirs, strict=True):
        assert_equal(row[: len(expected)], expected)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


V = draw(32, seed=1)
ROWS = draw(2, 32, seed=2)
UNIT = V / V.norm()
DIRECTION = rs.Direction("one", Site("resid_pre", 1), UNIT, draw(32, seed=3))


def project(x: Tensor, rows: Tensor = ROWS) -> Tensor:
    inverse: Tensor = torch.linalg.inv(rows @ rows.T)
    return x @ rows.T @ inverse @ rows


def at(pos: Any, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """A change at some positions of each text, all heads."""

    def change(x: Tensor, text: int) -> Tensor:
        x[pos] = function(x[pos])
        return x

    return change


def part(numbers: Any, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """A change of some heads or neurons, at all positions."""

    def change(x: Tensor, text: int) -> Tensor:
        x[:, numbers] = function(x[:, numbers])
        return x

    return change


def per_text(x: Tensor, text: int) -> Tensor:
    x[-1] = draw(3, 32, seed=4)[text]
    return x


def per_text_and_position(x: Tensor, text: int) -> Tensor:
    x[[0, -1]] = draw(3, 2, 32, seed=5)[text]
    return x


def own_positions(x: Tensor, text: int) -> Tensor:
    x[[[3], [0], [-2]][text]] += V
    return x


PER_POSITION = torch.tensor([[3], [0], [-2]])
CASES: list[tuple[rs.Edit, Callable[[Tensor, int], Tensor]]] = [
    (rs.replace("mlp_out.1", 0.5, pos=-1), at(-1, lambda x: 0 * x + 0.5)),
    (rs.replace("attn_out.1", V, pos=1), at(1, lambda x: V)),
    (rs.replace("resid_pre.2", V.tolist()), at(slice(None), lambda x: V.expand(x.shape))),
    (rs.replace("resid_post.0", draw(3, 32, seed=4), pos=-1), per_text),
    (rs.replace("ln2.0", draw(3, 2, 32, seed=5), pos=[0, -1]), per_text_and_position),
    (rs.replace("resid_pre.1", V, along=ROWS), at(slice(None), lambda x: x - project(x) + project(V))),
    (rs.replace("z.1", V[:8], head=2), part(2, lambda x: V[:8].expand(x.shape))),
    (rs.replace("z.1", V[:16].view(2, 8), head=[3, 0]), part([3, 0], lambda x: V[:16].view(2, 8).expand(x.shape))),
    (rs.replace("mlp_act.2", 2.0, neuron=5), part(5, lambda x: 0 * x + 2)),
    (rs.replace("mlp_act.2", V[:3], neuron=[1, 9, 4]), part([1, 9, 4], lambda x: V[:3].expand(x.shape))),
    (rs.add("resid_pre.1", V, 0.5), at(slice(None), lambda x: x + 0.5 * V)),
    (rs.add("resid_pre.1", DIRECTION, -3.0, 0), at(0, lambda x: x - 3 * UNIT)),
    (rs.add("resid_pre.1", V, pos=slice(1, -1)), at(slice(1, -1), lambda x: x + V)),
    (rs.add("resid_pre.1", V, pos=[2, 0]), at([2, 0], lambda x: x + V)),
    (rs.add("resid_pre.1", V, pos=PER_POSITION), own_positions),
    (rs.add("q.1", 0.7, head=1), part(1, lambda x: x + 0.7)),
    (rs.scale("v.0", -2.0, pos=-2), at(-2, lambda x: -2 * x)),
    (rs.scale("mlp_act.0", 0.25, neuron=[0, 7]), part([0, 7], lambda x: 0.25 * x)),
    (rs.ablate("attn_out.0"), at(slice(None), lambda x: 0 * x)),
    (rs.ablate("k.2", head=1, pos=None), part(1, lambda x: 0 * x)),
    (rs.ablate("resid_pre.2", along=ROWS[0], pos=-1), at(-1, lambda x: x - project(x, ROWS[:1]))),
    (rs.project_out("ln1.1", ROWS), at(slice(None), lambda x: x - project(x))),
    (rs.project_out("resid_pre.1", V), at(slice(None), lambda x: x - (x @ UNIT)[..., None] * UNIT)),
    (
        rs.project_out("resid_pre.1", DIRECTION, centre="mean", pos=-1),
        at(-1, lambda x: x - ((x @ UNIT) - DIRECTION.offset)[..., None] * UNIT),
    ),
    (
        rs.clamp(DIRECTION, 1.5, pos=1),
        at(1, lambda x: x + (1.5 - (x @ UNIT - DIRECTION.offset))[..., None] * UNIT),
    ),
    (rs.apply("z.2", lambda z: z.flip(2)), at(slice(None), lambda x: x.flip(1))),
]


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{edit!r:.60}" for edit, _ in CASES])
def test_edits_equal_hooks_on_the_transformers_model(
    which: str, number: int, pairs: dict[str, tuple[Any, rs.Model]]
) -> None:
    hf, model = pairs[which]
    edit, change = CASES[number]
    run = model.run(TEXTS, edits=edit)
    site = edit.sites[0].replace("resid_post.0", "resid_pre.1")
    assert_runs_equal(run, run_theirs(hf, run.tokens, site, change))
    assert not torch.equal(run.at("logits", -1), model.run(TEXTS).at("logits", -1))


@pytest.mark.parametrize("which", WHICH)
def test_a_runs_value_takes_the_place(which: str, pairs: dict[str, tuple[Any, rs.Model]]) -> None:
    hf, model = pairs[which]
    other = model.run(OTHERS)
    run = model.run(TEXTS, edits=rs.replace("z.1", other, head=1, pos=[0, -1]))

    def change(x: Tensor, text: int) -> Tensor:
        x[[0, -1], 1] = other["z.1"][text, : len(x)][[0, -1], 1]
        return x

    assert_runs_equal(run, run_theirs(hf, run.tokens, "z.1", change))
    shorter = model.run(["Q", "RST", "UV"])
    run = model.run(TEXTS, edits=rs.ablate("resid_pre.2", shorter, pos=-1))
    assert torch.equal(run.at("resid_pre.2", -1), shorter.at("resid_pre.2", -1))


@pytest.mark.parametrize("which", WHICH)
def test_means_leave_out_padding_and_position_0(which: str, pairs: dict[str, tuple[Any, rs.Model]]) -> None:
    hf, model = pairs[which]
    given = ["four", "seven..", "a"]
    alone = [model.run(text)["z.1"][0] for text in given]
    mean = torch.cat([z[1:] for z in alone]).mean(0)
    run = model.run(TEXTS, edits=rs.ablate("z.1", "mean", head=3, texts=given))
    assert_runs_equal(run, run_theirs(hf, run.tokens, "z.1", part(3, lambda x: mean[3].expand(x.shape))))
    own = torch.cat([model.run(text)["mlp_out.0"][0, 1:] for text in TEXTS]).mean(0)
    run = model.run(TEXTS, edits=rs.ablate("mlp_out.0", "mean", pos=-1))
    torch.testing.assert_close(run.at("mlp_out.0", -1), own.expand(3, -1), rtol=0, atol=1e-12)
    by_position = model.run(TEXTS, edits=rs.ablate("z.1", "mean", texts=given, by="pos", pos=[0, 2]))
    expected = [torch.stack([z[p] for z in alone if len(z) > p]).mean(0) for p in (0, 2)]
    torch.testing.assert_close(by_position.at("z.1", [0, 2])[2], torch.stack(expected), rtol=0, atol=1e-12)
    role = torch.tensor([[1], [-2], [0]])
    by_role = model.run(TEXTS, edits=rs.ablate("z.1", "mean", texts=given, by=role, pos=-1, head=[2, 0]))
    mean = torch.stack([z[p] for z, p in zip(alone, (1, 5, 0), strict=True)]).mean(0)[[2, 0]]
    torch.testing.assert_close(by_role.at("z.1", -1)[1, [2, 0]], mean, rtol=0, atol=1e-12)


def test_a_corpus_is_averaged_once_for_all_edits_of_a_sweep(gpt2: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []
    run = rs.Model.run

    def counted(self: rs.Model, *given: Any, **named: Any) -> rs.Run:
        runs.append(given)
        return run(self, *given, **named)

    monkeypatch.setattr(rs.Model, "run", counted)
    base = gpt2.run(TEXTS)
    kinds: list[tuple[Literal["mean", "resample"], int]] = [("mean", 2), ("resample", 1)]
    for with_, expected in kinds:  # a mean of each of two sites; one run holds all sites
        edits = [rs.ablate(f"z.{layer}", with_, head=h, texts=LONG_TEXTS) for layer in (0, 2) for h in range(4)]
        runs.clear()
        gpt2.sweep(base, edits, rs.logit("a"))
        assert len(runs) == expected, with_


@pytest.mark.parametrize("which", WHICH)
def test_a_constant_is_what_is_left_when_the_pattern_mixes_nothing(
    which: str, pairs: dict[str, tuple[Any, rs.Model]]
) -> None:
    """Where the norm gives its bias alone, all values are alike, and every pattern mixes the same."""
    _, model = pairs[which]
    norm: Any = model.transformer.blocks[1].ln1
    only = model.run(TEXTS, edits=rs.replace("ln1.1", 0.0 if norm.bias is None else norm.bias))
    for site in ("v.1", "z.1", "head_out.1", "attn_out.1"):
        run = model.run(TEXTS, edits=rs.ablate(site, "constant"))
        torch.testing.assert_close(run.at(site, -1), only.at(site, -1), rtol=0, atol=1e-10)
        torch.testing.assert_close(run.at("logits", -1), only.at("logits", -1), rtol=0, atol=1e-10)
    head = model.run(TEXTS, edits=rs.ablate("z.1", "constant", head=2, pos=-1))
    torch.testing.assert_close(head.at("z.1", -1)[:, 2], only.at("z.1", -1)[:, 2])


def test_a_resampling_takes_another_texts_value(gpt2: rs.Model) -> None:
    texts = ["abcdef", "ghijkl", "mnopqr", "st"]
    plain = gpt2.run(texts)["resid_pre.1"]
    donors = set()
    for seed in range(8):
        edit = rs.ablate("resid_pre.1", "resample", seed=seed, pos=[0, -1])
        ours = gpt2.run(texts, edits=edit)["resid_pre.1"]
        assert torch.equal(ours[:, [0, 1]], gpt2.run(texts, edits=edit)["resid_pre.1"][:, [0, 1]])
        for text, end in enumerate([5, 5, 5, 1]):
            (donor,) = [d for d in range(4) if torch.equal(ours[text, [0, end]], plain[d, [0, end]])]
            assert donor != text
            donors.add((text, donor))
            assert torch.equal(ours[text, 1:end], plain[text, 1:end])
    assert len(donors) > 6
    given = gpt2.run("abc", edits=rs.ablate("z.1", "resample", texts=["wxyz"], pos=slice(1, 3), head=0))
    assert torch.equal(given["z.1"][0, 1:3, 0], gpt2.run("wxyz")["z.1"][0, 1:3, 0])


@pytest.mark.parametrize("site", ["resid_pre.1", "z.1", "ln1_scale.1", "scores.1", "mlp_act.0"])
def test_noise_is_the_same_whatever_stands_beside(site: str, gpt2: rs.Model) -> None:
    edit = rs.noise(site, 0.5, seed=3)

    def drawn(texts: list[str]) -> Tensor:
        plain = gpt2.run(texts)[site][0, ..., :3] if site == "scores.1" else gpt2.run(texts)[site][0]
        run = gpt2.run(texts, edits=edit)
        return (run[site][0, ..., :3] if site == "scores.1" else run[site][0]) - plain

    alone, beside, longer = drawn(["abc"]), drawn(["abc", "a longer text"]), drawn(["abcdef"])
    if site == "scores.1":
        alone, beside, longer = (x[:, :3].nan_to_num().transpose(0, 1) for x in (alone, beside, longer))
    torch.testing.assert_close(beside[:3], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(longer[:3], alone, rtol=0, atol=1e-12)
    assert not torch.equal(alone[1], alone[2])


def test_noise_has_its_standard_deviation(gpt2: rs.Model) -> None:
    texts = ["abcdefghijklmnopqrstuvwxyz"] * 8
    found = gpt2.run(texts, edits=rs.noise("resid_pre.1", 0.5, 7))["resid_pre.1"] - gpt2.run(texts)["resid_pre.1"]
    assert abs(float(found.std()) - 0.5) < 0.02
    assert abs(float(found.mean())) < 0.02
    assert not torch.equal(found[0], found[1])
    some = gpt2.run(texts, edits=rs.noise("resid_pre.1", 0.5, 7, pos=-1))["resid_pre.1"][:, -1]
    torch.testing.assert_close(some - gpt2.run(texts)["resid_pre.1"][:, -1], found[:, -1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", WHICH)
def test_a_knockout_hides_keys_before_the_softmax(which: str, pairs: dict[str, tuple[Any, rs.Model]]) -> None:
    hf, model = pairs[which]
    plain = model.run(TEXTS)
    run = model.run(TEXTS, edits=rs.knockout("pattern.1", head=1, query=[-1, -2], key=[0, -1]))
    pattern = run["pattern.1"]
    for text, n in enumerate(map(len, TEXTS)):
        own = pattern[text, :, :n, :n]
        torch.testing.assert_close(own.sum(-1), torch.ones(4, n).double(), rtol=0, atol=1e-12)
        assert (own[1, -2:, [0, n - 1]] == 0).all()
        before = plain["pattern.1"][text, :, :n, :n].clone()
        torch.testing.assert_close(own[[0, 2, 3]], before[[0, 2, 3]])
        torch.testing.assert_close(own[1, : n - 2], before[1, : n - 2])
        before[1, -2:, [0, n - 1]] = 0
        torch.testing.assert_close(own[1], before[1] / before[1].sum(-1, keepdim=True))
    groups = 4 // model.config.n_kv_heads

    def mixed(z: Tensor, text: int) -> Tensor:
        v = plain["v.1"][text, : len(z)].repeat_interleave(groups, dim=1)
        return torch.einsum("hqk,khd->qhd", pattern[text, :, : len(z), : len(z)], v)

    assert_runs_equal(run, run_theirs(hf, run.tokens, "z.1", mixed))


def test_a_pattern_takes_a_runs_place(gpt2: rs.Model) -> None:
    other = gpt2.run(OTHERS)
    run = gpt2.run(TEXTS, edits=rs.replace("pattern.1", other, head=2, pos=-1))
    assert torch.equal(run.at("pattern.1", -1)[:, 2, :3], other.at("pattern.1", -1)[:, 2, :3])
    v = gpt2.run(TEXTS)["v.1"]
    expected = torch.einsum("k,kd->d", other["pattern.1"][0, 2, 10, :11], v[0, :11, 2])
    torch.testing.assert_close(run["z.1"][0, 10, 2], expected)


def test_key_and_value_heads_touch_their_whole_group_and_no_other(llama: rs.Model) -> None:
    plain = llama.run("grouped queries")
    for site in ("k.1", "v.1"):
        moved = llama.run("grouped queries", edits=rs.add(site, 0.5, head=1))["z.1"] - plain["z.1"]
        assert (moved[:, :, :2] == 0).all()
        assert (moved[0, -1, 2:].abs().amax(-1) > 1e-4).all()


@pytest.mark.slow
@pytest.mark.parametrize("which", WHICH)
def test_a_null_edit_changes_nothing(which: str, pairs: dict[str, tuple[Any, rs.Model]]) -> None:
    _, model = pairs[which]
    plain = model.run(TEXTS)
    for site in model.sites:
        if not KINDS[site.kind].editable:
            continue
        for edit in (rs.scale(site, 1.0), rs.add(site, 0.0), rs.replace(site, plain), rs.freeze(site, plain)):
            run = model.run(TEXTS, edits=edit)
            torch.testing.assert_close(run.at("logits", -1), plain.at("logits", -1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("which", WHICH)
def test_patching_every_site_gives_the_other_run(which: str, pairs: dict[str, tuple[Any, rs.Model]]) -> None:
    _, model = pairs[which]
    other = model.run(OTHERS, keep="all")
    sites = [site for site in model.sites if KINDS[site.kind].editable]
    run = model.run(TEXTS, edits=[rs.replace(site, other) for site in sites], keep="all")
    for site in model.sites:
        if KINDS[site.kind].kept:
            torch.testing.assert_close(run[site], other[site], rtol=0, atol=1e-10, equal_nan=True)
    run = model.run(TEXTS, edits=[rs.replace("resid_pre.0", other)])
    torch.testing.assert_close(run.logits, other.logits, rtol=0, atol=1e-10, equal_nan=True)


def test_the_stream_after_a_layer_is_the_stream_before_the_next(llama: rs.Model) -> None:
    after = llama.run(TEXTS, edits=rs.add("resid_post.0", V, pos=1))
    before = llama.run(TEXTS, edits=rs.add("resid_pre.1", V, pos=1))
    assert torch.equal(after.at("logits", -1), before.at("logits", -1))
    assert torch.equal(after.at("resid_post.0", 1), before.at("resid_pre.1", 1))
    theirs = llama.run(TEXTS, edits=rs.add("blocks.1.hook_resid_pre", V, pos=1))
    assert torch.equal(theirs.at("logits", -1), before.at("logits", -1))


def test_an_edited_site_reads_its_value_after_the_edit(gpt2: rs.Model) -> None:
    plain = gpt2.run(TEXTS)
    for keep in ([], ["mlp_out.1"], ["resid_pre.1"], "all"):
        run = gpt2.run(TEXTS, keep, edits=rs.add("mlp_out.1", V, pos=-1))
        torch.testing.assert_close(run.at("mlp_out.1", -1), plain.at("mlp_out.1", -1) + V)
        assert torch.equal(run.at("mlp_out.1", 0), plain.at("mlp_out.1", 0))
        expected = plain.at("resid_mid.1", -1) + plain.at("mlp_out.1", -1) + V
        torch.testing.assert_close(run.at("resid_pre.2", -1), expected)


def test_edits_follow_the_models_order_and_at_one_site_the_lists(gpt2: rs.Model) -> None:
    plain = gpt2.run(TEXTS)
    twice = gpt2.run(TEXTS, edits=[rs.scale("resid_pre.1", 2.0), rs.add("resid_pre.1", V)])
    torch.testing.assert_close(twice.at("resid_pre.1", -1), 2 * plain.at("resid_pre.1", -1) + V)
    turned = gpt2.run(TEXTS, edits=[rs.add("resid_pre.1", V), rs.scale("resid_post.0", 2.0)])
    torch.testing.assert_close(turned.at("resid_pre.1", -1), 2 * plain.at("resid_pre.1", -1) + 2 * V)
    early, late = rs.add("resid_pre.1", V), rs.replace("attn_out.2", 0.25)
    one, other = gpt2.run(TEXTS, edits=[early, late]), gpt2.run(TEXTS, edits=[late, early])
    assert torch.equal(one.at("logits", -1), other.at("logits", -1))
    assert (one.at("attn_out.2", -1) == 0.25).all()


def test_a_freeze_holds_its_sites_whatever_is_edited_before(gpt2: rs.Model) -> None:
    plain = gpt2.run(TEXTS)
    push = rs.add("resid_pre.1", V)
    for names in (["pattern"], "pattern", [Site("pattern", layer) for layer in range(3)]):
        run = gpt2.run(TEXTS, edits=[push, rs.freeze(names, plain)])
        assert torch.equal(run.at("pattern.2", -1).nan_to_num(), plain.at("pattern.2", -1).nan_to_num())
    assert not torch.equal(gpt2.run(TEXTS, edits=push).at("pattern.2", -1), plain.at("pattern.2", -1))
    direct = gpt2.run(TEXTS, edits=[push, rs.freeze(["attn_out", "mlp_out"], plain)])
    torch.testing.assert_close(direct.at("resid_post.2", -1), plain.at("resid_post.2", -1) + V)


def test_what_is_clamped_may_be_any_feature(gpt2: rs.Model) -> None:
    class Feature:
        site = Site("resid_pre", 1)
        vector = ROWS[1]

        def read(self, x: Tensor) -> Tensor:
            return (x @ ROWS[0]).relu()

    plain = gpt2.run(TEXTS)
    run = gpt2.run(TEXTS, edits=rs.clamp(Feature(), 2.0, pos=-1))
    x = plain.at("resid_pre.1", -1)
    torch.testing.assert_close(run.at("resid_pre.1", -1), x + (2 - (x @ ROWS[0]).relu())[:, None] * ROWS[1])
    sweep = gpt2.sweep(plain, [rs.clamp(Feature(), value, pos=-1) for value in (2.0, 0.0)], rs.logit("a"))
    torch.testing.assert_close(sweep.values[0], rs.logit("a")(run))


def test_directions_of_several_edits_of_heads_sweep_together(gpt2: rs.Model) -> None:
    plain = gpt2.run(TEXTS)
    edits = [rs.replace("head_out.1", 1.0, head=h, along=ROWS[i]) for h in (0, 2) for i in (0, 1)]
    sweep = gpt2.sweep(plain, edits, rs.logit("a"))
    for row, edit in zip(sweep.values, edits, strict=True):
        torch.testing.assert_close(row, rs.logit("a")(gpt2.run(TEXTS, edits=edit)), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("site", "function"),
    [
        ("resid_pre.1", lambda x: x * (1 + x.nanmean((1, 2), keepdim=True).abs())),
        ("z.1", lambda x: x - x.nanmean(1, keepdim=True)),
        ("pattern.0", lambda x: x.square() / x.square().sum(-1, keepdim=True)),
    ],
)
def test_a_function_sees_padding_as_nan(site: str, function: Callable[[Tensor], Tensor], gpt2: rs.Model) -> None:
    edit, metric = rs.apply(site, function), rs.logit("a")
    alone = torch.cat([metric(gpt2.run([text], edits=edit)) for text in TEXTS])
    torch.testing.assert_close(metric(gpt2.run(TEXTS, edits=edit)), alone, rtol=0, atol=1e-10)
    torch.testing.assert_close(gpt2.sweep(gpt2.run(TEXTS), [edit], metric).values[0], alone, rtol=0, atol=1e-10)
    assert (alone - metric(gpt2.run(TEXTS))).abs().min() > 1e-3


def test_padding_never_enters_a_function_unseen(gpt2: rs.Model) -> None:
    edit = rs.apply("z.1", lambda x: x - x.mean(1, keepdim=True))
    assert gpt2.run(TEXTS[0], edits=edit)["z.1"].isfinite().all()
    with pytest.raises(BadEdit, match=r"gave NaN where a text stands\. Padding reads NaN"):
        gpt2.run(TEXTS, edits=edit)["z.1"]


@pytest.mark.parametrize("which", WHICH)
def test_the_heads_mix_by_the_pattern_that_is_read_after_an_edit(
    which: str, pairs: dict[str, tuple[Any, rs.Model]]
) -> None:
    """What an edit puts where a query may not look is neither used nor read."""
    model = pairs[which][1]
    groups = model.config.n_heads // model.config.n_kv_heads
    for edit in (
        rs.replace("pattern.1", 0.25),
        rs.noise("scores.1", 1.0),
        rs.ablate("scores.1"),
        rs.apply("pattern.1", lambda x: x + 0.1),
    ):
        run = model.run(TEXTS[2], edits=edit)
        values = run["v.1"].repeat_interleave(groups, dim=2)
        mixed = torch.einsum("bhqk,bkhd->bqhd", run["pattern.1"], values)
        torch.testing.assert_close(mixed, run["z.1"], rtol=0, atol=1e-12)
        ahead = torch.ones(len(run["scores.1"][0, 0]), len(run["scores.1"][0, 0])).triu(1).bool()
        assert bool((run["scores.1"][..., ahead] == -torch.inf).all())
        swept = model.sweep(model.run(TEXTS[2]), [edit], rs.read("pattern.1", pos=None))
        torch.testing.assert_close(swept.values[0, 0].transpose(0, 1), run["pattern.1"][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", WHICH)
def test_directions_lie_in_the_last_axis_of_any_site(which: str, pairs: dict[str, tuple[Any, rs.Model]]) -> None:
    model = pairs[which][1]
    plain, other = model.run(TEXTS), model.run(OTHERS)
    for site, head in (("z.1", 2), ("q.0", [0, 3]), ("mlp_act.1", None), ("head_out.1", 1)):
        width = model.axis_size(model.find(site).axes[-1], 0)
        rows = torch.randn(2, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        basis = torch.linalg.qr(rows.T).Q
        old, others = (run[site] if head is None else run[site][:, :, head] for run in (plain, other))
        for edit, expected in (
            (rs.project_out(site, rows, head=head), old - old @ basis @ basis.T),
            (rs.replace(site, other, along=rows, head=head), old + (others - old) @ basis @ basis.T),
        ):
            run = model.run(TEXTS, edits=edit)
            found = run[site] if head is None else run[site][:, :, head]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, equal_nan=True)
    one = rs.Direction("one", Site("z", 1), torch.eye(8, dtype=torch.float64)[2], torch.ones(8, dtype=torch.float64))
    run = model.run(TEXTS, edits=rs.clamp(one, 3.0, head=1, pos=-1))
    assert run.at("z.1", -1)[:, 1, 2] == pytest.approx([4.0, 4.0, 4.0])
    torch.testing.assert_close(run.at("z.1", -1)[:, [0, 2, 3]], plain.at("z.1", -1)[:, [0, 2, 3]])
    held = model.run(TEXTS, edits=[rs.add("resid_pre.0", 0.5), rs.freeze("z", plain, head=2)])
    assert torch.equal(held["z.1"][:, :, 2].nan_to_num(), plain["z.1"][:, :, 2].nan_to_num())
    assert not torch.equal(held["z.1"][:, :, 0].nan_to_num(), plain["z.1"][:, :, 0].nan_to_num())


def test_what_was_given_may_change_afterwards(gpt2: rs.Model) -> None:
    vector = torch.zeros(32, dtype=torch.float64)
    edits, expected = [], []
    for i in range(3):
        vector[i] = 1
        edits.append(rs.add("resid_pre.1", vector))
        expected.append(rs.logit("a")(gpt2.run(TEXTS, edits=edits[-1])))
        vector[i] = 0
    torch.testing.assert_close(gpt2.sweep(gpt2.run(TEXTS), edits, rs.logit("a")).values, torch.stack(expected))
    with pytest.raises(TypeError):
        edits[0].arguments["scale"] = 9.0  # type: ignore[index]  # that is the point
    assert pickle.loads(pickle.dumps(edits[0])) == edits[0]


def test_a_slice_of_keys_is_each_texts_own(gpt2: rs.Model) -> None:
    edit = rs.knockout("pattern.1", key=slice(0, -1), query=-1)
    run = gpt2.run(TEXTS, edits=edit)
    sweep = gpt2.sweep(gpt2.run(TEXTS), [edit], rs.logit("a"))
    torch.testing.assert_close(sweep.values[0], rs.logit("a")(run))
    for i, text in enumerate(TEXTS):
        alone = gpt2.run(text, edits=edit)
        torch.testing.assert_close(run.at("logits", -1)[i], alone.at("logits", -1)[0])
        n = alone.tokens.ids.shape[1]
        assert torch.equal(run["pattern.1"][i, :, n - 1, :n], torch.eye(n).double()[-1].expand(4, -1))


def test_a_slice_of_keys_while_writing(gpt2: rs.Model) -> None:
    edit, texts = rs.knockout("pattern.1", key=slice(2, 5), query=-1), ["abcdefgh", "xyz"]
    together = gpt2.generate(texts, n_tokens=3, edits=edit)
    for i, text in enumerate(texts):
        alone = gpt2.generate(text, n_tokens=3, edits=edit)
        assert alone.lists()[0] == together.lists()[i]
    tokens = gpt2.tokenize(texts)
    assert [edit.of_text(i, tokens).arguments["key"] for i in range(2)] == [[2, 3, 4], [2]]
    none = rs.knockout("pattern.1", key=slice(4, 5), query=-1).of_text(1, tokens)
    assert torch.equal(gpt2.run("xyz", edits=none)["pattern.1"], gpt2.run("xyz")["pattern.1"])
