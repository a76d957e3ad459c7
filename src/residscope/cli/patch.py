"""`residscope patch`: where what tells two prompts apart is held, as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residscope.cli.output import give, output_options
from residscope.cli.progress import show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from residscope.analyses.patching import Patching


@click.command()
@click.argument("model")
@click.argument("clean", required=False)
@click.argument("corrupted", required=False)
@click.option("--answer", help="What CLEAN asks for: a token with its space.")
@click.option("--wrong", help="What CORRUPTED asks for.")
@click.option("--task", help="Prompts of a task of the bundled model instead, as ioi.")
@click.option("--n", type=click.IntRange(1), default=20, show_default=True, help="Pairs of the task.")
@click.option(
    "--site", default="resid_pre", show_default=True, help="A kind of site, as attn_out or z, of every layer."
)
@click.option(
    "--direction", type=click.Choice(["denoise", "noise"]), default="denoise", show_default=True, help="Into which run."
)
@click.option("--raw", is_flag=True, help="Show the metric itself, not its share of the way from corrupted to clean.")
@output_options
def patch(
    model: str,
    clean: str | None,
    corrupted: str | None,
    answer: str | None,
    wrong: str | None,
    task: str | None,
    n: int,
    site: str,
    direction: Any,
    raw: bool,
    dtype: str | None,
    device: str | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Put activations of MODEL on CLEAN into its run on CORRUPTED, layer by layer, and see what that restores.

    Give two prompts and their answers, or a task. By position or role, or, where the site has heads, by head.
    """
    texts = {"clean": clean, "corrupted": corrupted, "correct": answer, "wrong": wrong}
    given = [text is not None for text in texts.values()]
    if any(given) if task else not all(given):
        raise click.UsageError("Give CLEAN, CORRUPTED, --answer and --wrong, or --task and none of them.")

    from residscope.analyses import patching
    from residscope.demo.tasks import pairs as task_pairs
    from residscope.running.model import load
    from residscope.running.pairs import pairs as make_pairs
    from residscope.settings import read_settings
    from residscope.sites import KINDS

    pairs = task_pairs(task, n) if task else make_pairs([texts])
    by_head = site in KINDS and {"head", "kv_head"} & {*KINDS[site].axes}
    with show_progress(model):
        loaded = load(model, **read_settings().loading(dtype, device))
        pos = None if by_head or not pairs.roles else [*pairs.roles]
        result = patching.patch(loaded, pairs, site=site, pos=pos, direction=direction)
    give(result, lambda: _make_table(result, raw), html, as_json)


def _make_table(result: "Patching", raw: bool) -> "Table":
    """One row a position, role or head, one column a layer."""
    from rich.markup import escape
    from rich.table import Table

    means = [f"{float(one.mean()):.3f}" for one in (result.clean_values, result.corrupted_values)]
    shown = f"in {result.settings['unit']}" if raw else f"0 as corrupted, 1 as clean; no effect is {result.reference:g}"
    about = "the metric is {} of the clean prompts, {} of the corrupted ones".format(*means)
    table = Table(title=escape(f"{result.name}, {shown}"), caption=escape(about), box=None)
    axis = result.axes[1]
    table.add_column(axis.replace("_", " "))
    for layer in result.labels["layer"]:
        table.add_column(f"layer {layer}", justify="right")
    pieces = result.pieces[0]
    for label, row in zip(result.labels[axis], result.mean(raw=raw).T.tolist(), strict=True):
        name = f"{label} {pieces[label]!r}" if axis == "pos" else str(label)
        table.add_row(escape(name), *(f"{value:.3f}" for value in row))
    return table
