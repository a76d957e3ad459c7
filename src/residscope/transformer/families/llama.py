"""Llama: rotary positions, RMS norm, grouped queries, a gated MLP."""

from residscope.transformer.config import Config, Keys
from residscope.transformer.families.family import Family, Source
from residscope.transformer.rotary import read_rotary


def read_config(keys: Keys, source: str) -> Config:
    d_model, n_heads = keys["hidden_size"], keys["num_attention_heads"]
    d_head = keys.get("head_dim", d_model // n_heads)
    keys.ignore("attention_dropout", "max_sequence_length", "is_llama_config", "transformers.js_config")
    keys.only("rope_interleaved", False)
    scaling = {**keys.get("rope_scaling", {}), **keys.get("rope_parameters", {})}
    original = keys.get("original_max_position_embeddings")  # Phi's place for it; goes before the dictionary's
    if original is not None:
        scaling["original_max_position_embeddings"] = original
    rotary, n_ctx = read_rotary(
        scaling,
        theta=keys.get("rope_theta", 10_000.0),
        n_dims=d_head,
        n_ctx=keys["max_position_embeddings"],
        source=source,
    )
    bias = keys.get("attention_bias", False)
    return Config(
        family="llama",
        n_layers=keys["num_hidden_layers"],
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=keys.get("num_key_value_heads", n_heads),
        d_head=d_head,
        d_mlp=keys["intermediate_size"],
        d_vocab=keys["vocab_size"],
        n_ctx=n_ctx,
        norm="rms",
        norm_eps=keys["rms_norm_eps"],
        rotary=rotary,
        attn_scale=d_head**-0.5,
        activation=keys.activation("hidden_act", "silu"),
        gated=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=keys.get("mlp_bias", False),
        tied=keys.get("tie_word_embeddings", False),
    )


def sources(config: Config) -> dict[str, Source]:
    found = {"embedding.weight": Source("embed_tokens.weight"), "ln_final.weight": Source("norm.weight")}
    names = {f"attn.{name}": f"self_attn.{name}_proj" for name in "qkvo"}
    names |= {f"mlp.{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}", f"layers.{layer}"
        found[f"{ours}.ln1.weight"] = Source(f"{theirs}.input_layernorm.weight")
        found[f"{ours}.ln2.weight"] = Source(f"{theirs}.post_attention_layernorm.weight")
        for our_name, name in names.items():
            has_bias = config.mlp_bias if name.startswith("mlp") else config.qkv_bias
            for kind in ("weight", "bias") if has_bias else ("weight",):
                found[f"{ours}.{our_name}.{kind}"] = Source(f"{theirs}.{name}.{kind}")
    return found


FAMILY = Family(
    model_type="llama",
    prefix="model.",
    read_config=read_config,
    sources=sources,
    buffers=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"rotary_emb\.inv_freq"),
)
