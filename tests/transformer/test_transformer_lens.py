"""Checkpoints of TransformerLens give its logits; what is not computed here is refused by name."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import residscope as rs
from residscope.errors import BadCheckpoint, UnsupportedModel
from residscope.transformer.transformer_lens import read_config
from tests.models import assert_equal, hf_tokenizer, random_gpt2

GOLDEN = Path(__file__).parents[1] / "golden/transformer_lens.safetensors"
with safe_open(GOLDEN, framework="pt") as file:
    CONFIGS: dict[str, dict[str, Any]] = json.loads(file.metadata()["configs"])
IDS = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


def state_of(golden: dict[str, Tensor], case: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{case}/"): x for name, x in golden.items() if name.startswith(f"{case}/")}


@pytest.mark.parametrize("case", CONFIGS)
def test_logits_are_those_of_transformer_lens(case: str, golden: dict[str, Tensor]) -> None:
    state = state_of(golden, case)
    logits = state.pop("logits")
    for config in (CONFIGS[case], SimpleNamespace(**CONFIGS[case])):
        model = rs.load(state, config=config)
        assert_equal(model.run(golden["ids"]).logits, logits)
    run = model.run(golden["ids"], keep="all")
    assert_equal(run.logits, logits)
    weights = model.weights
    for name in weights:
        theirs = state.get(weights.transformer_lens(name))
        if theirs is not None and not (model.config.gated and name.startswith(("b_in", "b_out"))):
            assert torch.equal(weights[name], theirs), name


@pytest.mark.parametrize(
    "case", ["solu_ln", "alibi, normed embedding", "grouped, gated", "normed heads, around, folded"]
)
def test_every_tensor_is_asked_for_and_moves_the_logits(case: str, golden: dict[str, Tensor]) -> None:
    state, ids = state_of(golden, case), golden["ids"][:1]
    del state["logits"]
    before = rs.load(state, config=CONFIGS[case]).run(ids).logits
    for name, tensor in state.items():
        if name.endswith((".mask", ".IGNORE")) or (name == "pos_embed.W_pos" and "alibi" in case):
            continue
        if name.startswith("blocks.0"):
            continue  # as layer 1
        rest = {other: x for other, x in state.items() if other != name}
        with pytest.raises(BadCheckpoint, match=f"lacks 1 of .*: {name.replace('._', '.')}"):
            rs.load(rest, config=CONFIGS[case])
        noise = 0.5 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3))
        after = rs.load({**rest, name: tensor + noise}, config=CONFIGS[case]).run(ids).logits
        turned = CONFIGS[case]["positional_embedding_type"] == "rotary" or CONFIGS[case]["use_qk_norm"]
        forgotten = name.endswith("b_K") and not turned
        assert torch.allclose(after, before, atol=1e-4) is forgotten, name


def as_transformer_lens(hf: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A transformers GPT-2 as TransformerLens writes it."""
    c, d_head = hf.config, hf.config.n_embd // hf.config.n_head
    state = {
        "embed.W_E": hf.transformer.wte.weight,
        "pos_embed.W_pos": hf.transformer.wpe.weight,
        "ln_final.w": hf.transformer.ln_f.weight,
        "ln_final.b": hf.transformer.ln_f.bias,
        "unembed.W_U": hf.lm_head.weight.T,
        "unembed.b_U": torch.zeros(c.vocab_size),
    }
    for layer, block in enumerate(hf.transformer.h):
        into = f"blocks.{layer}"
        for part, name in enumerate("QKV"):
            columns = slice(part * c.n_embd, (part + 1) * c.n_embd)
            matrix = block.attn.c_attn.weight[:, columns].reshape(c.n_embd, c.n_head, d_head)
            state[f"{into}.attn.W_{name}"] = matrix.permute(1, 0, 2)
            state[f"{into}.attn.b_{name}"] = block.attn.c_attn.bias[columns].reshape(c.n_head, d_head)
        state[f"{into}.attn.W_O"] = block.attn.c_proj.weight.reshape(c.n_head, d_head, c.n_embd)
        state[f"{into}.attn.b_O"] = block.attn.c_proj.bias
        state[f"{into}.attn.mask"] = torch.ones(c.n_positions, c.n_positions).tril().bool()
        state[f"{into}.attn.IGNORE"] = torch.tensor(-1e5)
        state |= {f"{into}.mlp.W_in": block.mlp.c_fc.weight, f"{into}.mlp.b_in": block.mlp.c_fc.bias}
        state |= {f"{into}.mlp.W_out": block.mlp.c_proj.weight, f"{into}.mlp.b_out": block.mlp.c_proj.bias}
        for norm in ("1", "2"):
            state[f"{into}.ln{norm}.w"] = getattr(block, f"ln_{norm}").weight
            state[f"{into}.ln{norm}.b"] = getattr(block, f"ln_{norm}").bias
    config = {
        "n_layers": c.n_layer,
        "d_model": c.n_embd,
        "n_ctx": c.n_positions,
        "d_head": d_head,
        "n_heads": c.n_head,
        "d_mlp": 4 * c.n_embd,
        "d_vocab": c.vocab_size,
        "act_fn": "gelu_new",
        "normalization_type": "LN",
    }
    return state, config


def test_a_gpt2_by_the_other_names_gives_the_logits_of_transformers() -> None:
    hf, _ = random_gpt2()
    state, config = as_transformer_lens(hf)
    model = rs.load(state, config=config, tokenizer=hf_tokenizer())
    with torch.no_grad():
        assert_equal(model.run(IDS).logits, hf(IDS).logits)
    assert model.run("abc").tokens.pieces == [["a", "b", "c"]]


PLAIN = {"n_layers": 1, "d_model": 8, "n_ctx": 8, "d_head": 4, "d_vocab": 11, "act_fn": "relu"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"positional_embedding_type": "shortformer"}, "positional_embedding_type='shortformer'"),
        ({"final_rms": True}, "final_rms=True"),
        ({"normalization_type": "BN"}, "normalization_type='BN'"),
        ({"use_qk_norm": True}, "norms of another kind than 'LN'"),
        ({"post_embedding_ln": True}, "before positions are added"),
        ({"normalization_type": "RMS", "post_embedding_ln": True}, "a layer norm of the embedding"),
        ({"act_fn": "xielu"}, "the activation 'xielu'"),
        ({"act_fn": "solu_ln", "gated_mlp": True}, "a gated MLP with solu_ln"),
        ({"act_fn": "solu_ln", "normalization_type": None}, "a layer norm in the MLP where other norms are None"),
        ({"positional_embedding_type": "alibi", "n_heads": 6}, "slopes of ALiBi for 6 heads"),
        ({"original_architecture": "Olmo2ForCausalLM"}, "norms of Olmo2ForCausalLM"),
        ({"attention_dir": "bidirectional"}, "attention_dir='bidirectional'"),
        ({"num_experts": 4}, "num_experts=4"),
        ({"clip_qkv": 8.0}, "clip_qkv=8.0"),
        ({"d_vocab_out": 3}, "d_vocab_out=3"),
        ({"use_attention_sinks": True}, "use_attention_sinks=True"),
        ({"twist": 2}, "not known here: twist=2"),
    ],
)
def test_fields_that_ask_for_what_is_not_computed(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        read_config({**PLAIN, **changes}, "this")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"d_model": "x"}, "makes no sense"),
        ({"use_local_attn": True, "attn_types": ["local"]}, "has no 'window_size'"),
        ({"use_local_attn": True, "window_size": 4, "attn_types": ["local", "local"]}, "makes no sense"),
        ({"positional_embedding_type": "rotary", "rotary_dim": 3}, "makes no sense"),
        ({"n_layers": None}, "makes no sense|n_layers"),
    ],
)
def test_fields_that_make_no_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadCheckpoint, match=says):
        rs.load({}, config={**PLAIN, **changes})


def test_tensors_that_do_not_fit(golden: dict[str, Tensor]) -> None:
    state = state_of(golden, "solu_ln")
    with pytest.raises(BadCheckpoint, match=r"has 1 tensors that a TransformerLens model does not: logits"):
        rs.load(state, config=CONFIGS["solu_ln"])
    del state["logits"]
    state["blocks.1.attn.W_O"] = state["blocks.1.attn.W_O"].flatten(0, 1)
    with pytest.raises(BadCheckpoint, match=r"blocks\.1\.attn\.W_O of shape \[8, 8\]; the config asks for \[2, 4, 8\]"):
        rs.load(state, config=CONFIGS["solu_ln"])
