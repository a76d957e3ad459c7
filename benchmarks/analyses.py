"""The analyses, beside TransformerLens and beside their own matrix products: `python -m benchmarks.analyses`.

As in `benchmarks.engine`: a GPT-2-small-sized model with random weights, each side a process of its own, in turns, runs
and caches before the clock. Then what has no peer, against the times and the memory that are asked for; the whole walk
through indirect objects among it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

import residscope as rs
from benchmarks.checkpoint import D_VOCAB, write_gpt2
from benchmarks.engine import measure, measure_quiet, write_line
from benchmarks.rows import EDIT_LAYER, N_HEADS, N_LAYERS, N_PAIRS, N_POS, Against, Pairs, Row, Task, make_ids, sweep
from benchmarks.sides import Side, version_of
from residscope.analyses.indirect_objects import walk_indirect_objects
from residscope.running.memory import Allocations

RESULT = Path(__file__).parent / "results/analyses.md"
ROUNDS, WALKS = 5, 5
HEADS = ("q", "k", "v", "pattern")
GOALS: tuple[tuple[Pairs, float], ...] = (("one token", 12), ("every token", 4))  # as of the engine's row 8
MOST_OF_A_LAYER = 1.5
HEAD = (
    "| analysis | ours, ms | beside | its, ms | ratio | goal | | ratio with caches | apart | rounds | quiet |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def make_rows() -> list[Row]:
    """What is asked of both sides."""
    answers = make_ids(2, 8, 3).tolist()
    heads = {"do": "attribute_heads", "dtype": "float32", "ids": make_ids(8, 16).tolist(), "repeats": 3}
    heads |= {"correct": answers[0], "wrong": answers[1]}
    lens = {"do": "lens", "dtype": "float32", "ids": make_ids(1, 128).tolist()}
    scores = {"do": "head_scores", "dtype": "float32"}
    return [
        Row(
            1,
            "attribution to every head, 8 x 16 tokens",
            Task("residscope", heads),
            (Against(Task("transformer_lens", heads), least=1.0, note="its constants left out behind the clock"),),
            tolerance=1e-6,
        ),
        Row(
            2,
            "logit lens, 13 x 128 x 50,257",
            Task("residscope", lens),
            (Against(Task("residscope", lens | {"do": "lens_product"}), most=1.3, note="its matrix product"),),
            tolerance=None,
        ),
        Row(
            3,
            "head scores of GPT-2 small's size",
            Task("residscope", scores),
            (Against(Task("transformer_lens", scores), note="its three attention scores alone"),),
            tolerance=None,
        ),
        *(
            make_sweep(4, f"sweep of {site} by head", pairs, least, site=site)
            for pairs, least in GOALS
            for site in HEADS
        ),
        *(
            make_sweep(5, "sweep of z by head and position, one layer", pairs, least, site="z", layers=[EDIT_LAYER])
            for pairs, least in GOALS
        ),
        make_paths(6),
    ]


def make_sweep(number: int, name: str, pairs: Pairs, least: float, **asked: Any) -> Row:
    """A sweep beside TransformerLens's, with the goal that the engine has for `z`."""
    tasks = [sweep(side, asked["site"], pairs) for side in ("residscope", "transformer_lens")]
    ours, its = (Task(task.side, task.request | asked) for task in tasks)
    return Row(number, f"{name}, pairs differ in {pairs}", ours, (Against(its, least=least),))


def make_paths(number: int) -> Row:
    """Path patching from every head beside two full runs for each head of the first layer, both counted per head."""
    letters = [["".join(chr(97 + i) for i in row) for row in make_ids(N_PAIRS, N_POS, seed, 26)] for seed in (1, 2)]
    answers = [[chr(97 + int(i)) for i in row] for row in make_ids(2, N_PAIRS, 3, 26)]
    pairs = dict(zip(("clean", "corrupted", "correct", "wrong"), [*letters, *answers], strict=True))
    asked = {"dtype": "float32", "pairs": pairs, "receiver": f"q.{N_LAYERS - 3}.0", "n_layers": 1}
    ours = Task("residscope", {"do": "path_patch", **asked}, per=N_LAYERS * N_HEADS)
    full = Task("residscope", {"do": "path_patch_in_full", **asked}, per=N_HEADS)
    return Row(number, "path patching, per head that sends", ours, (Against(full, note="two full runs each"),))


def write_words(directory: Path) -> None:
    """A small model whose vocabulary is GPT-2's in size, every token a text."""
    write_gpt2(directory, n_layers=1, d_model=64, n_heads=1, n_ctx=32)
    tokenizer = Tokenizer(BPE(vocab={f"Ġw{i}": i for i in range(D_VOCAB)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))


def time_vocabulary(directory: Path) -> list[str]:
    """Some and all of 50,257 tokens as tables, of a model that has decoded none before."""
    lines = []
    calls: list[tuple[str, float, Callable[[rs.Run], object]]] = [
        ("the ten best tokens", 5, rs.vocabulary),
        ("all 50,257 tokens, as a frame", 200, lambda run: rs.vocabulary(run, top=None).to_frame()),
    ]
    for name, goal, call in calls:
        seconds = []
        for _ in range(ROUNDS):
            run = rs.load(directory, device="cpu").run(make_ids(1, 16), keep="ln_final")
            begin = time.perf_counter()
            call(run)
            seconds.append(time.perf_counter() - begin)
        lines.append(write_alone(name, seconds, goal))
    return lines


def write_alone(name: str, seconds: list[float], goal: float) -> str:
    """A line on times of ours alone: the first, which imports and warms up, is left out."""
    least, *_, most = ordered = sorted(1e3 * one for one in seconds[1:])
    middle = statistics.median(ordered)
    verdict = "met" if middle < goal else "**missed**"
    return f"{name}: {middle:.1f} ms ({least:.1f} to {most:.1f}); the goal is under {goal:g} ms, {verdict}."


def measure_neurons(directory: Path) -> str:
    """The memory of attribution to every neuron, beside that of one layer's neurons."""
    model = rs.load(directory, device="cpu")
    run = model.run(
        make_ids(8, 128), keep=["resid_pre", "attn_out", "embed", "pos_embed", "ln_final_scale", "ln_final"]
    )
    with Allocations(shapes=False) as layer:
        run.look_up([rs.Site("mlp_act", N_LAYERS - 1)])
    with Allocations(shapes=False) as whole:
        rs.attribute(run, rs.logit_difference(1, 2), by="neuron")
    share = whole.peak_bytes / layer.peak_bytes
    verdict = "met" if share < MOST_OF_A_LAYER else "**missed**"
    return (
        f"attribution to every neuron, 8 x 128 tokens: {whole.peak_bytes / 1e6:.0f} MB at the most, {share:.2f} times "
        f"what one layer's neurons alone take; the goal is at most {MOST_OF_A_LAYER}, {verdict}."
    )


def time_walk() -> list[float]:
    """Seconds of the whole walk on the bundled model, its loading apart."""
    model = rs.load("demo")
    pairs = rs.demo.pairs("ioi", 64)
    lengths = model.tokenize(list(pairs.clean)).n_tokens
    picked = (lengths == lengths.mode().values).nonzero().flatten().tolist()[:8]
    sides = [[getattr(pairs, name)[i] for i in picked] for name in ("clean", "corrupted", "correct", "wrong")]
    repeated = torch.randint(1, model.config.d_vocab, (8, 50), generator=torch.Generator().manual_seed(0)).repeat(1, 2)
    seconds = []
    for _ in range(WALKS):
        begin = time.perf_counter()
        clean, corrupted, correct, wrong = sides
        walk_indirect_objects(model, clean=clean, corrupted=corrupted, correct=correct, wrong=wrong, repeated=repeated)
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)


def main() -> None:
    """Print the table as it grows, and keep it."""
    lines = [HEAD]
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = Path(folder) / "model"
        write_gpt2(model)
        names = ("residscope", "transformer_lens")
        sides = {name: stack.enter_context(Side(name, model)) for name in names}
        for place, row in enumerate(make_rows()):  # several have one number
            quiet = measure_quiet()
            found = measure(row, sides, Path(folder) / str(place), ROUNDS)
            lines.append(write_line(row, row.against[0], found[0], found[1], quiet))
            print(lines[-1], flush=True)
        alone = [measure_neurons(model)]
        words = Path(folder) / "words"
        write_words(words)
        alone += time_vocabulary(words)
    seconds = time_walk()
    verdict = "met" if seconds[-1] < 5 else "**missed**"
    walk = f"the indirect-object walk on the bundled model: {statistics.median(seconds):.2f} s"
    alone.append(f"{walk} ({seconds[0]:.2f} to {seconds[-1]:.2f}); the goal is under 5 s, {verdict}.")
    alone = [f"- {line[0].upper()}{line[1:]}" for line in alone]
    print("\n".join(alone))
    about = f"{torch.get_num_threads()} threads, torch {torch.__version__}, {version_of('transformer_lens')}"
    about += " (`python -m benchmarks.analyses`)."
    RESULT.write_text("\n".join(["# Analyses", "", about, "", *lines, "", *alone, ""]))


if __name__ == "__main__":
    main()
