"""`residscope run`: next tokens, as a table."""

import click


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Tokens to show.")
@click.option("--pos", type=int, default=-1, show_default=True, help="After which position; negative from the end.")
@click.option("--dtype", help="float32 (default), bfloat16, float16 or float64.")
@click.option("--device", help="auto (default), cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(model: str, prompt: str, top: int, pos: int, dtype: str | None, device: str | None, as_json: bool) -> None:
    """What MODEL (a directory or a Hugging Face id) expects after PROMPT."""
    from residscope.analyses.vocabulary import vocabulary
    from residscope.running.model import load
    from residscope.settings import read_settings

    settings = read_settings()
    loaded = load(model, **settings.loading(dtype, device))
    result = vocabulary(loaded.run(prompt), pos=pos, top=min(top, loaded.config.d_vocab))
    if as_json:
        click.echo(result.to_json())
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    read_as = "|".join(loaded.tokenize(prompt).pieces[0])
    table = Table(title=f"{loaded.name}: next tokens", caption=f"read as {escape(repr(read_as))}", box=None)
    for column in ("rank", "token id", "token", "logit", "log prob", "prob"):
        table.add_column(column, justify="left" if column == "token" else "right")
    for row in result.to_frame().itertuples():
        numbers = (f"{row.logit:.3f}", f"{row.log_prob:.3f}", f"{row.prob:.4f}")
        table.add_row(str(row.rank), str(row.token_id), escape(repr(row.text)), *numbers)
    Console().print(table)
