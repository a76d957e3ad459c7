"""What commands that give a result have in common: their options, and where the result goes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from residscope.results.result import Result

_OPTIONS = (
    click.option("--dtype", help="float32 (default), bfloat16, float16 or float64."),
    click.option("--device", help="auto (default), cpu, cuda, ..."),
    click.option("--html", type=click.Path(path_type=Path), help="Save the picture as a page that opens anywhere."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options `dtype`, `device`, `html` and `as_json`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def give(result: "Result", make_picture: "Callable[[], RenderableType]", html: Path | None, as_json: bool) -> None:
    """Print a result as JSON or as a table, and save its picture where that was asked for."""
    if html:
        result.save_html(html)
    if as_json:
        click.echo(result.to_json())
        return
    from rich.console import Console

    Console().print(make_picture())
    if html:
        click.echo(f"The picture: {html}")
