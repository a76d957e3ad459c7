"""How long the page Stream takes to show another component: 20 texts of 128 tokens, in headless Chromium.

    python -m benchmarks.repaint [MODEL]

One change is one press of `j` or `k`, or one move of a slider of a sum of three, made at the start of a frame. *Frame*
is the time from it until the browser's main thread has run the script, styles, layout and paint of that frame (a
message posted before them arrives after them). *Shown* is the time until the second frame after it begins: waiting for
the screen (60 Hz), rasterising and whatever else the machine does are in it. Texts in sight are shaded in the frame of
the change, the others when they come near; so it is measured at a usual height of window, and at one that has all
texts in sight. The budget is 16 ms.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

N_TEXTS, N_TOKENS, N_CHANGES, BUDGET_MS = 20, 128, 50, 16.0
RESULTS = Path(__file__).parent / "results/repaint.md"
HEIGHTS = {800: "some texts in sight", 3400: "all texts in sight"}
SHARED = os.environ.get("RESIDSCOPE_SHARED", Path(__file__).parents[2] / "shared")
MODEL = str(Path(SHARED) / "models/stories260K")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
WORDS = (
    "Once upon a time there was a little boat that wanted to see the sea and all its fish, but it could not swim."
).split()

MEASURE = """async ([changes, sliding]) => {
  const frame = () => new Promise(requestAnimationFrame);
  const {port1, port2} = new MessageChannel();
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  const slide = (value) => {
    const slider = document.querySelectorAll(".mix input[type=range]")[1];
    slider.value = value;
    slider.dispatchEvent(new InputEvent("input", {bubbles: true}));
  };
  const small = new OffscreenCanvas(64, 64).getContext("2d", {willReadFrequently: true});
  const shades = () => {  // every canvas in sight, made small
    small.clearRect(0, 0, 64, 64);
    document.querySelectorAll(".shaded canvas").forEach((el, i) => el.width && small.drawImage(el, 0, 3 * i, 64, 3));
    return small.getImageData(0, 0, 64, 64).data.join();
  };
  const out = [];
  let before = shades();
  for (let i = 0; i < changes; i++) {
    for (let n = 0; n < 10; n++) await frame();
    const start = performance.now();
    if (sliding) slide(1.5 - (i % 10) * 0.3);
    else press(i % 10 < 5 ? "j" : "k");
    const painted = new Promise((resolve) => (port1.onmessage = () => resolve(performance.now())));
    port2.postMessage(null);
    const main = (await painted) - start;
    await frame();
    await frame();
    const shown = performance.now() - start;
    const after = shades();
    out.push({main, shown, changed: after !== before});
    before = after;
  }
  return out;
}"""


def make_texts(address: str) -> list[str]:
    """Texts that the served model splits into exactly `N_TOKENS` tokens each."""

    def n_tokens(text: str) -> int:
        body = json.dumps({"texts": [text]}).encode()
        request = urllib.request.Request(f"{address}api/v1/tokens", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return len(json.load(answer)["texts"][0]["pieces"])

    texts = []
    for start in range(N_TEXTS):
        words = (WORDS[start:] + WORDS[:start]) * N_TOKENS
        low, high = 1, N_TOKENS
        while low < high:  # the longest run of words that fits
            middle = (low + high + 1) // 2
            low, high = (middle, high) if n_tokens(" ".join(words[:middle])) <= N_TOKENS else (low, middle - 1)
        text = " ".join(words[:low])
        while n_tokens(text) < N_TOKENS:
            text += " a"
        texts.append(text)
    return texts


def serve(model: str, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A server of its own on a free port, and its address."""
    command = [str(Path(sys.executable).with_name("residscope")), "serve", model, "--port", "0", "--no-open", "--json"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    return process, json.loads(process.stdout.readline())["address"]


def measure(browser: Browser, address: str, height: int, *, sliding: bool) -> list[dict[str, Any]]:
    """What each change took, in milliseconds."""
    page = browser.new_page(viewport={"width": 1280, "height": height})
    rows = [[weight, {"kind": "pca", "component": number}] for number, weight in enumerate((1, 0.1, -0.7))]
    page.goto(f"{address}stream?" + (f"mix=1&along={quote(json.dumps(rows))}" if sliding else "component=2"))
    page.wait_for_selector(".river canvas")
    counts = page.eval_on_selector_all(".tokens", "all => all.map(el => el.children.length)")
    assert counts == [N_TOKENS] * N_TEXTS, counts
    page.evaluate(MEASURE, [20, sliding])  # the compiler warms up, the next components arrive
    measured: list[dict[str, Any]] = page.evaluate(MEASURE, [N_CHANGES, sliding])
    page.close()
    assert all(change["changed"] for change in measured), "a change changed nothing"
    return measured


def row(height: int, name: str, measured: list[dict[str, Any]]) -> str:
    """One line of the table: medians, the spread of 90%, and whether the budget is met."""
    cells = []
    for key in ("main", "shown"):
        times = sorted(change[key] for change in measured)
        parts = statistics.quantiles(times, n=20)
        cells.append(f"{statistics.median(times):.1f} ({parts[0]:.1f} to {parts[-1]:.1f})")
    met = "met" if statistics.median(change["main"] for change in measured) <= BUDGET_MS else "missed"
    return f"| 1280 x {height}, {name} | {cells[0]} | {cells[1]} | {met} |"


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else MODEL
    process, address = serve(model)
    try:
        texts = make_texts(address)
    finally:
        process.terminate()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "texts.txt"
        file.write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
        process, address = serve(model, "--texts", str(file))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            version = f"Chromium {browser.version}, no GPU, {platform.machine()}, {os.cpu_count()} cores"
            lines = [
                "# Repainting",
                "",
                f"{N_CHANGES} changes each, {N_TEXTS} texts of {N_TOKENS} tokens",
                f"(`python -m benchmarks.repaint`); {version}.",
                f"Milliseconds: median (5% to 95%). The budget of a frame is {BUDGET_MS:.0f} ms.",
                "",
                "| window, change | frame: script, style, layout, paint | shown: the second frame after it | budget |",
                "| --- | --- | --- | --- |",
            ]
            for sliding, what in ((False, "another component"), (True, "a slider moves")):
                for height, name in HEIGHTS.items():
                    measured = measure(browser, address, height, sliding=sliding)
                    lines.append(row(height, f"{what}, {name}", measured))
        finally:
            browser.close()
            process.terminate()
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
