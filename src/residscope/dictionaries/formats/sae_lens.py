"""SAELens: `cfg.json` beside `sae_weights.safetensors`, as versions 2 to 6 write them; its transcoders too."""

from collections.abc import Callable, Mapping
from math import log
from pathlib import Path
from typing import Any

from residscope.dictionaries.files import (
    Tensors,
    check_k,
    choose,
    choose_site,
    map_safetensors,
    read_flag,
    read_json,
    read_weights,
    refuse_unknown,
)
from residscope.dictionaries.sparse_autoencoder import Activation, Scaling, SparseAutoencoder
from residscope.errors import BadDictionary
from residscope.sites import Site

CONFIG, WEIGHTS, SPARSITY = "cfg.json", "sae_weights.safetensors", "sparsity.safetensors"
FILES: tuple[str, ...] = (CONFIG, WEIGHTS, SPARSITY)
PICKLED = False

_RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "batchtopk": "jumprelu",  # as training keeps it, with the threshold that stands for all batches
    "matryoshka_batchtopk": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_SCALINGS: dict[str, Scaling] = {
    "none": "none",
    "expected_average_only_in": "none",  # one factor for all inputs, which training folds into the weights
    "covariance_whitening": "none",  # folded too
    "constant_norm_rescale": "norm",
    "layer_norm": "layer_norm",
}
_PLAIN = {"encoder": "W_enc", "decoder": "W_dec", "encoder_bias": "b_enc", "decoder_bias": "b_dec"}
_LAYOUTS: dict[Activation, dict[str, str]] = {
    "relu": _PLAIN,
    "topk": _PLAIN,
    "jumprelu": _PLAIN | {"threshold": "threshold"},
    "gated": _PLAIN | {"encoder_bias": "b_mag", "gate_bias": "b_gate", "magnitude": "r_mag"},
}
# What version 6 says beside its metadata; earlier ones mixed what they knew of the training in.
_KEPT = ("model_name", "prepend_bos", "context_size", "dataset_path", "neuronpedia_id")
_KEYS = frozenset(
    """architecture d_in d_sae d_out dtype device apply_b_dec_to_input normalize_activations reshape_activations
    metadata k rescale_acts_by_decoder_norm decoder_init_norm use_sparse_activations aux_loss_coefficient
    topk_threshold_lr l1_coefficient l1_warm_up_steps lp_norm l0_coefficient l0_warm_up_steps target_l0
    pre_act_loss_coefficient jumprelu_init_threshold jumprelu_bandwidth jumprelu_sparsity_loss_mode
    jumprelu_tanh_scale jumprelu_ste_to_input matryoshka_widths use_matryoshka_aux_loss""".split()
)


def is_there(path: Path) -> bool:
    """Whether a folder has these files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read(path: Path, site: Site | None) -> SparseAutoencoder:
    """The dictionary in a folder.

    Raises:
      BadDictionary: A file cannot be read, says something that is not known here, or does not fit the other.
    """
    raw = read_json(path / CONFIG)
    facts = read_facts(raw, path / CONFIG)
    refuse_unknown({*raw} - _KEYS if "sae_lens_version" in facts else {}, path / CONFIG)
    if (path / SPARSITY).is_file() and "sparsity" in (tensors := map_safetensors(path / SPARSITY)):
        facts["l0"] = float(tensors["sparsity"].double().mul(log(10)).exp().sum())
    return build(path.name, facts, path / CONFIG, path / WEIGHTS, map_safetensors, site)


def read_facts(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What a config says, under the names that version 6 gives it.

    Raises:
      BadDictionary: It says it otherwise.
    """
    given = {_RENAMED.get(key, key): value for key, value in raw.items()}
    metadata = given.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise BadDictionary(f"{path} has metadata={metadata!r}.", "Give names and values.")
    facts = {**metadata, **given}
    if facts.get("activation_fn") == "topk":
        more = facts.get("activation_fn_kwargs")
        facts |= {"architecture": "topk", "k": more.get("k") if isinstance(more, Mapping) else facts.get("k")}
    if facts.get("normalize_activations") is True:
        facts["normalize_activations"] = "expected_average_only_in"
    return facts


def build(
    name: str,
    facts: Mapping[str, Any],
    config: Path,
    weights: Path,
    opened: Callable[[Path], Tensors],
    site: Site | None,
) -> SparseAutoencoder:
    """The dictionary of these facts and weights.

    Args:
      name: For people.
      facts: As `read_facts` gives them.
      config: Where the facts lie.
      weights: Where the weights lie.
      opened: Opens the weights.
      site: What was asked for; None takes what the facts say.
    Raises:
      BadDictionary: They say something that is not known here, or do not fit each other.
    """
    choose(facts, "activation_fn", {"relu": None, "topk": None}, "relu", config)
    activation = choose(facts, "architecture", _ACTIVATIONS, "standard", config)
    scaling = choose(facts, "normalize_activations", _SCALINGS, "none", config)
    transcodes = str(facts.get("architecture")).endswith("transcoder")
    loading = facts.get("model_from_pretrained_kwargs") or {}
    if not isinstance(loading, Mapping):
        raise BadDictionary(f"{config} has model_from_pretrained_kwargs={loading!r}.", "Give names and values.")
    for key in ("hook_head_index", "hook_head_index_out"):
        if facts.get(key) is not None:
            raise BadDictionary(f"{config} has {key}={facts[key]!r}.", "Dictionaries of one head are not supported.")
    layout = _LAYOUTS[activation] | ({"skip": "W_skip"} if "skip_" in str(facts.get("architecture")) else {})
    said = {"d_in": facts.get("d_in"), "feature": facts.get("d_sae"), "d_out": facts.get("d_out")}
    tensors = read_weights(weights, lambda path: _settle(opened(path), path), layout, said, transcodes=transcodes)
    if activation == "gated":
        tensors["magnitude"] = tensors["magnitude"].exp()
    k = check_k(facts.get("k"), len(tensors["decoder"]), config) if activation == "topk" else None
    reads = choose_site(site, facts.get("hook_name"), config)
    if choose(facts, "reshape_activations", {"none": False, "hook_z": True}, "none", config) and reads.kind != "z":
        raise BadDictionary(
            f"{config} has reshape_activations='hook_z', and reads {reads}, which has no heads.",
            "Name a z, or take it out.",
        )
    return SparseAutoencoder(
        name=name,
        site=reads,
        target=choose_site(None, facts.get("hook_name_out"), config) if transcodes else None,
        **tensors,
        activation=activation,
        k=k,
        by_decoder_norm=read_flag(facts, "rescale_acts_by_decoder_norm", False, config),
        less_decoder_bias=read_flag(facts, "apply_b_dec_to_input", not transcodes, config),
        centred=read_flag(loading, "center_writing_weights", False, config),
        scaling=scaling,
        facts={key: facts.get(key) for key in _KEPT} | {"n_active": k or facts.get("l0")},
    )


def _settle(tensors: Tensors, path: Path) -> Tensors:
    """Without factors that are all one, and with a threshold for each feature."""
    settled = dict(tensors)
    factor, threshold = settled.pop("scaling_factor", None), settled.pop("topk_threshold", None)
    if factor is not None and bool((factor != 1).any()):
        raise BadDictionary(f"{path} has factors from finetuning.", "Multiply the decoder by them first.")
    if threshold is not None and "b_enc" in settled:
        settled["threshold"] = threshold.float().expand(settled["b_enc"].shape)
    return settled
