"""`residscope users`: who may sign in where the workbench can be reached from other machines."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from residscope.store.people import People

_DATA = click.option("--data", type=click.Path(path_type=Path), help="The data folder that `serve` is given.")


@click.group()
def users() -> None:
    """Say who may sign in; `serve` on an address that others reach needs it."""


@users.command()
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from the standard input, in place of asking.")
@_DATA
def add(name: str, password_stdin: bool, data: Path | None) -> None:
    """Let NAME sign in by a password; a new one, if they could already."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    person = _open_people(data).add(name, password)
    click.echo(f"{person.name} may sign in.")


@users.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_DATA
def list_users(as_json: bool, data: Path | None) -> None:
    """Show everybody, and who may sign in."""
    found = _open_people(data).list()
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, may in found.items():
        click.echo(f"{name}{'' if may else '  (no password)'}")


@users.command()
@click.argument("name")
@_DATA
def revoke(name: str, data: Path | None) -> None:
    """End all sessions of NAME, who may sign in no more; what they saved stays."""
    person = _open_people(data).revoke(name)
    click.echo(f"{person.name} is signed out, and may sign in no more.")


def _open_people(data: Path | None) -> "People":
    from residscope.settings import read_settings
    from residscope.store.database import Database, place_database
    from residscope.store.people import People

    settings = read_settings()
    return People(Database(settings.database_url or place_database(data or settings.folder)), settings.limits)
