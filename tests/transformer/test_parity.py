"""Every family equals the Hugging Face model: logits, every residual stream, every pattern."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import residscope as rs
from residscope.transformer.families import FAMILIES
from tests.models import D_VOCAB, assert_equal, random_model, shared_path

N_TOKENS = 40
# The family, then what sets the case apart.
CASES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2, untied": {"tie_word_embeddings": False},
    "gpt2, one head": {"n_head": 1},
    "gpt2, wide MLP": {"n_inner": 50, "activation_function": "relu"},
    "gpt2, scores by layer": {"scale_attn_by_inverse_layer_idx": True},
    "gpt2, scores unscaled": {"scale_attn_weights": False},
    "gpt2, exact gelu": {"activation_function": "gelu", "layer_norm_epsilon": 0.1},
    "gpt_neo": {},
    "gpt_neo, untied": {"tie_word_embeddings": False, "intermediate_size": 50, "window_size": 1},
    "gpt_neo, no windows": {"attention_types": [[["global"], 3]]},
    "gptj": {},
    "gptj, tied": {"tie_word_embeddings": True, "rotary_dim": 8, "n_inner": 50},
    "gpt_neox": {},
    "gpt_neox, one after the other": {"use_parallel_residual": False, "hidden_act": "gelu_fast"},
    "gpt_neox, no biases": {"attention_bias": False},
    "gpt_neox, all turned": {"rope_parameters": {"partial_rotary_factor": 1.0, "rope_theta": 500.0}},
    "gpt_neox, tied": {"tie_word_embeddings": True, "num_attention_heads": 2},
    "opt": {},
    "opt, untied": {"tie_word_embeddings": False, "activation_function": "gelu"},
    "opt, no biases": {"enable_bias": False},
    "opt, norms without weights": {"layer_norm_elementwise_affine": False},
    "bloom": {},
    "bloom, untied": {"tie_word_embeddings": False},
    "bloom, slopes between powers": {"n_head": 6, "hidden_size": 48},
    "llama, grouped": {},
    "llama, tied": {"tie_word_embeddings": True},
    "llama, multi-head": {"num_key_value_heads": 4},
    "llama, one key/value head": {"num_key_value_heads": 1},
    "llama, wide heads": {"head_dim": 12},
    "llama, biases": {"attention_bias": True, "mlp_bias": True},
    "llama, another theta": {"rope_theta": 500.0, "rms_norm_eps": 0.1},
    "mistral": {},
    "mistral, no window": {"sliding_window": None, "head_dim": 12},
    "mistral, tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "qwen2": {},
    "qwen2, tied, no windows": {"tie_word_embeddings": True, "use_sliding_window": False},
    "qwen3": {},
    "qwen3, tied": {"tie_word_embeddings": True, "attention_bias": True},
    "qwen3, windows": {
        "use_sliding_window": True,
        "sliding_window": 7,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gemma": {},
    "gemma, untied": {"tie_word_embeddings": False, "attention_bias": True, "num_key_value_heads": 1},
    "gemma, older name of the activation": {"hidden_act": "gelu"},
    "gemma2": {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma2, uncapped": {"attn_logit_softcapping": None, "final_logit_softcapping": None, "tie_word_embeddings": False},
    "gemma2, all windows": {"layer_types": ["sliding_attention"] * 3, "attention_bias": True},
    "gemma3_text": {},
    "gemma3_text, capped": {"final_logit_softcapping": 3.0, "tie_word_embeddings": False, "attention_bias": True},
    "gemma3_text, stretched": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 100.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
        },
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "gemma3": {},
    "phi": {},
    "phi, normed queries": {"qk_layernorm": True, "num_key_value_heads": 2},
    "phi, tied": {"tie_word_embeddings": True, "rope_parameters": {"partial_rotary_factor": 0.25, "rope_theta": 50.0}},
    "phi3": {},
    "phi3, window": {"sliding_window": 7, "tie_word_embeddings": True},
    "phi3, partly turned": {
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_theta": 50.0, "partial_rotary_factor": 0.75},
    },
    "phi3, longrope": {
        "original_max_position_embeddings": 16,
        "rope_parameters": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 3.0, 4.5]},
    },
    "olmo2": {},
    "olmo2, tied": {"tie_word_embeddings": True, "attention_bias": True},
    "olmo2, multi-head": {"num_key_value_heads": 4},
}
FIRST = [next(case for case in CASES if case.split(",")[0] == family) for family in FAMILIES]


def make(case: str, **changes: Any) -> tuple[Any, Any]:
    return random_model(case.split(",")[0], **CASES[case], **changes)


def some_ids(n_texts: int = 2) -> torch.Tensor:
    return torch.randint(0, D_VOCAB, (n_texts, N_TOKENS), generator=torch.Generator().manual_seed(1))


def list_hooks(config: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Where transformers computes our sites: what its modules give, and what they are given."""
    family = FAMILIES[config.family]
    homes = {ours: part.name for ours, part in family.sources(config).items() if ours.endswith("weight")}
    of_one = {ours: name for ours, name in homes.items() if Counter(homes.values())[name] == 1}  # not fused
    raw = "raw" if config.post_norm else "out"
    gives = {
        "embedding": "embed",
        "positions": "pos_embed",
        "ln_final": "ln_final",
        "ln1": "ln1",
        "ln2": "ln2",
        **{f"attn.{name}": name for name in ("qkv" if not config.qk_norm else "v")},
        "attn.q_norm": "q",
        "attn.k_norm": "k",
        "attn.o": f"attn_{raw}",
        "ln1_post": "attn_out",
        **({"mlp.gate": "mlp_pre", "mlp.up": "mlp_up"} if config.gated else {"mlp.up": "mlp_pre"}),
        "mlp.down": f"mlp_{raw}",
        "ln2_post": "mlp_out",
    }
    given = {"attn.o": "z", "mlp.down": "mlp_act"}
    outputs, inputs = {}, {}
    for ours, name in of_one.items():
        path = family.prefix + name.rpartition(".")[0]
        layer, module = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.*)\.weight", ours).groups()  # type: ignore[union-attr]
        suffix = f".{layer}" if layer else ""
        if module in gives:
            outputs[gives[module] + suffix] = path
        if module in given:
            inputs[given[module] + suffix] = path
        if module == "attn.o":
            outputs[f"resid_post.{layer}"] = re.match(r".*?\.\d+(?=\.)", path).group()  # type: ignore[union-attr]
    return outputs, inputs


def watch_sites(hf: Any, ids: torch.Tensor, config: Any) -> dict[str, torch.Tensor]:
    """What transformers computes at our sites."""
    found: dict[str, torch.Tensor] = {}

    def keep(site: str, value: Any) -> None:
        value = value[0] if isinstance(value, tuple) else value
        found[site] = value.detach().transpose(1, 2) if value.ndim == 4 and value.shape[2] == ids.shape[1] else value

    outputs, inputs = list_hooks(config)
    handles = [
        hf.get_submodule(path).register_forward_hook(lambda module, given, out, site=site: keep(site, out))
        for site, path in outputs.items()
    ] + [
        hf.get_submodule(path).register_forward_pre_hook(lambda module, given, site=site: keep(site, given))
        for site, path in inputs.items()
    ]
    with torch.no_grad():
        out = hf(ids, output_hidden_states=True, output_attentions=True)
    for handle in handles:
        handle.remove()
    found["logits"] = out.logits
    for layer in range(config.n_layers):
        found[f"resid_pre.{layer}"] = out.hidden_states[layer]
        found[f"pattern.{layer}"] = out.attentions[layer]
        if not config.parallel:
            found[f"resid_mid.{layer}"] = found[f"resid_pre.{layer}"] + found[f"attn_out.{layer}"]
    return found


def assert_same_sites(run: rs.Run, theirs: dict[str, torch.Tensor]) -> None:
    for site, expected in theirs.items():
        ours = run[site]
        if expected.shape[0] == 1:  # the same for every text
            expected = expected.expand(len(ours), *expected.shape[1:])
        try:
            assert_equal(ours.reshape(expected.shape), expected)
        except AssertionError as error:
            raise AssertionError(f"{site}: {error}") from None


@pytest.mark.parametrize("case", CASES)
def test_every_site_equals_transformers(case: str) -> None:
    hf, tokenizer = make(case)
    model = rs.load(hf, tokenizer=tokenizer)
    theirs = watch_sites(hf, some_ids(), model.config)
    assert {f"{kind}.{n}" for kind in ("resid_pre", "resid_post", "pattern", "z") for n in range(3)} < set(theirs)
    assert {"embed", "logits", "attn_out.2", "mlp_out.2", "mlp_act.2"} < set(theirs)
    assert ("ln_final" in theirs) is model.config.norm_weight
    assert_same_sites(model.run(some_ids(), keep="all"), theirs)
    streams = {site: value for site, value in theirs.items() if site.startswith(("resid", "logits"))}
    assert_same_sites(model.run(some_ids(), keep=["resid_pre", "resid_post", "logits"], strict=False), streams)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*FIRST, "llama, biases", "llama, tied"])
def test_every_parameter_is_shared_and_moves_the_output(case: str) -> None:
    hf, tokenizer = make(case)
    model = rs.load(hf, tokenizer=tokenizer)
    ids = some_ids(1)
    before = model.run(ids).logits
    theirs = {parameter.untyped_storage().data_ptr() for parameter in hf.parameters()}
    for name, parameter in model.transformer.named_parameters():
        kept = parameter.clone()
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        after = model.run(ids).logits
        if parameter.untyped_storage().data_ptr() in theirs:
            with torch.no_grad():
                assert_equal(after, hf(ids).logits)
        else:  # rows that alternate by head are no view of the fused matrix
            assert model.config.family in ("gpt_neox", "bloom"), name
            assert re.search(r"attn\.[qkv]\.", name), name
        moved = not torch.allclose(after, before, rtol=1e-4, atol=1e-4)
        # The softmax forgets what all keys have in common; rotation makes it differ by position.
        forgotten = name.endswith("attn.k.bias") and not model.config.rotary
        assert moved is not forgotten, name
        parameter.copy_(kept)


def test_trained_model_equals_transformers(stories: rs.Model, stories_path: Path) -> None:
    hf = AutoModelForCausalLM.from_pretrained(stories_path, attn_implementation="eager")
    tokens = stories.tokenize("Once upon a time, there was a little girl named Lily. " * 8)
    assert_same_sites(stories.run(tokens, keep="all"), watch_sites(hf, tokens.ids, stories.config))


def test_oracle_checkpoint_equals_transformers() -> None:
    path = shared_path("reference/oracle_gpt2/checkpoint")
    hf = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    ids = torch.randint(0, 101, (3, 40), generator=torch.Generator().manual_seed(0))
    model = rs.load(path)
    assert_same_sites(model.run(ids, keep="all"), watch_sites(hf, ids, model.config))


@pytest.mark.parametrize("case", FIRST)
def test_bfloat16_errs_no_more_than_transformers(case: str) -> None:
    ids = some_ids(4)
    hf, tokenizer = make(case)
    with torch.no_grad():
        exact = hf(ids).logits
        hf = hf.to(torch.bfloat16)
        theirs = (hf(ids).logits.float() - exact).square().mean().sqrt()
    ours = (rs.load(hf, tokenizer=tokenizer).run(ids).logits.float() - exact).square().mean().sqrt()
    assert ours <= 1.1 * theirs


@pytest.mark.parametrize(
    ("family", "seed", "facts"),
    [
        ("gpt_neo", 1, {"max_position_embeddings": 300}),
        ("bloom", 0, {"seq_length": 300, "n_head": 12, "hidden_size": 48}),
    ],
)
def test_bfloat16_errs_no_more_where_patterns_are_kept(family: str, seed: int, facts: dict[str, Any]) -> None:
    ids = torch.randint(0, 300, (2, 300), generator=torch.Generator().manual_seed(0))
    hf, tokenizer = random_model(family, seed=seed, **facts)
    with torch.no_grad():
        exact = hf(ids).logits
        hf = hf.to(torch.bfloat16)
        theirs = (hf(ids).logits.float() - exact).square().mean().sqrt()
    run = rs.load(hf, tokenizer=tokenizer).run(ids, keep=["pattern", "logits"])
    assert run["pattern.0"].dtype == torch.bfloat16
    assert (run.logits.float() - exact).square().mean().sqrt() <= 1.1 * theirs
