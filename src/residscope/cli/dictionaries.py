"""Dictionaries that a command is given, and what is said of them in the words of the terminal."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from residscope.errors import BadDictionary, DictionaryMisfit

if TYPE_CHECKING:
    from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder

_OPTIONS = (
    click.option("--dictionary", "paths", multiple=True, help="A folder or a place on the hub; one for each layer."),
    click.option("--site", "sites", multiple=True, help="What it reads, where its files do not say; once for each."),
    click.option("--centred/--not-centred", default=None, help="They are of a stream without its mean, or of a whole."),
    click.option("--allow-pickle", is_flag=True, help="Open pickles; tensors and plain values alone are taken."),
)
_PYTHON = re.compile(r'load_dictionary\([^(),]+, (site|centred|allow_pickle)="?([^"()]+)"?\)')


def dictionary_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options `paths`, `sites`, `centred` and `allow_pickle`, as `load_dictionaries` takes them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_dictionaries(
    paths: Sequence[str], sites: Sequence[str], centred: bool | None, allow_pickle: bool
) -> "list[SparseAutoencoder]":
    """What is at some places.

    Raises:
      UsageError: There are options without dictionaries, or fewer or more sites than dictionaries.
      BadDictionary: One cannot be loaded.
    """
    if not paths and (sites or centred is not None or allow_pickle):
        raise click.UsageError("--site, --centred and --allow-pickle are of what --dictionary names: give it too.")
    if sites and len(sites) != len(paths):
        raise click.UsageError("Give --site as often as --dictionary, in the same order, or not at all.")
    from residscope.dictionaries.loading import load_dictionary

    reads: Sequence[str | None] = sites or [None] * len(paths)
    try:
        return [
            load_dictionary(path, site=site, centred=centred, allow_pickle=allow_pickle)
            for path, site in zip(paths, reads, strict=True)
        ]
    except BadDictionary as error:
        raise BadDictionary(_speak(error.message), _speak(error.hint)) from None


@contextmanager
def telling_misfits() -> Iterator[None]:
    """Inside, a dictionary that does not fit is told in one line of the error stream, without a line of the source."""
    show, told = warnings.showwarning, set[str]()

    def tell(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if not issubclass(category, DictionaryMisfit):
            show(message, category, *where)
        elif str(message) not in told:  # as an evaluation finds it again
            told.add(str(message))
            click.echo(f"Warning: {_speak(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", DictionaryMisfit)
        warnings.showwarning = tell  # type: ignore[assignment]  # which is called so
        yield


def _speak(text: str) -> str:
    """With options in place of the Python that does the same."""

    def name(found: re.Match[str]) -> str:
        option, value = found[1].replace("_", "-"), found[2]
        return {"True": f"--{option}", "False": f"--not-{option}"}.get(value, f"--{option} {value}")

    return _PYTHON.sub(name, text)
