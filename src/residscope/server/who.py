"""Who asks: sessions in cookies, and what strangers may do."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from residscope.errors import NotSignedIn, SignInRefused
from residscope.server.attempts import Attempts
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
      attempts: How often sign-in may fail in a minute, from one address for one name; see `Attempts`.
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
    attempts, turn = Attempts(door.attempts), asyncio.Lock()

    def describe(who: Person | None) -> Me:
        return Me(name=who.name if who else None, sign_in=door.closed, public_read=door.public_read)

    @router.get("")
    def me(who: Visitor) -> Me:
        return describe(who)

    async def check_password(address: str, asked: MeRequest) -> str:
        name = asked.name.strip()
        if asked.password is None:
            raise SignInRefused("A password is needed here.", "Give it beside the name.")
        attempts.check(address, name)
        await asyncio.sleep(attempts.delay(name))
        async with turn:  # else a hundred at once would all be before the first failure
            attempts.check(address, name)
            try:
                return await asyncio.to_thread(door.people.sign_in, name, asked.password)
            except SignInRefused:
                attempts.fail(address, name)
                raise

    @router.post("")
    async def sign_in(request: Request, response: Response, asked: MeRequest) -> Me:
        if door.closed:
            token = await check_password(request.client.host if request.client else "", asked)
        else:
            token = await asyncio.to_thread(door.people.sign_in, asked.name)
        cookie: dict[str, Any] = {"httponly": True, "samesite": "strict", "secure": request.url.scheme == "https"}
        response.set_cookie(COOKIE, token, max_age=SESSION_DAYS * 86400, **cookie)
        return describe(await asyncio.to_thread(door.people.who, token))

    @router.delete("")
    def sign_out(request: Request, response: Response) -> Me:
        if token := request.cookies.get(COOKIE):
            door.people.sign_out(token)
        response.delete_cookie(COOKIE)
        return describe(None)

    return router
