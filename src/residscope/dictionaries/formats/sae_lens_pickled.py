"""SAELens before its files were safetensors, as GPT-2's first residual dictionaries lie: one pickle of both."""

from collections.abc import Mapping
from pathlib import Path

from residscope.dictionaries.files import check_tensors, unpickle
from residscope.dictionaries.formats.sae_lens import build, read_facts
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.errors import BadDictionary
from residscope.sites import Site

FILES: tuple[str, ...] = ()  # it has any name
PICKLED = True


class _Config:
    """Stands for the library's class: what lies in the pickle becomes its attributes."""


_CLASSES = [
    type("LanguageModelSAERunnerConfig", (_Config,), {"__module__": f"{package}.config"})
    for package in ("sae_training", "sae_lens.training")
]


def is_there(path: Path) -> bool:
    """Whether this is such a file, by its name."""
    return path.is_file() and path.suffix == ".pt"


def read(path: Path, site: Site | None) -> SparseAutoencoder:
    """The dictionary in a file.

    Raises:
      BadDictionary: It cannot be read, is something else, or says something that is not known here.
    """
    found = unpickle(path, _CLASSES)
    config = found.get("cfg") if isinstance(found, Mapping) else None
    if not isinstance(config, _Config):
        raise BadDictionary(f"{path} holds no cfg and state_dict.", "Give a file as SAELens wrote them first.")
    tensors = check_tensors(found.get("state_dict"), path)
    return build(path.stem, read_facts(vars(config), path), path, path, lambda _: tensors, site)
