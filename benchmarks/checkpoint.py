"""GPT-2 checkpoints with random weights, as Hugging Face writes them."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from torch import Tensor

D_VOCAB = 50257  # GPT-2's


def write_gpt2(
    directory: Path,
    *,
    n_layers: int = 12,
    d_model: int = 768,
    n_heads: int = 12,
    n_ctx: int = 1024,
    d_vocab: int = D_VOCAB,
    stored: torch.dtype = torch.float32,
) -> int:
    """Write one that any loader takes; returns the bytes of its weights in float32.

    Entries are drawn so that activations keep the size that trained ones have, and no bias is zero.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(scale: float, *shape: int) -> Tensor:
        return (scale * torch.randn(shape, generator=generator)).to(stored)

    def norm(name: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.weight", 1 + normal(0.1, d_model)
        yield f"{name}.bias", normal(0.05, d_model)

    def weights() -> Iterator[tuple[str, Tensor]]:
        yield "wte.weight", normal(0.1, d_vocab, d_model)
        yield "wpe.weight", normal(0.1, n_ctx, d_model)
        yield from norm("ln_f")
        for layer in range(n_layers):
            yield from norm(f"h.{layer}.ln_1")
            yield from norm(f"h.{layer}.ln_2")
            for name, gain, rows, columns in (
                ("attn.c_attn", 1.2, d_model, 3 * d_model),
                ("attn.c_proj", 0.3, d_model, d_model),
                ("mlp.c_fc", 1.0, d_model, 4 * d_model),
                ("mlp.c_proj", 0.3, 4 * d_model, d_model),
            ):
                yield f"h.{layer}.{name}.weight", normal(gain * rows**-0.5, rows, columns)
                yield f"h.{layer}.{name}.bias", normal(0.05, columns)

    tensors = {f"transformer.{name}": tensor for name, tensor in weights()}
    directory.mkdir(parents=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": d_vocab}
    config |= {"n_layer": n_layers, "n_embd": d_model, "n_head": n_heads, "n_positions": n_ctx}
    (directory / "config.json").write_text(json.dumps(config))
    Tokenizer(BPE(vocab={chr(97 + i): i for i in range(26)}, merges=[])).save(str(directory / "tokenizer.json"))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "a", "eos_token": "a", "pad_token": "a"}
    (directory / "tokenizer_config.json").write_text(json.dumps(named))
    return 4 * sum(tensor.numel() for tensor in tensors.values())
