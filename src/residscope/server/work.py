"""The one place where the server computes: one bounded queue, one thread, short work before long."""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from residscope.errors import Cancelled, ResidscopeError
from residscope.running.progress import Step, Work, progress


class QueueFull(ResidscopeError):
    """More work waits than the server takes."""


class Job:
    """Work that somebody waits for; several may wait for the same.

    Attributes:
      key: Two requests of one key share one job.
      long: Whether short work may go before it and between its steps.
      result: Set when it is done.
      step: How far it is.
      log: Times in UTC, each with what began then.
    """

    def __init__(self, key: Hashable, call: Callable[[], Any], *, long: bool) -> None:
        self.key = key
        self.call = call
        self.long = long
        self.result: Future[Any] = Future()
        self.step: Step | None = None
        self.log: list[tuple[str, str]] = []
        self.n_waiting = 1
        self.work: Work | None = None

    def note(self, what: str) -> None:
        """Write a line of the log."""
        self.log.append((datetime.now(UTC).isoformat(timespec="milliseconds"), what))


class WorkQueue:
    """Runs jobs one at a time.

    Args:
      limit: Jobs that may wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="residscope-work", daemon=True)
        self._thread.start()

    def submit(self, key: Hashable, call: Callable[[], Any], *, long: bool = False) -> Job:
        """Queue `call`, or join the job of the same key that is queued or running.

        Raises:
          QueueFull: `limit` jobs wait already.
        """
        with self._changed:
            for job in (*self._running, *self._short, *self._long):
                if job.key == key and job.n_waiting:
                    job.n_waiting += 1
                    return job
            if len(self._short) + len(self._long) >= self._limit:
                raise QueueFull(f"{self._limit} requests are waiting already.", "Try again in a moment.")
            job = Job(key, call, long=long)
            (self._long if long else self._short).append(job)
            self._changed.notify()
            return job

    def leave(self, job: Job) -> None:
        """Stop waiting for a job; when nobody waits any more it is dropped, or cancelled at its next step."""
        with self._changed:
            job.n_waiting -= 1
            if not job.n_waiting:
                self._drop(job, "Nobody waits for it any more.")

    def stop(self, job: Job) -> None:
        """Drop a job, or cancel it at its next step, whoever waits for it."""
        with self._changed:
            job.n_waiting = 0
            self._drop(job, "It was stopped.")

    def _drop(self, job: Job, why: str) -> None:
        queue = self._long if job.long else self._short
        if job in queue:
            queue.remove(job)
            job.result.set_exception(Cancelled(why))
        elif job.work and not job.result.done():
            job.work.cancel()

    def close(self) -> None:
        """Cancel everything, and end the thread."""
        with self._changed:
            self._closed = True
            for job in self._running:
                if job.work:
                    job.work.cancel()
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._short or self._long)
                if self._closed:
                    return
                job = (self._short or self._long).popleft()
                self._running.append(job)
            self._run(job)

    def _run(self, job: Job) -> None:
        """Run a job that is in `_running`, and take it out."""

        def advance(step: Step) -> None:
            if job.step is None or job.step.what != step.what:
                job.note(step.what)
            job.step = step
            if job.long:
                self._run_short()

        try:
            with progress(advance) as job.work:
                result = job.call()
        except BaseException as error:  # a job must never end the thread; who waits is told
            self._finish(job)
            job.result.set_exception(error)
        else:
            self._finish(job)
            job.result.set_result(result)

    def _run_short(self) -> None:
        while True:
            with self._changed:
                if not self._short or self._closed:
                    return
                job = self._short.popleft()
                self._running.append(job)
            self._run(job)

    def _finish(self, job: Job) -> None:
        with self._changed:
            self._running.remove(job)
