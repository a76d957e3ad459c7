"""Removing a part: the direct effect is minus what it wrote, and the rest of the total is self-repair."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import config
from torch import Tensor

import residscope as rs
from residscope.errors import BadArgument, BadEdit, BadMetric, UnknownSite
from tests.models import OWN, family_model, own_config, own_model, shared_path

TEXTS = ["abcdef", "a longer text", "xyz"]
METRIC = rs.logit_difference("a", "b")


FAMILIES = ["gpt2", "llama", "gpt_neox", "olmo2", "gemma3_text"]


def attribution(model: rs.Model, run: rs.Run, written: Tensor, part: str, layer: int) -> Tensor:
    """What the metric gets of what a part wrote, [batch pos d_model], straight from the stream; scales held."""
    config = model.config
    norm = f"{part}_norm_post_w.{layer}"
    if config.post_norm:
        scale = run[f"{part}_norm_post_scale.{layer}"].nan_to_num(nan=1.0)
        written = written / scale[..., None] * (config.norm_offset + model.weights[norm])
    return read_stream(model, run, written)


def read_stream(model: rs.Model, run: rs.Run, written: Tensor) -> Tensor:
    last = run.tokens.n_tokens - 1
    scale = run.at("ln_final_scale", -1) if model.config.norm else 1.0
    unembed = model.weights.folded("W_U", centre=True).weight
    ids = [model.single_token(token) for token in "ab"]
    return written[torch.arange(len(last)), last] @ (unembed[:, ids[0]] - unembed[:, ids[1]]) / scale


def assert_effects(found: rs.Ablation, run: rs.Run, cut: rs.Edit, direct: Tensor) -> None:
    torch.testing.assert_close(found["direct"], direct, rtol=0, atol=1e-9)
    edited = METRIC(run.model.run(TEXTS, edits=cut))
    torch.testing.assert_close(found["total"], edited - METRIC(run), rtol=0, atol=1e-9)
    torch.testing.assert_close(found["total"], found["direct"] + found["self_repair"])


@pytest.mark.parametrize("which", FAMILIES)
@pytest.mark.parametrize(("layer", "head"), [(0, 1), (2, 3)])
def test_the_direct_effect_is_minus_the_heads_attribution(which: str, layer: int, head: int) -> None:
    model = family_model(which)
    run = model.run(TEXTS)
    found = rs.ablate_head(model, run, layer=layer, head=head, metric=METRIC, with_="zero")
    written = run[f"head_out.{layer}"].nan_to_num()[:, :, head]
    expected = -attribution(model, run, written, "attn", layer)
    assert_effects(found, run, rs.ablate(f"z.{layer}", head=head), expected)


@pytest.mark.parametrize("which", FAMILIES)
@pytest.mark.parametrize(("layer", "neuron"), [(0, 1), (2, 50)])
def test_the_direct_effect_is_minus_the_neurons_attribution(which: str, layer: int, neuron: int) -> None:
    model = family_model(which)
    run = model.run(TEXTS)
    found = rs.ablate_neuron(model, run, layer=layer, neuron=neuron, metric=METRIC)
    active = run[f"mlp_act.{layer}"].nan_to_num()[..., neuron, None]
    expected = -attribution(model, run, active * model.weights[f"W_out.{layer}"][neuron], "mlp", layer)
    assert_effects(found, run, rs.ablate(f"mlp_act.{layer}", neuron=neuron), expected)
    assert found["direct"].abs().min() > 1e-9


@pytest.mark.parametrize("which", [*FAMILIES, *OWN])
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("part", ["attn", "mlp"])
def test_the_direct_effect_is_minus_the_layers_attribution(which: str, layer: int, part: Any) -> None:
    model = family_model(which) if which in FAMILIES else own_model(own_config(**OWN[which]), dtype=torch.float64)
    if part == "mlp" and not model.config.d_mlp:
        with pytest.raises(UnknownSite, match="no site 'mlp_out"):
            rs.ablate_layer(model, TEXTS, layer=layer, part=part, metric=METRIC)
        return
    run = model.run(TEXTS)
    found = rs.ablate_layer(model, run, layer=layer, part=part, metric=METRIC)
    expected = -read_stream(model, run, run[f"{part}_out.{layer}"].nan_to_num())
    if model.config.logit_cap:  # the attribution is of what is capped
        expected = found["direct"]
    assert_effects(found, run, rs.ablate(f"{part}_out.{layer}"), expected)


@pytest.mark.parametrize("which", FAMILIES)
def test_direct_effects_of_the_heads_sum_to_that_of_their_layer(which: str) -> None:
    model = family_model(which)
    whole = rs.ablate_layer(model, TEXTS, layer=1, part="attn", metric=METRIC, with_="constant")
    heads = [rs.ablate_head(model, TEXTS, layer=1, head=head, metric=METRIC)["direct"] for head in range(4)]
    torch.testing.assert_close(whole["direct"], torch.stack(heads).sum(0), rtol=0, atol=1e-9)
    zero = rs.ablate_layer(model, TEXTS, layer=1, part="attn", metric=METRIC)
    biased = bool((model.weights["b_O.1"] if "b_O.1" in model.weights else torch.zeros(1)).any())
    assert torch.allclose(zero["direct"], whole["direct"], atol=1e-9) is not biased


def test_effects_are_transformer_lens_s_attributions() -> None:
    oracle = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    model = rs.load(shared_path("reference/oracle_gpt2/checkpoint"))
    correct, wrong = zip(*oracle["answers_correct_wrong"], strict=True)
    metric = rs.logit_difference(list(correct), list(wrong))
    run = model.run(torch.tensor(oracle["clean"]))

    def close(found: rs.Ablation, theirs: list[float]) -> None:
        torch.testing.assert_close(found["direct"], -torch.tensor(theirs), rtol=0, atol=1e-4)

    for row, theirs in enumerate(oracle["attribution_head"]["value"]):  # value biases folded: our constant
        layer, head = divmod(row, 4)
        close(rs.ablate_head(model, run, layer=layer, head=head, metric=metric), theirs)
    components = oracle["attribution_component"]
    for name, theirs in zip(components["rows"][2:], components["value"][2:], strict=True):
        layer, part = int(name[0]), name[2:].removesuffix("_out")
        close(rs.ablate_layer(model, run, layer=layer, part=part, metric=metric), theirs)


@pytest.mark.parametrize("with_", ["zero", "mean", "resample", "run"])
def test_what_stands_in_a_parts_place(with_: Any, gpt2: rs.Model) -> None:
    run = gpt2.run(["abcdef", "uvwxyz", "ghijkl"])  # of one length, so that each has another to draw
    value = gpt2.run(["bcdefg", "zyxwvu", "123456"]) if with_ == "run" else with_
    found = [
        rs.ablate_layer(gpt2, run, layer=1, part="attn", metric=METRIC, with_=value),
        rs.ablate_layer(gpt2, run, layer=1, part="mlp", metric=METRIC, with_=value),
        rs.ablate_neuron(gpt2, run, layer=1, neuron=3, metric=METRIC, with_=value),
    ]
    cuts = [
        rs.ablate("attn_out.1", value),
        rs.ablate("mlp_out.1", value),
        rs.ablate("mlp_act.1", value, neuron=3),
    ]
    for one, cut in zip(found, cuts, strict=True):
        total = METRIC(gpt2.run(run.tokens, edits=cut)) - METRIC(run)
        torch.testing.assert_close(one["total"], total, rtol=0, atol=1e-9)
        assert one.settings["with"] == ("a run" if with_ == "run" else with_)


def test_a_resampling_is_the_mean_of_its_draws_with_their_spread(gpt2: rs.Model) -> None:
    run = gpt2.run(["abcdef", "uvwxyz", "ghijkl"])
    options: dict[str, Any] = {"pos": -1, "texts": ["bcdefg", "zyxwvu", "123456", "hhhhhh"]}
    asked: dict[str, Any] = {"layer": 1, "head": 2, "metric": METRIC, "with_": "resample"}
    found = rs.ablate_head(gpt2, run, **asked, seed=5, draws=3, **options)
    drawn = [rs.ablate_head(gpt2, run, **asked, seed=seed, **options) for seed in (5, 6, 7)]
    each = torch.stack([one.values for one in drawn])
    torch.testing.assert_close(found.values, each.mean(0), rtol=0, atol=1e-9)
    assert found.spread is not None
    torch.testing.assert_close(found.spread, each.std(0, correction=0), rtol=0, atol=1e-9)
    assert found.spread.min() > 0
    frame = found.to_frame()
    assert list(frame.columns) == ["effect", "batch", "spread", "value"]
    assert frame["spread"].tolist() == found.spread.flatten().tolist()
    assert (found.settings["seed"], found.settings["draws"], found.settings["pos"]) == (5, 3, "-1")
    assert drawn[0].settings["draws"] == 1
    scope: dict[str, Any] = {"rs": rs, "model": gpt2}
    exec(found.python[-2], scope)
    torch.testing.assert_close(eval(found.python[-1], scope).values, found.values)


def test_a_mean_is_over_the_positions_that_are_asked_for(gpt2: rs.Model) -> None:
    run, others = gpt2.run(["abcdef", "uvwxyz"]), ["bcdefg", "zyxwvu"]
    for by in ("pos", torch.tensor([[2], [3]])):
        for found, cut in (
            (
                rs.ablate_neuron(gpt2, run, layer=1, neuron=3, metric=METRIC, with_="mean", texts=others, by=by),
                rs.ablate("mlp_act.1", "mean", neuron=3, texts=others, by=by),
            ),
            (
                rs.ablate_layer(gpt2, run, layer=1, part="mlp", metric=METRIC, with_="mean", texts=others, by=by),
                rs.ablate("mlp_out.1", "mean", texts=others, by=by),
            ),
        ):
            total = METRIC(gpt2.run(run.tokens, edits=cut)) - METRIC(run)
            torch.testing.assert_close(found["total"], total, rtol=0, atol=1e-9)
            assert found.spread is None
            assert "texts" in found.settings


def test_behind_the_last_attention_only_mlp_and_norm_make_up() -> None:
    config = rs.Config(n_layers=2, d_model=16, n_heads=2, d_mlp=0, d_vocab=300, n_ctx=40, norm=None)  # attention alone
    model = own_model(config, dtype=torch.float64)
    last = rs.ablate_head(model, TEXTS, layer=1, head=0, metric=METRIC)
    assert last["self_repair"].abs().max() < 1e-12
    assert last["direct"].abs().min() > 1e-6
    first = rs.ablate_head(model, TEXTS, layer=0, head=0, metric=METRIC)
    assert first["self_repair"].abs().min() > 1e-6
    assert (first["norm"] == 0).all()  # there is none


def test_the_norms_share_is_all_of_it_where_nothing_else_comes_after() -> None:
    config = rs.Config(n_layers=2, d_model=16, n_heads=2, d_mlp=0, d_vocab=300, n_ctx=40)
    found = rs.ablate_head(own_model(config, dtype=torch.float64), TEXTS, layer=1, head=1, metric=METRIC)
    torch.testing.assert_close(found["norm"], found["self_repair"], rtol=0, atol=1e-12)
    assert found["norm"].abs().min() > 1e-6


def test_it_is_a_result(gpt2: rs.Model, tmp_path: Path) -> None:
    found = rs.ablate_head(gpt2, TEXTS, layer=1, head=2, metric=METRIC)
    assert list(found.to_frame().columns) == ["effect", "batch", "value"]
    assert torch.equal(found.mean(), found.values.mean(-1))
    ends = found.interval(0.9)
    assert ends.shape == (4, 2)
    assert (ends[:, 0] <= found.mean()).all()
    assert (found.mean() <= ends[:, 1]).all()
    found.save(tmp_path / "ablation")
    assert torch.equal(rs.open(tmp_path / "ablation").values, found.values)
    assert found.settings["with"] == "constant"
    assert found.python[-1].startswith("rs.ablate_head(model, run, layer=1, head=2, metric=")
    neuron = rs.ablate_neuron(gpt2, TEXTS, layer=1, neuron=5, metric=METRIC)
    assert neuron.python[-1].startswith("rs.ablate_neuron(model, run, layer=1, neuron=5, metric=")
    assert (neuron.settings["layer"], neuron.settings["neuron"]) == (1, 5)
    assert neuron.name.startswith("neuron 1.5 of ")
    part = rs.ablate_layer(gpt2, TEXTS, layer=2, part="mlp", metric=METRIC)
    scope = {"rs": rs, "model": gpt2}
    exec(part.python[-2], scope)
    torch.testing.assert_close(eval(part.python[-1], scope).values, part.values)
    assert part.name.startswith("mlp_out.2 of ")
    edited = gpt2.run(TEXTS, edits=rs.scale("resid_pre.1", 1.5))
    under = rs.ablate_head(gpt2, edited, layer=1, head=2, metric=METRIC)
    torch.testing.assert_close(under.base_values, METRIC(edited))


def test_what_does_not_fit(gpt2: rs.Model, llama: rs.Model) -> None:
    def whole(logits: Tensor) -> Tensor:
        return logits

    with pytest.raises(BadArgument, match="another model"):
        rs.ablate_head(gpt2, llama.run(TEXTS), layer=0, head=0, metric=METRIC)
    with pytest.raises(BadArgument, match="several numbers"):
        rs.ablate_head(gpt2, TEXTS, layer=0, head=0, metric=rs.metric(whole))
    with pytest.raises(BadMetric):
        rs.ablate_head(gpt2, TEXTS, layer=0, head=0, metric=rs.logit(["a", "b"]))
    with pytest.raises(BadArgument, match=r"effect='indirect' was asked for. Choose 'total', 'direct'"):
        rs.ablate_head(gpt2, TEXTS, layer=0, head=0, metric=METRIC)["indirect"]
    places: tuple[dict[str, Any], ...] = (
        *({"layer": layer} for layer in (3, -1, "a", 1.0, True, None)),
        *({"head": head} for head in (4, -1, None, [0, 1])),
    )
    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    for place in places:
        says = "layer=.* Give a whole number from 0 to 2" if "layer" in place else "head=.* from 0 to 3"
        with pytest.raises(BadArgument, match=says):
            rs.ablate_head(gpt2, TEXTS, metric=METRIC, **{"layer": 0, "head": 0, **place})
    with pytest.raises(BadArgument, match=r"neuron=128 was asked for. Give a whole number from 0 to 127"):
        rs.ablate_neuron(gpt2, TEXTS, layer=0, neuron=128, metric=METRIC)
    with pytest.raises(UnknownSite, match="no site 'mlp_act"):
        rs.ablate_neuron(own_model(own_config(d_mlp=0)), TEXTS, layer=0, neuron=0, metric=METRIC)
    with pytest.raises(BadEdit, match="An ablation with zero was given draws"):
        rs.ablate_neuron(gpt2, TEXTS, layer=0, neuron=0, metric=METRIC, draws=3)
    with pytest.raises(BadEdit, match="holds nothing that does not depend on the text"):
        rs.ablate_layer(gpt2, TEXTS, layer=1, part="mlp", metric=METRIC, with_="constant")
    with pytest.raises(BadArgument, match=r"part='both' was asked for. Choose 'attn' or 'mlp'"):
        rs.ablate_layer(gpt2, TEXTS, layer=1, part="both", metric=METRIC)  # type: ignore[arg-type]
