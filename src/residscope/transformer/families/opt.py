"""OPT: learned positions, of which the first two rows are not used, and rectified neurons."""

from torch import Tensor

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family, Source

MODULES = {
    "embedding": "embed_tokens",
    "ln_final": "final_layer_norm",
    "blocks.{layer}.ln1": "layers.{layer}.self_attn_layer_norm",
    "blocks.{layer}.ln2": "layers.{layer}.final_layer_norm",
    **{f"blocks.{{layer}}.attn.{name}": f"layers.{{layer}}.self_attn.{name}_proj" for name in "qkv"},
    "blocks.{layer}.attn.o": "layers.{layer}.self_attn.out_proj",
    "blocks.{layer}.mlp.up": "layers.{layer}.fc1",
    "blocks.{layer}.mlp.down": "layers.{layer}.fc2",
}


def read_config(keys: Keys, source: str) -> Config:
    d_model = keys["hidden_size"]
    keys.only("do_layer_norm_before", True)
    keys.only("word_embed_proj_dim", d_model)
    keys.only("_remove_final_layer_norm", False)
    keys.ignore("activation_dropout", "attention_dropout", "dropout", "init_std", "layerdrop")
    bias = keys.get("enable_bias", True)
    return Config(
        family="opt",
        n_layers=keys["num_hidden_layers"],
        d_model=d_model,
        n_heads=keys["num_attention_heads"],
        d_mlp=keys["ffn_dim"],
        d_vocab=keys["vocab_size"],
        n_ctx=keys["max_position_embeddings"],
        norm_weight=keys.get("layer_norm_elementwise_affine", True),
        learned_positions=True,
        activation=keys.activation("activation_function", "relu"),
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        tied=keys.get("tie_word_embeddings", True),
    )


def _used_rows(tensor: Tensor) -> Tensor:
    return tensor[2:]


def list_parts(config: Config) -> dict[str, Source]:
    return {"positions.weight": Source("embed_positions.weight", _used_rows)}


FAMILY = Family(
    model_type="opt",
    prefix="model.decoder.",
    read_config=read_config,
    modules=MODULES,
    parts=list_parts,
    example={
        "ffn_dim": 3072,
        "hidden_size": 768,
        "max_position_embeddings": 2048,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "vocab_size": 50272,
    },
    buffers=("version",),
    other_prefixes=("decoder.",),
)
