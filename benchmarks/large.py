"""Larger models in bfloat16 on a GPU: shapes of Gemma 2, random weights, and memory as predicted beside as measured.

`python -m benchmarks.engine` measures them as row 10 where there is a GPU.
"""

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

import residscope as rs
from benchmarks.peers.worker import forget_peak, read_bytes, timed
from benchmarks.rows import N_PAIRS, N_POS, make_pairs
from residscope.transformer.config import Keys
from residscope.transformer.families import FAMILIES
from residscope.transformer.placement import as_size, make_shapes

GEMMA_2_2B = dict(FAMILIES["gemma2"].example)
GEMMA_2_9B = GEMMA_2_2B | {
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_attention_heads": 16,
    "num_hidden_layers": 42,
    "num_key_value_heads": 8,
}
SHAPES = {"Gemma-2-2B": GEMMA_2_2B, "Gemma-2-9B": GEMMA_2_9B}
SWEEP_BYTES = 16 * 10**9  # what a sweep may take, so that what is predicted and what is done have the same limit


class Work(NamedTuple):
    """One measurement, and what it is predicted to take."""

    name: str
    do: Callable[[], Any]
    predict: Callable[[], rs.Memory]


def make_model(keys: Mapping[str, Any], device: str) -> rs.Model:
    """A Gemma 2 of random weights in bfloat16."""
    config = FAMILIES["gemma2"].read_config(Keys(keys, "a shape"), "a shape")
    generator = torch.Generator(device).manual_seed(0)
    state = {
        name: torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype) * config.d_model**-0.5
        for name, like in make_shapes(config, torch.bfloat16).state_dict().items()
    }
    return rs.load(state, config=config, dtype="bfloat16", device=device)


def list_works(model: rs.Model, pairs: dict[str, Any]) -> Iterator[Work]:
    """A run, a run that keeps everything, gradients, and sweeps over layers and positions or heads."""
    clean, corrupted = (torch.tensor(pairs[name]) for name in ("clean", "corrupted"))
    n_texts, n_tokens = clean.shape
    metric = rs.logit_difference(pairs["correct"], pairs["wrong"])
    predict = partial(rs.memory, model, n_texts=n_texts, n_tokens=n_tokens)
    for name, keep in (("run to the logits", "logits"), ("run that keeps everything", "all")):
        yield Work(name, partial(model.run, clean, keep), partial(predict, keep=keep))
    name = "run, and gradients of every residual stream"
    backward = partial(predict, keep=(), gradients=["resid_pre"], metric=metric)
    yield Work(name, lambda: model.run(corrupted).gradients(metric, ["resid_pre"]), backward)

    run = model.run(clean, keep=["resid_pre", "z"])
    layers, heads = range(model.config.n_layers), range(model.config.n_heads)
    residual = [rs.replace(f"resid_pre.{layer}", run, pos=pos) for layer in layers for pos in range(n_tokens)]
    of_heads = [rs.replace(f"z.{layer}", run, head=head) for layer in layers for head in heads]
    for name, edits in (("layers and positions", residual), ("layers and heads", of_heads)):

        def sweep(edits: list[rs.Edit] = edits) -> rs.Sweep:
            return model.sweep(model.run(corrupted), edits, metric, memory_bytes=SWEEP_BYTES)

        found = partial(predict, keep=(), edits=edits, metric=metric, memory_bytes=SWEEP_BYTES)
        yield Work(f"run, and sweep over {name}", sweep, found)


def measure(work: Work, rounds: int) -> str:
    """A line of the table; the first round warms up."""
    seconds, peak = [], 0
    for turn in range(rounds + 1):
        gc.collect()
        forget_peak()
        before = read_bytes("VmRSS")
        took, result = timed(work.do)
        peak = read_bytes("VmHWM") - before
        del result
        if turn:
            seconds.append(1e3 * took)
    found = work.predict()
    n_bytes = found.kept_bytes + found.working_bytes
    verdict = "within 10%" if abs(n_bytes - peak) <= 0.1 * peak else "**missed**"
    spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
    return f"| {work.name} | {spread} | {as_size(peak)} | {as_size(n_bytes)} | {verdict} |"


def write_lines(name: str, keys: Mapping[str, Any], device: str = "cuda", rounds: int = 5) -> list[str]:
    """The table of one shape."""
    model = make_model(keys, device)
    head = [
        f"Row 10: {name}'s shape in bfloat16, {N_PAIRS} pairs of {N_POS} tokens that differ in every token.",
        "",
        "| work | ms | memory beside the weights | predicted | |",
        "| --- | --- | --- | --- | --- |",
    ]
    with torch.no_grad():
        pairs = make_pairs("every token", d_vocab=model.config.d_vocab)
        return [*head, *(measure(work, rounds) for work in list_works(model, pairs))]
