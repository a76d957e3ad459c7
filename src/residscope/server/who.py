"""Who asks: sessions in cookies, and what strangers may do."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import BaseModel

from residscope.errors import NotSignedIn, SignInRefused, TooManyAttempts
from residscope.store.people import SESSION_DAYS, People
from residscope.store.values import Person

COOKIE = "residscope"


@dataclass(frozen=True)
class Door:
    """Who is let in.

    Attributes:
      people: Who is who.
      closed: Whether people have to sign in by a password; else a name is enough, for all sit at one machine.
      public_read: Whether strangers may read.
      attempts: How often sign-in may be tried in a minute, from one address and for one name.
    """

    people: People
    closed: bool = False
    public_read: bool = False
    attempts: int = 10


class MeRequest(BaseModel):
    """A name, and where one has to sign in its password."""

    name: str
    password: str | None = None


class Me(BaseModel):
    """Who asks, and whether a password is wanted."""

    name: str | None
    sign_in: bool
    public_read: bool


def visitor(request: Request) -> Person | None:
    """Who asks, if that is known."""
    door: Door = request.app.state.door
    token = request.cookies.get(COOKIE)
    return door.people.who(token, by_password=door.closed) if token else None


Visitor = Annotated[Person | None, Depends(visitor)]


def actor(who: Visitor) -> Person:
    """Who asks for a change.

    Raises:
      NotSignedIn: That is not known.
    """
    if who is None:
        raise NotSignedIn("Changes are made as somebody, and who asks is not known.", "Say who you are first.")
    return who


Actor = Annotated[Person, Depends(actor)]


async def admit(request: Request) -> None:
    """Let in who may read.

    Raises:
      NotSignedIn: One has to sign in first.
    """
    door: Door = request.app.state.door
    if door.closed and not door.public_read and await asyncio.to_thread(visitor, request) is None:
        raise NotSignedIn("This server is for people who have signed in.", "Sign in first.")


def make_door_routes(door: Door) -> APIRouter:
    """The routes by which one says who one is. They are open to all."""
    router = APIRouter(prefix="/api/v1/me")
    limiter, limit = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerMinute(door.attempts)

    def describe(who: Person | None) -> Me:
        return Me(name=who.name if who else None, sign_in=door.closed, public_read=door.public_read)

    @router.get("")
    def me(who: Visitor) -> Me:
        return describe(who)

    @router.post("")
    def sign_in(request: Request, response: Response, asked: MeRequest) -> Me:
        if door.closed:
            address = request.client.host if request.client else ""
            if not all([limiter.hit(limit, "address", address), limiter.hit(limit, "name", asked.name)]):
                raise TooManyAttempts(f"Sign-in may be tried {door.attempts} times a minute.", "Wait for a minute.")
            if asked.password is None:
                raise SignInRefused("A password is needed here.", "Give it beside the name.")
        token = door.people.sign_in(asked.name, asked.password if door.closed else None)
        cookie: dict[str, Any] = {"httponly": True, "samesite": "strict", "secure": request.url.scheme == "https"}
        response.set_cookie(COOKIE, token, max_age=SESSION_DAYS * 86400, **cookie)
        return describe(door.people.who(token))

    @router.delete("")
    def sign_out(request: Request, response: Response) -> Me:
        if token := request.cookies.get(COOKIE):
            door.people.sign_out(token)
        response.delete_cookie(COOKIE)
        return describe(None)

    return router
