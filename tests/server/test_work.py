"""The queue: bounded, short before long, shared, cancelled, and never stopped by a failing job."""

import threading
import time
from collections.abc import Iterator

import pytest

import residscope as rs
from residscope.running.progress import report
from residscope.server.work import QueueFull, WorkQueue
from tests.patience import PATIENCE


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    queue = WorkQueue(limit=3)
    yield queue
    queue.close()


class Gate:
    """A job that waits to be let through, step by step."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.steps = threading.Semaphore(0)

    def __call__(self) -> str:
        self.begun.set()
        for step in range(100):
            self.steps.acquire(timeout=PATIENCE)
            report(step, 100, "waiting")
        return "done"

    def open(self, steps: int = 200) -> None:
        for _ in range(steps):
            self.steps.release()


def test_results_and_errors_reach_who_waits(queue: WorkQueue) -> None:
    assert queue.submit("a", lambda: 7).result.result(PATIENCE) == 7
    failing = queue.submit("b", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result.result(PATIENCE)
    assert queue.submit("c", lambda: 8).result.result(PATIENCE) == 8


def test_short_work_goes_before_long_and_between_its_steps(queue: WorkQueue) -> None:
    order: list[str] = []
    gate = Gate()
    first = queue.submit("first", gate, long=True)
    gate.begun.wait(PATIENCE)
    second = queue.submit("second", lambda: order.append("long"), long=True)
    short = queue.submit("short", lambda: order.append("short"))
    gate.open(1)
    short.result.result(PATIENCE)
    assert not first.result.done()
    gate.open()
    second.result.result(PATIENCE)
    assert first.result.result(PATIENCE) == "done"
    assert order == ["short", "long"]


def test_a_full_queue_refuses(queue: WorkQueue) -> None:
    gate = Gate()
    queue.submit("gate", gate, long=True)
    gate.begun.wait(PATIENCE)
    waiting = [queue.submit(n, lambda: None, long=True) for n in range(3)]
    with pytest.raises(QueueFull, match="3 requests are waiting already"):
        queue.submit("more", lambda: None)
    gate.open()
    for job in waiting:
        job.result.result(PATIENCE)


def test_requests_of_one_key_share_one_job(queue: WorkQueue) -> None:
    gate, calls = Gate(), list[int]()
    queue.submit("gate", gate)
    gate.begun.wait(PATIENCE)
    one = queue.submit("key", lambda: calls.append(1))
    assert queue.submit("key", lambda: calls.append(2)) is one
    gate.open()
    one.result.result(PATIENCE)
    assert calls == [1]


def test_work_is_cancelled_when_the_last_one_leaves(queue: WorkQueue) -> None:
    gate = Gate()
    job = queue.submit("gate", gate, long=True)
    assert queue.submit("gate", gate, long=True) is job
    gate.begun.wait(PATIENCE)
    queued = queue.submit("queued", lambda: 1)
    queue.leave(queued)
    with pytest.raises(rs.Cancelled):
        queued.result.result(1)
    queue.leave(job)
    gate.open(2)
    time.sleep(0.05)
    assert not job.result.done()
    queue.leave(job)
    gate.open(1)
    with pytest.raises(rs.Cancelled):
        job.result.result(PATIENCE)
    again = queue.submit("gate", lambda: "anew", long=True)
    assert again.result.result(PATIENCE) == "anew"


def test_leaving_what_is_done_changes_nothing(queue: WorkQueue) -> None:
    job = queue.submit("a", lambda: 1)
    assert job.result.result(PATIENCE) == 1
    queue.leave(job)
    assert job.result.result(0) == 1


def test_progress_is_read_from_the_job(queue: WorkQueue) -> None:
    gate = Gate()
    job = queue.submit("gate", gate, long=True)
    gate.open(5)
    deadline = time.monotonic() + PATIENCE
    while (job.step is None or job.step.done < 4) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert job.step is not None
    assert (job.step.done, job.step.total) == (4, 100)
    gate.open()
    job.result.result(PATIENCE)
