"""Where the server listens."""

import errno
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from residscope.errors import ResidscopeError

_PORTS_TRIED = 50


class PortBusy(ResidscopeError):
    """Another program listens there."""


def bind(host: str, port: int, *, exact: bool) -> socket.socket:
    """A listening socket.

    Args:
      host: An address of this machine.
      port: Where; 0 takes any that is free.
      exact: Whether a busy port is an error; otherwise the next free one is taken.
    Raises:
      PortBusy: The port, or all that were tried, are taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if exact else range(port, min(port + _PORTS_TRIED, 65536)):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                message = f"Port {candidate} of {host} cannot be taken ({error.strerror})."
                raise PortBusy(message, "Choose another.") from None
        else:
            return listener
    which = f"Port {port}" if exact else f"Every port from {port} to {port + _PORTS_TRIED - 1}"
    raise PortBusy(f"{which} of {host} is busy.", "Name another with --port, or 0 for any that is free.")


def serve_app(app: FastAPI, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Serve until interrupted; `announce` is called when pages can be opened."""

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce()
                sys.stdout.flush()

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, lifespan="on")
    Server(config).run(sockets=[listener])
