"""The workbench at the size of GPT-2 small, as its page asks it: `python -m benchmarks.workbench`.

A server of its own on a model with random weights, after its start-up pass over 200 texts. *A new text* is what Enter
asks for: its tokens, and its values on 16 components. *Another layer* is what a change of it asks for on the 20 texts
of 128 tokens that the page shows: the components there, and the values on 16. *Twenty people* click every five
seconds, each on a layer of their own, one click in ten with a new text; once more while another has causal checks made
all the time. What the browser does with the answers is in `benchmarks.repaint`.
"""

import gzip
import itertools
import platform
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import cpu_count
from pathlib import Path

import httpx

from benchmarks.checkpoint import write_gpt2
from benchmarks.repaint import WORDS, make_texts, serve
from residscope.results.static_files import STATIC

RESULTS = Path(__file__).parent / "results/workbench.md"
N_TEXTS, SHOWN, ROUNDS, N_LAYERS = 200, 20, 20, 12
PEOPLE, EVERY_SECONDS, CLICKS = 20, 5.0, 8
NEW_TEXT_S, LAYER_S, CROWD_S, PAGE_BYTES = 0.5, 0.15, 1.0, 300_000
AT_ONCE = 16  # components, as the page asks for them


def colour(client: httpx.Client, texts: list[str], layer: int) -> None:
    """What the page asks for to colour texts at a layer."""
    client.get(f"/api/v1/pca/resid_pre.{layer}").raise_for_status()
    asked = {"texts": texts, "site": f"resid_pre.{layer}", "components": [0, AT_ONCE]}
    client.post("/api/v1/projection", json=asked).raise_for_status()


def add(client: httpx.Client, text: str, layer: int) -> None:
    """What the page asks for when a text is added."""
    client.post("/api/v1/tokens", json={"texts": [text]}).raise_for_status()
    colour(client, [text], layer)


def draw_text(drawn: random.Random) -> str:
    """Some 64 tokens that nobody asked for before."""
    return " ".join(drawn.choice(WORDS) for _ in range(50))


def time_each(calls: list[Callable[[], None]]) -> list[float]:
    """Seconds of each, one after the other."""
    seconds = []
    for call in calls:
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds


def crowd(address: str, texts: list[str]) -> list[float]:
    """Seconds of every click of all people."""
    seconds: list[float] = []

    def click(person: int) -> None:
        drawn = random.Random(person)
        with httpx.Client(base_url=address, timeout=60) as client:
            time.sleep(drawn.uniform(0, EVERY_SECONDS))
            for _ in range(CLICKS):
                begin = time.perf_counter()
                layer = drawn.randrange(N_LAYERS)
                if drawn.random() < 0.1:
                    add(client, draw_text(drawn), layer)
                else:
                    colour(client, texts, layer)
                taken = time.perf_counter() - begin
                seconds.append(taken)
                time.sleep(max(0.0, EVERY_SECONDS - taken))

    people = [threading.Thread(target=click, args=(person,)) for person in range(PEOPLE)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    return seconds


@contextmanager
def checking(address: str) -> Iterator[None]:
    """Meanwhile somebody has causal checks made, one after the other."""
    ended = threading.Event()

    def check() -> None:
        asked = {"site": f"resid_pre.{N_LAYERS // 2}", "n_texts": 5}
        for component in itertools.count():
            along = [{"of": {"kind": "pca", "component": component}}]
            with suppress(httpx.HTTPError), httpx.Client(base_url=address, timeout=None) as client:
                client.post("/api/v1/causal_check", json={**asked, "along": along}).raise_for_status()
            if ended.is_set():
                break

    threading.Thread(target=check, daemon=True).start()
    time.sleep(EVERY_SECONDS)
    yield
    ended.set()


def row(what: str, seconds: list[float], goal_s: float, share: float) -> str:
    """One line: median and spread, and whether `share` of them keep the goal."""
    parts = statistics.quantiles(seconds, n=20)
    met = "met" if sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] <= goal_s else "**missed**"
    spread = f"{1000 * statistics.median(seconds):.0f} ({1000 * parts[0]:.0f} to {1000 * parts[-1]:.0f})"
    return f"| {what} | {spread} | {1000 * goal_s:.0f} | {met} |"


def main() -> None:
    """Print the table, and keep it."""
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model", Path(folder) / "texts.txt"
        write_gpt2(model)
        process, address = serve(str(model), "--data", folder)
        try:
            begun = make_texts(address)
        finally:
            process.terminate()
        more = [f"{text[: len(text) // 2]} {number}" for number in range(N_TEXTS // SHOWN) for text in begun]
        texts = [*begun, *more[: N_TEXTS - SHOWN]]
        file.write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
        process, address = serve(str(model), "--texts", str(file), "--data", folder)
        try:
            with httpx.Client(base_url=address, timeout=600) as client:
                begin = time.perf_counter()
                colour(client, begun, N_LAYERS // 2)
                ready = time.perf_counter() - begin
                drawn = random.Random(0)
                fresh = [draw_text(drawn) for _ in range(ROUNDS)]
                new = time_each([lambda text=text: add(client, text, 6) for text in fresh])  # type: ignore[misc]
                layers = [layer % N_LAYERS for layer in range(ROUNDS)]
                changed = time_each([lambda layer=layer: colour(client, begun, layer) for layer in layers])  # type: ignore[misc]
            clicks = crowd(address, begun)
            with checking(address):
                beside = crowd(address, begun)
        finally:
            process.terminate()
    weight = sum(
        len(gzip.compress((STATIC / name).read_bytes())) for name in ("index.html", "workbench.js", "workbench.css")
    )
    people = f"{PEOPLE} people, a click each every {EVERY_SECONDS:.0f} s, one in ten a new text"
    verdict = "met" if weight <= PAGE_BYTES else "**missed**"
    lines = [
        "# The workbench",
        "",
        f"GPT-2 small's size, {N_TEXTS} sample texts; {platform.machine()}, {cpu_count()} cores",
        "(`python -m benchmarks.workbench`).",
        f"Milliseconds: median (5% to 95%). The first picture stood {ready:.1f} s after the server.",
        "",
        "| asked | ms | goal | |",
        "| --- | --- | --- | --- |",
        row("a new text of some 64 tokens", new, NEW_TEXT_S, 0.95),
        row(f"another layer on {SHOWN} texts of 128 tokens", changed, LAYER_S, 0.95),
        row(f"{people}: 95%", clicks, CROWD_S, 0.95),
        row(f"{people}, while causal checks are made: 95%", beside, CROWD_S, 0.95),
        "",
        f"The page weighs {weight:,} bytes compressed; the goal is {PAGE_BYTES:,}: {verdict}.",
        "",
    ]
    RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
