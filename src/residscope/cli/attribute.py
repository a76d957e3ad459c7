"""`residscope attribute`: which parts of a model speak for an answer, as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residscope.cli.output import give, output_options
from residscope.cli.progress import show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from residscope.analyses.attribution import Attribution

BY = ("component", "head", "neuron", "token")


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--answer", required=True, help="The token whose logit is split, with its space.")
@click.option("--wrong", help="Another, whose logit is taken off.")
@click.option("--by", type=click.Choice(BY), default="component", show_default=True, help="What the parts are.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Parts to show.")
@output_options
def attribute(
    model: str,
    prompt: str,
    answer: str,
    wrong: str | None,
    by: Any,
    top: int,
    dtype: str | None,
    device: str | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """What every part of MODEL (a directory or a Hugging Face id) gives to an answer after PROMPT, through the stream.

    The largest parts are shown; all of them sum to the logit, or to the difference of two.
    """
    from residscope.analyses import attribution
    from residscope.running.metrics import logit, logit_difference
    from residscope.running.model import load
    from residscope.settings import read_settings

    metric = logit(answer) if wrong is None else logit_difference(answer, wrong)
    with show_progress(model):
        run = load(model, **read_settings().loading(dtype, device)).run(prompt)
        result = attribution.attribute(run, metric, by=by)
    give(result, lambda: _make_table(result, top), html, as_json)


def _make_table(result: "Attribution", top: int) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    frame = result.to_frame().sort_values("value", key=abs, ascending=False)
    table = Table(title=escape(result.name), caption=escape(f"in {result.settings['unit']}"), box=None)
    sources = "token" in frame
    for column in ("part", *(["token"] if sources else []), "value"):
        table.add_column(column, justify="right" if column == "value" else "left")

    def add(part: str, token: str, value: float) -> None:
        table.add_row(part, *([escape(token)] if sources else []), f"{value:.4f}")

    for row in frame[:top].to_dict("records"):
        token = row.get("token")
        add(row["component"], repr(token) if isinstance(token, str) else "", row["value"])
    if len(frame) > top:
        add(f"{len(frame) - top} others", "", frame["value"][top:].sum())
    add("sum", "", frame["value"].sum())
    return table
