"""`residscope graph`: the causal graph of a prompt, as a file and a table."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residscope.cli.dictionaries import dictionary_options, load_dictionaries, telling_misfits
from residscope.cli.progress import show_progress
from residscope.errors import count

if TYPE_CHECKING:
    from residscope.graphs.graph import Graph

_SHOWN = 20  # edges of the table
_NODE = re.compile(r"(\d+)\.(error|\d+)@(-?\d+)")


@click.command()
@click.argument("model")
@click.argument("prompt")
@dictionary_options
@click.option("--positions", default="last", show_default=True, help="last, all, or numbers as 3,-1.")
@click.option("--top", type=click.IntRange(1), help="Edges kept of each source; 10 where no other rule is given.")
@click.option("--threshold", type=float, help="Instead: edges of at least this size are kept.")
@click.option("--share", type=float, help="Instead: the fewest edges with this share of the summed size of all.")
@click.option("--later", is_flag=True, help="Edges lead to all later dictionaries, not to the next: total effects.")
@click.option("--edges", type=float, default=1.0, show_default=True, help="Of these, the share of the effect kept.")
@click.option(
    "--by",
    type=click.Choice(["weight", "influence"]),
    default="weight",
    show_default=True,
    help="Whether that is of their weights, or, with --estimate, of what they have to do with the next token.",
)
@click.option("--errors", is_flag=True, help="What dictionaries leave unexplained is a source too.")
@click.option("--tokens", is_flag=True, help="Each token's embedding is a source too.")
@click.option("--split", is_flag=True, help="Say in the file what of each edge comes through which head and MLP.")
@click.option("--pin", "pins", multiple=True, help="A node that stays, as 3.564@-1 or 3.error@7; several are joined.")
@click.option("--estimate", is_flag=True, help="To first order, with its error.")
@click.option("--evaluate", is_flag=True, help="Say how right the graph is.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="A folder; made again after it ended, the call goes on."
)
@click.option("--out", type=click.Path(path_type=Path), help="graph.json, graph.dot or graph.csv.")
@click.option("--dtype", help="float32 (default), bfloat16, float16 or float64.")
@click.option("--device", help="auto (default), cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the graph, or with --evaluate what it says.")
def graph(
    model: str,
    prompt: str,
    paths: tuple[str, ...],
    sites: tuple[str, ...],
    centred: bool | None,
    allow_pickle: bool,
    positions: str,
    edges: float,
    by: Any,
    pins: tuple[str, ...],
    estimate: bool,
    evaluate: bool,
    resume: Path | None,
    out: Path | None,
    dtype: str | None,
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Which features of PROMPT change which later ones in MODEL (a directory or a Hugging Face id).

    The bundled model, demo, has its own dictionaries; others are given with --dictionary, one for each layer.
    """
    where: Any = positions
    if positions not in ("last", "all"):
        try:
            where = [int(one) for one in positions.split(",")]
        except ValueError:
            raise click.BadParameter(
                f"{positions!r} is not last, all, or numbers as 3,-1.", param_hint="--positions"
            ) from None
    if out and out.suffix not in (".json", ".dot", ".csv"):
        raise click.BadParameter(f"{out} is no .json, .dot or .csv.", param_hint="--out")
    if by == "influence" and (not estimate or edges == 1):
        raise click.UsageError("With --by influence give --estimate, and with --edges the share that is kept.")
    if estimate and options["split"]:
        raise click.UsageError("Edges that are estimated are not split: leave out --estimate or --split.")
    pinned = [_read_node(pin) for pin in pins]
    if not paths and model != "demo":
        raise click.UsageError("Give dictionaries of this model: --dictionary PATH, once for each layer.")
    from residscope import demo
    from residscope.graphs.causal_graph import causal_graph
    from residscope.running.metrics import log_prob
    from residscope.running.model import load
    from residscope.settings import read_settings

    with show_progress(model), telling_misfits():
        given = load_dictionaries(paths, sites, centred, allow_pickle)
        dictionaries = given or list(demo.dictionaries.values())
        loaded = load(model, **read_settings().loading(dtype, device))
        method: Any = "attribution" if estimate else "exact"
        outputs = [log_prob(int(loaded.run(prompt).at("logits", -1)[0].argmax()))] if by == "influence" else []
        options |= {"method": method, "outputs": outputs, "pinned": pinned, "out": resume}
        found = causal_graph(loaded, prompt, dictionaries, where, **options)
        found = found.prune(edges, by=by) if edges != 1 else found
        right = found.evaluate(loaded, dictionaries) if evaluate else None
    if out:
        write = {".json": found.to_file, ".dot": found.to_dot, ".csv": found.to_csv}[out.suffix]
        out.write_text(write(), encoding="utf-8")
    if as_json:
        click.echo(right.to_json() if right else found.to_file())
        return
    _print_table(found)
    if right:
        click.echo(repr(right))
    if out:
        click.echo(f"The graph: {out}")


def _read_node(pin: str) -> tuple[int, int, int]:
    """Layer, feature and position of a node."""
    found = _NODE.fullmatch(pin)
    if not found:
        raise click.BadParameter(f"{pin!r} is no node as 3.564@-1 or 3.error@7.", param_hint="--pin")
    return int(found[1]), -1 if found[2] == "error" else int(found[2]), int(found[3])


def _print_table(found: "Graph") -> None:
    """The strongest edges."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    strongest = found.values.abs().argsort(descending=True)[:_SHOWN].tolist()
    table = Table(title=f"The strongest {count(len(strongest), 'edge')}", caption=escape(repr(found)), box=None)
    for column in ("source", "activation", "weight", "target", "activation"):
        table.add_column(column, justify="left" if column in ("source", "target") else "right")
    for edge in strongest:
        source, target = int(found.sources[edge]), int(found.targets[edge])
        table.add_row(
            escape(found.describe(source)),
            f"{float(found.activations[source]):.3f}",
            f"{float(found.values[edge]):+.3f}",
            escape(found.describe(target)),
            f"{float(found.activations[target]):.3f}",
        )
    Console().print(table)
