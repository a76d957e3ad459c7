"""`residscope serve`: the workbench in the browser."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("model", required=False)
@click.option("--host", help="Where to listen; 127.0.0.1 by default. Elsewhere people have to sign in.")
@click.option("--port", type=click.IntRange(0, 65535), help="7474 by default, or the next free one; 0 takes any.")
@click.option("--open/--no-open", "open_browser", default=True, help="Open the page in a browser.")
@click.option("--texts", type=click.Path(path_type=Path), help="A file of sample texts in place of the package's own.")
@click.option("--dictionary", "paths", multiple=True, help="A folder or a place on the hub; once for each site.")
@click.option("--data", type=click.Path(path_type=Path), help="A folder for what is saved and computed.")
@click.option("--public-read", is_flag=True, help="Let those read who have not signed in.")
@click.option("--dtype", help="float32 (default), bfloat16, float16 or float64.")
@click.option("--device", help="auto (default), cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
def serve(
    model: str | None = None,
    host: str | None = None,
    port: int | None = None,
    open_browser: bool = True,
    texts: Path | None = None,
    paths: tuple[str, ...] = (),
    data: Path | None = None,
    public_read: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    as_json: bool = False,
) -> None:
    """Open the workbench on MODEL: a directory or a Hugging Face id."""
    from residscope import demo
    from residscope.errors import BadArgument
    from residscope.running.model import load
    from residscope.server.app import create_app
    from residscope.server.dictionaries import open_dictionaries
    from residscope.server.guard import find_names, is_loopback
    from residscope.server.listen import bind, serve_app
    from residscope.server.who import Door
    from residscope.server.workbench import Workbench
    from residscope.settings import read_settings
    from residscope.store.database import Database, place_database
    from residscope.store.home import Home
    from residscope.store.library import Library
    from residscope.store.people import People

    settings = read_settings()
    host = host or settings.host
    folder = data or settings.folder
    closed = not is_loopback(host)
    database = settings.database_url or place_database(folder)
    if closed and not any(People(Database(database), settings.limits).list().values()):
        raise BadArgument(
            f"The host {host} can be reached from other machines, and nobody can sign in yet.",
            "Say who may, with `residscope users add NAME`, or listen on 127.0.0.1.",
        )
    listener = bind(host, settings.port if port is None else port, exact=port is not None)
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/"
    wanted = model or settings.model
    if not as_json:
        click.echo(f"Loading {wanted} ...", err=True)
    loaded = load(wanted, **settings.loading(dtype, device))
    file = texts or settings.texts or demo.texts
    given = open_dictionaries(loaded, paths, file)
    for misfit in given.misfits.values():
        click.echo(f"Warning: {misfit}", err=True)
    dictionaries = {**(demo.dictionaries if wanted == "demo" else {}), **given.dictionaries}
    library = Library(folder, Home.of(loaded, dictionaries.values()), url=database, limits=settings.limits)
    bench = Workbench(
        loaded,
        file,
        data=folder,
        dictionaries=dictionaries,
        misfits=given.misfits,
        library=library,
    )
    door = Door(
        library.people,
        closed=closed,
        public_read=public_read or settings.public_read,
        attempts=settings.sign_in_limit,
    )
    names = find_names(host, settings.hosts)
    app = create_app(bench, library, door=door, names=names, queue_limit=settings.queue_limit, warm_up=True)

    def announce() -> None:
        if port is None and listener.getsockname()[1] != settings.port:
            click.echo(f"Port {settings.port} is busy; taking {listener.getsockname()[1]}.", err=True)
        click.echo(json.dumps({"address": address}) if as_json else f"Residscope is open at {address} (Ctrl-C ends it)")
        if open_browser:
            click.launch(address)

    serve_app(app, listener, announce)
