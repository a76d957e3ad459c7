"""The routes of the library. Each parses, makes one call of it as who asks, and answers with its value."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from residscope.direction import Direction
from residscope.directions.file import read_file
from residscope.server.directions import Along, Number
from residscope.server.who import Actor, Visitor
from residscope.server.workbench import Workbench
from residscope.store import values
from residscope.store.library import Library
from residscope.store.part import Part
from residscope.store.values import Card, DirectionList, Found, Imported, Neighbour, Saved

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
Several = list[Annotated[int, Field(ge=1, le=2**31 - 1)]]
Ids = Annotated[Several, Query(min_length=1, max_length=1000)]
Tags = Annotated[list[str], Query()]
Compute = Callable[[Request, Callable[[], Any]], Awaitable[Any]]
"""Makes a call in the server's queue."""


class MadeRequest(BaseModel):
    """A direction at a site, or a sum of several."""

    site: str
    along: Along


class SaveRequest(MadeRequest):
    """What is to be kept, and what it is called."""

    name: str
    description: str = ""
    tags: list[str] = []


class DirectionChange(BaseModel):
    """What is not given stays."""

    name: str | None = None
    tags: list[str] | None = None


class Words(BaseModel):
    """A description or a comment."""

    text: str


class Ballot(BaseModel):
    """For, against, or neither."""

    value: Literal[1, -1, 0]


class ListRequest(BaseModel):
    """A list and what is in it, in this order."""

    name: str
    directions: list[Number] = []


class ListChange(BaseModel):
    """What is not given stays."""

    name: str | None = None
    directions: list[Number] | None = None


class Item(BaseModel):
    """A direction to be put at the end."""

    direction: Number


class NewText(BaseModel):
    """A text, with a name or none."""

    name: str | None = None
    text: str


class TextsRequest(BaseModel):
    """Several texts at a time."""

    texts: Annotated[list[NewText], Field(min_length=1)]


class TextChange(BaseModel):
    """What is not given stays; the name null takes it off."""

    name: str | None = None
    pinned: bool = False


def make_library_routes(library: Library, bench: Workbench, compute: Compute) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/api/v1")
    _add_directions(router, library, bench, compute)
    _add_words(router, library)
    _add_lists(router, library)
    _add_texts(router, library)
    _add_exchange(router, library)
    for name in ("directions", "descriptions", "comments", "lists", "runs"):
        _add_deleting(router, name, getattr(library, name))
    return router


def _add_directions(router: APIRouter, library: Library, bench: Workbench, compute: Compute) -> None:
    @router.get("/directions")
    def find_directions(
        who: Visitor,
        words: str = "",
        owner: str | None = None,
        site: str | None = None,
        tag: str | None = None,
        list: int | None = None,
        deleted: bool = False,
        start: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        count: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> Found:
        asked = {"words": words, "owner": owner, "site": site, "tag": tag, "list": list, "deleted": deleted}
        return library.directions.find(who, start=start, count=count, **asked)  # type: ignore[arg-type]

    async def make(request: Request, asked: MadeRequest) -> Direction:
        place = bench.place(asked.site)
        made: Direction = await compute(request, lambda: bench.find(place, asked.along))
        return made

    @router.post("/directions")
    async def save_direction(request: Request, who: Actor, asked: SaveRequest) -> Saved:
        made = await make(request, asked)
        words: dict[str, Any] = {"name": asked.name, "description": asked.description, "tags": asked.tags}
        return await run_in_threadpool(library.directions.save, who, made, **words)

    @router.post("/directions/file")
    async def save_file(
        request: Request,
        who: Actor,
        file: str = "direction.safetensors",
        site: str | None = None,
        name: str | None = None,
        description: str = "",
        tags: Tags = [],  # noqa: B006  # FastAPI's own way
    ) -> Saved:
        content = await request.body()

        def save() -> Saved:
            read = _read_file(content, file, site)
            return library.directions.save(who, read, name=name, description=description, tags=tags)

        return await run_in_threadpool(save)

    @router.post("/directions/nearest")
    async def nearest_to_file(
        request: Request,
        who: Visitor,
        file: str = "direction.safetensors",
        site: str | None = None,
        count: Annotated[int, Query(ge=1, le=100)] = 10,
    ) -> list[Neighbour]:
        content = await request.body()
        return await run_in_threadpool(lambda: library.directions.nearest(who, _read_file(content, file, site), count))

    @router.get("/directions/{id}")
    def direction(who: Visitor, id: Id) -> Card:
        return library.directions.card(who, id)

    @router.get("/directions/{id}/nearest")
    def nearest(who: Visitor, id: Id, count: Annotated[int, Query(ge=1, le=100)] = 10) -> list[Neighbour]:
        found = library.directions.nearest(who, library.directions.load(who, id), count + 1)
        return [one for one in found if one.direction.id != id][:count]

    @router.patch("/directions/{id}")
    def change_direction(who: Actor, id: Id, asked: DirectionChange) -> Saved:
        return library.directions.change(who, id, name=asked.name, tags=asked.tags)

    @router.get("/directions/{id}/file", response_class=Response)
    def file(who: Visitor, id: Id, revision: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None) -> Response:
        found = library.directions.load(who, id, revision)
        return make_download(found.to_bytes(), f"{found.name}.safetensors")

    @router.put("/directions/{id}")
    async def revise_made(request: Request, who: Actor, id: Id, asked: MadeRequest) -> Saved:
        made = await make(request, asked)
        return await run_in_threadpool(library.directions.revise, who, id, made)

    @router.put("/directions/{id}/file")
    async def revise(
        request: Request, who: Actor, id: Id, file: str = "direction.safetensors", site: str | None = None
    ) -> Saved:
        content = await request.body()
        return await run_in_threadpool(lambda: library.directions.revise(who, id, _read_file(content, file, site)))


def _add_words(router: APIRouter, library: Library) -> None:
    @router.post("/directions/{id}/descriptions")
    def describe(who: Actor, id: Id, asked: Words) -> values.Description:
        return library.descriptions.add(who, id, asked.text)

    @router.patch("/descriptions/{id}")
    def revise_description(who: Actor, id: Id, asked: Words) -> values.Description:
        return library.descriptions.revise(who, id, asked.text)

    @router.put("/descriptions/{id}/vote")
    def vote(who: Actor, id: Id, asked: Ballot) -> values.Description:
        return library.descriptions.vote(who, id, asked.value)

    @router.post("/directions/{id}/comments")
    def comment(who: Actor, id: Id, asked: Words) -> values.Comment:
        return library.comments.add(who, id, asked.text)


def _add_lists(router: APIRouter, library: Library) -> None:
    @router.get("/lists")
    def lists(who: Visitor, deleted: bool = False) -> list[DirectionList]:
        return library.lists.find(who, deleted=deleted)

    @router.post("/lists")
    def add_list(who: Actor, asked: ListRequest) -> DirectionList:
        return library.lists.add(who, asked.name, asked.directions)

    @router.get("/lists/{id}")
    def read_list(who: Visitor, id: Id) -> DirectionList:
        return library.lists.read(who, id)

    @router.patch("/lists/{id}")
    def change_list(who: Actor, id: Id, asked: ListChange) -> DirectionList:
        return library.lists.change(who, id, name=asked.name, directions=asked.directions)

    @router.post("/lists/{id}/directions")
    def append(who: Actor, id: Id, asked: Item) -> DirectionList:
        return library.lists.append(who, id, asked.direction)


def _add_texts(router: APIRouter, library: Library) -> None:
    @router.get("/my_texts")
    def texts(who: Actor, deleted: bool = False) -> list[values.Text]:
        return library.texts.find(who, deleted=deleted)

    @router.post("/my_texts")
    def add_texts(who: Actor, asked: TextsRequest) -> list[values.Text]:
        library.limits.check_texts(len(asked.texts))
        return library.texts.add(who, [(one.name, one.text) for one in asked.texts])

    @router.patch("/my_texts/{id}")
    def change_text(who: Actor, id: Id, asked: TextChange) -> values.Text:
        return library.texts.change(who, id, **asked.model_dump(exclude_unset=True))

    @router.delete("/my_texts", status_code=204)
    def delete_texts(who: Actor, ids: Ids) -> None:
        library.texts.delete(who, *ids)

    @router.post("/my_texts/restore", status_code=204)
    def restore_texts(who: Actor, ids: Ids, name: str | None = None) -> None:
        library.texts.restore(who, *ids, name=name)


def _add_exchange(router: APIRouter, library: Library) -> None:
    @router.get("/library", response_class=Response)
    def export_library(who: Visitor, ids: Annotated[Several | None, Query(max_length=1000)] = None) -> Response:
        return make_download(library.exchange.write(who, ids), f"{library.home.name} library.safetensors")

    @router.post("/library")
    async def import_library(request: Request, who: Actor) -> Imported:
        content = await request.body()
        return await run_in_threadpool(library.exchange.bring, who, content)


def _add_deleting(router: APIRouter, name: str, part: Part[Any]) -> None:
    @router.delete(f"/{name}/{{id}}", name=f"delete {name}", status_code=204)
    def delete(who: Actor, id: Id) -> None:
        part.delete(who, id)

    @router.post(f"/{name}/{{id}}/restore", name=f"restore {name}", status_code=204)
    def restore(who: Actor, id: Id, name: str | None = None) -> None:
        part.restore(who, id, name=name)


def _read_file(content: bytes, file: str, place: str | None) -> Direction:
    """What `read_file` reads; a place is written as everywhere, `resid_pre.3` or `z.3:1`."""
    site, _, head = (place or "").partition(":")
    return read_file(content, file, site=site or None, head=int(head) if head.isdecimal() else None)


def make_download(content: bytes, name: str) -> Response:
    """A file for the browser's downloads."""
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return Response(content, media_type="application/octet-stream", headers=headers)
