"""Small models for tests: every parameter is drawn, so that none can be forgotten unseen."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import decoders, pre_tokenizers
from tokenizers import models as token_models
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

import residscope as rs
from residscope.transformer.rotary import Rotary
from residscope.transformer.transformer import Transformer

SHARED = Path(os.environ.get("RESIDSCOPE_SHARED", Path(__file__).parents[2] / "shared"))
D_VOCAB = 300


def shared_path(name: str) -> Path:
    """A file or folder beside the checkout; the test is skipped, with its name, where it is missing."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there (set RESIDSCOPE_SHARED)")
    return path


def byte_tokenizer() -> tokenizers.Tokenizer:
    """Every byte is a token, `<|begin|>` is 256."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(token_models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|begin|>"])
    return backend


def draw(model: nn.Module, seed: int = 0, spread: float = 0.3, norm_offset: float = 0.0) -> None:
    """Draw all parameters from a wide distribution: biases and norms too, so that norms multiply by about one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 - norm_offset if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def hf_tokenizer() -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), bos_token="<|begin|>")


_SMALL = {
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_GPT2 = {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 40}
# What a small model of each family says in its config; no window, no cap that a text of 40 tokens would not feel.
FACTS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2,
    "gpt_neo": {
        "num_layers": 3,
        "hidden_size": 32,
        "num_heads": 4,
        "max_position_embeddings": 40,
        "attention_types": [[["global", "local"], 1], [["local"], 1]],
        "window_size": 7,
    },
    "gptj": {**_GPT2, "rotary_dim": 4},
    "gpt_neox": _SMALL,
    "opt": {**{key: value for key, value in _SMALL.items() if key != "intermediate_size"}, "ffn_dim": 56},
    "bloom": {"n_layer": 3, "hidden_size": 32, "n_head": 4, "seq_length": 40},
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 7},
    "qwen2": {**_GROUPED, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "qwen3": {**_GROUPED, "head_dim": 12},
    "gemma": {**_GROUPED, "head_dim": 12},
    "gemma2": {**_GROUPED, "head_dim": 12, "sliding_window": 7, "query_pre_attn_scalar": 20},
    "gemma3_text": {**_GROUPED, "head_dim": 12, "sliding_window": 7, "sliding_window_pattern": 2},
    "phi": _SMALL,
    "phi3": _GROUPED,
    "olmo2": _GROUPED,
}


FACTS["gemma3"] = FACTS["gemma3_text"]
_EYES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 28}


def random_model(family: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """A transformers model of a family, and a tokenizer."""
    tokens = {"vocab_size": D_VOCAB, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": None}
    facts = {**tokens, **FACTS[family], **changes}
    if family == "gemma3":
        facts = {"text_config": facts, "vision_config": _EYES}
    config = AutoConfig.for_model(family, **facts)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    draw(model, seed, norm_offset=1.0 if family.startswith("gemma") else 0.0)
    model.tie_weights()
    return model.to(dtype).eval(), hf_tokenizer()


@cache
def family_model(family: str) -> rs.Model:
    """A small model of a family, in float64; nobody changes it."""
    hf, tokenizer = random_model(family, dtype=torch.float64)
    return rs.load(hf, tokenizer=tokenizer)


def random_gpt2(**changes: Any) -> tuple[Any, Any]:
    """A transformers GPT-2 and its tokenizer."""
    return random_model("gpt2", **changes)


def random_llama(**changes: Any) -> tuple[Any, Any]:
    """A transformers Llama and its tokenizer."""
    return random_model("llama", **changes)


OWN: dict[str, dict[str, Any]] = {
    "plain": {"learned_positions": True, "unembed_bias": True},
    "attention only": {"d_mlp": 0, "learned_positions": True},
    "no norm": {"norm": None, "learned_positions": True, "activation": "relu"},
    "SoLU": {"activation": "solu", "mlp_norm": True, "learned_positions": True},
    "parallel, one norm": {"parallel": True, "shared_norm": True, "rotary": Rotary("default", 4, 100.0, 40)},
    "parallel, two norms": {"parallel": True, "tied": True, "alibi": True},
    "norms around": {"norm": "rms", "norm_offset": 1.0, "post_norm": True, "n_kv_heads": 2, "gated": True},
    "norms after": {"norm": "rms", "pre_norm": False, "post_norm": True, "qk_norm": "whole", "gated": True},
    "normed heads": {"norm": "rms", "qk_norm": "head", "n_kv_heads": 1, "d_head": 12, "gated": True, "mlp_bias": False},
    "norms without weights": {"norm_weight": False, "learned_positions": True, "unembed_bias": True},
    "capped": {"attn_cap": 2.0, "logit_cap": 3.0, "windows": (None, 4, 8), "embed_norm": True, "embed_scale": 2.0},
}


def own_config(**changes: Any) -> rs.Config:
    """A small config with some flags."""
    sizes = {"n_layers": 3, "d_model": 32, "n_heads": 4, "d_mlp": 40, "d_vocab": D_VOCAB, "n_ctx": 40}
    return rs.Config(**{**sizes, **changes})


def own_state(config: rs.Config, seed: int = 0, spread: float = 0.3) -> dict[str, torch.Tensor]:
    """Tensors of that config, in float64, under our names."""
    transformer = Transformer(config).to(torch.float64)
    draw(transformer, seed, spread, config.norm_offset)
    return {name: tensor.detach() for name, tensor in transformer.state_dict().items()}


def save(model: Any, directory: Path) -> Path:
    """Write a model and its tokenizer as transformers does now."""
    model.save_pretrained(directory)
    hf_tokenizer().save_pretrained(directory)
    return directory


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Equal as the conventions say: 1e-5 of the position's largest entry, or of one."""
    scale = theirs.abs().amax(-1, keepdim=True).clamp(min=1)
    worst = ((ours - theirs).abs() / scale).max().item()
    assert worst <= 1e-5, f"differs by {worst:.2e} of the position's largest entry"


def own_model(config: rs.Config, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> rs.Model:
    """A model of that config, every parameter drawn, that reads bytes."""
    return rs.load(own_state(config, seed), config=config, tokenizer=hf_tokenizer(), dtype=str(dtype)[6:], device="cpu")
