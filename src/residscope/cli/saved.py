"""`residscope directions list` and the others that open the library in the data folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residscope.cli.progress import show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from residscope.store.library import Library
    from residscope.store.values import Found

_FILE = click.Path(path_type=Path)
_USER = click.option("--user", required=True, help="Who you are in the library.")
_OPTIONS = (
    click.option("--data", type=_FILE, help="The data folder that `serve` is given."),
    click.option("--dtype", help="Of the model, which tells its library: float32 (default), bfloat16, ..."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def add_saved(group: click.Group) -> None:
    """Put these commands into a group."""
    for command in (find, save, load, export, import_library):
        for option in reversed(_OPTIONS):
            option(command)
        group.add_command(command)


@click.command("list")
@click.argument("model")
@click.argument("words", required=False, default="")
@click.option("--owner", help="Whose.")
@click.option("--site", help="Where they live, as resid_pre.2 or z.3:1.")
@click.option("--tag", help="That they have.")
@click.option("--count", type=click.IntRange(1), default=50, show_default=True, help="At most; last changed first.")
def find(model: str, words: str, count: int, as_json: bool, data: Path | None, dtype: str | None, **asked: Any) -> None:
    """Saved directions of MODEL that have all WORDS in their name, a description or a tag."""
    with _open(model, data, dtype) as library:
        found = library.directions.find(None, words=words, count=count, **asked)
    _give(found, as_json, lambda: _list(found))


@click.command()
@click.argument("model")
@click.argument("file", type=_FILE)
@click.option("--name", help="In place of its own.")
@click.option("--description", default="", help="What it means.")
@click.option("--tag", "tags", multiple=True, help="A word to find it by; several times if there are several.")
@_USER
def save(model: str, file: Path, user: str, as_json: bool, data: Path | None, dtype: str | None, **words: Any) -> None:
    """Keep the direction in FILE in the library of MODEL."""
    from residscope.directions.file import load_direction

    direction = load_direction(file)
    with _open(model, data, dtype) as library:
        saved = library.directions.save(library.people.name(user), direction, **words)
    _give(saved, as_json, f"{saved.name} is kept as number {saved.id}.")


@click.command()
@click.argument("model")
@click.argument("id", type=int)
@click.argument("file", type=_FILE)
@click.option("--revision", type=int, help="As it was then; 0 is the first.")
def load(
    model: str, id: int, file: Path, revision: int | None, as_json: bool, data: Path | None, dtype: str | None
) -> None:
    """Write the direction of number ID in the library of MODEL to FILE, .safetensors."""
    with _open(model, data, dtype) as library:
        found = library.directions.load(None, id, revision)
    found.save(file)
    _give(found.facts, as_json, f"{found.name}: {file}")


@click.command()
@click.argument("model")
@click.argument("file", type=_FILE)
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
def export(model: str, file: Path, ids: tuple[int, ...], as_json: bool, data: Path | None, dtype: str | None) -> None:
    """Write the library of MODEL to FILE, or the directions of these numbers alone."""
    with _open(model, data, dtype) as library:
        content = library.exchange.write(None, ids or None)
    file.write_bytes(content)
    _give({"file": str(file), "n_bytes": len(content)}, as_json, f"The library: {file}")


@click.command("import")
@click.argument("model")
@click.argument("file", type=_FILE)
@_USER
def import_library(model: str, file: Path, user: str, as_json: bool, data: Path | None, dtype: str | None) -> None:
    """Bring what an exported FILE holds into the library of MODEL, as yours; all of it or nothing."""
    content = file.read_bytes()
    with _open(model, data, dtype) as library:
        brought = library.exchange.bring(library.people.name(user), content)
    said = f"{brought.n_directions} directions, {brought.n_lists} lists and {brought.n_texts} texts came in"
    said += f"; {brought.n_votes_left} votes stayed behind."
    _give(brought, as_json, said)


@contextmanager
def _open(model: str, data: Path | None, dtype: str | None) -> "Iterator[Library]":
    """The library that the workbench of this model keeps in that folder."""
    from residscope import demo
    from residscope.running.model import load
    from residscope.settings import read_settings
    from residscope.store.home import Home
    from residscope.store.library import Library

    settings = read_settings()
    with show_progress(model):
        loaded = load(model, **settings.loading(dtype, None))
    home = Home.of(loaded, demo.dictionaries.values() if model == "demo" else ())
    library = Library(data or settings.folder, home, url=settings.database_url, limits=settings.limits)
    try:
        yield library
    finally:
        library.close()


def _give(found: Any, as_json: bool, said: "str | Callable[[], Table]") -> None:
    if as_json:
        from pydantic import RootModel

        click.echo(RootModel[Any](found).model_dump_json())
    elif isinstance(said, str):
        click.echo(said)
    else:
        from rich.console import Console

        Console().print(said())


def _list(found: "Found") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(caption=f"{len(found.directions)} of {found.total}", box=None)
    for column in ("id", "name", "lives at", "owner", "tags", "description"):
        table.add_column(column, justify="right" if column == "id" else "left")
    for one in found.directions:
        words = (one.name, one.site, one.owner, ", ".join(one.tags), one.description.text if one.description else "")
        table.add_row(str(one.id), *map(escape, words))
    return table
