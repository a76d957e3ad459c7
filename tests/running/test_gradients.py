"""Gradients equal autograd through transformers' model, and finite differences at every site."""

from functools import partial

import pytest
import torch
from jaxtyping import config

import residscope as rs
from residscope.errors import BadMetric, UnknownSite
from tests.models import random_model
from tests.running.test_sweep import MODELS, TEXTS, model_of

METRIC = rs.logit_difference("a", "b")


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_gradients_equal_autograd_through_transformers(family: str) -> None:
    hf, tokenizer = random_model(family)
    model = rs.load(hf, tokenizer=tokenizer)
    run = model.run("abcdefgh")
    found = run.gradients(rs.logit_difference("a", "b"), ["resid_pre", "resid_post.2"])
    out = hf(run.tokens.ids, output_hidden_states=True)
    streams = out.hidden_states[:3]
    for stream in streams:
        stream.retain_grad()
    a, b = model.single_token("a"), model.single_token("b")
    (out.logits[0, -1, a] - out.logits[0, -1, b]).backward()
    for layer, stream in enumerate(streams):
        ours, theirs = found[f"resid_pre.{layer}"], stream.grad
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert found["resid_post.2"].abs().max() > 0


@pytest.mark.parametrize("name", MODELS)
def test_gradients_equal_finite_differences_at_every_site(name: str) -> None:
    model = model_of(name)
    base = model.run(TEXTS)
    sites = [site for site in model.sites if site.layer in (None, 1) and site.kind != "logits"]
    gradients = base.gradients(METRIC, sites)
    generator = torch.Generator().manual_seed(0)
    for site in sites:
        step = 1e-6 * torch.randn(base[site].shape, generator=generator, dtype=torch.float64)
        ways = [rs.apply(site, partial(torch.add, way)) for way in (step, -step)]
        ahead, behind = (METRIC(model.run(TEXTS, edits=way)) for way in ways)
        expected = (gradients[str(site)].nan_to_num() * step).sum()
        torch.testing.assert_close(expected, (ahead - behind).sum() / 2, rtol=1e-4, atol=1e-11)


def test_every_text_has_its_own_gradient_and_padding_has_none() -> None:
    model = model_of("learned positions")
    together = model.run(TEXTS).gradients(METRIC, "z.1")["z.1"]
    for number, text in enumerate(TEXTS):
        alone = model.run(text).gradients(METRIC, "z.1")["z.1"][0]
        torch.testing.assert_close(together[number, : len(text)], alone)
        assert together[number, len(text) :].isnan().all()


def test_gradients_of_an_edited_run_are_those_after_its_edits() -> None:
    model = model_of("no norm")
    run = model.run(TEXTS, edits=[rs.scale("resid_pre.1", 3.0), rs.ablate("mlp_out.1"), rs.ablate("attn_out.1")])
    after = run.gradients(METRIC, ["resid_pre.1", "resid_pre.2"])
    torch.testing.assert_close(after["resid_pre.1"], after["resid_pre.2"], equal_nan=True)


def test_a_metric_of_many_numbers_has_no_one_gradient() -> None:
    run = model_of("learned positions").run("abc")
    with pytest.raises(BadMetric, match="16"):
        run.gradients(rs.read("resid_pre.2"), "resid_pre.1")


def test_logits_have_a_gradient_where_a_metric_reads_them() -> None:
    run = model_of("learned positions").run(TEXTS)
    sums = rs.metric(lambda logits: (logits * logits).sum(-1), reads=["logits"])
    found = run.gradients(sums, "logits")["logits"]
    torch.testing.assert_close(found[torch.arange(3), run.tokens.n_tokens - 1], 2 * run.at("logits", -1))
    with pytest.raises(BadMetric, match="makes its own from ln_final"):
        run.gradients(METRIC, ["z.1", "logits"])
    assert "logits" not in run.gradients(METRIC, "all")


CONSTANT = [
    rs.metric(lambda logits: logits.argmax(-1)),
    rs.metric(lambda logits: (logits > 0).sum(-1)),
    rs.metric(lambda logits: torch.zeros(len(logits))),
    rs.metric(lambda logits: logits.detach().sum(-1)),
]


@pytest.mark.parametrize("metric", CONSTANT)
def test_a_metric_without_a_gradient_is_refused(metric: rs.Metric) -> None:
    model = model_of("learned positions")
    run = model.run(TEXTS)
    with pytest.raises(BadMetric, match="has no gradient"):
        run.gradients(metric, ["z.1"])
    for steps in (0, 2):
        with pytest.raises(BadMetric, match="has no gradient"):
            model.sweep(run, [rs.ablate("z.1")], metric, method="attribution", integrated_gradients=steps)


@pytest.mark.parametrize("sites", [[], ()])
def test_gradients_at_no_site_are_refused(sites: list[str]) -> None:
    with pytest.raises(UnknownSite, match=r"at no site was asked for. Name one"):
        model_of("learned positions").run(TEXTS).gradients(METRIC, sites)


def test_what_is_no_metric_has_no_gradient() -> None:
    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    run = model_of("learned positions").run(TEXTS)
    for metric in (None, "logit", torch.sum):
        with pytest.raises(BadMetric, match="was given as a metric"):
            run.gradients(metric, ["z.1"])  # type: ignore[arg-type]
    with pytest.raises(UnknownSite, match="None"):
        run.gradients(METRIC, None)  # type: ignore[arg-type]
