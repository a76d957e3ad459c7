"""What does not fit is refused with one clear sentence, before anything runs."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import config

import residscope as rs
from residscope.errors import BadArgument, BadEdit, BadMetric, BadTexts, UnknownPosition, UnknownSite, UnknownToken
from residscope.sites import Site
from tests.models import own_model

TEXTS = ["abcdef", "xyz"]
NAN = torch.full((32,), torch.nan).double()
V = torch.ones(32).double()
SHORT = rs.Direction("short", Site("resid_pre", 1), torch.ones(16).double() / 4)

EDITS: list[tuple[Callable[[rs.Model], rs.Edit], type[Exception], str]] = [
    (lambda m: rs.scale("resid.1", 1.0), UnknownSite, r"no site 'resid.1'.*Nearest: resid_pre, resid_mid, resid_post"),
    (lambda m: rs.scale("blocks.1.hook_resid_prr", 1.0), UnknownSite, r"Nearest: resid_pre"),
    (lambda m: rs.scale("z", 1.0), UnknownSite, r"every one of 3 layers has it. Name one: z.0 to z.2"),
    (lambda m: rs.knockout("pattern", key=0, query=2), UnknownSite, r"'scores': every one of 3 layers"),
    (lambda m: rs.scale("z.7", 1.0), UnknownSite, r"z has layers 0 to 2"),
    (lambda m: rs.freeze(["nothing"], m.run(TEXTS)), UnknownSite, "no site 'nothing'"),
    (lambda m: rs.freeze([], m.run(TEXTS)), BadEdit, "rs.freeze was given no site"),
    (lambda m: rs.scale("logits", 1.0), BadEdit, "logits cannot be edited. Edit what it is made from"),
    (lambda m: rs.scale("z.1", 1.0, head=4), BadEdit, r"head=4 was asked for, and z.1 has 4 along head"),
    (lambda m: rs.scale("z.1", 1.0, head=-1), BadEdit, r"head=-1 was asked for.* Choose of 0 to 3"),
    (lambda m: rs.scale("z.1", 1.0, head=[1, 1]), BadEdit, r"each once"),
    (lambda m: rs.scale("z.1", 1.0, head=[]), BadEdit, r"head=\[\] was asked for"),
    (lambda m: rs.scale("z.1", 1.0, neuron=1), BadEdit, "z.1 has no axis of neurons"),
    (lambda m: rs.scale("resid_pre.1", 1.0, head=1), BadEdit, "resid_pre.1 has no axis of heads"),
    (lambda m: rs.scale("mlp_act.1", 1.0, neuron=128), BadEdit, "mlp_act.1 has 128 along d_mlp"),
    (lambda m: rs.scale("z.1", 1.0, pos=3), UnknownPosition, "Position 3 was asked for, and text 1 has 3 tokens"),
    (lambda m: rs.scale("z.1", 1.0, pos=-4), UnknownPosition, "Position -4 was asked for, and text 1"),
    (lambda m: rs.scale("z.1", 1.0, pos=[0, 0]), BadEdit, "Position 0 of a text is named twice"),
    (lambda m: rs.scale("z.1", 1.0, pos=[2, -1]), BadEdit, "Position 2 of a text is named twice"),
    (lambda m: rs.scale("z.1", 1.0, pos=[]), UnknownPosition, "No position was named"),
    (lambda m: rs.scale("z.1", 1.0, pos=slice(9, 12)), UnknownPosition, r"slice\(9, 12, None\) .*no text has one"),
    (lambda m: rs.scale("z.1", 1.0, pos=torch.zeros(3, 1).long()), UnknownPosition, r"\[3, 1\] were given for 2"),
    (lambda m: rs.scale("z.1", 1.0, pos=torch.ones(2, 6).bool()), UnknownPosition, "of whole numbers"),
    (lambda m: rs.add("z.1", V, pos="new"), BadEdit, r'"new" is for `model.generate`'),
    (lambda m: rs.add("resid_pre.1", V[:5]), BadEdit, r"has the shape \[5\], and resid_pre.1 asks for \[32\]"),
    (lambda m: rs.add("z.1", V, head=1), BadEdit, r"shape \[32\], and z.1, 1 of head asks for \[8\]"),
    (
        lambda m: rs.replace("z.1", V.expand(3, 4, 32)),
        BadEdit,
        r"Give that, \[2, ...\] for each text",
    ),
    (lambda m: rs.add("resid_pre.1", SHORT), BadEdit, r"shape \[16\]"),
    (
        lambda m: rs.add("resid_pre.2", SHORT),
        BadEdit,
        r"short lives at resid_pre.1, and rs.add was asked for at resid_pre.2. .*direction.at\('resid_pre.2'\)",
    ),
    (lambda m: rs.ablate("mlp_out.1", along=[SHORT]), BadEdit, "rs.ablate was asked for at mlp_out.1"),
    (lambda m: rs.add("resid_pre.1", NAN), BadEdit, "holds NaN or infinity"),
    (lambda m: rs.replace("z.1", float("inf")), BadEdit, "holds NaN or infinity"),
    (lambda m: rs.add("z.1", 1.0, float("nan")), BadEdit, "The scale is nan. Give a finite number"),
    (lambda m: rs.scale("z.1", float("inf")), BadEdit, "The factor is inf"),
    (lambda m: rs.scale("ln1_scale.1", 0.0), BadEdit, "ln1_scale.1 would be zero, and a norm divides by it"),
    (lambda m: rs.ablate("ln_final_scale"), BadEdit, "ln_final_scale would be zero"),
    (lambda m: rs.replace("ln2_scale.0", torch.tensor([1.0, 0.0]).double()), BadEdit, "ln2_scale.0 would be zero"),
    (lambda m: rs.noise("z.1", -1.0), BadEdit, "standard deviation is -1"),
    (lambda m: rs.add("resid_pre.1", V.float()), BadEdit, r"float32 on cpu, and the model torch.float64"),
    (lambda m: rs.add("resid_pre.1", torch.ones(32, device="meta")), BadEdit, r"on meta, and the model"),
    (lambda m: rs.replace("z.1", m.run(["abc"])), BadEdit, "with a run of other texts or lengths"),
    (lambda m: rs.replace("z.1", m.run(["abcdefgh", "xyz"])), BadEdit, r"Texts of \[6, 3\] tokens.*other texts or len"),
    (lambda m: rs.replace("z.1", m.run(["abcdef", "xy"])), BadEdit, "with a run of other texts or lengths"),
    (lambda m: rs.replace("z.1", m.run(["abcdef", "xyzu"])), BadEdit, "with a run of other texts or lengths"),
    (lambda m: rs.replace("z.1", m.run(["abc", "xyz"]), pos=4), UnknownPosition, "Position 4"),
    (lambda m: rs.replace("scores.1", m.run(["abc", "xyz"]), pos=-1), BadEdit, r"of the same lengths"),
    (lambda m: rs.replace("z.1", {"z.0": V}), BadEdit, "z.1 was not recorded. There are z.0"),
    (lambda m: rs.replace("z.1", {"z.1": V}), BadEdit, "other texts or lengths"),
    (lambda m: rs.replace("mlp_out.1", {"mlp_out.1": NAN.expand(2, 6, 32)}), BadEdit, "holds NaN at mlp_out.1"),
    (lambda m: rs.ablate("z.1", texts=["abc"]), BadEdit, "with zero was given texts, which it does not use"),
    (lambda m: rs.ablate("z.1", "mean", draws=3), BadEdit, "with mean was given draws"),
    (lambda m: rs.ablate("z.1", "resample", draws=0), BadEdit, "0 draws were asked for"),
    (lambda m: rs.ablate("mlp_out.1", "constant"), BadEdit, "defined for v, z, head_out, attn_out"),
    (lambda m: rs.ablate("pattern.1", "mean"), BadEdit, "has other keys in every text"),
    (lambda m: rs.ablate("z.1", "mean", texts="a"), BadEdit, "no token but their first"),
    (lambda m: rs.ablate("z.1", "mean", texts="abc", by="pos"), BadEdit, "The mean of position 5 was asked for"),
    (lambda m: rs.ablate("z.1", "resample"), BadEdit, "Text 0 is to take another's value at position 5"),
    (lambda m: rs.project_out("z.1", V), BadEdit, r"has the shape \[32\], and z.1 8 entries along d_head"),
    (lambda m: rs.project_out("pattern.1", V), BadEdit, "pattern.1 has the axes .* and no directions"),
    (lambda m: rs.project_out("ln1_scale.1", V), BadEdit, "ln1_scale.1 has the axes .* and no directions"),
    (lambda m: rs.ablate("mlp_act.1", neuron=3, along=V), BadEdit, "take all of its d_mlp, and some were chosen"),
    (lambda m: rs.project_out("resid_pre.1", V, head=1), BadEdit, "resid_pre.1 has no axis of heads"),
    (lambda m: rs.ablate("z.1", "mean", by=7, texts=["abc"]), UnknownPosition, "Position 7 was asked for"),
    (lambda m: rs.Edit("ablate", ("z.1",), {"with_": "mean", "by": "role"}), BadEdit, "or give positions"),
    (lambda m: rs.project_out("resid_pre.1", torch.stack([V, V])), BadEdit, "zero, or not independent"),
    (lambda m: rs.project_out("resid_pre.1", 0 * V), BadEdit, "zero, or not independent"),
    (lambda m: rs.project_out("resid_pre.1", torch.eye(32).double().repeat(2, 1)), BadEdit, "not independent"),
    (
        lambda m: rs.project_out("resid_pre.1", SHORT),
        BadEdit,
        r"shape \[16\], and resid_pre.1 32 entries along d_model",
    ),
    (lambda m: rs.project_out("resid_pre.1", []), BadEdit, "No direction was given"),
    (lambda m: rs.project_out("resid_pre.1", V, centre="mean"), BadEdit, "the direction knows no mean"),
    (lambda m: rs.clamp(SHORT, 1.0), BadEdit, r"has the shape \[16\]"),
    (lambda m: rs.knockout("resid_pre.1", key=0), BadEdit, "A knockout was asked for at resid_pre.1"),
    (lambda m: rs.knockout("pattern.1", key=0), BadEdit, "Position 0 of text 0 would see no key"),
    (lambda m: rs.knockout("pattern.1", key=[0, 1, 2], query=-1), BadEdit, "Position 2 of text 1 would see no key"),
    (lambda m: rs.knockout("pattern.1", key=7, query=-1), UnknownPosition, "Position 7"),
    (lambda m: rs.apply("z.1", lambda x: x[:, :1]), BadEdit, r"gave \[2, 1, 4, 8\]. It has to give \[2, 6, 4, 8\]"),
]


@pytest.mark.parametrize("number", range(len(EDITS)))
def test_edits_that_do_not_fit(number: int, gpt2: rs.Model) -> None:
    make, error, says = EDITS[number]
    base = gpt2.run(TEXTS)
    with pytest.raises(error, match=re.compile(says, re.DOTALL)):
        gpt2.run(TEXTS, "resid_post", edits=make(gpt2))
    with pytest.raises(error, match=re.compile(says, re.DOTALL)):
        gpt2.sweep(base, [make(gpt2)], rs.logit("a"))
    if "new" not in says:
        with pytest.raises(rs.ResidscopeError):
            gpt2.generate(TEXTS, n_tokens=3, edits=make(gpt2))


def test_a_knockout_leaves_a_key_within_the_window() -> None:
    facts: dict[str, Any] = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_mlp": 8, "d_vocab": 300, "n_ctx": 16}
    model = own_model(rs.Config(**facts, learned_positions=True, windows=(2,)), dtype=torch.float64)
    with pytest.raises(BadEdit, match="Position 5 of text 0 would see no key"):
        model.run("abcdef", edits=rs.knockout("pattern.0", key=[4, 5], query=-1))
    assert bool(model.run("abcdef", edits=rs.knockout("pattern.0", key=[3, 4], query=-1)).logits.isfinite().all())


def test_a_model_of_other_sizes_or_dtype(gpt2: rs.Model, stories: rs.Model) -> None:
    other = stories.run([[5, 6, 7, 8, 9, 10], [5, 6, 7]])
    with pytest.raises(BadEdit, match=r"run is torch\.float32 on .*, and the model torch.float64"):
        gpt2.run(TEXTS, edits=rs.replace("z.1", other))
    wider = {str(site): other[site].double() for site in other.model.sites if site.kind == "z"}
    with pytest.raises(BadEdit, match=r"run has \[8, 8\] at z.1, and z.1 asks for \[4, 8\]"):
        gpt2.run(TEXTS, edits=rs.replace("z.1", wider, pos=0))
    with pytest.raises(UnknownSite, match="attn_raw"):
        gpt2.run(TEXTS, edits=rs.replace("attn_raw.1", other))
    with pytest.raises(BadArgument, match="base run is of another model"):
        gpt2.sweep(other, [], rs.logit(5))


METRICS: list[tuple[Callable[[rs.Model], rs.Metric], type[Exception], str]] = [
    (lambda m: rs.logit("ab"), UnknownToken, "ab"),
    (lambda m: rs.logit(300), BadMetric, "There is no token 300. Ids are 0 to 299"),
    (lambda m: rs.logit(["a", "b", "c"]), BadMetric, "3 answers were given for 2 texts. Give one token"),
    (lambda m: rs.logit([["a"], []]), BadMetric, "Give one token"),
    (lambda m: rs.logit([]), BadMetric, "0 answers"),
    (lambda m: rs.log_prob(["a", "b", "c"]), BadMetric, "3 answers"),
    (lambda m: rs.logit("a", pos=5), UnknownPosition, "text 1 has 3 tokens"),
    (lambda m: rs.loss(pos=0), BadMetric, "loss of a text's first token"),
    (lambda m: rs.loss(pos=slice(9, None)), BadMetric, "loss of a text's first token"),
    (lambda m: rs.kl(m.run("abc")), BadMetric, "base run has 1 texts and 300 logits"),
    (lambda m: rs.read("nothing.1"), UnknownSite, "no site"),
    (lambda m: rs.read("z"), UnknownSite, "every one of 3 layers"),
    (lambda m: rs.metric(lambda x: x.sum()), BadMetric, r"The function gave \[\]. It has to give \[2, ...\]"),
    (lambda m: rs.metric(lambda x: 1.0), BadMetric, r"The function gave float"),
    (lambda m: rs.metric(lambda x: x, reads=[]), BadMetric, "a list of sites or nothing"),
    (lambda m: rs.metric(lambda x: x, reads=["nothing"]), UnknownSite, "no site"),
]


@pytest.mark.parametrize("number", range(len(METRICS)))
def test_metrics_that_do_not_fit(number: int, gpt2: rs.Model) -> None:
    make, error, says = METRICS[number]
    base = gpt2.run(TEXTS)
    with pytest.raises(error, match=says):
        make(gpt2)(base)
    with pytest.raises(error, match=says):
        gpt2.sweep(base, [rs.scale("z.1", 0.5)], make(gpt2))


def test_a_text_of_one_token_has_no_loss(gpt2: rs.Model) -> None:
    with pytest.raises(BadMetric, match="or of a text that has only that"):
        rs.loss()(gpt2.run(["a", "bcd"]))


def test_what_is_no_edit_at_all(gpt2: rs.Model) -> None:
    assert torch.equal(gpt2.run(TEXTS, edits=[]).at("logits", -1), gpt2.run(TEXTS).at("logits", -1))
    base, metric = gpt2.run(TEXTS), rs.logit("a")
    assert gpt2.sweep(base, [], metric).values.shape == (0, 2)
    nothing = gpt2.sweep(base, [[], [rs.scale("z.1", 0.5)], ()], metric)
    assert torch.equal(nothing.values[[0, 2]], metric(base).expand(2, -1))
    assert not torch.equal(nothing.values[1], metric(base))


WRONG_TYPES = """
import numpy as np, torch, residscope as rs
from residscope.errors import ResidscopeError
from tests.models import random_gpt2
hf, tokenizer = random_gpt2(dtype=torch.float64)
model = rs.load(hf, tokenizer=tokenizer)
base, v = model.run(["abcdef", "xyz"]), torch.ones(32).double()
edits = [rs.scale("z.1", 0.5)]
for number, wrong in enumerate([
    lambda: rs.replace(None, 1.0), lambda: rs.replace("z.1", None), lambda: rs.replace("z.1", "text"),
    lambda: rs.replace("z.1", object()), lambda: rs.replace("z.1", [v, v]), lambda: rs.replace("z.1", {}),
    lambda: rs.add("z.1", 1.0, "two"), lambda: rs.scale("z.1", None), lambda: rs.scale("z.1", v),
    lambda: rs.scale("z.1", 1.0, head="one"), lambda: rs.scale("z.1", 1.0, head=1.5), lambda: rs.noise("z.1", 1.0, 0.5),
    lambda: rs.scale("z.1", 1.0, pos="last"), lambda: rs.scale("z.1", 1.0, pos=1.5),
    lambda: rs.scale("z.1", 1.0, pos=[0.5]), lambda: rs.scale("z.1", 1.0, pos=slice(0.5, None)),
    lambda: rs.scale("z.1", 1.0, pos=torch.tensor(1)), lambda: rs.scale("z.1", 1.0, pos=object()),
    lambda: rs.ablate("z.1", "median"), lambda: rs.ablate("z.1", v),
    lambda: rs.ablate("z.1", np.ones(3)),
    lambda: rs.ablate("z.1", "resample", draws=1.5), lambda: rs.project_out("resid_pre.1", [0.1] * 32),
    lambda: rs.project_out("resid_pre.1", "x"), lambda: rs.project_out("resid_pre.1", v, centre="x"),
    lambda: rs.clamp(v, 1.0), lambda: rs.clamp(None, 1.0), lambda: rs.knockout("pattern.1", key=None),
    lambda: rs.knockout("pattern.1", key="x"), lambda: rs.apply("z.1", None), lambda: rs.freeze("z", None),
    lambda: "an edit", lambda: 5, lambda: None, lambda: [edits], lambda: ["an edit"],
]):
    for use in (
        lambda edit: model.run(["abcdef", "xyz"], edits=edit),
        lambda edit: model.sweep(base, [edit], rs.logit("a")),
        lambda edit: model.generate(["abcdef", "xyz"], n_tokens=2, edits=edit),
    ):
        try:
            use(wrong())
        except ResidscopeError as error:
            assert 20 < len(str(error)) < 600, error
        else:
            raise AssertionError(f"number {number} went through")
for number, wrong in enumerate([
    lambda: rs.logit(None), lambda: rs.logit(1.5), lambda: rs.logit(["a", None]), lambda: rs.logit("a", pos=[0, 1]),
    lambda: rs.logit("a", pos=None), lambda: rs.log_prob("a", pos=slice(1, 2)), lambda: rs.kl(base, pos=None),
    lambda: rs.probability_difference("a", "b", pos="x"), lambda: rs.loss(pos="none"), lambda: rs.read(None),
    lambda: rs.read(5), lambda: rs.metric(5), lambda: rs.metric(len, reads="z.1"), lambda: None, lambda: len,
]):
    try:
        model.sweep(base, edits, wrong())
    except ResidscopeError as error:
        assert 20 < len(str(error)) < 1200, error
    else:
        raise AssertionError(f"metric {number} went through")
for wrong in (edits[0], "text", None, 5):
    try:
        model.sweep(base, wrong, rs.logit("a"))
    except ResidscopeError:
        continue
    raise AssertionError(wrong)
for wrong in (
    lambda: model.sweep("a text", edits, rs.logit("a")), lambda: rs.kl("a text"),
    *(lambda size=size: model.sweep(base, edits, rs.loss(), memory_bytes=size) for size in (8e9, "8GB", 0, -1)),
    lambda: rs.memory(model, n_tokens=3, edits=1, memory_bytes=0.5),
):
    try:
        wrong()
    except ResidscopeError as error:
        assert 20 < len(str(error)) < 600, error
    else:
        raise AssertionError("went through")
# And what is right though it comes from elsewhere.
one = np.int64(1)
for left, right in [
    (rs.scale("z.1", np.float32(0.5), head=one, pos=one), rs.scale("z.1", 0.5, head=1, pos=1)),
    (rs.scale("z.1", torch.tensor(0.5), head=torch.tensor(1)), rs.scale("z.1", 0.5, head=1)),
    (rs.scale("z.1", 0.5, head=np.arange(2), pos=range(2)), rs.scale("z.1", 0.5, head=[0, 1], pos=[0, 1])),
    (rs.replace("z.1", torch.tensor(2.0)), rs.replace("z.1", 2.0)),
]:
    runs = [model.run(["abcdef", "xyz"], edits=edit).at("logits", one) for edit in (left, right)]
    assert torch.equal(*runs) and runs[0].ndim == 2
a, b = model.single_token("a"), model.single_token("b")
for answers in (torch.tensor([a, b]), np.array([a, b]), [one * a, one * b]):
    assert torch.equal(rs.logit(answers)(base), rs.logit(["a", "b"])(base))
"""


def test_values_of_the_wrong_type() -> None:
    """Where no annotation is checked, as for users; mypy would refuse to read it."""
    config.update("jaxtyping_disable", True)
    exec(WRONG_TYPES, {})


@pytest.mark.parametrize("sites", [None, 5])
def test_what_is_frozen_has_to_be_sites(sites: Any, gpt2: rs.Model) -> None:
    with pytest.raises(BadEdit, match="was to be frozen"):
        rs.freeze(sites, gpt2.run(TEXTS))


@pytest.mark.parametrize("with_", ["mean", "resample"])
def test_texts_that_are_none(with_: Any, gpt2: rs.Model) -> None:
    texts: Any = 5
    with pytest.raises(BadTexts, match="int was given"):
        gpt2.run(TEXTS, edits=rs.ablate("z.1", with_, texts=texts))
