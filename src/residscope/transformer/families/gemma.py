"""Gemma: Llama with a scaled embedding, norms that multiply by one more than their weight, and wide heads."""

import math

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import llama
from residscope.transformer.families.family import Family, read_rope, read_sizes


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout")
    keys.only("use_bidirectional_attention", False)
    keys.only("hidden_activation", "gelu_pytorch_tanh")
    sizes = read_sizes(keys, head_dim=256)
    bias = keys.get("attention_bias", False)
    activation = keys.activation("hidden_act", "gelu_new")
    return Config(
        family="gemma",
        **sizes,
        **read_rope(keys, source, sizes),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        norm_offset=1.0,
        embed_scale=math.sqrt(sizes["d_model"]),
        activation="gelu_new" if activation == "gelu" else activation,  # the first files said gelu and meant the other
        gated=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", True),
    )


FAMILY = Family(
    model_type="gemma",
    prefix="model.",
    read_config=read_config,
    modules=llama.MODULES,
    example={
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "max_position_embeddings": 8192,
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "vocab_size": 256000,
    },
    buffers=llama.BUFFERS,
)
