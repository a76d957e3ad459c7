"""OLMo 2: norms only after attention and MLP, queries and keys normed over all heads as one."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families import gemma2, llama, qwen3
from residscope.transformer.families.family import Family, read_rope, read_sizes

MODULES = qwen3.MODULES | gemma2.MODULES


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout")
    sizes = read_sizes(keys)
    bias = keys.get("attention_bias", False)
    return Config(
        family="olmo2",
        **sizes,
        **read_rope(keys, source, sizes),
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        pre_norm=False,
        post_norm=True,
        qk_norm="whole",
        activation=keys.activation("hidden_act", "silu"),
        gated=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=False,
        tied=keys.get("tie_word_embeddings", False),
    )


FAMILY = Family(
    model_type="olmo2",
    prefix="model.",
    read_config=read_config,
    modules=MODULES,
    example={
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "rms_norm_eps": 1e-6,
        "vocab_size": 100352,
    },
    buffers=llama.BUFFERS,
)
