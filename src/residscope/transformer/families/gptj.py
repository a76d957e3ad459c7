"""GPT-J: rotary positions that turn neighbours, attention and MLP side by side under one norm, a biased head."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family
from residscope.transformer.rotary import Rotary

MODULES = {
    "embedding": "wte",
    "ln_final": "ln_f",
    "blocks.{layer}.ln1": "h.{layer}.ln_1",
    **{f"blocks.{{layer}}.attn.{name}": f"h.{{layer}}.attn.{name}_proj" for name in "qkv"},
    "blocks.{layer}.attn.o": "h.{layer}.attn.out_proj",
    "blocks.{layer}.mlp.up": "h.{layer}.mlp.fc_in",
    "blocks.{layer}.mlp.down": "h.{layer}.mlp.fc_out",
}


def read_config(keys: Keys, source: str) -> Config:
    d_model, n_ctx = keys["n_embd"], keys["n_positions"]
    keys.only("rotary", True)
    keys.only("scale_attn_weights", True)
    keys.ignore("attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_activation", "summary_first_dropout")
    keys.ignore("summary_proj_to_labels", "summary_type", "summary_use_proj")
    return Config(
        family="gptj",
        n_layers=keys["n_layer"],
        d_model=d_model,
        n_heads=keys["n_head"],
        d_mlp=keys.get("n_inner", 4 * d_model),
        d_vocab=keys["vocab_size"],
        n_ctx=n_ctx,
        norm_eps=keys.get("layer_norm_epsilon", 1e-5),
        parallel=True,
        shared_norm=True,
        rotary=Rotary("default", keys["rotary_dim"], 10_000.0, n_ctx, interleaved=True),
        activation=keys.activation("activation_function", "gelu_new"),
        qkv_bias=False,
        attn_out_bias=False,
        unembed_bias=True,
        tied=keys.get("tie_word_embeddings", False),
    )


FAMILY = Family(
    model_type="gptj",
    prefix="transformer.",
    read_config=read_config,
    modules=MODULES,
    example={
        "n_embd": 4096,
        "n_head": 16,
        "n_layer": 28,
        "n_positions": 2048,
        "rotary_dim": 64,
        "vocab_size": 50400,
    },
    buffers=(r"h\.\d+\.attn\.(bias|masked_bias|embed_positions)",),  # the causal mask, sines and cosines
)
