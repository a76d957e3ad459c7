"""Weights by name: what they are of the activations, where they lie, and norms folded into them."""

from typing import Any

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.axes import AXES
from residscope.errors import BadArgument, UnknownWeight
from residscope.transformer.transformer import Block, Norm
from tests.models import OWN, own_config, own_model, random_gpt2, random_llama

IDS = torch.randint(0, 300, (2, 20), generator=torch.Generator().manual_seed(1))
MODELS = ["gpt2", "llama", *OWN]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> rs.Model:
    loaded: rs.Model = (
        own_model(own_config(**OWN[request.param]), dtype=torch.float64)
        if request.param in OWN
        else request.getfixturevalue(request.param)
    )
    return loaded


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_axes_and_sizes_are_those_of_the_config(model: rs.Model) -> None:
    config, weights = model.config, model.weights
    sizes = {"head": config.n_heads, "kv_head": config.n_kv_heads, "d_head": config.d_head, "layer": config.n_layers}
    sizes |= {"d_model": config.d_model, "d_mlp": config.d_mlp, "d_vocab": config.d_vocab, "pos": config.n_ctx}
    assert len(weights) == len(list(weights)) == len(set(weights))
    for name in weights:
        assert tuple(weights[name].shape) == tuple(sizes[axis] for axis in weights.axes(name)), name
        assert set(weights.axes(name)) <= AXES.keys()
        kind, _, layer = name.partition(".")
        if layer:
            assert weights.axes(kind) == ("layer", *weights.axes(name))
            assert torch.equal(weights[kind][int(layer)], weights[name])
    assert next(iter(weights)) == "W_E"
    assert list(weights)[-1] == ("b_U" if config.unembed_bias else "W_U")


def test_every_parameter_is_a_weight_and_every_weight_a_view(model: rs.Model) -> None:
    stored = {x.untyped_storage().data_ptr() for x in model.transformer.parameters()}
    seen: dict[int, int] = {}
    for name in model.weights:
        weight = model.weights[name]
        assert weight.untyped_storage().data_ptr() in stored, name
        assert not weight.requires_grad
        if not (name == "W_U" and model.config.tied):
            seen[weight.data_ptr()] = weight.numel()
    assert sum(seen.values()) == model.n_parameters


def test_reads_and_writes_are_what_the_names_say(model: rs.Model) -> None:
    weights, config = model.weights, model.config
    run = model.run(IDS, keep="all")
    for layer in range(config.n_layers):
        z = run[f"z.{layer}"]
        close(torch.einsum("bphd,hdm->bphm", z, weights[f"W_O.{layer}"]), run[f"head_out.{layer}"])
        written = run[f"head_out.{layer}"].sum(2) + (weights[f"b_O.{layer}"] if config.attn_out_bias else 0)
        close(written, run[f"attn_raw.{layer}" if config.post_norm else f"attn_out.{layer}"])
        reads = run[f"ln1.{layer}" if "ln1" not in config.absent else f"resid_pre.{layer}"]
        v = torch.einsum("bpm,hmd->bphd", reads, weights[f"W_V.{layer}"])
        close(v + (weights[f"b_V.{layer}"] if config.qkv_bias else 0), run[f"v.{layer}"])
        if config.d_mlp:
            out = run[f"mlp_act.{layer}"] @ weights[f"W_out.{layer}"]
            out = out + (weights[f"b_out.{layer}"] if config.mlp_bias else 0)
            close(out, run[f"mlp_raw.{layer}" if config.post_norm else f"mlp_out.{layer}"])
    if config.embed_scale == 1:
        close(run["embed"], weights["W_E"][IDS])
    if config.learned_positions:
        close(run["pos_embed"][0], weights["W_pos"][: IDS.shape[1]])


@pytest.mark.parametrize("centre", [False, True])
def test_a_folded_projection_of_the_plainly_normed_stream_is_the_site(model: rs.Model, centre: bool) -> None:
    weights, config, run = model.weights, model.config, model.run(IDS, keep="all")

    def plain(stream: Tensor, norm: Norm | None) -> Tensor:
        if norm is None:
            return stream
        x = stream if centre else norm.centre(stream)
        return x / norm.compute_scale(stream)[..., None]

    blocks: Any = model.transformer.blocks
    for layer, block in enumerate(blocks):
        stream = run[f"resid_pre.{layer}"]
        for name in "QKV":
            folded = weights.folded(f"W_{name}.{layer}", centre=centre)
            value = torch.einsum("bpm,hmd->bphd", plain(stream, block.ln1), folded.weight) + folded.bias
            norm: Any = {"Q": block.attn.q_norm, "K": block.attn.k_norm}.get(name)
            if norm:
                value = (
                    norm.plain(value.flatten(-2)).view(value.shape) if config.qk_norm == "whole" else norm.plain(value)
                )
            close(value, run[f"{name.lower()}.{layer}"])
        if not config.d_mlp:
            continue
        stream = stream if config.parallel else run[f"resid_mid.{layer}"]
        norm = block.ln1 if config.shared_norm else block.ln2
        for name, site in (("W_gate", "mlp_pre"), ("W_in", "mlp_up")) if config.gated else (("W_in", "mlp_pre"),):
            folded = weights.folded(f"{name}.{layer}", centre=centre)
            close(plain(stream, norm) @ folded.weight + folded.bias, run[f"{site}.{layer}"])
        folded = weights.folded(f"W_out.{layer}", centre=centre)
        act = run[f"mlp_act.{layer}"]
        if config.mlp_norm:
            act = plain(block.mlp.activation(run[f"mlp_pre.{layer}"]), block.mlp.norm)
        close(act @ folded.weight + folded.bias, run[f"mlp_raw.{layer}" if config.post_norm else f"mlp_out.{layer}"])
    folded = weights.folded("W_U", centre=centre)
    logits = plain(run[f"resid_post.{config.n_layers - 1}"], model.transformer.ln_final) @ folded.weight + folded.bias
    close(model.transformer.cap_logits(logits), run.logits)


def test_folding_leaves_the_model_as_it_was(model: rs.Model) -> None:
    before = {name: parameter.clone() for name, parameter in model.transformer.named_parameters()}
    for name in ("W_Q", "W_U", "W_Q.0"):
        folded = model.weights.folded(name, centre=True)
        folded.weight.zero_()
        folded.bias.zero_()
    for name, parameter in model.transformer.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_folding_all_layers_is_folding_each(gpt2: rs.Model) -> None:
    both = gpt2.weights.folded("W_K")
    for layer in range(3):
        one = gpt2.weights.folded(f"W_K.{layer}")
        assert torch.equal(both.weight[layer], one.weight)
        assert torch.equal(both.bias[layer], one.bias)


def test_folding_is_in_float32_at_least() -> None:
    hf, tokenizer = random_gpt2(dtype=torch.bfloat16)
    weights = rs.load(hf, tokenizer=tokenizer).weights
    assert weights["W_Q.0"].dtype == torch.bfloat16
    assert weights.folded("W_Q.0").weight.dtype == weights.folded("W_U").bias.dtype == torch.float32


def test_what_is_no_projection_is_not_folded(gpt2: rs.Model) -> None:
    for name in ("W_O.1", "W_E", "b_Q", "ln1_w.0"):
        with pytest.raises(BadArgument, match="No norm is folded into"):
            gpt2.weights.folded(name)


def test_names_of_transformer_lens() -> None:
    weights = own_model(own_config(**OWN["norms around"])).weights
    for theirs, ours in {
        "embed.W_E": "W_E",
        "unembed.W_U": "W_U",
        "ln_final.w": "ln_final_w",
        "blocks.2.attn.W_O": "W_O.2",
        "blocks.0.attn.b_Q": "b_Q.0",
        "blocks.1.attn.W_K": "W_K.1",
        "blocks.1.attn._W_K": "W_K.1",
        "blocks.1.mlp.W_in": "W_in.1",
        "blocks.1.mlp.W_gate": "W_gate.1",
        "blocks.2.mlp.b_out": "b_out.2",
        "blocks.0.ln1.w": "ln1_w.0",
        "blocks.0.ln2_post.w": "mlp_norm_post_w.0",
    }.items():
        assert weights[theirs].data_ptr() == weights[ours].data_ptr()
        assert weights.axes(theirs) == weights.axes(ours)
        assert weights.transformer_lens(ours).replace("._", ".") == theirs.replace("._", ".")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("w_o.1", "the nearest names are W_O"),
        ("W_gate.0", "no weight 'W_gate.0'"),
        ("W_O.3", "W_O has layers 0 to 2"),
        ("W_O.-1", "W_O has layers 0 to 2"),
        ("W_E.0", "one such weight"),
        ("blocks.7.attn.W_O", "W_O has layers 0 to 2"),
        ("blocks.0.embed.W_E", "no weight 'blocks.0.embed.W_E'"),
        ("attn.W_O", "no weight 'attn.W_O'"),
        ("", "no weight ''"),
    ],
)
def test_unknown_names_say_the_nearest(gpt2: rs.Model, name: str, says: str) -> None:
    assert name not in gpt2.weights
    for ask in (gpt2.weights.__getitem__, gpt2.weights.axes, gpt2.weights.folded):
        with pytest.raises(UnknownWeight, match=says):
            ask(name)


def test_weights_are_those_of_transformers() -> None:
    hf, tokenizer = random_gpt2()
    weights, block = rs.load(hf, tokenizer=tokenizer).weights, hf.transformer.h[1]
    fused = block.attn.c_attn.weight.view(32, 3, 4, 8)
    assert torch.equal(weights["W_K.1"], fused[:, 1].transpose(0, 1))
    assert torch.equal(weights["W_in.1"], block.mlp.c_fc.weight)
    assert torch.equal(weights["W_U"], hf.lm_head.weight.T)
    hf, tokenizer = random_llama()
    weights, layer = rs.load(hf, tokenizer=tokenizer).weights, hf.model.layers[2]
    assert torch.equal(weights["W_V.2"][1], layer.self_attn.v_proj.weight[8:].T)
    assert torch.equal(weights["W_gate.2"], layer.mlp.gate_proj.weight.T)


def test_what_heads_mix_whatever_the_tokens_follows_its_weights() -> None:
    hf, tokenizer = random_gpt2()
    model = rs.load(hf, tokenizer=tokenizer)
    block = model.transformer.blocks[1]
    assert isinstance(block, Block)
    assert block.ln1
    assert block.ln1.bias is not None
    found = block.constant_values()
    assert block.constant_values() is found
    with torch.no_grad():
        block.attn.v.bias.add_(1.0)
    torch.testing.assert_close(block.constant_values(), found + 1.0)
    with torch.no_grad():
        block.ln1.bias.zero_()
    assert torch.equal(block.constant_values().flatten(), block.attn.v.bias)
