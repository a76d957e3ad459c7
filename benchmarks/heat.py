"""How long large heat maps take to repaint, and how large their saved files are, in headless Chromium.

    python -m benchmarks.heat

A model of 12 layers with random weights; its lens of 512 and of 4,096 positions, and all of its attention over 100
tokens, each as one saved file. *Step* is one press of an arrow key in the map, from the press until the browser's main
thread has run the script, styles, layout and paint that follow; *redrawn* the same where the colours' range is changed,
for which every cell is shaded anew. *Opened* is the time from the address to the first picture.
"""

import platform
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

import residscope as rs
from benchmarks.checkpoint import write_gpt2
from benchmarks.repaint import CHROMIUM, FLAGS
from benchmarks.rows import make_ids

N_CHANGES, BUDGET_MS = 40, 10.0
RESULTS = Path(__file__).parent / "results/heat.md"

MEASURE = """async ([n, what]) => {
  const frame = () => new Promise(requestAnimationFrame);
  const {port1, port2} = new MessageChannel();
  const canvas = document.querySelector(".heat canvas");
  const range = [...document.querySelectorAll("select")].find((one) => one.ariaLabel?.startsWith("Range of colours"));
  const act = (i) => {
    const key = i % 2 ? "ArrowRight" : "ArrowDown";
    if (what === "step") return canvas.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    range.selectedIndex = (range.selectedIndex + 1) % range.options.length;
    range.dispatchEvent(new Event("change", {bubbles: true}));
  };
  const times = [];
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < 5; k++) await frame();
    const start = performance.now();
    act(i);
    const painted = new Promise((resolve) => (port1.onmessage = () => resolve(performance.now())));
    port2.postMessage(null);  // comes after the frame that has just begun
    times.push((await painted) - start);
  }
  return times;
}"""


def make_files(folder: Path) -> dict[str, Path]:
    """The pictures, by what they show."""
    write_gpt2(folder / "model", n_layers=12, d_model=96, n_heads=12, n_ctx=4096, d_vocab=5000)
    model = rs.load(folder / "model", device="cpu")
    results: dict[str, rs.Result] = {
        f"lens, 13 x {n:,}": rs.logit_lens(model.run(make_ids(1, n) % 5000, keep=["resid_pre"])) for n in (512, 4096)
    }
    results["attention, 144 heads of 100 tokens"] = rs.attention(model.run(make_ids(1, 100) % 5000))
    found: dict[str, Path] = {}
    for name, result in results.items():
        found[name] = folder / f"{len(found)}.html"
        result.save_html(found[name])
    return found


def measure(browser: Browser, path: Path) -> dict[str, list[float]]:
    """Milliseconds of one file's changes."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(path.as_uri())
    page.wait_for_selector(".heat canvas")
    opened = float(page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done(performance.now())))"))
    changes: dict[str, Any] = {what: page.evaluate(MEASURE, [N_CHANGES, what]) for what in ("step", "redrawn")}
    page.close()
    return {"opened": [opened], **changes}


def write_time(times: list[float]) -> str:
    """Median, 5% and 95%."""
    if len(times) == 1:
        return f"{times[0]:.0f}"
    ends = statistics.quantiles(times, n=20)
    return f"{statistics.median(times):.1f} ({ends[0]:.1f} to {ends[-1]:.1f})"


def main() -> None:
    """Print the table, and keep it."""
    version = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    lines = [
        "# Heat maps",
        "",
        f"`python -m benchmarks.heat`; Chromium {version}, no GPU, {platform.machine()}. Milliseconds: median",
        f"(5% to 95%). The budget of a change is {BUDGET_MS:.0f} ms for 13 x 512; a file of that may have 2 MB,",
        "all attention 3 MB.",
        "",
        "| picture | file, MB | opened | step | redrawn |",
        "| --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for picture, path in make_files(Path(name)).items():
            times = measure(browser, path)
            cells = [f"{path.stat().st_size / 1e6:.2f}", *map(write_time, times.values())]
            lines.append(f"| {picture} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        browser.close()
    RESULTS.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
