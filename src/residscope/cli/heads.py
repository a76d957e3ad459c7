"""`residscope heads`: the head atlas, as a table."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residscope.cli.progress import show_progress

if TYPE_CHECKING:
    from residscope.analyses.head_scores import HeadScores

_SHOWN = 3  # heads of each score
_PAGE, _FILE = "index.html", "side_by_side.safetensors"


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--out", type=click.Path(path_type=Path), help="A folder to keep scores in; what is there is not redone.")
@click.option("--n-sequences", type=int, default=8, show_default=True, help="Random sequences, each said twice.")
@click.option("--n-tokens", type=int, default=50, show_default=True, help="Tokens of each.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option(
    "--read", type=click.Choice(["embed", "layer0"]), default="embed", show_default=True, help="What a token is."
)
@click.option("--dtype", help="float32 (default), bfloat16, float16 or float64.")
@click.option("--device", help="auto (default), cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list.")
def heads(
    models: tuple[str, ...],
    out: Path | None,
    dtype: str | None,
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score every head of each MODEL (a directory or a Hugging Face id), and show the models side by side.

    With --out, a page beside the files shows all models that were ever scored there; the workbench opens the same of
    side_by_side.safetensors, at the place Heads.
    """
    from residscope.analyses.head_scores import head_mosaic, head_scores
    from residscope.errors import ResidscopeError
    from residscope.running.model import load
    from residscope.settings import read_settings
    from residscope.store.atlas import Atlas

    loading = read_settings().loading(dtype, device)
    atlas = Atlas(out) if out else None
    score = atlas.score if atlas else head_scores
    found: dict[str, HeadScores] = {}
    models = tuple(dict.fromkeys(models))
    for model in models:
        try:
            with show_progress(model):
                found[model] = score(load(model, **loading), **options)
        except ResidscopeError as error:
            click.echo(f"Error: {model}: {error}", err=True)
    if out and atlas and found:
        beside = head_mosaic(atlas.kept)
        beside.save_html(out / _PAGE)
        beside.save(out / _FILE)
    if as_json:
        click.echo(json.dumps([json.loads(scores.to_json()) for scores in found.values()]))
    elif found:
        _print_table(found)
        if out:
            click.echo(f"Side by side: {out / _PAGE}")
    click.get_current_context().exit(int(len(found) < len(models)))


def _print_table(found: "dict[str, HeadScores]") -> None:
    """The heads that have most of each score, and least of copying."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    frames = {model: scores.to_frame() for model, scores in found.items()}
    names = next(iter(found.values())).scores
    table = Table(title="Heads that have most of each score, as layer.head", box=None)
    for column in ("score", *frames):
        table.add_column(escape(column))
    for name, ascending in [*((name, False) for name in names), ("copying", True)]:
        cells = []
        for frame in frames.values():
            best = frame[frame["score"] == name].sort_values("value", ascending=ascending)[:_SHOWN]
            cells.append("  ".join(f"{row.layer}.{row.head} {row.value:.3f}" for row in best.itertuples()))
        table.add_row(f"least {name}" if ascending else name, *cells)
    Console().print(table)
