"""Small models for tests: every parameter is drawn, so that none can be forgotten unseen."""

import os
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import decoders, pre_tokenizers
from tokenizers import models as token_models
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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


def draw(model: nn.Module, seed: int = 0, spread: float = 0.3) -> None:
    """Draw all parameters from a wide distribution: biases and norms too, norms around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def hf_tokenizer() -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), bos_token="<|begin|>")


def random_gpt2(*, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """A transformers GPT-2 and its tokenizer."""
    facts = {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 40, "vocab_size": D_VOCAB}
    config = GPT2Config(**{**facts, "bos_token_id": 256, "eos_token_id": 257, **changes})
    return _finish(GPT2LMHeadModel(config), dtype, seed)


def random_llama(*, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> tuple[Any, Any]:
    """A transformers Llama and its tokenizer."""
    facts: dict[str, Any] = {
        "num_hidden_layers": 3,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 40,
        "vocab_size": D_VOCAB,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "attn_implementation": "eager",
    }
    return _finish(LlamaForCausalLM(LlamaConfig(**{**facts, **changes})), dtype, seed)


def _finish(model: Any, dtype: torch.dtype, seed: int) -> tuple[Any, Any]:
    draw(model, seed)
    model.tie_weights()
    return model.to(dtype).eval(), hf_tokenizer()


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
