"""From a folder to a dictionary, whatever library wrote it."""

from pathlib import Path

from residscope.dictionaries.formats import READERS
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.errors import BadDictionary

BUNDLED = Path(__file__).parents[1] / "demo" / "dictionaries"
_NAMED = "demo/"


def load_dictionary(path: str | Path) -> SparseAutoencoder:
    """Load a sparse dictionary.

    Args:
      path: A folder as SAELens writes it; "demo/resid_pre.2-topk" and so on for those of the bundled model.
    Raises:
      BadDictionary: There is no such folder, no format is known by its files, or they cannot be read.
    Holds:
      `encode` and `decode` equal SAELens's of the same files.
    """
    name = str(path)
    folder = BUNDLED / name.removeprefix(_NAMED) if name.startswith(_NAMED) else Path(path).expanduser()
    for is_there, read in READERS.values():
        if is_there(folder):
            return read(folder).loaded_from(name)
    found = sorted(file.name for file in folder.iterdir())[:8] if folder.is_dir() else []
    raise BadDictionary(
        f"{folder} holds {', '.join(found)}." if found else f"There is no folder {str(folder)!r}, or it is empty.",
        f"A dictionary of {', '.join(READERS)} is asked for.",
    )
