"""Llama: rotary positions, RMS norm, grouped queries, a gated MLP."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family, read_rope, read_sizes

MODULES = {
    "embedding": "embed_tokens",
    "ln_final": "norm",
    "blocks.{layer}.ln1": "layers.{layer}.input_layernorm",
    "blocks.{layer}.ln2": "layers.{layer}.post_attention_layernorm",
    **{f"blocks.{{layer}}.attn.{name}": f"layers.{{layer}}.self_attn.{name}_proj" for name in "qkvo"},
    **{f"blocks.{{layer}}.mlp.{name}": f"layers.{{layer}}.mlp.{name}_proj" for name in ("gate", "up", "down")},
}
BUFFERS = (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"rotary_emb\.inv_freq")


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout", "max_sequence_length", "is_llama_config", "transformers.js_config")
    keys.only("rope_interleaved", False)
    sizes = read_sizes(keys)
    bias = keys.get("attention_bias", False)
    return Config(
        family="llama",
        **sizes,
        **read_rope(keys, source, sizes),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        activation=keys.activation("hidden_act", "silu"),
        gated=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=keys.get("mlp_bias", False),
        tied=keys.get("tie_word_embeddings", False),
    )


FAMILY = Family(
    model_type="llama",
    prefix="model.",
    read_config=read_config,
    modules=MODULES,
    example={
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "rms_norm_eps": 1e-5,
        "vocab_size": 32000,
    },
    buffers=BUFFERS,
)
