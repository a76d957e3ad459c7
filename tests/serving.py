"""The server on a free port of this machine, in this process: one of its own would import torch first."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

import residscope as rs
from residscope.server.app import create_app
from residscope.server.workbench import Workbench
from tests.patience import PATIENCE


@contextmanager
def serve(
    model: rs.Model,
    texts: Path,
    *,
    queue_limit: int = 64,
    dictionaries: Mapping[str, rs.SparseAutoencoder] | None = None,
) -> Iterator[tuple[str, Workbench, FastAPI]]:
    """The server's origin, what it keeps, and the application."""
    bench = Workbench(model, texts, dictionaries=dictionaries)
    app = create_app(bench, queue_limit=queue_limit)
    running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.socket() as listener:
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
