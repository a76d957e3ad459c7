"""Direct attribution: parts sum to the metric, and each is what its removal takes away with all else held."""

import inspect
import json
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.errors import BadArgument, BadMetric
from residscope.running.memory import Allocations
from residscope.transformer.transformer import Norm
from tests.models import FACTS, OWN, family_model, own_config, own_model, shared_path

TEXTS = ["abcdef", "a longer text", "xyz"]
METRIC = rs.logit_difference("a", ["b", "c", "d"])
By = Literal["component", "head", "neuron", "token"]


def model_of(name: str) -> rs.Model:
    return family_model(name) if name in FACTS else own_model(own_config(**OWN[name]), dtype=torch.float64)


def before_cap(run: rs.Run) -> Tensor:
    """The metric of logits as they are before any cap."""
    logits: Tensor = run.model.transformer.unembedding(run.at(run.model.last_site, -1)).detach()
    a, *wrong = (run.model.single_token(token) for token in "abcd")
    return logits[:, a] - logits[range(3), wrong]


@pytest.mark.parametrize("by", get_args(By))
@pytest.mark.parametrize("name", [*FACTS, *OWN])
def test_parts_sum_to_the_metric(name: str, by: By) -> None:
    run = model_of(name).run(TEXTS)
    if by == "neuron" and not run.model.config.d_mlp:
        with pytest.raises(BadArgument, match="has no MLPs"):
            rs.attribute(run, METRIC, by=by)
        return
    found = rs.attribute(run, METRIC, by=by)
    torch.testing.assert_close(found.values.nansum(1), before_cap(run), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.metric_values, METRIC(run))
    assert found.settings["rounding"] < 1e-10
    sums = torch.from_numpy(found.to_frame().groupby("batch")["value"].sum().to_numpy(copy=True))
    torch.testing.assert_close(sums, before_cap(run), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "gemma2", "olmo2", "parallel, one norm"])
def test_finer_parts_sum_to_coarser_ones(name: str) -> None:
    run = model_of(name).run(TEXTS)
    whole, heads, neurons, tokens = (rs.attribute(run, METRIC, by=by) for by in get_args(By))

    torch.testing.assert_close(heads["head"].sum(2) + heads["attn_bias"], whole["attn_out"])
    torch.testing.assert_close(neurons["neuron"].sum(2) + neurons["mlp_bias"], whole["mlp_out"])
    torch.testing.assert_close(tokens["source"].nansum(3), heads["head"])
    assert torch.equal(tokens["source"].isnan().any((1, 2)), ~run.tokens.mask)


def test_equal_to_transformer_lens() -> None:
    oracle: dict[str, Any] = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    run = rs.load(shared_path("reference/oracle_gpt2/checkpoint")).run(torch.tensor(oracle["clean"]))
    correct, wrong = zip(*oracle["answers_correct_wrong"], strict=True)
    metric = rs.logit_difference(list(correct), list(wrong))
    found = rs.attribute(run, metric)
    theirs = dict(zip(oracle["attribution_component"]["rows"], oracle["attribution_component"]["value"], strict=True))
    ours = {"embed": found["embed"], "pos_embed": found["pos_embed"]}
    ours |= {f"{layer}_{part}": found[part][:, layer] for layer in range(3) for part in ("attn_out", "mlp_out")}
    assert theirs.keys() == ours.keys()
    theirs["bias"], ours["bias"] = oracle["attribution_component"]["unembedding_bias"], found["bias"]
    for row, value in theirs.items():
        torch.testing.assert_close(ours[row], torch.tensor(value), rtol=0, atol=1e-4)
    heads = rs.attribute(run, metric, by="head")["head"].flatten(1)
    torch.testing.assert_close(heads.T, torch.tensor(oracle["attribution_head"]["value"]), rtol=0, atol=1e-4)


def along(norm: Norm, part: Tensor, scale: Tensor) -> Tensor:
    """A part of what a norm reads, as it comes out, its scale held; no bias."""
    centred = part - part.mean(-1, keepdim=True) if norm.centres else part
    return centred / scale * (norm.offset + (1 if norm.weight is None else norm.weight))


def read_out(run: rs.Run, part: Tensor) -> Tensor:
    """What a part of the last stream, `[batch ... d_model]`, gives the metric, the long way through all logits."""
    norm = run.model.transformer.ln_final
    assert norm
    scale = run.at("ln_final_scale", -1).view(-1, *[1] * (part.ndim - 1))
    logits = along(norm, part, scale) @ run.model.weights["W_U"]
    a, *wrong = (run.model.single_token(token) for token in "abcd")
    return torch.stack([one[..., a] - one[..., b] for one, b in zip(logits, wrong, strict=True)])


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "gemma2", "olmo2", "phi"])
def test_every_part_is_what_it_wrote_through_the_logits(name: str) -> None:
    model = model_of(name)
    run, weights, layer = model.run(TEXTS, keep="all"), model.weights, 1
    texts, last = torch.arange(3), run.tokens.n_tokens - 1
    block: Any = model.transformer.blocks[layer]

    def behind(norm: Norm | None, kind: str, part: Tensor) -> Tensor:
        scale = run.at(f"{kind}_scale.{layer}", -1) if norm else torch.ones(3)
        return along(norm, part, scale.view(-1, *[1] * (part.ndim - 1))) if norm else part

    groups = model.config.n_heads // model.config.n_kv_heads
    values = run[f"v.{layer}"].nan_to_num() - (weights.folded(f"W_V.{layer}").bias if model.config.pre_norm else 0)
    written = torch.einsum("bkhd,hdm->bhkm", values.repeat_interleave(groups, dim=2), weights[f"W_O.{layer}"])
    written = run[f"pattern.{layer}"].nan_to_num()[texts, :, last][..., None] * written
    sources = read_out(run, behind(block.ln1_post, "attn_norm_post", written))
    found = rs.attribute(run, METRIC, by="token")["source"][:, layer]
    torch.testing.assert_close(found.nan_to_num(), sources)
    torch.testing.assert_close(rs.attribute(run, METRIC, by="head")["head"][:, layer], sources.sum(2))
    written = run.at(f"mlp_act.{layer}", -1)[..., None] * weights[f"W_out.{layer}"]
    neurons = read_out(run, behind(block.ln2_post, "mlp_norm_post", written))
    torch.testing.assert_close(rs.attribute(run, METRIC, by="neuron")["neuron"][:, layer], neurons)
    torch.testing.assert_close(rs.attribute(run, METRIC)["attn_out"][:, layer], read_out(run, run.at("attn_out.1", -1)))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3_text"])
def test_a_heads_part_is_lost_when_it_is_removed_and_all_else_held(name: str) -> None:
    model = model_of(name)
    heads = rs.attribute(model.run(TEXTS), METRIC, by="head")["head"]
    for layer, head in ((0, 1), (2, 3)):
        direct = rs.ablate_head(model, TEXTS, layer=layer, head=head, metric=METRIC)["direct"]
        torch.testing.assert_close(heads[:, layer, head], -direct, rtol=0, atol=1e-9)


def test_edits_have_a_row_of_what_no_part_wrote(gpt2: rs.Model) -> None:
    vector = torch.arange(32).double()
    run = gpt2.run(TEXTS, edits=[rs.add("resid_mid.1", vector), rs.ablate("z.2", head=1)])
    found = rs.attribute(run, METRIC, by="head")
    torch.testing.assert_close(found["edits"], read_out(run, vector.expand(3, -1)))
    torch.testing.assert_close(found.values.sum(1), METRIC(run))
    silent = rs.attribute(gpt2.run(TEXTS, edits=rs.ablate("z.2", head=1)), METRIC, by="head")["edits"]
    assert silent.abs().max() < 1e-12  # what heads wrote after the edit is theirs
    assert "edits" not in rs.attribute(gpt2.run(TEXTS), METRIC).parts


@pytest.mark.parametrize("name", ["gpt2", "llama", "capped"])
def test_other_metrics_are_split_by_their_gradient(name: str) -> None:
    run = model_of(name).run(TEXTS)
    model, norm, metric = run.model, run.model.transformer.ln_final, rs.log_prob("a")
    assert norm
    found = rs.attribute(run, metric, linearize=True)
    torch.testing.assert_close(found.values.sum(1), metric(run))
    assert "remainder" in found.parts
    scale = run.at("ln_final_scale", -1)[:, None]
    normed, step = run.at("ln_final", -1), 1e-5 * along(norm, run.at("mlp_out.1", -1), scale)

    def read(x: Tensor) -> Tensor:
        logits = model.transformer.cap_logits(model.transformer.unembedding(x))
        return logits.log_softmax(-1)[:, model.single_token("a")]

    slope = (read(normed + step) - read(normed - step)) / 2e-5
    torch.testing.assert_close(found["mlp_out"][:, 1], slope.detach(), rtol=0, atol=1e-8)


def test_a_metric_of_many_positions_is_split_over_them(gpt2: rs.Model) -> None:
    run = gpt2.run(["abcd", "wxyz"])
    ids = run.tokens.ids
    each = [rs.attribute(run, rs.log_prob(ids[:, p].tolist(), pos=p - 1), linearize=True) for p in (1, 2, 3)]
    whole = rs.attribute(run, rs.loss(), linearize=True)
    torch.testing.assert_close(whole["attn_out"], -torch.stack([one["attn_out"] for one in each]).mean(0))
    uneven = rs.attribute(gpt2.run(TEXTS), rs.loss(), by="head", linearize=True)
    torch.testing.assert_close(uneven.values.sum(1), rs.loss()(gpt2.run(TEXTS)))
    alone = rs.attribute(gpt2.run(TEXTS[2]), rs.loss(), by="head", linearize=True)
    torch.testing.assert_close(uneven.values[2:], alone.values)


def test_a_linear_metric_that_does_not_say_so_is_split_alike(gpt2: rs.Model) -> None:
    a, b = gpt2.single_token("a"), gpt2.single_token("b")
    plain = rs.attribute(gpt2.run(TEXTS), rs.logit_difference("a", "b"), by="head")
    metric = rs.metric(lambda logits: logits[:, a] - logits[:, b])
    found = rs.attribute(gpt2.run(TEXTS), metric, by="head", linearize=True)
    assert found["remainder"].abs().max() < 1e-10
    torch.testing.assert_close(found.values[:, :-1], plain.values)


def test_neurons_take_the_memory_of_one_layer() -> None:
    model = own_model(own_config(n_layers=8, d_model=8, n_heads=1, d_mlp=600, d_vocab=300))
    run = model.run(torch.randint(0, 256, (20, 30)), keep="resid_pre")
    with Allocations(shapes=False) as made:
        rs.attribute(run, rs.logit("a"), by="neuron")
    assert made.peak_bytes < 4 * 20 * 30 * 600 * 4  # of a layer: before and after the activation, and inside it
    assert not [site for site in run.kept if site.kind in ("mlp_act", "mlp_pre")]


def test_half_precision_states_what_rounding_took(stories_path: Path) -> None:
    found = rs.attribute(rs.load(stories_path, dtype="bfloat16").run("Once upon a"), rs.logit(" time"), by="head")
    assert found.values.dtype == torch.float32
    missing = (found.values.sum(1) - found.metric_values).abs().max()
    assert found.settings["rounding"] == pytest.approx(float(missing), abs=1e-5)
    assert missing < 0.05 * found.metric_values.abs().max()


def test_it_is_a_result(stories: rs.Model, tmp_path: Path) -> None:
    run = stories.run(["Once upon a", "Tom had a red ball. He"])
    found = rs.attribute(run, rs.logit({" time", " the"}), by="token")
    assert not found["attn_bias"].any()  # it has none
    frame = found.to_frame()
    assert list(frame.columns) == ["batch", "component", "layer", "head", "key", "token", "value"]
    row = frame[frame["component"] == "source.1.2.3"].iloc[1]
    assert (row["batch"], row["layer"], row["head"], row["key"]) == (1, 1, 2, 3)
    assert row["token"] == run.tokens.pieces[1][3]
    assert row["value"] == float(found["source"][1, 1, 2, 3])
    assert not frame["value"].isna().any()
    assert frame[frame["component"] == "embed"]["token"].isna().all()
    found.save(tmp_path / "saved")
    again = rs.open(tmp_path / "saved")
    assert again.to_json() == found.to_json()
    assert again.to_frame().equals(frame)
    space: dict[str, Any] = {}
    *lines, last = found.as_python().strip().split("\n")
    exec("\n".join(lines), space)
    torch.testing.assert_close(eval(last, space).values, found.values, rtol=0, atol=1e-5, equal_nan=True)
    linear = rs.attribute(run, rs.log_prob(" time"), linearize=True)
    assert "linearize=True" in linear.as_python()
    with pytest.raises(BadArgument, match=r"part='heads' was asked for. Choose 'embed'"):
        found["heads"]


def test_what_does_not_fit(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    with pytest.raises(BadArgument, match="Choose 'component', 'head'"):
        inspect.unwrap(rs.attribute)(run, METRIC, by="layer")  # without the tests' own check of its arguments
    for metric in (rs.log_prob("a"), rs.loss(), rs.kl(run), rs.probability_difference("a", "b")):
        with pytest.raises(BadMetric, match="is not linear in the logits"):
            rs.attribute(run, metric)
    with pytest.raises(BadMetric, match=r"reads resid_pre\.1"):
        rs.attribute(run, rs.read("resid_pre.1"))
    with pytest.raises(BadMetric, match="given as a metric"):
        inspect.unwrap(rs.attribute)(run, "a")
    with pytest.raises(BadMetric, match="There is no token 300"):
        rs.attribute(run, rs.logit(300))
    broken = gpt2.run(TEXTS, edits=rs.apply("resid_pre.1", lambda x: x / 0))
    with pytest.raises(BadMetric, match="The metric of text 0 is nan"):
        rs.attribute(broken, METRIC)
