"""SAELens: `cfg.json` beside `sae_weights.safetensors`, as versions 2 to 6 write them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from residscope.dictionaries.sparse_autoencoder import Activation, Scaling, SparseAutoencoder
from residscope.errors import BadDictionary
from residscope.sites import read_site

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

_T = TypeVar("_T")
_RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
_SCALINGS: dict[str, Scaling] = {
    "none": "none",
    "expected_average_only_in": "none",  # one factor for all inputs, which training folds into the weights
    "constant_norm_rescale": "norm",
    "layer_norm": "layer_norm",
}
_TENSORS: dict[Activation, tuple[str, ...]] = {
    "relu": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "topk": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "jumprelu": ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"),
    "gated": ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"),
}


def is_there(folder: Path) -> bool:
    """Whether a folder has these files."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read(folder: Path) -> SparseAutoencoder:
    """The dictionary in a folder.

    Raises:
      BadDictionary: A file cannot be read, says something that is not known here, or does not fit the other.
    """
    facts = _read_facts(folder / CONFIG)

    def choose(key: str, known: Mapping[str, _T], default: str) -> _T:
        value = facts.get(key) or default
        if not isinstance(value, str) or value not in known:
            raise BadDictionary(f"{folder / CONFIG} has {key}={value!r}.", f"Supported: {', '.join(known)}.")
        return known[value]

    choose("activation_fn", {"relu": None, "topk": None}, "relu")
    activation = choose("architecture", _ACTIVATIONS, "standard")
    scaling = choose("normalize_activations", _SCALINGS, "none")
    k, name, loading = facts.get("k"), facts.get("hook_name"), facts.get("model_from_pretrained_kwargs") or {}
    if not isinstance(loading, Mapping):
        raise BadDictionary(
            f"{folder / CONFIG} has model_from_pretrained_kwargs={loading!r}.", "Give names and values."
        )
    if not isinstance(name, str) or facts.get("hook_head_index") is not None:
        raise BadDictionary(
            f"{folder / CONFIG} has hook_name={name!r} and hook_head_index={facts.get('hook_head_index')!r}.",
            "A name is needed, as blocks.3.hook_resid_pre, and dictionaries of one head are not supported.",
        )
    tensors = _read_tensors(folder / WEIGHTS, activation, facts)
    n_features = len(tensors["W_dec"])
    if activation == "topk" and (not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= n_features):
        raise BadDictionary(
            f"{folder / CONFIG} has k={k!r}, and {n_features} features.", "Say how many of them stay, as k=32."
        )
    return SparseAutoencoder(
        name=folder.name,
        site=read_site(name),
        encoder=tensors["W_enc"],
        decoder=tensors["W_dec"],
        encoder_bias=tensors["b_mag" if activation == "gated" else "b_enc"],
        decoder_bias=tensors["b_dec"],
        activation=activation,
        k=k if activation == "topk" else None,
        threshold=tensors.get("threshold"),
        gate_bias=tensors.get("b_gate"),
        magnitude=tensors["r_mag"].exp() if activation == "gated" else None,
        by_decoder_norm=activation == "topk" and bool(facts.get("rescale_acts_by_decoder_norm", False)),
        less_decoder_bias=bool(facts.get("apply_b_dec_to_input", True)),
        centred=bool(loading.get("center_writing_weights", False)),
        scaling=scaling,
        facts={key: facts.get(key) for key in ("model_name", "prepend_bos", "context_size", "dataset_path")},
    )


def _read_facts(path: Path) -> dict[str, Any]:
    """What the config says, under the names that version 6 gives it."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        given = {_RENAMED.get(key, key): value for key, value in raw.items()}
        facts: dict[str, Any] = given | dict(given.get("metadata") or {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadDictionary(f"{path} cannot be read ({error}).", "Save the dictionary again.") from None
    if facts.get("activation_fn") == "topk":
        more = facts.get("activation_fn_kwargs")
        facts |= {"architecture": "topk", "k": more.get("k") if isinstance(more, Mapping) else facts.get("k")}
    if facts.get("normalize_activations") is True:
        facts["normalize_activations"] = "expected_average_only_in"
    return facts


def _read_tensors(path: Path, activation: Activation, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in float32, whatever they are stored in."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadDictionary(f"{path} cannot be read ({error}).", "Save the dictionary again.") from None
    factor = tensors.pop("scaling_factor", None)
    if factor is not None and bool((factor != 1).any()):
        raise BadDictionary(f"{path} has factors from finetuning.", "Multiply the decoder by them first.")
    names = _TENSORS[activation]
    found = [f"no {name}" for name in names if name not in tensors]
    found += [f"an unknown {name}" for name in sorted(tensors.keys() - {*names})]
    if found:
        raise BadDictionary(f"{path} has {', '.join(found)}.", f"It has to have {', '.join(names)}.")
    d_in, n_features = (*tensors["W_enc"].shape, 0, 0)[:2]
    shapes = {name: [n_features] for name in names} | {"W_dec": [n_features, d_in], "b_dec": [d_in]}
    shapes["W_enc"] = [facts.get("d_in", d_in), facts.get("d_sae", n_features)]
    for name in names:
        if list(tensors[name].shape) != shapes[name]:
            raise BadDictionary(
                f"{name} in {path} is {list(tensors[name].shape)}, where {shapes[name]} would fit.",
                "Take both files from one dictionary.",
            )
        if not tensors[name].is_floating_point() or not bool(tensors[name].isfinite().all()):
            raise BadDictionary(f"{name} in {path} holds NaN, infinity or whole numbers.", "Save it again.")
    return {name: tensors[name].float() for name in names}
