"""`residscope lens`: what every layer would predict, as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residscope.cli.output import give, output_options
from residscope.cli.progress import show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from residscope.analyses.logit_lens import LogitLens

VALUES = ("prob", "logit", "rank", "entropy", "kl")


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--pos", type=int, default=-1, show_default=True, help="After which position; negative from the end.")
@click.option("--norm", type=click.Choice(["own", "final"]), default="own", show_default=True, help="Whose scale.")
@click.option(
    "--value", type=click.Choice(VALUES), default="prob", show_default=True, help="What is told of the target."
)
@click.option("--target", default="own", show_default=True, help="own, final, next, or a token's text with its space.")
@click.option("--sub-blocks", is_flag=True, help="Also between attention and MLP.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Tokens of each row.")
@output_options
def lens(
    model: str,
    prompt: str,
    pos: int,
    dtype: str | None,
    device: str | None,
    html: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """What MODEL (a directory or a Hugging Face id) would predict after every layer of PROMPT, if it ended there.

    The table is of one position; JSON and the picture are of all.
    """
    from residscope.analyses.logit_lens import logit_lens
    from residscope.running.model import load
    from residscope.running.positions import resolve
    from residscope.settings import read_settings

    with show_progress(model):
        run = load(model, **read_settings().loading(dtype, device)).run(prompt)
        at = int(resolve(pos, run.tokens.n_tokens))
        result = logit_lens(run, **asked)
    give(result, lambda: _make_table(result, at), html, as_json)


def _make_table(result: "LogitLens", pos: int) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    settings, meaning = result.settings, result.settings["meaning"]
    about = f"{meaning['value']}; target: {meaning['target']}; norm: {meaning['norm']}"
    title = f"{result.name}, after position {pos}, {result.pieces[0][pos]!r}"
    table = Table(title=escape(title), caption=escape(about), box=None)
    table.add_column("read at")
    table.add_column(settings["value"], justify="right")
    table.add_column("best tokens and their probabilities")
    for row, site in enumerate(result.sites):
        cell = (0, row, pos)
        best = zip(result.token_ids[cell].tolist(), result.log_probs[cell].exp().tolist(), strict=True)
        said = "  ".join(f"{result.texts[str(i)]!r} {prob:.3f}" for i, prob in best)
        table.add_row(site, f"{float(result.values[cell]):.4g}", escape(said))
    return table
