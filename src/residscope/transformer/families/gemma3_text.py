"""Gemma 3: Gemma 2 without caps on scores, queries and keys normed, other angles in layers with a window."""

import math

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import gemma2, llama, qwen3
from residscope.transformer.families.family import Family, read_sizes, read_windows
from residscope.transformer.rotary import read_rotary

MODULES = qwen3.MODULES | gemma2.MODULES


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout", "hidden_act")
    keys.only("use_bidirectional_attention", False)
    keys.only("attn_logit_softcapping", None)
    sizes = read_sizes(keys, num_attention_heads=8, num_key_value_heads=4, head_dim=256, vocab_size=262_208)
    n_ctx = keys.get("max_position_embeddings", 131_072)
    cycle = keys.get("sliding_window_pattern", keys.get("_sliding_window_pattern", 6))
    types = ["sliding_attention" if (n + 1) % cycle else "full_attention" for n in range(sizes["n_layers"])]
    angles = Keys(keys.get("rope_parameters", {}), f"{source}, rope_parameters")
    full = {**angles.get("full_attention", {}), **keys.get("rope_scaling", {})}
    windowed = angles.get("sliding_attention", {})
    angles.finish()
    theta, theta_windowed = float(keys.get("rope_theta", 1e6)), float(keys.get("rope_local_base_freq", 1e4))
    n_dims = sizes["d_head"]
    rotary_windowed, _ = read_rotary(windowed, theta=theta_windowed, n_dims=n_dims, n_ctx=n_ctx, source=source)
    rotary, n_ctx = read_rotary(full, theta=theta, n_dims=n_dims, n_ctx=n_ctx, source=source)
    bias = keys.get("attention_bias", False)
    return Config(
        family="gemma3_text",
        **sizes,
        n_ctx=n_ctx,
        norm="rms",
        norm_eps=keys.get("rms_norm_eps", 1e-6),
        norm_offset=1.0,
        post_norm=True,
        embed_scale=math.sqrt(sizes["d_model"]),
        rotary=rotary,
        rotary_windowed=rotary_windowed,
        windows=read_windows(keys, source, keys.get("sliding_window", 4096), types),
        attn_scale=keys.get("query_pre_attn_scalar", 256) ** -0.5,
        logit_cap=keys.get("final_logit_softcapping"),
        qk_norm="head",
        activation=keys.activation("hidden_activation", "gelu_pytorch_tanh"),
        gated=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", True),
    )


FAMILY = Family(
    model_type="gemma3_text",
    prefix="model.",
    read_config=read_config,
    modules=MODULES,
    example={
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "sliding_window": 512,
    },
    buffers=llama.BUFFERS,
)
