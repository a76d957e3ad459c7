"""Progress of long calls, and their cancelling: `with rs.progress(callback) as work: ...`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from residscope.errors import Cancelled

if TYPE_CHECKING:
    from residscope.results.result import Result


@dataclass(frozen=True)
class Step:
    """How far a long call is.

    Attributes:
      done, total: In batches.
      what: What is being done.
      so_far: Where it can be said, gives the result as far as it is known; NaN is what is not known yet.
    """

    done: int
    total: int
    what: str
    so_far: "Callable[[], Result] | None" = None


class Work:
    """A long call, as the one who waits for it sees it. `cancel` may be called from any thread."""

    def __init__(self, callback: Callable[[Step], None]) -> None:
        self._callback = callback
        self._cancelled = False

    def cancel(self) -> None:
        """Make the call raise `Cancelled` at its next step."""
        self._cancelled = True

    def take(self, step: Step) -> None:
        """Called by the work, before each of its batches and after the last.

        Raises:
          Cancelled: Somebody called `cancel`.
        """
        if self._cancelled:
            raise Cancelled(f"{step.what} was cancelled at {step.done} of {step.total}.")
        self._callback(step)


_work: ContextVar[Work | None] = ContextVar("work", default=None)
_form: ContextVar["Callable[[Tensor], Result] | None"] = ContextVar("form", default=None)


@contextmanager
def progress(callback: Callable[[Step], None]) -> Iterator[Work]:
    """Hear of every step of the long calls inside, and be able to cancel them.

    Args:
      callback: Called with a `Step`, in the thread that works.
    Yields:
      The work; its `cancel()` raises `rs.Cancelled` in it.
    """
    work = Work(callback)
    token = _work.set(work)
    try:
        yield work
    finally:
        _work.reset(token)


@contextmanager
def forming(form: "Callable[[Tensor], Result]") -> Iterator[None]:
    """Inside, what a sweep has found so far, or what is written, is told in the form of another result.

    Args:
      form: Makes it of the sweep's values, NaN among them; or of the ids of a prompt and what follows it.
    """
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def report(done: int, total: int, what: str, values: Tensor | None = None) -> None:
    """Say how far a long call is; every long call does, batch by batch.

    Args:
      done: Batches.
      total: All of them.
      what: What is being done.
      values: What is known already, for who listens in a form of `forming`.
    """
    work, form = _work.get(), _form.get()
    if work:
        work.take(Step(done, total, what, partial(form, values) if form and values is not None else None))
