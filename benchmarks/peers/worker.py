"""What every side is: a process that reads requests, one JSON object a line, and answers with times.

A request names what to do; a side makes of it a `Job`, whose preparation (caches) and work are timed apart.
"""

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

Request = dict[str, Any]
Numbers = dict[str, Tensor]


class Job(NamedTuple):
    """Work on what was prepared, and what of its result is compared with the other side's."""

    prepare: Callable[[], Any]
    work: Callable[[Any], Any]
    numbers: Callable[[Any, Any], Numbers] = lambda prepared, result: {}


def read_bytes(field: str) -> int:
    """Of the device's memory, or of this process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() if field == "VmHWM" else torch.cuda.memory_allocated()
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def forget_peak() -> None:
    """Begin to count the peak anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that work takes, on the device's own clock, and its result."""
    if not torch.cuda.is_available():
        begin = time.perf_counter()
        result = work()
        return time.perf_counter() - begin, result
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
    torch.cuda.synchronize()
    begun.record()
    result = work()
    ended.record()
    torch.cuda.synchronize()
    return begun.elapsed_time(ended) / 1e3, result


@torch.no_grad()
def answer(request: Request, job: Job) -> dict[str, Any]:
    """Do the job as often as asked; save its numbers where asked."""
    prepared_in, prepared = timed(job.prepare)
    forget_peak()
    before, seconds = read_bytes("VmRSS"), []
    result = None
    for _ in range(request.get("repeats", 1)):
        result = None  # what a repeat leaves is gone before the next
        took, result = timed(lambda: job.work(prepared))
        seconds.append(took)
    peak = read_bytes("VmHWM") - before
    if "file" in request:
        numbers = job.numbers(prepared, result)
        save_file({name: value.float().cpu().contiguous() for name, value in numbers.items()}, request["file"])
    shares = find_shares(job, prepared) if request.get("profile") else {}
    return {"prepare": prepared_in, "seconds": seconds, "peak": peak, "shares": shares}


def find_shares(job: Job, prepared: Any) -> dict[str, float]:
    """The operations that take most of a job's own time, with their share of it."""
    with torch.profiler.profile() as profile:
        job.work(prepared)
    attribute = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    times = {event.key: float(getattr(event, attribute)) for event in profile.key_averages()}
    largest = sorted(times, key=lambda name: -times[name])[:5]
    return {name: times[name] / sum(times.values()) for name in largest}


def serve(tasks: dict[str, Callable[[Request], Job]]) -> None:
    """Answer until the input ends. What a library prints goes to the log, not into the answers."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            found = answer(request, tasks[request["do"]](request))
        except Exception as error:
            found = {"error": "".join(traceback.format_exception(error, limit=-4, chain=False))}
        print(json.dumps(found), file=answers)


def device() -> str:
    """Where all sides run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def ids_of(request: Request, name: str = "ids") -> Tensor:
    """Token ids [batch pos] of a request."""
    return torch.tensor(request[name], device=device())


def difference(request: Request) -> Callable[[Tensor], Tensor]:
    """The metric of the sweeps: from logits [batch pos d_vocab], correct minus wrong at the last position, [batch]."""
    rows = torch.arange(len(request["correct"]))
    correct, wrong = torch.tensor(request["correct"]), torch.tensor(request["wrong"])
    return lambda logits: logits[rows, -1, correct] - logits[rows, -1, wrong]
