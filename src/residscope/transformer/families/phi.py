"""Phi 1, 1.5 and 2: rotary positions on a part of each head, attention and MLP side by side under one norm."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import llama
from residscope.transformer.families.family import Family, read_rope, read_sizes

MODULES = {
    "embedding": "embed_tokens",
    "ln_final": "final_layernorm",
    "blocks.{layer}.ln1": "layers.{layer}.input_layernorm",
    **{f"blocks.{{layer}}.attn.{name}": f"layers.{{layer}}.self_attn.{name}_proj" for name in "qkv"},
    "blocks.{layer}.attn.o": "layers.{layer}.self_attn.dense",
    "blocks.{layer}.attn.q_norm": "layers.{layer}.self_attn.q_layernorm",
    "blocks.{layer}.attn.k_norm": "layers.{layer}.self_attn.k_layernorm",
    "blocks.{layer}.mlp.up": "layers.{layer}.mlp.fc1",
    "blocks.{layer}.mlp.down": "layers.{layer}.mlp.fc2",
}


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout", "embd_pdrop", "resid_pdrop")
    sizes = read_sizes(keys)
    return Config(
        family="phi",
        **sizes,
        **read_rope(keys, source, sizes, share=0.5),
        norm_eps=keys.get("layer_norm_eps", 1e-5),
        parallel=True,
        shared_norm=True,
        qk_norm="head" if keys.get("qk_layernorm", False) else None,
        activation=keys.activation("hidden_act", "gelu_new"),
        unembed_bias=True,
        tied=keys.get("tie_word_embeddings", False),
    )


FAMILY = Family(
    model_type="phi",
    prefix="model.",
    read_config=read_config,
    modules=MODULES,
    example={
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "max_position_embeddings": 2048,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "partial_rotary_factor": 0.4,
        "vocab_size": 51200,
    },
    buffers=llama.BUFFERS,
)
