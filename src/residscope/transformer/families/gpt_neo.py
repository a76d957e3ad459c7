"""GPT-Neo: learned positions, scores that are not scaled, and every other layer with a window."""

from itertools import islice

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family, read_windows

MODULES = {
    "embedding": "wte",
    "positions": "wpe",
    "ln_final": "ln_f",
    "blocks.{layer}.ln1": "h.{layer}.ln_1",
    "blocks.{layer}.ln2": "h.{layer}.ln_2",
    **{f"blocks.{{layer}}.attn.{name}": f"h.{{layer}}.attn.attention.{name}_proj" for name in "qkv"},
    "blocks.{layer}.attn.o": "h.{layer}.attn.attention.out_proj",
    "blocks.{layer}.mlp.up": "h.{layer}.mlp.c_fc",
    "blocks.{layer}.mlp.down": "h.{layer}.mlp.c_proj",
}


def read_config(keys: Keys, source: str) -> Config:
    d_model, n_layers = keys["hidden_size"], keys.count_layers("num_layers")
    keys.ignore("attention_layers")  # attention_types, written out
    keys.ignore("attention_dropout", "classifier_dropout", "embed_dropout", "resid_dropout", "summary_activation")
    keys.ignore("summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj")
    kinds = {"global": "full_attention", "local": "sliding_attention"}
    types = (kinds[kind] for cycle, times in keys["attention_types"] for _ in range(times) for kind in cycle)
    return Config(
        family="gpt_neo",
        n_layers=n_layers,
        d_model=d_model,
        n_heads=keys["num_heads"],
        d_mlp=keys.get("intermediate_size", 4 * d_model),
        d_vocab=keys["vocab_size"],
        n_ctx=keys["max_position_embeddings"],
        norm_eps=keys.get("layer_norm_epsilon", 1e-5),
        learned_positions=True,
        windows=read_windows(keys, source, keys.get("window_size", 256), list(islice(types, n_layers + 1))),
        attn_scale=1.0,
        activation=keys.activation("activation_function", "gelu_new"),
        qkv_bias=False,
        tied=keys.get("tie_word_embeddings", True),
    )


FAMILY = Family(
    model_type="gpt_neo",
    prefix="transformer.",
    read_config=read_config,
    modules=MODULES,
    example={
        "attention_types": [[["global", "local"], 6]],
        "hidden_size": 768,
        "max_position_embeddings": 2048,
        "num_heads": 12,
        "num_layers": 12,
        "vocab_size": 50257,
    },
    buffers=(r"h\.\d+\.attn\.attention\.(bias|masked_bias)",),  # the causal mask
)
