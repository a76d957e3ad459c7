"""Products with large weights beside torch's own: `python -m benchmarks.products [--keep]`.

Weights are of GPT-2 small's MLP and of a dictionary of 24,576 features, in rows as torch's Linear keeps them or in
columns; each of several copies in turn, for they come from memory. Both ways take turns. With `--keep` the table is
written to benchmarks/results.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.engine import measure_quiet
from residscope.transformer.products import multiply

RESULT = Path(__file__).parent / "results/products.md"
SHAPES = (("MLP", 768, 3072, 30), ("encoder", 768, 24_576, 5))
N_ROWS, ROUNDS = (1, 41, 64, 512), 30


def measure(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> float:
    """Milliseconds of one product."""
    begin = time.perf_counter()
    product(x, weight)
    return 1e3 * (time.perf_counter() - begin)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results")
    keep = parser.parse_args().keep
    quiet = measure_quiet()
    lines = [
        "# Products with large weights",
        "",
        f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, torch "
        f"{torch.__version__}, float32; a busy loop before ran {quiet:.0%} of the time. Medians of {ROUNDS} rounds, "
        "and quartiles of the ratio.",
        "",
        "| weight | lies in | rows | torch's linear | ours | torch's / ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, d_in, d_out, n_copies in SHAPES:
        copies = [torch.randn(d_out * d_in) for _ in range(n_copies)]
        for lies in ("rows", "columns"):
            weights = [one.view(d_out, d_in) if lies == "rows" else one.view(d_in, d_out).T for one in copies]
            for n_rows in N_ROWS:
                x = torch.randn(n_rows, d_in)
                times = []
                for turn in range(ROUNDS + 1):
                    weight, other = weights[2 * turn % n_copies], weights[(2 * turn + 1) % n_copies]
                    times.append((measure(F.linear, x, weight), measure(multiply, x, other)))
                theirs, ours = (statistics.median(column) for column in zip(*times[1:], strict=True))
                low, middle, high = statistics.quantiles([one / another for one, another in times[1:]], n=4)
                ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
                lines.append(f"| {name} | {lies} | {n_rows} | {theirs:.2f} ms | {ours:.2f} ms | {ratio} |")
    print("\n".join(lines))
    if keep:
        RESULT.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
