"""Gemma 2: Gemma with norms after attention and MLP too, caps on scores and logits, every other layer with a window."""

import math

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import llama
from residscope.transformer.families.family import Family, read_rope, read_sizes, read_windows

MODULES = {
    **llama.MODULES,
    "blocks.{layer}.ln1_post": "layers.{layer}.post_attention_layernorm",
    "blocks.{layer}.ln2": "layers.{layer}.pre_feedforward_layernorm",
    "blocks.{layer}.ln2_post": "layers.{layer}.post_feedforward_layernorm",
}


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout", "hidden_act", "sliding_window_size")  # older names beside the newer
    keys.only("use_bidirectional_attention", False)
    sizes = read_sizes(keys, head_dim=256)
    types = [("sliding_attention", "full_attention")[layer % 2] for layer in range(sizes["n_layers"])]
    bias = keys.get("attention_bias", False)
    return Config(
        family="gemma2",
        **sizes,
        **read_rope(keys, source, sizes),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        norm_offset=1.0,
        post_norm=True,
        embed_scale=math.sqrt(sizes["d_model"]),
        windows=read_windows(keys, source, keys.nullable("sliding_window", 4096), types),
        attn_scale=keys.get("query_pre_attn_scalar", 256) ** -0.5,
        attn_cap=keys.nullable("attn_logit_softcapping", 50.0),
        logit_cap=keys.nullable("final_logit_softcapping", 30.0),
        activation=keys.activation("hidden_activation", "gelu_pytorch_tanh"),
        gated=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", True),
    )


FAMILY = Family(
    model_type="gemma2",
    prefix="model.",
    read_config=read_config,
    modules=MODULES,
    example={
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "max_position_embeddings": 8192,
        "num_attention_heads": 8,
        "num_hidden_layers": 26,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-6,
        "vocab_size": 256000,
    },
    buffers=llama.BUFFERS,
)
