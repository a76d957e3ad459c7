"""The dictionaries of the bundled model, by the site that each reads."""

from collections.abc import Iterator, Mapping
from functools import cached_property

from residscope.dictionaries.loading import BUNDLED, load_dictionary
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder

_EACH = "-topk"  # every site has one of these; others are loaded by their own names


class Bundled(Mapping[str, SparseAutoencoder]):
    """One dictionary for the stream before every layer and after the last: `rs.demo.dictionaries["resid_pre.2"]`."""

    @cached_property
    def _loaded(self) -> dict[str, SparseAutoencoder]:
        names = [folder.name for folder in sorted(BUNDLED.glob(f"*{_EACH}"))]
        names.sort(key=lambda name: name.startswith("resid_post"))  # which comes last
        return {name.removesuffix(_EACH): load_dictionary(f"demo/{name}") for name in names}

    def __getitem__(self, site: str) -> SparseAutoencoder:
        return self._loaded[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)
