"""Mistral: Llama with a window: each query sees as many keys back, in every layer."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import llama
from residscope.transformer.families.family import Family, read_rope, read_sizes


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout")
    keys.only("attention_bias", False)
    sizes = read_sizes(keys)
    window = keys.nullable("sliding_window", 4096)
    return Config(
        family="mistral",
        **sizes,
        **read_rope(keys, source, sizes),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        windows=(window,) * sizes["n_layers"],
        activation=keys.activation("hidden_act", "silu"),
        gated=True,
        qkv_bias=False,
        attn_out_bias=False,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", False),
    )


FAMILY = Family(
    model_type="mistral",
    prefix="model.",
    read_config=read_config,
    modules=llama.MODULES,
    example={
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "sliding_window": 4096,
        "vocab_size": 32000,
    },
    buffers=llama.BUFFERS,
)
