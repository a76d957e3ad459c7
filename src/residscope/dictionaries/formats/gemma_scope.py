"""Gemma Scope: `params.npz`, whose folders say what it was trained on."""

import re
from pathlib import Path

from residscope.dictionaries.files import choose_site, read_arrays, read_weights
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.errors import BadDictionary
from residscope.sites import Site

WEIGHTS = "params.npz"
FILES: tuple[str, ...] = (WEIGHTS,)
PICKLED = False

_LAYOUT = {
    "encoder": "W_enc",
    "decoder": "W_dec",
    "encoder_bias": "b_enc",
    "decoder_bias": "b_dec",
    "threshold": "threshold",
}
# Transcoders read what the norm before the MLP makes of the stream before its weight, which was folded away: the stream
# there, each input scaled to a mean square of one. They write what the MLP adds, behind the norm that follows it.
_KINDS = {"res": "resid_post", "mlp": "mlp_out", "att": "z", "transcoders": "resid_mid"}
_REPOSITORY = re.compile(r"gemma-scope-(?P<size>\w+)-(?P<tuning>pt|it)-(?P<kind>\w+)")
_N_ACTIVE = re.compile(r"average_l0_(\d+)")


def is_there(path: Path) -> bool:
    """Whether a folder has this file."""
    return (path / WEIGHTS).is_file()


def read(path: Path, site: Site | None) -> SparseAutoencoder:
    """The dictionary in a folder.

    Raises:
      BadDictionary: Its file cannot be read, or it is of a kind that is not supported.
    """
    where = path.resolve().as_posix()
    if "embedding" in where:
        raise BadDictionary(
            f"{path} is not supported: it reads embeddings before the model scales them, which is no site.",
            "Take one of res, mlp, att or transcoders.",
        )
    repository, layer, claim = _REPOSITORY.search(where), re.search(r"layer_(\d+)", where), _N_ACTIVE.search(where)
    kind = _KINDS.get(repository["kind"]) if repository else None
    read_at = choose_site(site, f"{kind}.{layer[1]}" if kind and layer else None, path)
    transcodes = kind == _KINDS["transcoders"]
    return SparseAutoencoder(
        name="/".join(path.parts[-3:]),
        site=read_at,
        target=Site("mlp_out", read_at.layer) if transcodes else None,
        scaling="norm" if transcodes else "none",
        **read_weights(path / WEIGHTS, read_arrays, _LAYOUT, {}),
        activation="jumprelu",
        less_decoder_bias=False,
        facts={
            "model_name": f"gemma-2-{repository['size']}" + ("-it" if repository["tuning"] == "it" else "")
            if repository
            else None,
            "prepend_bos": True,
            "context_size": 1024,
            "n_active": int(claim[1]) if claim else None,
        },
    )
