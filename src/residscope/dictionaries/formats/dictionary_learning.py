"""dictionary_learning: `config.json` beside `ae.pt`, which is a pickle."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from residscope.dictionaries.files import (
    Tensors,
    check_k,
    check_tensors,
    choose,
    choose_site,
    read_json,
    read_weights,
    unpickle,
)
from residscope.dictionaries.sparse_autoencoder import Activation, SparseAutoencoder
from residscope.errors import BadDictionary
from residscope.sites import Site

CONFIG, WEIGHTS, MEASURED = "config.json", "ae.pt", "eval_results.json"
FILES: tuple[str, ...] = (CONFIG, WEIGHTS, MEASURED)
PICKLED = True


@dataclass(frozen=True)
class _Class:
    """What a class of the library computes, and what it calls its tensors."""

    activation: Activation
    layout: dict[str, str]
    less_decoder_bias: bool = True


_LINEAR = {"encoder": "encoder.weight.T", "decoder": "decoder.weight.T", "encoder_bias": "encoder.bias"}
_PLAIN = {"encoder": "W_enc", "decoder": "W_dec", "encoder_bias": "b_enc", "decoder_bias": "b_dec"}
_BATCH = {"threshold": "threshold"}  # one for all features, which stands for the largest of a batch
_CLASSES = {
    "AutoEncoder": _Class("relu", _LINEAR | {"decoder_bias": "bias"}),
    "AutoEncoderNew": _Class("relu", _LINEAR | {"decoder_bias": "decoder.bias"}, less_decoder_bias=False),
    "GatedAutoEncoder": _Class(
        "gated",
        _LINEAR
        | {"encoder_bias": "mag_bias", "gate_bias": "gate_bias", "magnitude": "r_mag", "decoder_bias": "decoder_bias"},
    ),
    "AutoEncoderTopK": _Class("topk", _LINEAR | {"decoder_bias": "b_dec"}),
    "BatchTopKSAE": _Class("jumprelu", _LINEAR | {"decoder_bias": "b_dec"} | _BATCH),
    "MatryoshkaBatchTopKSAE": _Class("jumprelu", _PLAIN | _BATCH),
    "JumpReluAutoEncoder": _Class("jumprelu", _PLAIN | {"threshold": "threshold"}, less_decoder_bias=False),
}
_NAMED = re.compile(r"(resid_pre|resid_mid|resid_post|resid_out|attn_out|mlp_out)_layer_?(\d+)")


def is_there(path: Path) -> bool:
    """Whether a folder has these files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read(path: Path, site: Site | None) -> SparseAutoencoder:
    """The dictionary in a folder.

    Raises:
      BadDictionary: A file cannot be read, says something that is not known here, or does not fit the other.
    """
    config = path / CONFIG
    trainer, buffer = (_take(read_json(config), part, config) for part in ("trainer", "buffer"))
    if buffer.get("io") == "in_and_out":
        raise BadDictionary(
            f"{config} has io='in_and_out', and does not say what it reads and what it writes.",
            "Save the transcoder as SAELens does.",
        )
    kind = choose(trainer, "dict_class", _CLASSES, "", config)
    said = {"d_in": trainer.get("activation_dim"), "feature": trainer.get("dict_size")}
    ignored = frozenset({"k", "threshold", "group_sizes"}) - {*kind.layout}
    tensors = read_weights(
        path / WEIGHTS,
        lambda file: _settle(check_tensors(unpickle(file), file), trainer, file),
        kind.layout,
        said,
        ignored=ignored,
    )
    by_decoder_norm = False
    if kind.activation == "gated":
        tensors["magnitude"] = tensors["magnitude"].exp()
    if trainer["dict_class"] == "AutoEncoder":  # alone in being put at length one by the library when it is opened
        norms = tensors["decoder"].norm(dim=-1)
        by_decoder_norm = not torch.allclose(norms, torch.ones_like(norms))
    k = check_k(trainer.get("k"), len(tensors["decoder"]), config) if kind.activation == "topk" else None
    measured = read_json(path / MEASURED) if (path / MEASURED).is_file() else {}
    return SparseAutoencoder(
        name=path.name,
        site=choose_site(site, _name_site(trainer, path), config),
        **tensors,
        activation=kind.activation,
        k=k,
        by_decoder_norm=by_decoder_norm,
        less_decoder_bias=kind.less_decoder_bias,
        facts={
            "model_name": trainer.get("lm_name"),
            "context_size": buffer.get("ctx_len"),
            "n_active": measured.get("l0", trainer.get("k")),
            "variance_explained": measured.get("frac_variance_explained"),
        },
    )


def _take(facts: dict[str, Any], part: str, path: Path) -> dict[str, Any]:
    found = facts.get(part, {})
    if not isinstance(found, dict):
        raise BadDictionary(f"{path} has {part}={found!r}.", "Give names and values.")
    return found


def _settle(tensors: Tensors, trainer: dict[str, Any], path: Path) -> Tensors:
    """With a threshold for each feature."""
    settled, k = dict(tensors), tensors.get("k")
    if k is not None and k.numel() == 1 and int(k) != trainer.get("k"):
        raise BadDictionary(
            f"{path} has k={int(k)}, and its config k={trainer.get('k')!r}.", "Take both from one dictionary."
        )
    if (threshold := settled.get("threshold")) is not None and threshold.ndim == 0:
        bias = settled.get("encoder.bias", settled.get("b_enc"))
        settled["threshold"] = threshold if bias is None else threshold.expand(bias.shape)
    return settled


def _name_site(trainer: dict[str, Any], path: Path) -> str | None:
    """What the trainer calls its module, or the nearest folder that is named for one."""
    for name in (str(trainer.get("submodule_name")), *reversed(path.parts)):
        if found := _NAMED.search(name):
            return f"{found[1].replace('resid_out', 'resid_post')}.{found[2]}"
    return None
