"""`residscope run`: next tokens, as a table."""

from typing import TYPE_CHECKING

import click

from residscope.cli.output import give
from residscope.cli.progress import show_progress

if TYPE_CHECKING:
    from rich.table import Table

    from residscope.analyses.next_tokens import NextTokens
    from residscope.analyses.vocabulary import Vocabulary

_SHOWN = 3  # best tokens of each position


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Tokens to show.")
@click.option("--pos", type=int, default=-1, show_default=True, help="After which position; negative from the end.")
@click.option("--answer", help="What is expected: show its rank after every position, in place of the best tokens.")
@click.option("--dtype", help="float32 (default), bfloat16, float16 or float64.")
@click.option("--device", help="auto (default), cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(
    model: str,
    prompt: str,
    top: int,
    pos: int,
    answer: str | None,
    dtype: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """What MODEL (a directory or a Hugging Face id) expects after PROMPT."""
    from residscope.analyses.next_tokens import next_tokens
    from residscope.analyses.vocabulary import vocabulary
    from residscope.running.model import load
    from residscope.settings import read_settings

    with show_progress(model):
        read = load(model, **read_settings().loading(dtype, device)).run(prompt)
    if answer is not None:
        answered = next_tokens(read, answer)
        give(answered, lambda: _list_positions(answered), None, as_json)
    else:
        result = vocabulary(read, pos=pos, top=min(top, read.model.config.d_vocab))
        pieces = "|".join(read.tokens.pieces[0])
        give(result, lambda: _list_tokens(result, f"{read.model.name}: next tokens", pieces), None, as_json)


def _list_tokens(result: "Vocabulary", title: str, pieces: str) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), caption=f"read as {escape(repr(pieces))}", box=None)
    for column in ("rank", "token id", "token", "logit", "log prob", "prob"):
        table.add_column(column, justify="left" if column == "token" else "right")
    for row in result.to_frame().itertuples():
        numbers = (f"{row.logit:.3f}", f"{row.log_prob:.3f}", f"{row.prob:.4f}")
        table.add_row(str(row.rank), str(row.token_id), escape(repr(row.text)), *numbers)
    return table


def _list_positions(result: "NextTokens") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    answer = result.texts[str(int(result.answers[0]))]
    title = f"{result.name}: {answer!r} after every position"
    table = Table(title=escape(title), caption=escape(result.warning) or None, box=None)
    for column in ("pos", "token", "rank", "logit", "prob", "best"):
        table.add_column(column, justify="left" if column in ("token", "best") else "right")
    for row in result.to_frame().to_dict("records"):
        numbers = (str(row["rank"]), f"{row['logit']:.3f}", f"{row['value']:.4f}")
        table.add_row(
            str(row["pos"]), escape(repr(row["token"])), *numbers, escape("  ".join(map(repr, row["top"][:_SHOWN])))
        )
    return table
