"""How the cost of a sweep grows with positions, layers, edits and width: `python -m benchmarks.cost`.

Each is varied alone, on a GPT-2 of random weights; edits replace the stream at places spread over layers and positions.
The exponent is the slope of the line through the logarithms of sizes and times. Writes the table and the plot.
"""

import math
import statistics
import tempfile
import time
from pathlib import Path

import torch

import residscope as rs
from benchmarks.checkpoint import write_gpt2
from benchmarks.rows import make_ids

HERE = Path(__file__).parent
RESULT, PLOT = HERE / "results/cost.md", HERE.parent / "docs/guide/cost.svg"
START = {"positions": 64, "layers": 4, "edits": 64, "width": 256}
SIZES = {
    "positions": (32, 64, 128, 256),
    "layers": (2, 4, 8, 16),
    "edits": (16, 32, 64, 128, 256),
    "width": (128, 256, 512, 1024),
}
EXPECTED = {"positions": "1, and 2 where attention weighs", "layers": "1", "edits": "1", "width": "2"}
ROUNDS, N_VOCAB, COLOURS = 5, 1000, ("#4269d0", "#c7512e", "#3a8a4d", "#8a5bbd")

Times = dict[str, list[tuple[int, float]]]


def measure(positions: int, layers: int, edits: int, width: int) -> float:
    """Seconds of one sweep, the median of some."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "gpt2"
        write_gpt2(directory, n_layers=layers, d_model=width, n_heads=width // 64, d_vocab=N_VOCAB)
        model = rs.load(directory, device="cpu")
        clean, base = (model.run(make_ids(1, positions, seed) % N_VOCAB, keep=["resid_pre"]) for seed in (1, 2))
        n_places = layers * positions
        places = [divmod(i * n_places // edits, positions) for i in range(edits)]
        chosen = [rs.replace(f"resid_pre.{layer}", clean, pos=pos) for layer, pos in places]
        seconds = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            model.sweep(base, edits=chosen, metric=rs.logit_difference(1, 2))
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def compute_exponent(times: list[tuple[int, float]]) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = ([math.log(pair[i]) for pair in times] for i in (0, 1))
    return statistics.linear_regression(x, y).slope


def write_plot(times: Times) -> str:
    """Times over sizes, each relative to its smallest, both logarithmic: an SVG."""
    width, height, left, top, unit = 640, 360, 60, 20, 70  # `unit` pixels for each doubling

    def place(size: float, seconds: float) -> tuple[float, float]:
        return left + unit * 1.4 * math.log2(size), height - 40 - unit * 0.55 * math.log2(max(seconds, 0.5))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="{top}">time of a sweep, times that of the smallest</text>',
        f'<text x="{width / 2 - 60}" y="{height - 6}">size, times the smallest</text>',
    ]
    for n in (1, 2, 4, 8, 16):
        x, y = place(n, 1)
        parts.append(f'<text x="{x - 4:.0f}" y="{y + 18:.0f}">{n}</text>')
    for n in (1, 4, 16, 64):
        x, y = place(1, n)
        parts.append(f'<text x="{x - 26:.0f}" y="{y + 4:.0f}">{n}</text>')
        parts.append(f'<path d="M{x:.0f} {y:.0f}H{width - 130}" stroke="#ddd"/>')
    for colour, (name, found) in zip(COLOURS, times.items(), strict=True):
        points = [place(size / found[0][0], seconds / found[0][1]) for size, seconds in found]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        label = f"{name}: {compute_exponent(found):.2f}"
        parts.append(f'<text x="{x + 8:.0f}" y="{y + 4:.0f}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>\n"])


def write_table(times: Times) -> list[str]:
    """One line for each that was varied."""
    lines = ["| varied alone | milliseconds | exponent | expected |", "| --- | --- | --- | --- |"]
    for name, found in times.items():
        cells = ", ".join(f"{size}: {1e3 * seconds:.1f}" for size, seconds in found)
        lines.append(f"| {name} | {cells} | {compute_exponent(found):.2f} | {EXPECTED[name]} |")
    return lines


def main() -> None:
    """Measure, print, and keep the table and the plot."""
    times = {name: [(n, measure(**{**START, name: n})) for n in sizes] for name, sizes in SIZES.items()}
    start = ", ".join(f"{n} {name}" for name, n in START.items())
    head = (
        f"`python -m benchmarks.cost`; one text, from {start}; threads: {torch.get_num_threads()}; medians of {ROUNDS}."
    )
    lines = ["# Cost", "", head, "", *write_table(times)]
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n")
    PLOT.write_text(write_plot(times))


if __name__ == "__main__":
    main()
