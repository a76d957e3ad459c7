"""The server on a free port of this machine, in this process: one of its own would import torch first."""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

import residscope as rs
from residscope.running.texts import read_texts
from residscope.server.app import create_app
from residscope.server.who import Door
from residscope.server.workbench import Workbench
from residscope.store.home import Home
from residscope.store.library import Library
from residscope.store.limits import Limits
from tests.patience import PATIENCE

# Of the package's own sample texts: what a server computes of all of them takes seconds.
FEW_TEXTS = Path(os.environ["RESIDSCOPE_DATA"]) / f"few_texts_{os.getpid()}.json"
FEW_TEXTS.write_text(json.dumps(read_texts(rs.demo.texts)[:24]))


@contextmanager
def serve(
    model: rs.Model,
    texts: Path,
    *,
    queue_limit: int = 64,
    dictionaries: Mapping[str, rs.SparseAutoencoder] | None = None,
    limits: Limits | None = None,
    **door: Any,
) -> Iterator[tuple[str, Workbench, FastAPI]]:
    """The server's origin, what it keeps, and the application with an empty library; `door` is what `Door` takes."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        library = Library(Path(folder), Home.of(model, (dictionaries or {}).values()), limits=limits)
        bench = Workbench(model, texts, dictionaries=dictionaries, library=library)
        app = create_app(bench, library, door=Door(library.people, **door), queue_limit=queue_limit)
        running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", bench, app
        finally:
            running.should_exit = True
            thread.join(PATIENCE)
            library.close()
