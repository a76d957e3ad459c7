"""Who may speak to the server: this machine's own pages, and nobody who borrowed them."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from residscope.errors import BadArgument

MOST_BYTES = 4 * 2**20

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


def check_host(host: str) -> None:
    """Refuse to listen where other machines can reach.

    Raises:
      BadArgument: The host is no loopback address.
    """
    if not _is_loopback(host):
        raise BadArgument(
            f"The host {host} can be reached from other machines, and there is no sign-in yet.",
            "Listen on 127.0.0.1, and reach it through ssh -L from elsewhere.",
        )


class Guard:
    """Refuses a foreign Host (a name that was rebound to this machine) or Origin (another site's page) with 403.

    And a body over `MOST_BYTES` with 413, before it is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        here = _is_loopback(_name(host))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        if not here or (origin is not None and origin.partition("://")[2] != host):
            which = f"Origin {origin!r}" if here else f"Host {host!r}"
            answer = error_response(403, "foreign", f"The {which} is not this server's.", "Open it on this machine.")
            await answer(scope, receive, send_guarded)
        elif b"transfer-encoding" in headers or int(headers.get(b"content-length", 0)) > MOST_BYTES:
            message = f"A request may have {MOST_BYTES:,} bytes, and say how many."
            await error_response(413, "too_large", message, "Send fewer or shorter texts.")(
                scope, receive, send_guarded
            )
        else:
            await self._app(scope, receive, send_guarded)


def error_response(status: int, code: str, message: str, hint: str = "") -> JSONResponse:
    """The one shape of every error."""
    headers = {"Retry-After": "1"} if status == 429 else None
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint}}, status, headers)


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False
