"""`residscope directions`: made, kept as files, explained, checked and read in texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from residscope.cli.output import give, output_options
from residscope.cli.progress import show_progress
from residscope.cli.saved import add_saved

if TYPE_CHECKING:
    from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
    from residscope.direction import Direction
    from residscope.running.model import Model

_FILE = click.Path(path_type=Path)
_TEXTS = click.option("--texts", type=_FILE, help="A file of texts in place of the package's own.")
_MAKING = (
    click.option("--out", type=_FILE, help="Keep it as this file, .safetensors."),
    click.option("--dtype", help="float32 (default), bfloat16, float16 or float64."),
    click.option("--device", help="auto (default), cpu, cuda, ..."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)
_READING = (
    click.option("--site", help="Where a bare vector lives (.json or .npy), as resid_pre.2."),
    click.option("--head", type=int, help="Of which head it is, where the site has heads."),
    click.option("--dictionary", "paths", multiple=True, help="In use: another of its name is refused; demo has some."),
)
_SETS = (
    click.option("--positive", type=_FILE, required=True, help="A file of texts."),
    click.option("--negative", type=_FILE, required=True, help="Another, of the other kind."),
    click.option("--head", type=int, help="Of which head, where the site has heads."),
    click.option("--pos", type=int, default=-1, show_default=True, help="Where each text is read."),
)

Command = Callable[..., Any]


def _with(options: tuple[Callable[[Command], Command], ...]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group()
def directions() -> None:
    """Make directions of the residual stream, say what they are about, test them, and keep them.

    Those that make one print it; --out keeps it as a file, which the others and Python's rs.load_direction read.
    """


@directions.command()
@click.argument("model")
@click.argument("site")
@click.option("--component", type=int, default=0, show_default=True, help="Which; 0 has most variance.")
@click.option("--head", type=int, help="Of which head, where the site has heads.")
@_TEXTS
@_with(_MAKING)
def pca(model: str, site: str, component: int, head: int | None, texts: Path | None, **output: Any) -> None:
    """A principal component of what MODEL holds at SITE, as resid_pre.2."""
    from residscope.directions import pca

    _make(model, lambda loaded: pca.pca(loaded, _find_texts(texts), site, head=head)[component], **output)


@directions.command()
@click.argument("model")
@click.argument("token")
@click.option("--minus", help="Another token, taken off.")
@click.option("--read", type=click.Choice(["unembed", "embed"]), default="unembed", show_default=True, help="By which.")
@click.option("--site", help="Where else than at the last stream: z.3, mlp_act.2, ...")
@click.option("--head", type=int, help="Of which head, where the site has heads.")
@_with(_MAKING)
def token(model: str, token: str, **asked: Any) -> None:
    """What makes TOKEN, given with its space, likely in MODEL; or what it is embedded along."""
    from residscope.directions.weights import token_direction

    given = {name: asked.pop(name) for name in ("minus", "read", "site", "head")}
    _make(model, lambda loaded: token_direction(loaded, token, **given), **asked)


@directions.command()
@click.argument("model")
@click.argument("pos", type=int)
@_with(_MAKING)
def position(model: str, pos: int, **output: Any) -> None:
    """The embedding of position POS in MODEL."""
    from residscope.directions.weights import position_direction

    _make(model, lambda loaded: position_direction(loaded, pos), **output)


@directions.command()
@click.argument("model")
@click.argument("site")
@_with((*_SETS, *_MAKING))
def contrast(model: str, site: str, positive: Path, negative: Path, head: int | None, pos: int, **output: Any) -> None:
    """From the mean of the negative texts to that of the positive ones, in MODEL at SITE."""
    from residscope.directions import contrast

    _make(model, lambda loaded: contrast.contrast(loaded, positive, negative, site=site, head=head, pos=pos), **output)


@directions.command()
@click.argument("model")
@click.argument("site")
@_with((*_SETS, *_MAKING))
def probe(model: str, site: str, positive: Path, negative: Path, head: int | None, pos: int, **output: Any) -> None:
    """Along which a logistic regression tells both kinds of texts apart, in MODEL at SITE; with its accuracy."""
    from residscope.directions import probe
    from residscope.running.texts import read_texts

    yes, no = read_texts(positive), read_texts(negative)
    labels = [True] * len(yes) + [False] * len(no)
    _make(model, lambda loaded: probe.probe(loaded, [*yes, *no], labels, site=site, head=head, pos=pos), **output)


@directions.command()
@click.argument("model")
@click.option("--layer", type=int, required=True, help="Which.")
@click.option("--head", type=int, required=True, help="Which.")
@click.option("--circuit", type=click.Choice(["OV", "QK"]), default="OV", show_default=True, help="What of it.")
@click.option("--rank", type=int, default=0, show_default=True, help="0 has the largest singular value.")
@click.option(
    "--side", type=click.Choice(["in", "out", "query", "key"]), help="Of OV out (default) or in, of QK key or query."
)
@_with(_MAKING)
def head(model: str, layer: int, head: int, circuit: Any, rank: int, side: Any, **output: Any) -> None:
    """A singular vector of what a head of MODEL moves, or of where it looks."""
    from residscope.directions.weights import head_direction

    asked: dict[str, Any] = {"layer": layer, "head": head, "circuit": circuit, "rank": rank, "side": side}
    _make(model, lambda loaded: head_direction(loaded, **asked), **output)


@directions.command()
@click.argument("model")
@click.option("--layer", type=int, required=True, help="Which.")
@click.option("--neuron", type=int, required=True, help="Which.")
@click.option("--side", type=click.Choice(["out", "in", "gate"]), default="out", show_default=True, help="Its weights.")
@_with(_MAKING)
def neuron(model: str, layer: int, neuron: int, side: Any, **output: Any) -> None:
    """What a neuron of MODEL writes, or what it reads."""
    from residscope.directions.weights import neuron_direction

    _make(model, lambda loaded: neuron_direction(loaded, layer=layer, neuron=neuron, side=side), **output)


@directions.command()
@click.argument("dictionary")
@click.argument("feature", type=int)
@click.option("--side", type=click.Choice(["decoder", "encoder"]), default="decoder", show_default=True, help="Which.")
@click.option("--out", type=_FILE, help="Keep it as this file, .safetensors.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def feature(dictionary: str, feature: int, side: Any, out: Path | None, as_json: bool) -> None:
    """What FEATURE of DICTIONARY (a folder or a place on the hub) writes, or what it reads."""
    from residscope.dictionaries.loading import load_dictionary

    _show(load_dictionary(dictionary).direction(feature, side=side), out, as_json)


@directions.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """What FILE says of its direction: where it lives, how it was made, and the Python that makes it again."""
    from residscope.directions.file import load_direction

    _show(load_direction(file), None, as_json)


@directions.command()
@click.argument("model")
@click.argument("file", type=_FILE)
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Tokens of each side.")
@click.option("--n-contexts", type=click.IntRange(0), default=5, show_default=True, help="Places of each side.")
@_TEXTS
@_with(_READING)
@output_options
def explain(
    model: str,
    file: Path,
    top: int,
    n_contexts: int,
    texts: Path | None,
    html: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """What the direction in FILE is about in MODEL: tokens it promotes, places where it is strong, what lies near."""
    from residscope.cards import direction as cards
    from residscope.cli.direction_tables import write_explanation

    with show_progress(model):
        loaded, along, near = _open(model, file, **asked)
        near = [one for one in near if one.writes == along.site]
        result = cards.explain(loaded, along, _find_texts(texts), top=top, n_contexts=n_contexts, near=near)
    give(result, lambda: write_explanation(result), html, as_json)


@directions.command()
@click.argument("model")
@click.argument("file", type=_FILE)
@click.option("--n-texts", type=click.IntRange(1), default=5, show_default=True, help="The first of the texts.")
@click.option("--strength", type=float, default=2.0, show_default=True, help="In standard deviations along it.")
@click.option("--n-draws", type=int, default=20, show_default=True, help="Random directions of each kind.")
@_TEXTS
@_with(_READING)
@output_options
def check(
    model: str,
    file: Path,
    n_texts: int,
    strength: float,
    n_draws: int,
    texts: Path | None,
    html: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Whether MODEL uses the direction in FILE: what edits along it do to the predictions, beside what chance does."""
    from residscope.cli.direction_tables import write_check
    from residscope.directions.causal_check import causal_check
    from residscope.running.texts import read_texts

    with show_progress(model):
        loaded, along, _ = _open(model, file, **asked)
        chosen = read_texts(_find_texts(texts))[:n_texts]
        result = causal_check(loaded, along, chosen, strength=strength, n_draws=n_draws)
    give(result, lambda: write_check(result), html, as_json)


@directions.command()
@click.argument("model")
@click.argument("file", type=_FILE)
@click.argument("text")
@_with(_READING)
@output_options
def project(model: str, file: Path, text: str, html: Path | None, as_json: bool, **asked: Any) -> None:
    """TEXT along the direction in FILE, coloured token by token; as numbers where there are no colours."""
    from residscope.cli.direction_tables import ColouredText
    from residscope.directions import projection

    with show_progress(model):
        loaded, along, _ = _open(model, file, **asked)
        result = projection.project(loaded.run(text), along)
    give(result, lambda: ColouredText(result), html, as_json)


add_saved(directions)


def _make(
    model: str,
    make: "Callable[[Model], Direction]",
    *,
    out: Path | None,
    dtype: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    from residscope.running.model import load
    from residscope.settings import read_settings

    with show_progress(model):
        direction = make(load(model, **read_settings().loading(dtype, device)))
    _show(direction, out, as_json)


def _show(direction: "Direction", out: Path | None, as_json: bool) -> None:
    if out:
        direction.save(out)
    if as_json:
        click.echo(json.dumps({**direction.facts, "offset": direction.offset, "vector": direction.vector.tolist()}))
        return
    from rich.console import Console

    from residscope.cli.direction_tables import write_direction

    Console().print(write_direction(direction))
    click.echo(direction.as_python(), nl=False)  # whole, however narrow the terminal is
    if out:
        click.echo(f"The direction: {out}")


def _open(
    model: str,
    file: Path,
    *,
    site: str | None,
    head: int | None,
    paths: tuple[str, ...],
    dtype: str | None,
    device: str | None,
) -> "tuple[Model, Direction, list[SparseAutoencoder]]":
    """The model, the direction, and the dictionaries in use."""
    from residscope import demo
    from residscope.dictionaries.loading import load_dictionary
    from residscope.directions.file import load_direction
    from residscope.running.model import load
    from residscope.settings import read_settings

    near = [load_dictionary(path) for path in paths] or (list(demo.dictionaries.values()) if model == "demo" else [])
    along = load_direction(file, site=site, head=head, dictionaries=near)
    return load(model, **read_settings().loading(dtype, device)), along, near


def _find_texts(texts: Path | None) -> Path:
    from residscope import demo
    from residscope.settings import read_settings

    return texts or read_settings().texts or demo.texts
