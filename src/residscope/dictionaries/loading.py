"""From a folder or the hub to a dictionary, whatever library wrote it."""

import re
from dataclasses import replace
from pathlib import Path

from residscope.dictionaries.formats import FORMATS
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.errors import BadArgument, BadDictionary
from residscope.sites import Site, read_site

BUNDLED = Path(__file__).parents[1] / "demo" / "dictionaries"
_NAMED = "demo/"
_IN_REPOSITORY = re.compile(r"([\w-][\w.-]*/[\w.-]+)((?:/[\w.-]+)*)")


def load_dictionary(
    path: str | Path,
    *,
    site: str | Site | None = None,
    centred: bool | None = None,
    allow_pickle: bool = False,
) -> SparseAutoencoder:
    """Load a sparse dictionary. Its weights stay on disk until they are used, where they lie there in float32.

    Args:
      path: A folder as SAELens, sparsify, dictionary_learning or Gemma Scope write it; "demo/resid_pre.2-topk" and so
        on for those of the bundled model; a folder of a repository on the hub, as "owner/name/folder"; or a file of
        one of the first GPT-2 dictionaries.
      site: What it reads, where the files do not say it or say it otherwise.
      centred: Whether it is of a stream without its mean over d_model; None takes what the files say, and those of the
        first GPT-2 dictionaries do not say it.
      allow_pickle: Whether a pickle may be opened; of it only tensors and plain values are taken.
    Raises:
      BadArgument: The path or the site is none.
      BadDictionary: There is no such folder, no format is known by its files, they are pickled, or cannot be read.
    Holds:
      `encode` and `decode` equal what the library that wrote the files computes with them; the Python of what is made
      of it loads it with what was given here.
    """
    if not isinstance(path, str | Path):
        raise BadArgument(f"{path!r:.80} was given as a dictionary's path.", "Give a folder, or a place on the hub.")
    asked = read_site(site) if isinstance(site, str) else site
    if not isinstance(asked, Site | None):
        raise BadArgument(f"site={site!r:.80} was asked for.", 'Give a site: "resid_pre.3".')
    name = str(path)
    folder = _find(path, name, allow_pickle)
    for each in FORMATS.values():
        if each.is_there(folder):
            if each.PICKLED and not allow_pickle:
                raise BadDictionary(
                    f"The weights in {folder} are pickled.",
                    "If you trust where they come from: load_dictionary(..., allow_pickle=True).",
                )
            found = each.read(folder, asked)
            found = found if centred is None else replace(found, centred=centred)
            said = {"site": asked and str(asked), "centred": centred, "allow_pickle": each.PICKLED or None}
            return found.loaded_from(name, **{option: value for option, value in said.items() if value is not None})
    known = f"A dictionary of {', '.join(FORMATS)} is asked for."
    if not folder.exists():
        raise BadDictionary(f"There is no folder {str(folder)!r}.", known)
    seen = sorted(file.name for file in folder.iterdir())[:8] if folder.is_dir() else ["what no library names so"]
    raise BadDictionary(f"{folder} holds {', '.join(seen) or 'nothing'}.", known)


def _find(path: str | Path, name: str, allow_pickle: bool) -> Path:
    if name.startswith(_NAMED):
        return BUNDLED / name.removeprefix(_NAMED)
    found = Path(path).expanduser()
    try:
        if found.is_file() and any(found.name in each.FILES for each in FORMATS.values()):
            return found.parent
        exists = found.exists()
    except OSError as error:
        raise BadDictionary(f"{name[:100]!r} cannot be looked at ({error.strerror}).", "Name another folder.") from None
    inside = _IN_REPOSITORY.fullmatch(name)
    return found if exists or not inside else _download(inside[1], inside[2].strip("/"), found, allow_pickle)


def _download(repository: str, inside: str, path: Path, allow_pickle: bool) -> Path:
    from huggingface_hub import constants, snapshot_download  # half a second that local folders do not need

    files = {file for each in FORMATS.values() if allow_pickle or not each.PICKLED for file in each.FILES}
    wanted = [f"{inside}/{file}" if inside else file for file in sorted(files)]
    try:
        root = Path(snapshot_download(repository, allow_patterns=[*wanted, inside] if allow_pickle else wanted))
    except Exception as error:  # huggingface_hub's own, its HTTP client's, the disk's: all mean that there is none
        why = "offline" if constants.HF_HUB_OFFLINE else (str(error) or type(error).__name__).splitlines()[0]
        raise BadDictionary(
            f"There is no folder {str(path)!r} here, and the hub gave none of {repository} ({why}).",
            "Check the name, or download it on a machine with a network and name its folder.",
        ) from None
    if not allow_pickle and not any((root / file).is_file() for file in wanted):
        raise BadDictionary(
            f"{inside or 'The root'} of {repository} has none of {', '.join(sorted(files))}.",
            "Name a folder of it that has; pickles are fetched only with allow_pickle=True.",
        )
    return root / inside
