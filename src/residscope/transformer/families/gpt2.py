"""GPT-2: learned positions, layer norm, one fused projection for queries, keys and values, stored input first."""

from functools import partial

from torch import Tensor

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family, Source

MODULES = {
    "embedding": "wte",
    "positions": "wpe",
    "ln_final": "ln_f",
    "blocks.{layer}.ln1": "h.{layer}.ln_1",
    "blocks.{layer}.ln2": "h.{layer}.ln_2",
}


def read_config(keys: Keys, source: str) -> Config:
    d_model, n_heads = keys["n_embd"], keys["n_head"]
    keys.only("add_cross_attention", False)
    keys.ignore("reorder_and_upcast_attn", "n_ctx")  # the order of the same sums; an old name of n_positions
    keys.ignore("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type", "summary_use_proj", "summary_activation")
    keys.ignore("summary_proj_to_labels", "summary_first_dropout", "predict_special_tokens", "output_past", "n_special")
    return Config(
        family="gpt2",
        n_layers=keys["n_layer"],
        d_model=d_model,
        n_heads=n_heads,
        d_mlp=keys.get("n_inner", 4 * d_model),
        d_vocab=keys["vocab_size"],
        n_ctx=keys["n_positions"],
        norm="layer",
        norm_eps=keys.get("layer_norm_epsilon", 1e-5),
        learned_positions=True,
        attn_scale=(d_model // n_heads) ** -0.5 if keys.get("scale_attn_weights", True) else 1.0,
        attn_scale_by_layer=keys.get("scale_attn_by_inverse_layer_idx", False),
        activation=keys.activation("activation_function", "gelu_new"),
        tied=keys.get("tie_word_embeddings", True),
    )


def _third(part: int, tensor: Tensor) -> Tensor:
    return tensor.chunk(3, dim=-1)[part].T if tensor.ndim == 2 else tensor.chunk(3)[part]


def list_parts(config: Config) -> dict[str, Source]:
    found = {}
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}", f"h.{layer}"
        for kind in ("weight", "bias"):
            for part, name in enumerate("qkv"):
                found[f"{ours}.attn.{name}.{kind}"] = Source(f"{theirs}.attn.c_attn.{kind}", partial(_third, part))
        for our_name, name in {"attn.o": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}.items():
            found[f"{ours}.{our_name}.weight"] = Source(f"{theirs}.{name}.weight", Tensor.t)
            found[f"{ours}.{our_name}.bias"] = Source(f"{theirs}.{name}.bias")
    return found


FAMILY = Family(
    model_type="gpt2",
    prefix="transformer.",
    read_config=read_config,
    modules=MODULES,
    parts=list_parts,
    example={"n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257},
    buffers=(r"h\.\d+\.attn\.(bias|masked_bias)",),  # the causal mask, as older transformers saved it
)
