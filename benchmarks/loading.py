"""Memory and time of loading, beside transformers: `python -m benchmarks.loading [MEGABYTES]`.

Writes a GPT-2 checkpoint of that size, loads it in processes of its own, touches every weight, and compares the peak
resident memory with that of a process which only imports. The two loaders alternate; times are medians of five. Then
the first load of the bundled model.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.checkpoint import D_VOCAB, write_gpt2

RESULTS = Path(__file__).parent / "results"
ROUNDS = 5

_MEASURE = """
import json, re, sys, time
import torch
{prepare}
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before, begin = peak(), time.perf_counter()
{load}
seconds = time.perf_counter() - begin
touched = sum(float(p.detach().reshape(-1).view(torch.uint8)[::4096].sum()) for p in parameters if p.is_contiguous())
touched += sum(float(p.detach().T.reshape(-1)[::64].sum()) for p in parameters if not p.is_contiguous())
print(json.dumps({{"bytes": peak() - before, "seconds": seconds}}))
"""
LOADERS = {
    "residscope": _MEASURE.format(
        prepare="import residscope as rs; rs.load",
        load="model = rs.load(sys.argv[1], dtype=sys.argv[2]); parameters = list(model.transformer.parameters())",
    ),
    "transformers": _MEASURE.format(
        prepare="from transformers import AutoTokenizer, GPT2LMHeadModel",
        load="model = GPT2LMHeadModel.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2])); "
        "parameters = list(model.parameters())",
    ),
}

# Of a session's first load, torch apart: what of ours and of others is imported counts.
_BUNDLED = """
import time, torch
begin = time.perf_counter()
import residscope as rs
rs.load("demo")
print(time.perf_counter() - begin)
"""


def write_checkpoint(directory: Path, megabytes: int, stored: torch.dtype) -> int:
    """A GPT-2 whose float32 weights take about that much; returns their number of bytes."""
    n_layers = max(1, round((megabytes * 1e6 / 4 - D_VOCAB * 768) / (12 * 768**2)))
    return write_gpt2(directory, n_layers=n_layers, n_ctx=256, stored=stored)


def measure(loader: str, directory: Path, dtype: str) -> dict[str, float]:
    """Peak bytes over the import, and seconds, of one load in a process of its own."""
    command = [sys.executable, "-c", LOADERS[loader], str(directory), dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def time_bundled() -> list[float]:
    """Seconds from an imported torch to the bundled model, each in a process of its own, shortest first."""
    command = [sys.executable, "-c", _BUNDLED]
    return sorted(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(ROUNDS))


def main(megabytes: int = 500) -> None:
    """Print the table, and keep it."""
    rows = [
        "| stored | loaded as | loader | peak over weights | seconds, median (range) |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for stored in (torch.float32, torch.float16):
            directory = Path(folder) / str(stored)
            weights = write_checkpoint(directory, megabytes, stored)
            for dtype, size in (("float32", weights), ("bfloat16", weights / 2)):
                found: dict[str, list[dict[str, float]]] = {name: [] for name in LOADERS}
                for _ in range(ROUNDS):
                    for name in LOADERS:
                        found[name].append(measure(name, directory, dtype))
                for name, measured in found.items():
                    peak = statistics.median(one["bytes"] for one in measured) / size
                    seconds = sorted(one["seconds"] for one in measured)
                    spread = f"{statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"
                    stored_as = str(stored).removeprefix("torch.")
                    rows.append(f"| {stored_as} | {dtype} | {name} | {peak:.2f} | {spread} |")
                    print(rows[-1], flush=True)
    seconds = time_bundled()
    found_in = f"{statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"
    bundled = f'\n\nFrom an imported torch to `rs.load("demo")`: {found_in} seconds; the target is 0.5.\n'
    print(bundled.strip())
    head = f"A GPT-2 of {megabytes} MB in float32 (`python -m benchmarks.loading {megabytes}`); the target is 1.15.\n\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "loading.md").write_text("# Loading\n\n" + head + "\n".join(rows) + bundled)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
