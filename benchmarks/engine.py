"""The engine beside transformers, TransformerLens and nnsight: `python -m benchmarks.engine [--quick] [NUMBER ...]`.

A GPT-2-small-sized model with random weights. Each side is a process of its own, peers in environments of their own,
which this command makes in `.peers/`. The sides of a row take turns, round by round; a ratio is the median over
rounds of one round's times. Caches of the clean and the corrupted prompts are made before the clock starts; the column
"with caches" counts them. Where there is a GPU all run there, and row 10 measures larger models. The table is kept as
it grows; with numbers of rows only those are measured, and the others stay as they were measured on the same machine.
`--quick` is one round, and keeps nothing.
"""

import argparse
import platform
import re
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.checkpoint import write_gpt2
from benchmarks.large import SHAPES, write_lines
from benchmarks.rows import D_MODEL, N_EDITS, N_FEATURES, Against, Row, Task, forward, make_rows
from benchmarks.sides import PEERS, Side, SideFailed, version_of

ON_GPU = torch.cuda.is_available()
RESULT = Path(__file__).parent / f"results/engine{'_gpu' if ON_GPU else ''}.md"
FEWEST, MOST, ENOUGH_SECONDS = 3, 15, 60.0


@dataclass
class Found:
    """What one task of a row gave: a time for each round, without and with preparation, and where its numbers lie."""

    file: Path
    seconds: list[float] = field(default_factory=list)
    with_caches: list[float] = field(default_factory=list)
    failed: bool = False


def measure(row: Row, sides: dict[str, Side], folder: Path, rounds: int) -> list[Found]:
    """Our task and the others', in alternation. A side that fails says why on the standard error, and is left out."""
    folder.mkdir()
    tasks = [row.ours, *(other.task for other in row.against)]
    found = [Found(folder / f"{i}.safetensors") for i in range(len(tasks))]
    begin = time.perf_counter()
    for turn in range(rounds):
        if turn >= FEWEST and time.perf_counter() - begin > ENOUGH_SECONDS:
            break
        for task, into in list(zip(tasks, found, strict=True))[:: 1 if turn % 2 == 0 else -1]:
            if into.failed:
                continue
            try:
                measure_once(task, sides[task.side], into)
            except SideFailed as failure:
                print(failure, file=sys.stderr, flush=True)
                into.failed = True
    return found


def measure_once(task: Task, side: Side, into: Found) -> None:
    """One turn of a task; the first is warmed up where that costs little, and saves its numbers."""
    if not into.seconds and (task.request["do"] in ("forward", "keep_all") or ON_GPU):
        side.ask(task.request)
    answer = side.ask(task.request | ({} if into.seconds else {"file": str(into.file)}))
    seconds = statistics.median(answer["seconds"])
    into.seconds.append(seconds / task.per)
    into.with_caches.append((seconds + answer["prepare"]) / task.per)


def spread(found: Found, form: str) -> str:
    """Milliseconds: median (least to most)."""
    if found.failed:
        return "failed"
    seconds = found.seconds
    least, middle, most = (format(1e3 * x, form) for x in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle} ({least} to {most})"


def measure_quiet(seconds: float = 3.0) -> float:
    """Share of a busy loop's time in which it ran: what other work, on this machine or its host, leaves us."""
    begin = last = time.perf_counter()
    lost = 0.0
    while last - begin < seconds:
        now = time.perf_counter()
        lost += now - last if now - last > 1e-3 else 0.0
        last = now
    return 1 - lost / (last - begin)


def write_line(row: Row, other: Against, ours: Found, its: Found, quiet: float) -> str:
    """One line of the table."""
    name = other.task.side + (f", {other.note}" if other.note and not other.note.startswith("aim") else "")
    times = [spread(found, ".3g" if row.ours.per > 1 else ".1f") for found in (ours, its)]
    start = [f"{row.number} {row.name}", times[0], name, times[1]]
    if ours.failed or its.failed:
        return f"| {' | '.join([*start, '', '', '**failed**', '', '', '', ''])} |"
    share = other.most is not None
    ratios, cached = (
        [(b / a if share else a / b) for a, b in zip(x, y, strict=True)]
        for x, y in ((its.seconds, ours.seconds), (its.with_caches, ours.with_caches))
    )
    ratio, apart, equal = statistics.median(ratios), "", True
    if row.tolerance is not None:
        a, b = (load_file(found.file)["values"] for found in (ours, its))
        n = min(len(a), len(b))  # of the slow way some edits are enough
        largest = float((a[:n].reshape(-1) - b[:n].reshape(-1)).abs().max())
        equal = largest <= row.tolerance
        apart = f"{largest:.1e}" if equal else f"**{largest:.1e}**"
    goal, met = "", True
    if other.most is not None:
        goal, met = f"at most {other.most}", ratio <= other.most
    elif other.least is not None:
        goal, met = f"at least {other.least:g}", ratio >= other.least
    verdict = "" if not goal and equal else "met" if met and equal else "**missed**"
    goal += f", {other.note}" if other.note.startswith("aim") else ""
    form = ".3f" if share else ".1f"
    middle, *ends = (format(x, form) for x in (ratio, min(ratios), max(ratios)))
    cells = [*start, f"{middle} ({ends[0]} to {ends[1]})", goal, verdict]
    cells += [format(statistics.median(cached), form), apart, str(len(ratios)), f"{quiet:.0%}"]
    return f"| {' | '.join(cells)} |"


def measure_memory(model: Path) -> str:
    """Row 3's memory: the peak of one forward that keeps everything, over what the process had before."""
    peaks = []
    for name in ("residscope", "transformer_lens"):
        request = forward(name, 8, 256, do="keep_all", repeats=1).request
        with Side(name, model, MALLOC_MMAP_THRESHOLD_="65536") as side:  # what is freed goes back at once
            side.ask(forward(name, 1, 2).request)
            peaks.append(side.ask(request)["peak"])
    verdict = "met" if peaks[0] < peaks[1] else "**missed**"
    megabytes = [f"{peak / 1e6:.0f} MB" for peak in peaks]
    cells = ["3 its peak memory, 8 x 256", megabytes[0], "transformer_lens", megabytes[1]]
    return f"| {' | '.join([*cells, f'{peaks[0] / peaks[1]:.3f}', 'at most 1.0', verdict, '', '', '1', ''])} |"


def compute_error(half: Path, whole: Path) -> float:
    """Of the effects in bfloat16: root mean square error over the root mean square effect, in float32."""
    a, b = (found["values"] - found["base"] for found in map(load_file, (half, whole)))
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


def tell_error(found: list[Found]) -> str:
    """The note on what bfloat16 costs: ours and TransformerLens's, against its float32, which is ours to 1e-4."""
    ours, its = (compute_error(half.file, found[2].file) for half in found[:2])
    return (
        f"Row 6: in bfloat16 the effects (patched minus corrupted) are off by {ours:.1%} of their size "
        f"(root mean squares, against float32); TransformerLens's by {its:.1%}."
    )


def tell_share(row: Row, ours: Found, side: Side) -> str:
    """The note on what share of the machine's speed a sweep reaches."""
    assert row.flops
    usual = statistics.mean(side.ask({"do": "multiply", "repeats": 40})["seconds"])
    speed = 2 * 2048 * D_MODEL * 4 * D_MODEL / usual
    floor, taken = row.flops / speed, statistics.median(ours.seconds) * row.ours.per
    return (
        f"Row {row.number}, {row.name}: the {row.flops / 1e9:.1f} GFLOP that remain to be computed take "
        f"{1e3 * floor:.0f} ms at the {speed / 1e9:.0f} GF/s that a 2048 x 768 x 3072 product reaches here; the sweep "
        f"takes {1e3 * taken:.0f} ms, which is {floor / taken:.0%} of that speed (aim: over 60%)."
    )


def tell_where(row: Row, side: Side) -> str:
    """The note on where the time of a missed row goes."""
    shares = side.ask(row.ours.request | {"repeats": 1, "profile": True})["shares"]
    said = ", ".join(f"{name.removeprefix('aten::')} {share:.0%}" for name, share in shares.items())
    return f"Row {row.number}, {row.name}: missed; of our time {said}."


def describe_machine(threads: int) -> str:
    """What it ran on."""
    if ON_GPU:
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", text)
    flags = set((re.search(r"flags\s*:\s*(.+)", text) or ["", ""])[1].split())
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    lacking = "" if "amx_bf16" in flags else ", no AMX"
    name = model[1] if model else platform.processor()
    return f"{name}, {threads} threads, {' '.join(features)}{lacking}, torch {torch.__version__}"


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """The model, and a random dictionary: an encoder, and vectors to take out of the stream."""
    model, dictionary = folder / "gpt2", folder / "dictionary.safetensors"
    write_gpt2(model)
    generator = torch.Generator().manual_seed(4)
    encoder = torch.randn(D_MODEL, N_FEATURES, generator=generator) * D_MODEL**-0.5
    vectors = torch.randn(N_EDITS, D_MODEL, generator=generator) * 0.3
    save_file({"encoder": encoder, "vectors": vectors}, dictionary)
    return model, dictionary


def write_head(threads: int) -> str:
    """What stands above the lines of the table."""
    versions = ", ".join(version_of(peer).replace("==", " ") for peer in PEERS)
    return f"""# The engine beside others

`python -m benchmarks.engine`; GPT-2-small-sized, random weights, float32 but where said; medians (least to
most) over rounds in which the sides take turns. A ratio is how many times faster we are, or, where the goal
is "at most", our share of its time. "Quiet" is the share of its time in which a busy loop ran, just before the row.
{describe_machine(threads)}; {versions}.

| row | ours, ms | against | its, ms | ratio | goal | | with caches | largest difference | rounds | quiet |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


class Table:
    """The printed table and its kept copy: lines, then notes, each in the order of the rows they begin with.

    Lines and notes of rows that are not measured now stay, if they lie below the same head.
    """

    def __init__(self, head: str, measured: set[int], kept: bool) -> None:
        self.head, self.kept = head, kept
        text = RESULT.read_text() if kept and RESULT.is_file() else ""
        lines, *notes = re.split(r"\n\n(?=Row )", text.removeprefix(head).rstrip()) if text.startswith(head) else [""]
        self.lines = [line for line in lines.splitlines() if row_of(line) not in measured]
        self.notes = [note for note in notes if row_of(note) not in measured]
        print(head, end="")

    def add(self, lines: list[str], notes: list[str]) -> None:
        """Print what a row gave, and keep it."""
        print("\n".join([*lines, *notes]), flush=True)
        self.lines += lines
        self.notes += notes
        if self.kept:
            body = "\n".join(sorted(self.lines, key=row_of))
            RESULT.write_text("\n\n".join([self.head + body, *sorted(self.notes, key=row_of)]) + "\n")


def row_of(text: str) -> int:
    """The number of the row that a line or a note is about."""
    return int(re.findall(r"\d+", text)[0])


def main() -> None:
    """Print the table, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    wanted = set(options.numbers or range(1, 11))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        model, dictionary = write_inputs(folder)
        rows = [row for row in make_rows(str(dictionary)) if row.number in wanted]
        named = dict.fromkeys(task.side for row in rows for task in (row.ours, *(it.task for it in row.against)))
        sides = {side: stack.enter_context(Side(side, model)) for side in named}
        table = Table(write_head(sides["residscope"].facts["threads"]), wanted, kept=not options.quick)
        for i, row in enumerate(rows):
            quiet = measure_quiet()
            found = measure(row, sides, folder / str(i), 1 if options.quick else MOST)
            notes = []
            if row.flops and found[0].seconds:
                notes.append(tell_share(row, found[0], sides["residscope"]))
            if row.number == 6 and all(it.seconds for it in found):
                notes.append(tell_error(found))
            others = zip(row.against, found[1:], strict=True)
            lines = [write_line(row, other, found[0], it, quiet) for other, it in others]
            if any("**missed**" in line for line in lines):
                notes.append(tell_where(row, sides["residscope"]))
            table.add(lines, notes)
        if 3 in wanted:
            table.add([measure_memory(model)], [])
    if ON_GPU and 10 in wanted:
        for shape, keys in SHAPES.items():
            table.add([], ["\n".join(write_lines(shape, keys))])


if __name__ == "__main__":
    main()
