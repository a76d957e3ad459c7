"""What people ask for at length, kept as runs: how far each is, how it ended, and its result."""

from concurrent.futures import Future
from dataclasses import replace
from threading import Lock
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from residscope.errors import BadArgument, Cancelled, ResidscopeError
from residscope.results.result import Result
from residscope.server.analyses import ANALYSES, Analysis
from residscope.server.library import Id, make_download
from residscope.server.who import Actor
from residscope.server.work import Job, WorkQueue
from residscope.server.workbench import Workbench
from residscope.store.library import Library
from residscope.store.values import Person, Progress, Run


class RunKeeper:
    """Starts analyses, and keeps those of people who are known.

    Args:
      library: Where runs are kept.
      bench: What computes them.
    """

    def __init__(self, library: Library, bench: Workbench) -> None:
        self._library, self._bench = library, bench
        self._live: dict[int, Job] = {}
        self._lock = Lock()

    def submit(self, queue: WorkQueue, who: Person | None, kind: str, asked: Analysis) -> Job:
        """Queue an analysis, or join the same one; kept as a run where it is long by nature and `who` is known."""
        if who is None or not asked.kept:
            return queue.submit(asked, lambda: asked.compute(self._bench), long=True)
        return self._start(queue, who, kind, asked)[0]

    def start(self, queue: WorkQueue, who: Person, kind: str, asked: Analysis) -> Run:
        """Queue an analysis that goes on though nobody waits for it."""
        return self.describe(self._library.runs.read(who, self._start(queue, who, kind, asked)[1]))

    def stop(self, queue: WorkQueue, who: Person, id: int) -> Run:
        """Cancel one's own run.

        Raises:
          NotSaved, NotYours: There is none of that number, or it is another's.
          BadArgument: It does not run here.
        """
        run = self._library.runs.read(who, id)
        job = self._live.get(id)
        if job is None:
            raise BadArgument(f"Run {id} does not run on this server; it is {run.state}.", "Ask for it again.")
        queue.stop(job)
        return self.describe(self._library.runs.read(who, id))

    def describe(self, run: Run) -> Run:
        """A run with how far it is; one that ended with its server, or runs on another, is interrupted."""
        job = self._live.get(run.id)
        if job is None:
            return replace(run, state="interrupted") if run.state == "waiting" else run
        step = job.step
        progress = None if step is None else Progress(step.done, step.total, step.what)
        return replace(run, state="running" if job.work else "waiting", progress=progress, log=tuple(job.log))

    def _start(self, queue: WorkQueue, who: Person, kind: str, asked: Analysis) -> tuple[Job, int]:
        with self._lock:  # two who ask for the same at once are one run
            job = queue.submit((who, asked), lambda: asked.compute(self._bench), long=True)
            known = next((id for id, live in self._live.items() if live is job), None)
            if known is not None:
                return job, known
            try:
                run = self._library.runs.add(who, kind, asked.model_dump(mode="json"))
            except BaseException:
                queue.leave(job)
                raise
            self._live[run.id] = job
        job.result.add_done_callback(lambda result: self._finish(who, run.id, job, result))
        return job, run.id

    def _finish(self, who: Person, id: int, job: Job, result: "Future[Result]") -> None:
        error = result.exception()
        state = "done" if error is None else "cancelled" if isinstance(error, Cancelled) else "failed"
        if error is not None:
            job.note(f"{error.message} {error.hint}".strip() if isinstance(error, ResidscopeError) else f"{error!r}")
        try:
            content = result.result().to_bytes() if error is None else None
            self._library.runs.finish(who, id, state, job.log, content)
        finally:
            del self._live[id]


class RunRequest(BaseModel):
    """An analysis by its name, and the words of its request."""

    kind: str
    settings: dict[str, Any]

    def read(self) -> Analysis:
        """The request.

        Raises:
          BadArgument: There is no analysis of that name.
          RequestValidationError: The words are none of its.
        """
        if self.kind not in ANALYSES:
            raise BadArgument(f"There is no analysis {self.kind!r}.", f"Choose one of {', '.join(ANALYSES)}.")
        try:
            return ANALYSES[self.kind].model_validate(self.settings)
        except ValidationError as error:
            found = [{**one, "loc": ("body", "settings", *one["loc"])} for one in error.errors()]
            raise RequestValidationError(found) from None


def make_run_routes(library: Library, keeper: RunKeeper) -> APIRouter:
    """The routes of runs."""
    router = APIRouter(prefix="/api/v1/runs")

    @router.get("")
    def runs(who: Actor, deleted: bool = False) -> list[Run]:
        return [keeper.describe(run) for run in library.runs.find(who, deleted=deleted)]

    @router.post("")
    def start(request: Request, who: Actor, asked: RunRequest) -> Run:
        return keeper.start(request.app.state.queue, who, asked.kind, asked.read())

    @router.get("/{id}")
    def run(who: Actor, id: Id) -> Run:
        return keeper.describe(library.runs.read(who, id))

    @router.post("/{id}/stop")
    def stop(request: Request, who: Actor, id: Id) -> Run:
        return keeper.stop(request.app.state.queue, who, id)

    @router.get("/{id}/result", response_class=Response)
    def result(who: Actor, id: Id) -> Response:
        return make_download(library.runs.result(who, id), f"run {id}.safetensors")

    return router
