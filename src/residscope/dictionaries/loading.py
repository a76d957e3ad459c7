"""From a folder to a dictionary, whatever library wrote it."""

from pathlib import Path

from residscope.dictionaries.formats import READERS
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.errors import BadDictionary


def load_dictionary(path: str | Path) -> SparseAutoencoder:
    """Load a sparse dictionary.

    Args:
      path: A folder as SAELens writes it.
    Raises:
      BadDictionary: There is no such folder, no format is known by its files, or they cannot be read.
    Holds:
      `encode` and `decode` equal SAELens's of the same files.
    """
    folder = Path(path).expanduser()
    for is_there, read in READERS.values():
        if is_there(folder):
            return read(folder).loaded_from(str(path))
    found = sorted(file.name for file in folder.iterdir())[:8] if folder.is_dir() else []
    raise BadDictionary(
        f"{folder} holds {', '.join(found)}." if found else f"There is no folder {str(folder)!r}, or it is empty.",
        f"A dictionary of {', '.join(READERS)} is asked for.",
    )
