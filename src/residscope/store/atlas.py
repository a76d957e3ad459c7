"""The head atlas: scores of every head of any number of models, kept as files."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from residscope.analyses.head_scores import SCORES, HeadScores, head_scores
from residscope.errors import BadArgument, BadResult
from residscope.results.result import open as open_result
from residscope.running.model import Model


class Atlas:
    """Head scores in a folder: of each model a file that `rs.open` reads, and the same as CSV, named for the model.

    Args:
      folder: Made where it is missing.
    Raises:
      BadArgument: It cannot be written.
    Holds:
      A model whose weights, settings and definitions of scores are those of a kept file is not scored again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadArgument(f"{folder} cannot be written ({error.strerror}).", "Name another folder.") from None

    @property
    def kept(self) -> dict[str, HeadScores]:
        """All in the folder that has these scores, by the model's name; by the file's where two share one."""
        found = {path: _read(path) for path in sorted(self._folder.glob("*.safetensors"))}
        fitting = {path: one for path, one in found.items() if one and tuple(one.scores) == tuple(SCORES)}
        names = Counter(map(_name, fitting))
        return {_name(path) if names[_name(path)] == 1 else path.stem: one for path, one in fitting.items()}

    def score(self, model: Model, **options: Any) -> HeadScores:
        """What is kept, or what `rs.head_scores` gives under these options."""
        key = hashlib.blake2b(f"{model.fingerprint} {options} {SCORES}".encode(), digest_size=4).hexdigest()
        path = self._folder / f"{Path(model.name).name}-{key}.safetensors"
        found = _read(path)
        if not found:
            found = head_scores(model, **options)
            found.to_frame().to_csv(path.with_suffix(".csv"), index=False)
            found.save(path)
        return found


def _name(path: Path) -> str:
    return path.stem.rpartition("-")[0]


def _read(path: Path) -> HeadScores | None:
    """What is in a file, if that is head scores."""
    try:
        found = open_result(path)
    except BadResult:
        return None
    return found if isinstance(found, HeadScores) else None
