"""Where Neuronpedia has pages of a dictionary's features."""

import re

from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder

_FIRST = re.compile(
    r"jbloom/GPT2-Small-SAEs(?:-Reformatted)?/blocks\.(\d+)\.hook_resid_pre"
)  # whose files do not say it


def find_pages(dictionary: SparseAutoencoder) -> str | None:
    """What Neuronpedia calls a dictionary, as `gpt2-small/8-res-jb`; None where it is not known to be there."""
    first = _FIRST.search(dictionary.source or "")
    known = f"gpt2-small/{first[1]}-res-jb" if first else dictionary.facts.get("neuronpedia_id")
    return None if known is None else str(known)
