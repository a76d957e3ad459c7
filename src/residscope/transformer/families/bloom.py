"""BLOOM: no positions but scores that fall with distance (ALiBi), and a normed embedding."""

from functools import partial

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family, Source
from residscope.transformer.families.gpt_neox import take_part

MODULES = {
    "embedding": "word_embeddings",
    "embed_norm": "word_embeddings_layernorm",
    "ln_final": "ln_f",
    "blocks.{layer}.ln1": "h.{layer}.input_layernorm",
    "blocks.{layer}.ln2": "h.{layer}.post_attention_layernorm",
    "blocks.{layer}.attn.o": "h.{layer}.self_attention.dense",
    "blocks.{layer}.mlp.up": "h.{layer}.mlp.dense_h_to_4h",
    "blocks.{layer}.mlp.down": "h.{layer}.mlp.dense_4h_to_h",
}


def read_config(keys: Keys, source: str) -> Config:
    d_model = keys.get("n_embed") or keys["hidden_size"]
    keys.only("apply_residual_connection_post_layernorm", False)
    keys.only("n_inner", 4 * d_model)
    keys.ignore("attention_dropout", "attention_softmax_in_fp32", "hidden_dropout", "masked_softmax_fusion")
    # How it was trained.
    keys.ignore("bias_dropout_fusion", "offset_alibi", "skip_bias_add", "skip_bias_add_qkv")
    if keys.get("slow_but_exact", False):  # the same sums in the pieces of several GPUs, where there were several
        keys.only("pretraining_tp", 1)
    keys.ignore("hidden_size")  # goes after n_embed
    return Config(
        family="bloom",
        n_layers=keys.get("n_layer") or keys["num_hidden_layers"],
        d_model=d_model,
        n_heads=keys.get("n_head") or keys["num_attention_heads"],
        d_mlp=4 * d_model,
        d_vocab=keys["vocab_size"],
        n_ctx=keys.get("seq_length", 2048),  # what it was trained on; nothing in the model ends there
        norm_eps=keys.get("layer_norm_epsilon", 1e-5),
        embed_norm=True,
        alibi=True,
        tied=keys.get("tie_word_embeddings", True),
    )


def list_parts(config: Config) -> dict[str, Source]:
    found = {}
    for layer in range(config.n_layers):
        for part, name in enumerate("qkv"):
            for kind in ("weight", "bias"):
                theirs = f"h.{layer}.self_attention.query_key_value.{kind}"
                found[f"blocks.{layer}.attn.{name}.{kind}"] = Source(theirs, partial(take_part, part, config.n_heads))
    return found


FAMILY = Family(
    model_type="bloom",
    prefix="transformer.",
    read_config=read_config,
    modules=MODULES,
    parts=list_parts,
    example={"hidden_size": 1024, "n_head": 16, "n_layer": 24, "vocab_size": 250880},
)
