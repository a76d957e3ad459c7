"""Qwen 2 and 2.5: Llama with biases on queries, keys and values, and windows in the upper layers where wanted."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import llama
from residscope.transformer.families.family import Family, read_rope, read_sizes, read_windows


def read_upper_windows(keys: Keys, source: str, n_layers: int) -> tuple[int | None, ...]:
    """Windows from layer `max_window_layers` on, or as `layer_types` lists them, where `use_sliding_window` says so."""
    first, window = keys.get("max_window_layers", 28), keys.nullable("sliding_window", 4096)
    if not keys.get("use_sliding_window", False):
        window = None
    types = ["sliding_attention" if layer >= first else "full_attention" for layer in range(n_layers)]
    return read_windows(keys, source, window, types)


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout")
    keys.only("use_mrope", False)
    sizes = read_sizes(keys)
    return Config(
        family="qwen2",
        **sizes,
        **read_rope(keys, source, sizes),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        windows=read_upper_windows(keys, source, sizes["n_layers"]),
        activation=keys.activation("hidden_act", "silu"),
        gated=True,
        qkv_bias=True,
        attn_out_bias=False,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", False),
    )


FAMILY = Family(
    model_type="qwen2",
    prefix="model.",
    read_config=read_config,
    modules=llama.MODULES,
    example={
        "hidden_size": 896,
        "intermediate_size": 4864,
        "max_position_embeddings": 32768,
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 151936,
    },
    buffers=llama.BUFFERS,
)
