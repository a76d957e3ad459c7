"""Files named by their content: vectors and results, which never change once they are there."""

import hashlib
import os
import secrets
from pathlib import Path

from residscope.errors import BadArgument, BadDatabase


class Artefacts:
    """A folder of such files.

    Args:
      folder: Made where it is missing.
    Raises:
      BadArgument: It cannot be written.
    Holds:
      A file is there whole or not at all, whenever the process is killed; once `write` has returned it outlives the
      machine's fall, too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadArgument(f"{folder} cannot be written ({error.strerror}).", "Name another folder.") from None

    def write(self, content: bytes) -> str:
        """Keep `content`, and give the name under which `read` finds it."""
        name = _name(content)
        path = self._path(name)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            aside = path.with_name(f".{name}.{secrets.token_hex(4)}")
            with aside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            for folder in (path.parent, self._folder):
                _sync(folder)
        return name

    def read(self, name: str) -> bytes:
        """What `write` kept under that name.

        Raises:
          BadDatabase: The file is gone, or is not what it was.
        """
        try:
            content = self._path(name).read_bytes()
        except OSError as error:
            raise BadDatabase(f"The artefact {name} cannot be read ({error.strerror}).", _HINT) from None
        if _name(content) != name:
            raise BadDatabase(f"The artefact {name} is damaged.", _HINT)
        return content

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.safetensors"


_HINT = "Bring the data folder back from a copy."


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sync(folder: Path) -> None:
    """Make a folder's names as lasting as its files."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
