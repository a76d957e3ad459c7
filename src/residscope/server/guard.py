"""Who may speak to the server: its own pages, under its own names, and nobody who borrowed them."""

import socket
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

import psutil
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from residscope.store.limits import Limits, say_higher

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_IMPORT = "/api/v1/library"


def find_names(host: str, more: str = "") -> frozenset[str]:
    """The names under which a server that listens at `host` may be asked for, those of the loopback interface aside.

    Args:
      host: An address or a name; 0.0.0.0 and :: are all addresses of this machine.
      more: Other names, with commas between.
    """
    names = {name.strip().lower() for name in more.split(",")} - {""}
    if host not in ("0.0.0.0", "::"):
        return frozenset({host.lower(), *names})
    found = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return frozenset({socket.gethostname().lower(), *found, *names})


def is_loopback(host: str | None) -> bool:
    """Whether that can be reached from this machine alone."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses a foreign Host (a name that was rebound to this machine) or Origin (another site's page) with 403.

    A browser that keeps the Origin to itself says in Sec-Fetch-Site whose page asks; following a link to a page is let
    through. A body over the limits is refused with 413, before it is read.

    Args:
      app: What is guarded.
      names: Of the server, beside those of the loopback interface.
      limits: How large a body may be; an imported library more than any other.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = (), limits: Limits | None = None) -> None:
        self._app, self._names, self._limits = app, names, limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        name = _name(host)
        here = is_loopback(name) or name in self._names
        limit = "import_limit" if scope["path"] == _IMPORT else "request_bytes_limit"
        most = getattr(self._limits, limit)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        which = None
        if not here:
            which = f"Host {host!r}"
        elif origin is not None and origin.partition("://")[2] != host:
            which = f"Origin {origin!r}"
        elif headers.get(b"sec-fetch-site", "none") not in ("none", "same-origin") and not _is_link(scope, headers):
            which = "page that asks"
        if which:
            hint = "Open it under its own address, or name the host in RESIDSCOPE_HOSTS."
            answer = error_response(403, "foreign", f"The {which} is not this server's.", hint)
            await answer(scope, receive, send_guarded)
        elif b"transfer-encoding" in headers or int(headers.get(b"content-length", 0)) > most:
            message = f"A request may have {most:,} bytes, and say how many."
            await error_response(413, "too_large", message, say_higher(limit))(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)


def error_response(status: int, code: str, message: str, hint: str = "") -> JSONResponse:
    """The one shape of every error."""
    headers = {"Retry-After": "1"} if status == 429 else None
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint}}, status, headers)


def _is_link(scope: Scope, headers: Mapping[bytes, str]) -> bool:
    """Whether somebody follows a link to one of the pages."""
    shown = scope["method"] == "GET" and not scope["path"].startswith("/api/")
    return shown and headers.get(b"sec-fetch-mode") == "navigate" and headers.get(b"sec-fetch-dest") == "document"


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
