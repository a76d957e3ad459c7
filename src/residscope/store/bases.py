"""Principal components kept on disk, so that a second start need not compute them again."""

import hashlib
import os
from pathlib import Path

from residscope.directions.pca import Basis
from residscope.errors import BadArgument, BadResult
from residscope.results.result import open as open_result
from residscope.running.model import Model
from residscope.sites import Place, read_site


class BasisStore:
    """Bases of one model over one file of texts, a file each.

    Args:
      data: The folder of everything that is kept; made where it is missing.
      model: Whose bases. Every byte of its weights counts: another model never finds them.
      texts: What they are made of.
    Raises:
      BadArgument: The folder cannot be written.
    Holds:
      What is read equals what was written; a broken file is as good as none.
    """

    def __init__(self, data: Path, model: Model, texts: list[str]) -> None:
        key = hashlib.blake2b(model.fingerprint.encode(), digest_size=16)
        for text in texts:
            key.update(text.encode() + b"\0")
        self._folder = data / "bases" / key.hexdigest()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadArgument(
                f"{data} cannot be written ({error.strerror}).", "Name another folder with --data."
            ) from None

    def read(self, place: Place) -> Basis | None:
        """The basis there, where one is kept."""
        try:
            found = open_result(self._path(place))
        except BadResult:
            return None
        return found if isinstance(found, Basis) else None

    def write(self, basis: Basis) -> None:
        """Keep a basis; whoever reads meanwhile finds the old file or the new one, never a half."""
        path = self._path(Place(read_site(basis.site), basis.head))
        half = path.with_suffix(f".{os.getpid()}")
        basis.save(half)
        half.replace(path)

    def _path(self, place: Place) -> Path:
        return self._folder / f"{str(place).replace(':', '-')}.safetensors"
