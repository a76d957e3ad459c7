"""GPT-NeoX and Pythia: rotary positions on a part of each head, attention and MLP side by side, each with its norm."""

from functools import partial

from torch import Tensor

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family, Source, read_rope, read_sizes

MODULES = {
    "embedding": "embed_in",
    "ln_final": "final_layer_norm",
    "blocks.{layer}.ln1": "layers.{layer}.input_layernorm",
    "blocks.{layer}.ln2": "layers.{layer}.post_attention_layernorm",
    "blocks.{layer}.attn.o": "layers.{layer}.attention.dense",
    "blocks.{layer}.mlp.up": "layers.{layer}.mlp.dense_h_to_4h",
    "blocks.{layer}.mlp.down": "layers.{layer}.mlp.dense_4h_to_h",
}


def read_config(keys: Keys, source: str) -> Config:
    keys.ignore("attention_dropout", "classifier_dropout", "hidden_dropout")
    keys.ignore("attention_probs_dropout_prob", "hidden_dropout_prob")  # as they were called once
    sizes = read_sizes(keys)
    bias = keys.get("attention_bias", True)
    return Config(
        family="gpt_neox",
        **sizes,
        **read_rope(keys, source, sizes, theta_key="rotary_emb_base", share_key="rotary_pct", share=0.25),
        norm_eps=keys.get("layer_norm_eps", 1e-5),
        parallel=keys.get("use_parallel_residual", True),
        activation=keys.activation("hidden_act", "gelu"),
        qkv_bias=bias,
        attn_out_bias=bias,
        tied=keys.get("tie_word_embeddings", False),
    )


def take_part(part: int, n_heads: int, tensor: Tensor) -> Tensor:
    """Queries, keys or values out of rows `[head, three, d_head]`: a copy, as these rows are no view of two axes."""
    split = tensor.view(n_heads, 3, -1, *tensor.shape[1:])
    return split[:, part].reshape(-1, *tensor.shape[1:])


def list_parts(config: Config) -> dict[str, Source]:
    found = {}
    for layer in range(config.n_layers):
        for part, name in enumerate("qkv"):
            for kind in ("weight", "bias") if config.qkv_bias else ("weight",):
                theirs = f"layers.{layer}.attention.query_key_value.{kind}"
                found[f"blocks.{layer}.attn.{name}.{kind}"] = Source(theirs, partial(take_part, part, config.n_heads))
    return found


FAMILY = Family(
    model_type="gpt_neox",
    prefix="gpt_neox.",
    read_config=read_config,
    modules=MODULES,
    parts=list_parts,
    example={
        "hidden_size": 512,
        "intermediate_size": 2048,
        "max_position_embeddings": 2048,
        "num_attention_heads": 8,
        "num_hidden_layers": 6,
        "vocab_size": 50304,
    },
    buffers=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)", r"rotary_emb\.inv_freq"),
    heads=("embed_out.weight", "lm_head.weight"),
)
