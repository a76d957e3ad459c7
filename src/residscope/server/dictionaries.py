"""Dictionaries that a server is given: loaded, and tried on some of its texts before anybody uses them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from residscope.dictionaries.loading import load_dictionary
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.errors import BadDictionary, DictionaryMisfit
from residscope.running.model import Model
from residscope.running.texts import read_texts

_N_TEXTS = 8


@dataclass(frozen=True)
class Given:
    """Dictionaries, by the site that each reads, and what does not fit of them, in a sentence each."""

    dictionaries: dict[str, SparseAutoencoder] = field(default_factory=dict)
    misfits: dict[str, str] = field(default_factory=dict)


def open_dictionaries(model: Model, paths: Sequence[str], texts: Path) -> Given:
    """Load dictionaries, and check each on some texts.

    Raises:
      BadDictionary: One cannot be read, is of another width, or two read one site.
      UnknownSite: The model has not the site of one.
    """
    given = Given()
    for path in paths:
        dictionary = load_dictionary(path)
        site = str(model.find(dictionary.site))
        if site in given.dictionaries:
            raise BadDictionary(
                f"{path} and {given.dictionaries[site].source} both read {site}.", "Give one for each site."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DictionaryMisfit)  # it is kept, and said where it is used
            found = dictionary.check(model, read_texts(texts)[:_N_TEXTS])
        given.dictionaries[site] = dictionary
        if found.warning:
            given.misfits[site] = f"{dictionary.name} does not fit {site} of {model.name}. {found.warning}"
    return given
