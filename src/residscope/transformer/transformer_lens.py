"""Checkpoints of TransformerLens: what its config says, and its tensors under our names."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from residscope.errors import BadCheckpoint, UnsupportedModel
from residscope.transformer.config import Activation, Config, Keys
from residscope.transformer.loading import State, Tensors, refuse_strangers
from residscope.transformer.rotary import Rotary
from residscope.transformer.transformer import Transformer
from residscope.transformer.weights import Weights

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "solu": "solu",
    "solu_ln": "solu",
}

_BUFFERS = r"blocks\.\d+\.attn\.(mask|IGNORE|rotary_sin|rotary_cos)"

# Fields that say nothing of what the model computes: drawing, training, devices, hooks, the tokenizer, encoders.
_HARMLESS = """
    checkpoint_index checkpoint_label_type checkpoint_value decoder_start_token_id default_prepend_bos device dtype
    from_checkpoint init_mode init_weights initializer_range layer_norm_folding model_name n_devices n_params
    norm_topk_prob relative_attention_max_distance relative_attention_num_buckets seed tie_word_embeddings
    tokenizer_name tokenizer_prepends_bos train_seq_length trust_remote_code ungroup_grouped_query_attention
    use_attn_in use_attn_result use_hook_mlp_in use_hook_tokens use_split_qkv_input uses_rms_norm
""".split()

# Fields that are read only where another asks for them.
_CONDITIONAL = """
    NTK_by_parts_factor NTK_by_parts_high_freq_factor NTK_by_parts_low_freq_factor NTK_original_ctx_len attn_types
    rotary_adjacent_pairs rotary_base rotary_base_local rotary_dim rotary_scaling_factor use_NTK_by_parts_rope
    use_yarn_rope window_size yarn_attention_factor yarn_beta_fast yarn_beta_slow yarn_factor yarn_global_attn_only
    yarn_original_max_position_embeddings yarn_truncate
""".split()

# Fields that change what is computed, and the one value of each that is computed here.
_ONLY: dict[str, Any] = {
    "attention_dir": "causal",
    "clip_qkv": None,
    "experts_per_token": None,
    "load_in_4bit": False,
    "num_experts": None,
    "quantization_method": None,
    "use_attention_sinks": False,
    "use_dynamic_ntk_rope": False,
    "use_logn_attn": False,
}


def convert(
    fields: Mapping[str, Any], tensors: Tensors, source: str, dtype: torch.dtype, device: torch.device
) -> tuple[Config, State]:
    """A config and tensors, named as in `Transformer(config).state_dict()`.

    A gated MLP's `b_in` is added after the product there, and goes into `b_out` here: the logits are the same, and
    `mlp_act` lacks it.

    Args:
      fields: Of a HookedTransformerConfig.
      tensors: Of its state_dict.
      source: Where they are from, for messages.
      dtype: Of what is given.
      device: Of the same.
    Raises:
      UnsupportedModel: A field is unknown, or asks for what is not computed here; it is named.
      BadCheckpoint: Tensors are missing, left over, or of another shape; they are named.
    """
    try:
        config = read_config(fields, source)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BadCheckpoint(
            f"The config of {source} has a value that makes no sense ({error}).", "Compare it with the model's own."
        ) from None
    with torch.device("meta"):
        weights = Weights(Transformer(config))
    # Grouped heads are stored under names with an underscore.
    found = {name.replace(".attn._", ".attn."): name for name in tensors if not re.fullmatch(_BUFFERS, name)}
    if not config.learned_positions:
        found.pop("pos_embed.W_pos", None)  # there with ALiBi too, and not used
    wanted = {weights.transformer_lens(name): name for name in weights}
    filled = {theirs: fill for theirs in wanted.keys() - found if (fill := _fill(theirs, fields)) is not None}
    refuse_strangers(set(found), wanted.keys() - filled, source, "TransformerLens")
    state: dict[str, Tensor] = {}
    for theirs, name in wanted.items():
        shape, (place, pattern) = weights[name].shape, weights.place(name)
        if theirs in filled:
            tensor = torch.full(shape, filled[theirs], dtype=dtype, device=device)
        else:
            tensor = tensors.read(found[theirs], dtype, device)
        if tensor.shape != shape:
            raise BadCheckpoint(
                f"{source} has {theirs} of shape {list(tensor.shape)}; the config asks for {list(shape)}.",
                "The config and the weights are of different models.",
            )
        state[place] = rearrange(tensor, " -> ".join(reversed(pattern.split(" -> "))))
    if config.gated:
        for mlp in (f"blocks.{layer}.mlp" for layer in range(config.n_layers)):
            b_in = state[f"{mlp}.up.bias"]
            state[f"{mlp}.down.bias"] = state[f"{mlp}.down.bias"] + state[f"{mlp}.down.weight"] @ b_in
            state[f"{mlp}.up.bias"] = torch.zeros_like(b_in)
    return config, State(state)


def _fill(name: str, fields: Mapping[str, Any]) -> float | None:
    # What a tensor holds that is not stored: a gate has no bias there, a folded norm neither weight nor bias.
    if name.endswith("mlp.b_gate"):
        return 0.0
    folded = str(fields.get("normalization_type")).endswith("Pre")
    if folded and re.fullmatch(r"(blocks\.\d+\.(ln1|ln2|mlp\.ln)|ln_final)\.[wb]", name):
        return float(name.endswith("w"))
    return None


def read_config(fields: Mapping[str, Any], source: str) -> Config:
    """What TransformerLens's config says; every field is read, known to be harmless, or refused by name.

    Raises:
      UnsupportedModel, BadCheckpoint: As for a config.json.
    """
    keys = Keys(fields, source)
    keys.ignore(*_HARMLESS, *_CONDITIONAL)
    for key, value in _ONLY.items():
        keys.only(key, value)
    keys.only("d_vocab_out", -1 if fields.get("d_vocab_out") == -1 else keys["d_vocab"])
    d_model, d_head, n_heads = keys["d_model"], keys["d_head"], keys.get("n_heads", -1)
    n_heads = d_model // d_head if n_heads == -1 else n_heads
    scale, scaled = keys.get("attn_scale", -1.0), keys.get("use_attn_scale", True)
    attn_cap, logit_cap = (keys.get(f"{name}_soft_cap", -1.0) for name in ("attn_scores", "output_logits"))
    local = keys["attn_types"] if keys.get("use_local_attn", False) else []
    config = Config(
        family="TransformerLens",
        n_layers=keys["n_layers"],
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=keys.get("n_key_value_heads", n_heads),
        d_head=d_head,
        d_vocab=keys["d_vocab"],
        n_ctx=keys["n_ctx"],
        norm_eps=keys.get("eps", 1e-5),
        parallel=keys.get("parallel_attn_mlp", False),
        windows=tuple(keys["window_size"] if kind == "local" else None for kind in local),
        attn_scale=1.0 if not scaled else d_head**-0.5 if scale == -1 else 1 / float(scale),
        attn_scale_by_layer=keys.get("scale_attn_by_inverse_layer_idx", False),
        attn_cap=attn_cap if attn_cap > 0 else None,
        logit_cap=logit_cap if logit_cap > 0 else None,
        unembed_bias=True,
        **_read_norms(keys, fields, source),
        **_read_positions(keys, source),
        **_read_mlp(keys, source),
    )
    keys.finish()
    return config


def _read_norms(keys: Keys, fields: Mapping[str, Any], source: str) -> dict[str, Any]:
    keys.ignore("normalization_type")
    kind = fields.get("normalization_type", "LN")  # None is a value of its own
    qk, after, embed = (
        keys.get(name, False) for name in ("use_qk_norm", "use_normalization_before_and_after", "post_embedding_ln")
    )
    rms, layer = kind in ("RMS", "RMSPre"), kind in ("LN", "LNPre")
    architecture = keys.get("original_architecture", "")
    for refused, what in (
        (kind is not None and not rms and not layer, f"normalization_type={kind!r}"),
        ((qk or after) and not rms, f"norms of another kind than {kind!r} after attention or of queries and keys"),
        (embed and not layer, f"a layer norm of the embedding where other norms are {kind!r}"),
        (keys.get("final_rms", False) and layer, "final_rms=True, where the other norms are layer norms"),
        (str(architecture).startswith("Olmo"), f"the norms of {architecture}, which stand elsewhere"),
    ):
        _refuse(bool(refused), what, source)
    return {
        "norm": "rms" if rms else "layer" if layer else None,
        "norm_weight": not str(kind).endswith("Pre") or qk or after or embed,
        "qk_norm": "head" if qk else None,
        "post_norm": after,
        "embed_norm": embed,
    }


def _read_mlp(keys: Keys, source: str) -> dict[str, Any]:
    d_mlp, attn_only = keys.get("d_mlp", 4 * keys["d_model"]), keys.get("attn_only", False)
    name, gated = keys.get("act_fn", "relu"), keys.get("gated_mlp", False)
    kind = keys.get("normalization_type")
    if attn_only:
        return {"d_mlp": 0}
    _refuse(name not in _ACTIVATIONS, f"the activation {name!r}", source)
    normed = name.endswith("_ln")
    _refuse(normed and gated, f"a gated MLP with {name}", source)
    _refuse(normed and kind not in ("LN", "LNPre"), f"a layer norm in the MLP where other norms are {kind!r}", source)
    return {"d_mlp": d_mlp, "activation": _ACTIVATIONS[name], "gated": gated, "mlp_norm": normed}


def _read_positions(keys: Keys, source: str) -> dict[str, Any]:
    kind, n_heads = keys.get("positional_embedding_type", "standard"), keys.get("n_heads", -1)
    _refuse(kind not in ("standard", "rotary", "alibi"), f"positional_embedding_type={kind!r}", source)
    if kind == "standard":
        _refuse(keys.get("post_embedding_ln", False), "a norm of the embedding before positions are added", source)
        return {"learned_positions": True}
    if kind == "alibi":
        n_heads = keys["d_model"] // keys["d_head"] if n_heads == -1 else n_heads
        _refuse(n_heads & (n_heads - 1) != 0, f"its slopes of ALiBi for {n_heads} heads, no power of two", source)
        return {"alibi": True}
    everywhere, local = _read_rotary(keys)
    return {"rotary": everywhere, "rotary_windowed": local if keys.get("use_local_attn") else None}


def _read_rotary(keys: Keys) -> tuple[Rotary, Rotary]:
    # How layers without a window turn queries and keys, and how layers with one do.
    theta = float(keys.get("rotary_base", 10_000))
    plain = Rotary(
        "default",
        keys.get("rotary_dim", keys["d_head"]),
        theta,
        keys["n_ctx"],
        interleaved=keys.get("rotary_adjacent_pairs", False),
    )
    local_theta = float(keys.get("rotary_base_local", theta))
    if keys.get("use_NTK_by_parts_rope", False):
        scaled = replace(
            plain,
            type="llama3",
            n_ctx_original=keys.get("NTK_original_ctx_len", 8192),
            factor=float(keys.get("NTK_by_parts_factor", 8.0)),
            low_freq_factor=float(keys.get("NTK_by_parts_low_freq_factor", 1.0)),
            high_freq_factor=float(keys.get("NTK_by_parts_high_freq_factor", 4.0)),
        )
        return scaled, replace(scaled, theta=local_theta)
    if keys.get("use_yarn_rope", False):
        scaled = replace(
            plain,
            type="yarn",
            n_ctx_original=keys.get("yarn_original_max_position_embeddings", 4096),
            factor=float(keys.get("yarn_factor", 1.0)),
            attention_factor=float(keys.get("yarn_attention_factor", 1.0)),
            beta_fast=float(keys.get("yarn_beta_fast", 32.0)),
            beta_slow=float(keys.get("yarn_beta_slow", 1.0)),
            truncate=keys.get("yarn_truncate", True),
        )
        return scaled, replace(plain if keys.get("yarn_global_attn_only", False) else scaled, theta=local_theta)
    factor = float(keys.get("rotary_scaling_factor", 1.0))
    everywhere = replace(plain, type="linear", factor=factor) if factor != 1 else plain
    return everywhere, replace(plain, theta=local_theta)


def _refuse(refused: bool, what: str, source: str) -> None:
    if refused:
        raise UnsupportedModel(
            f"The config of {source} asks for {what}.",
            "Load the original model, where there is one.",
        )
