"""How each library writes its dictionaries, one file each; `FORMATS` tries them in turn."""

from pathlib import Path
from typing import Protocol

from residscope.dictionaries.formats import dictionary_learning, gemma_scope, sae_lens, sae_lens_pickled, sparsify
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.sites import Site


class Format(Protocol):
    """What a format's module has.

    Attributes:
      FILES: What may lie in a folder, of which `is_there` needs some.
      PICKLED: Whether the tensors are in a pickle, which is opened only when that is asked for.
    """

    FILES: tuple[str, ...]
    PICKLED: bool

    def is_there(self, path: Path) -> bool: ...
    def read(self, path: Path, site: Site | None) -> SparseAutoencoder: ...


FORMATS: dict[str, Format] = {
    "SAELens": sae_lens,
    "sparsify": sparsify,
    "dictionary_learning": dictionary_learning,
    "Gemma Scope": gemma_scope,
    "SAELens's first pickles": sae_lens_pickled,
}
