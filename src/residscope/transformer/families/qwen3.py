"""Qwen 3: Llama with queries and keys normed head by head."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import llama, qwen2
from residscope.transformer.families.family import Family, read_rope, read_sizes

MODULES = llama.MODULES | {
    f"blocks.{{layer}}.attn.{name}": f"layers.{{layer}}.self_attn.{name}" for name in ("q_norm", "k_norm")
}


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout")
    sizes = read_sizes(keys, head_dim=128)
    bias = keys.get("attention_bias", False)
    return Config(
        family="qwen3",
        **sizes,
        **read_rope(keys, source, sizes),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        windows=qwen2.read_upper_windows(keys, source, sizes["n_layers"]),
        qk_norm="head",
        activation=keys.activation("hidden_act", "silu"),
        gated=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", False),
    )


FAMILY = Family(
    model_type="qwen3",
    prefix="model.",
    read_config=read_config,
    modules=MODULES,
    example={
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
    },
    buffers=llama.BUFFERS,
)
