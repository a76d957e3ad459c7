"""Every family equals the Hugging Face model: logits, every residual stream, every pattern."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import residscope as rs
from tests.models import D_VOCAB, assert_equal, random_gpt2, random_llama, shared_path

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (random_gpt2, {}),
    "gpt2, untied": (random_gpt2, {"tie_word_embeddings": False}),
    "gpt2, one head": (random_gpt2, {"n_head": 1}),
    "gpt2, wide MLP": (random_gpt2, {"n_inner": 50, "activation_function": "relu"}),
    "gpt2, scores by layer": (random_gpt2, {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2, scores unscaled": (random_gpt2, {"scale_attn_weights": False}),
    "gpt2, exact gelu": (random_gpt2, {"activation_function": "gelu", "layer_norm_epsilon": 0.1}),
    "llama, grouped": (random_llama, {}),
    "llama, tied": (random_llama, {"tie_word_embeddings": True}),
    "llama, multi-head": (random_llama, {"num_key_value_heads": 4}),
    "llama, one key/value head": (random_llama, {"num_key_value_heads": 1}),
    "llama, wide heads": (random_llama, {"head_dim": 12}),
    "llama, biases": (random_llama, {"attention_bias": True, "mlp_bias": True}),
    "llama, another theta": (random_llama, {"rope_theta": 500.0, "rms_norm_eps": 0.1}),
}


def watch_streams(hf: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What transformers computes at our sites."""
    found: dict[str, torch.Tensor] = {}
    body = hf.base_model
    blocks, norm = (body.h, body.ln_f) if hasattr(body, "h") else (body.layers, body.norm)

    def keep(name: str) -> Any:
        def hook(module: Any, given: Any, out: Any) -> None:
            found[name] = (out[0] if isinstance(out, tuple) else out).detach()

        return hook

    handles = [norm.register_forward_hook(keep("ln_final"))]
    embedding = body.wte if hasattr(body, "wte") else body.embed_tokens
    handles.append(embedding.register_forward_hook(keep("embed")))
    for layer, block in enumerate(blocks):
        attention = block.attn if hasattr(block, "attn") else block.self_attn
        handles += [
            block.register_forward_hook(keep(f"resid_post.{layer}")),
            attention.register_forward_hook(keep(f"attn_out.{layer}")),
            block.mlp.register_forward_hook(keep(f"mlp_out.{layer}")),
        ]
    with torch.no_grad():
        out = hf(ids, output_hidden_states=True, output_attentions=True)
    for handle in handles:
        handle.remove()
    found["logits"] = out.logits
    for layer in range(len(blocks)):
        found[f"resid_pre.{layer}"] = out.hidden_states[layer]
        found[f"resid_mid.{layer}"] = found[f"resid_pre.{layer}"] + found[f"attn_out.{layer}"]
        found[f"pattern.{layer}"] = out.attentions[layer]
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_site_equals_transformers(case: str) -> None:
    make, changes = CASES[case]
    hf, tokenizer = make(**changes)
    hf.set_attn_implementation("eager")
    ids = torch.randint(0, D_VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))
    theirs = watch_streams(hf, ids)
    model = rs.load(hf, tokenizer=tokenizer)
    opened = model.run(ids, keep="all")
    fused = model.run(ids, keep=["resid_pre", "resid_post", "logits"])
    assert {str(s) for s in model.sites} - theirs.keys() == {f"z.{layer}" for layer in range(3)}
    for site, expected in theirs.items():
        assert_equal(opened[site], expected)
    for site in ("resid_pre.1", "resid_post.2", "logits"):
        assert_equal(fused[site], theirs[site])


@pytest.mark.parametrize("case", ["gpt2", "llama, biases", "llama, tied"])
def test_every_parameter_is_shared_and_moves_the_output(case: str) -> None:
    make, changes = CASES[case]
    hf, tokenizer = make(**changes)
    model = rs.load(hf, tokenizer=tokenizer)
    ids = torch.randint(0, D_VOCAB, (1, 40), generator=torch.Generator().manual_seed(1))
    before = model.run(ids).logits
    for name, parameter in model.transformer.named_parameters():
        kept = parameter.clone()
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        after = model.run(ids).logits
        with torch.no_grad():
            assert_equal(after, hf(ids).logits)
        moved = not torch.allclose(after, before, rtol=1e-4, atol=1e-4)
        # The softmax forgets what all keys have in common; rotation makes it differ by position.
        assert moved is not (case == "gpt2" and name.endswith("attn.k.bias")), name
        parameter.copy_(kept)


def test_trained_model_equals_transformers(stories: rs.Model, stories_path: Path) -> None:
    hf = AutoModelForCausalLM.from_pretrained(stories_path, attn_implementation="eager")
    tokens = stories.tokenize("Once upon a time, there was a little girl named Lily. " * 8)
    theirs, run = watch_streams(hf, tokens.ids), stories.run(tokens, keep="all")
    for site, expected in theirs.items():
        assert_equal(run[site], expected)


def test_oracle_checkpoint_equals_transformers() -> None:
    path = shared_path("reference/oracle_gpt2/checkpoint")
    hf = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    ids = torch.randint(0, 101, (3, 40), generator=torch.Generator().manual_seed(0))
    theirs, run = watch_streams(hf, ids), rs.load(path).run(ids, keep="all")
    for site, expected in theirs.items():
        assert_equal(run[site], expected)


@pytest.mark.parametrize("case", ["gpt2", "llama, grouped"])
def test_bfloat16_errs_no_more_than_transformers(case: str) -> None:
    make, _ = CASES[case]
    ids = torch.randint(0, D_VOCAB, (4, 40), generator=torch.Generator().manual_seed(1))
    hf, tokenizer = make()
    with torch.no_grad():
        exact = hf(ids).logits
        hf = hf.to(torch.bfloat16)
        theirs = (hf(ids).logits.float() - exact).square().mean().sqrt()
    ours = (rs.load(hf, tokenizer=tokenizer).run(ids).logits.float() - exact).square().mean().sqrt()
    assert ours <= 1.1 * theirs
