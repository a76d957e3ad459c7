"""Phi 3 and 4: Llama with fused projections, and a window in every layer where wanted."""

from functools import partial

from torch import Tensor

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import llama
from residscope.transformer.families.family import Family, Source, read_rope, read_sizes


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout", "embd_pdrop", "resid_pdrop")
    for key, value in {"attention_bias": False, "mlp_bias": False, "lm_head_bias": False}.items():
        keys.only(key, value)
    keys.only("full_attn_mod", 1)
    keys.only("interpolate_factor", 1)
    sizes = read_sizes(keys)
    return Config(
        family="phi3",
        **sizes,
        **read_rope(keys, source, sizes, share=1.0, types={"su": "longrope", "yarn": "longrope"}),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        windows=(keys.get("sliding_window"),) * sizes["n_layers"],
        activation=keys.activation("hidden_act", "silu"),
        gated=True,
        qkv_bias=False,
        attn_out_bias=False,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", False),
    )


def _rows(starts: tuple[int, ...], part: int, tensor: Tensor) -> Tensor:
    return tensor.tensor_split(starts)[part]


def list_parts(config: Config) -> dict[str, Source]:
    found = {}
    d_q, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
    fused = {
        "self_attn.qkv_proj": ((d_q, d_q + d_kv), ("attn.q", "attn.k", "attn.v")),
        "mlp.gate_up_proj": ((config.d_mlp,), ("mlp.gate", "mlp.up")),
    }
    for layer in range(config.n_layers):
        for name, (starts, parts) in fused.items():
            for part, ours in enumerate(parts):
                where = f"layers.{layer}.{name}.weight"
                found[f"blocks.{layer}.{ours}.weight"] = Source(where, partial(_rows, starts, part))
    return found


FAMILY = Family(
    model_type="phi3",
    prefix="model.",
    read_config=read_config,
    modules=llama.MODULES,
    parts=list_parts,
    example={
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "rms_norm_eps": 1e-5,
        "sliding_window": 2047,
        "vocab_size": 32064,
    },
    buffers=llama.BUFFERS,
)
