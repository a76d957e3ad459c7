"""The routes. Each parses, calls one function of the workbench through the queue, and answers."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Hashable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from residscope.errors import (
    AnotherSite,
    BadDatabase,
    Cancelled,
    NameTaken,
    NotSaved,
    NotSignedIn,
    NotYours,
    OverLimit,
    ResidscopeError,
    SignInRefused,
    TooManyAttempts,
    UnknownComponent,
    UnknownSite,
    ViewsNotBuilt,
)
from residscope.results.static_files import STATIC
from residscope.server.analyses import ANALYSES, Analysis
from residscope.server.directions import Texts
from residscope.server.exports import MEDIA_TYPES, ExportRequest, Format
from residscope.server.guard import Guard, error_response
from residscope.server.library import make_library_routes
from residscope.server.questions import QUESTIONS, Question
from residscope.server.refusals import describe_refusal
from residscope.server.runs import RunKeeper, make_run_routes
from residscope.server.who import Door, Visitor, admit, make_door_routes
from residscope.server.work import Job, QueueFull, WorkQueue
from residscope.server.workbench import Workbench
from residscope.store.library import Library

_STATUS: dict[type[ResidscopeError], int] = {
    UnknownSite: 404,
    UnknownComponent: 404,
    AnotherSite: 409,
    QueueFull: 429,
    ViewsNotBuilt: 503,
    NotSignedIn: 401,
    SignInRefused: 401,
    NotYours: 403,
    NotSaved: 404,
    NameTaken: 409,
    OverLimit: 413,
    TooManyAttempts: 429,
    BadDatabase: 503,
    Cancelled: 503,
}
_EVENT_SECONDS = 0.1


class TokensRequest(BaseModel):
    """Texts to be split."""

    texts: Texts


def create_app(
    workbench: Workbench,
    library: Library,
    *,
    door: Door | None = None,
    names: Collection[str] = (),
    queue_limit: int = 64,
    warm_up: bool = False,
) -> FastAPI:
    """The whole server: the API, the pages, and one queue for all that computes.

    Args:
      workbench: What is computed.
      library: What is kept.
      door: Who is let in; None is everybody, by a name.
      names: Under which it may be asked for, beside those of the loopback interface.
      queue_limit: Jobs that may wait.
      warm_up: Whether what the page asks for first is computed before it asks.
    """

    @asynccontextmanager
    async def run_queue(app: FastAPI) -> AsyncIterator[None]:
        app.state.queue = WorkQueue(queue_limit)
        if warm_up:
            app.state.queue.submit(("pca", *workbench.kin(workbench.first)), workbench.warm_up, long=True)
        yield
        await asyncio.to_thread(app.state.queue.close)

    app = FastAPI(
        title="Residscope", openapi_url="/api/openapi.json", docs_url=None, redoc_url=None, lifespan=run_queue
    )
    app.state.door, app.state.library = door or Door(library.people), library
    app.add_middleware(Guard, names=names, limits=library.limits)
    api = APIRouter(dependencies=[Depends(admit)])
    keeper = RunKeeper(library, workbench)
    _add_api(api, workbench, keeper)
    _add_errors(app)
    app.include_router(api)
    app.include_router(make_library_routes(library, workbench, _compute_apart), dependencies=[Depends(admit)])
    app.include_router(make_run_routes(library, keeper), dependencies=[Depends(admit)])
    app.include_router(make_door_routes(app.state.door))
    _add_pages(app)
    return app


def _add_api(app: APIRouter, bench: Workbench, keeper: RunKeeper) -> None:
    @app.get("/api/v1/model")
    async def model() -> dict[str, Any]:
        return bench.describe()

    @app.get("/api/v1/dictionaries")
    def dictionaries() -> dict[str, str]:
        return bench.fingerprints()

    @app.get("/api/v1/texts")
    async def texts(
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=1000)] = 20,
        only: Annotated[list[int] | None, Query(max_length=1000)] = None,
    ) -> dict[str, Any]:
        numbers = range(start, start + count) if only is None else only
        found = [bench.texts[number] for number in numbers if 0 <= number < len(bench.texts)]
        return {"total": len(bench.texts), "start": start, "texts": found}

    @app.post("/api/v1/tokens")
    async def tokens(request: Request, asked: TokensRequest) -> dict[str, Any]:
        key = ("tokens", *asked.texts)
        return {"texts": await _compute(request, key, lambda: bench.tokens(asked.texts))}

    @app.get("/api/v1/pca/{site}")
    async def pca(request: Request, site: str) -> Response:
        found = bench.place(site)
        key, long = ("pca", *bench.kin(found)), not bench.has_basis(found)
        if _wants(request, "text/event-stream"):
            job = _queue(request).submit(key, lambda: bench.basis(found), long=long)
            return _events(request, job, lambda _: bench.describe_basis(found))
        await _compute(request, key, lambda: bench.basis(found), long=long)
        return JSONResponse(bench.describe_basis(found))

    @app.post("/api/v1/export/{format}", response_class=Response)
    async def export(request: Request, format: Format, asked: ExportRequest) -> Response:
        long = asked.centre == "position" or not all(map(bench.has_basis, asked.list_places(bench)))
        content = await _compute(request, (format, asked), lambda: asked.write(bench, format), long=long)
        return Response(content, media_type=MEDIA_TYPES[format])

    for name, question in QUESTIONS.items():
        _add_question(app, bench, name, question)
    for name, kind in ANALYSES.items():
        _add_analysis(app, keeper, name, kind)


def _add_question(app: APIRouter, bench: Workbench, name: str, kind: type[Question]) -> None:
    @app.post(f"/api/v1/{name}", name=name, description=kind.__doc__, response_model=None)
    async def ask(request: Request, asked: kind) -> Any:  # type: ignore[valid-type]
        place = bench.place(asked.site)  # type: ignore[attr-defined]
        call = lambda: asked.answer(bench, place)  # type: ignore[attr-defined]  # noqa: E731
        long = kind.long or not bench.has_basis(place)
        if _wants(request, "text/event-stream"):
            job = _queue(request).submit(asked, call, long=long)
            return _events(request, job, lambda answer: {"data": base64.b64encode(answer).decode()})
        answer = await _compute(request, asked, call, long=long)
        return _binary(answer) if isinstance(answer, bytes) else answer


def _add_analysis(app: APIRouter, keeper: RunKeeper, name: str, kind: type[Analysis]) -> None:
    @app.post(f"/api/v1/{name}", name=name, description=kind.__doc__, response_class=Response)
    async def analyse(request: Request, who: Visitor, asked: kind) -> Response:  # type: ignore[valid-type]
        job = await run_in_threadpool(keeper.submit, _queue(request), who, name, asked)
        if _wants(request, "text/event-stream"):
            return _events(request, job, lambda result: {"data": base64.b64encode(result.to_bytes()).decode()})
        result = await _wait(request, job)
        return HTMLResponse(result.to_html()) if _wants(request, "text/html") else _binary(result.to_bytes())


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    @app.get("/stream", include_in_schema=False)
    @app.get("/lens", include_in_schema=False)
    @app.get("/patch", include_in_schema=False)
    @app.get("/heads", include_in_schema=False)
    @app.get("/graph", include_in_schema=False)
    @app.get("/saved", include_in_schema=False)
    @app.get("/runs", include_in_schema=False)
    async def page() -> Response:
        if not (STATIC / "index.html").is_file():
            raise ViewsNotBuilt("The pages are not built.", "Run `make build` in the checkout, or install a wheel.")
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ResidscopeError)
    async def of_user(request: Request, error: ResidscopeError) -> Response:
        return error_response(_status(error), **describe_error(error))

    @app.exception_handler(RequestValidationError)
    async def of_words(request: Request, error: RequestValidationError) -> Response:
        return error_response(422, "bad_request", **describe_refusal(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def of_routes(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}."
        return error_response(error.status_code, "http", message, "See /api/openapi.json.")

    @app.exception_handler(Exception)
    async def of_ours(request: Request, error: Exception) -> Response:
        return error_response(500, **_describe_defect(error))


def _status(error: ResidscopeError) -> int:
    return _STATUS.get(type(error), 400)


def describe_error(error: ResidscopeError) -> dict[str, str]:
    """An error's parts, as the one shape names them."""
    return {"code": error.code(), "message": error.message, "hint": error.hint}


def _describe_defect(error: Exception) -> dict[str, str]:
    return {"code": "internal", "message": f"{type(error).__name__}: {error}.", "hint": "The server's log has more."}


def _queue(request: Request) -> WorkQueue:
    queue: WorkQueue = request.app.state.queue
    return queue


def _binary(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


async def _compute(request: Request, key: Hashable, call: Callable[[], Any], *, long: bool = False) -> Any:
    """Wait for the queue's answer, or until the page goes away."""
    return await _wait(request, _queue(request).submit(key, call, long=long))


async def _wait(request: Request, job: Job) -> Any:
    waiters = [asyncio.ensure_future(_done(job)), asyncio.ensure_future(_left(request))]
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        _queue(request).leave(job)
    if not job.result.done():
        raise Cancelled("The page went away.")
    return job.result.result()


async def _compute_apart(request: Request, call: Callable[[], Any]) -> Any:
    """`_compute` of what is nobody else's."""
    return await _compute(request, object(), call, long=True)


def _wants(request: Request, media_type: str) -> bool:
    return media_type in request.headers.get("accept", "")


def _events(request: Request, job: Job, describe: Callable[[Any], dict[str, Any]]) -> Response:
    stream = _stream(request, job, describe)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _stream(request: Request, job: Job, describe: Callable[[Any], dict[str, Any]]) -> AsyncIterator[str]:
    """The steps of a job as server-sent events, and last its result or its error."""
    done, told = asyncio.ensure_future(_done(job)), None
    try:
        while not done.done():
            await asyncio.wait([done], timeout=_EVENT_SECONDS)
            if await request.is_disconnected():
                return
            if job.step and job.step is not told:
                more = told is None or job.step.done > told.done
                told = job.step
                so_far = describe(told.so_far()) if told.so_far and more else {}
                yield _event("progress", {"done": told.done, "total": told.total, "what": told.what, **so_far})
        yield _event("result", describe(job.result.result()))
    except ResidscopeError as error:
        yield _event("error", {"status": _status(error), "error": describe_error(error)})
    except Exception as error:
        logging.getLogger("residscope").exception("a job failed")
        yield _event("error", {"status": 500, "error": _describe_defect(error)})
    finally:
        done.cancel()
        _queue(request).leave(job)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def _done(job: Job) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    job.result.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
    await done.wait()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
