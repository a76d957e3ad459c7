"""EleutherAI's sparsify, formerly `sae`: `cfg.json` beside `sae.safetensors`, in a folder named for the module."""

import re
from pathlib import Path

from residscope.dictionaries.files import (
    check_k,
    choose,
    choose_site,
    map_safetensors,
    read_flag,
    read_json,
    read_weights,
    refuse_unknown,
)
from residscope.dictionaries.sparse_autoencoder import Activation, SparseAutoencoder
from residscope.errors import BadDictionary
from residscope.sites import Site

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
FILES: tuple[str, ...] = (CONFIG, WEIGHTS)
PICKLED = False

_KEYS = frozenset(
    """activation d_in expansion_factor num_latents k transcode skip_connection signed normalize_decoder
    multi_topk""".split()  # the last two are of the training alone
)
_ACTIVATIONS: dict[str, Activation] = {"topk": "topk", "groupmax": "groupmax"}
_LAYOUT = {"encoder": "encoder.weight.T", "decoder": "W_dec", "encoder_bias": "encoder.bias", "decoder_bias": "b_dec"}
_MODULE = re.compile(r"(?:.*\.)?(?:layers|h|blocks)[._](\d+)(?:\.(\w+))?")
_SITES: dict[str | None, tuple[str, str]] = {  # what a module reads, and what it gives
    None: ("resid_pre", "resid_post"),
    **dict.fromkeys(("mlp", "feed_forward"), ("ln2", "mlp_out")),
    **dict.fromkeys(("attn", "self_attn", "attention", "self_attention"), ("ln1", "attn_out")),
}


def is_there(path: Path) -> bool:
    """Whether a folder has these files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read(path: Path, site: Site | None) -> SparseAutoencoder:
    """The dictionary in a folder.

    Raises:
      BadDictionary: A file cannot be read, says something that is not known here, or does not fit the other.
    """
    facts, config = read_json(path / CONFIG), path / CONFIG
    refuse_unknown({*facts} - _KEYS, config)
    if read_flag(facts, "signed", False, config):
        raise BadDictionary(f"{config} has signed=True.", "Features below zero are not supported.")
    activation = choose(facts, "activation", _ACTIVATIONS, "topk", config)
    transcodes, d_in = read_flag(facts, "transcode", False, config), facts.get("d_in")
    layout = _LAYOUT | ({"skip": "W_skip"} if read_flag(facts, "skip_connection", False, config) else {})
    said = {"d_in": d_in, "d_out": d_in, "feature": facts.get("num_latents") or None}
    tensors = read_weights(path / WEIGHTS, map_safetensors, layout, said)
    k = check_k(facts.get("k"), len(tensors["decoder"]), config, divides=activation == "groupmax")
    module = path.parent.name if re.fullmatch(r"seed\d+", path.name) else path.name
    reads, gives = _name_sites(module)
    above = path.parent / "config.json"
    training = read_json(above) if above.is_file() else {}
    return SparseAutoencoder(
        name=path.name,
        site=choose_site(site, reads if transcodes else gives, path),
        target=choose_site(None, gives, path) if transcodes else None,
        **tensors,
        activation=activation,
        k=k,
        less_decoder_bias=not transcodes,
        facts={
            "model_name": training.get("model"),
            "context_size": training.get("ctx_len"),
            "dataset_path": training.get("dataset"),
            "n_active": k,
        },
    )


def _name_sites(module: str) -> tuple[str | None, str | None]:
    found = _MODULE.fullmatch(module)
    if not found or found[2] not in _SITES:
        return None, None
    reads, gives = _SITES[found[2]]
    return f"{reads}.{found[1]}", f"{gives}.{found[1]}"
