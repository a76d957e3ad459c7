"""The rows of the engine's table: what each side is asked, and how much faster we are to be."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.checkpoint import D_VOCAB

N_LAYERS, D_MODEL, N_HEADS, N_FEATURES = 12, 768, 12, 24576
N_PAIRS, N_POS, SUBJECT = 8, 15, 10  # pairs of indirect-object prompts; where those that differ in one token differ
N_EDITS, EDIT_LAYER = 256, 5

Pairs = Literal["one token", "every token"]


@dataclass(frozen=True)
class Task:
    """What one side is asked; its time is divided by `per`."""

    side: str
    request: dict[str, Any]
    per: int = 1


@dataclass(frozen=True)
class Against:
    """Another side, and the goal: `least` so many times faster than it, or `most` that share of its time."""

    task: Task
    least: float | None = None
    most: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One measurement: our side and others, in alternation. Numbers may differ by `tolerance`; None compares none."""

    number: int
    name: str
    ours: Task
    against: tuple[Against, ...]
    tolerance: float | None = 1e-4
    flops: float | None = None  # of which ours is told what share of the machine's speed it reaches


def make_ids(n_texts: int, n_pos: int, seed: int = 0, d_vocab: int = D_VOCAB) -> Tensor:
    """Random token ids [batch pos]."""
    return torch.randint(d_vocab, (n_texts, n_pos), generator=torch.Generator().manual_seed(seed))


def make_pairs(kind: Pairs, d_vocab: int = D_VOCAB) -> dict[str, Any]:
    """Clean and corrupted prompts and their answers, for a request."""
    clean, corrupted = (make_ids(N_PAIRS, N_POS, seed, d_vocab) for seed in (1, 2))
    answers = make_ids(2, N_PAIRS, 3, d_vocab)
    if kind == "one token":
        kept = torch.arange(N_POS) != SUBJECT
        corrupted[:, kept] = clean[:, kept]
    named = {"clean": clean, "corrupted": corrupted, "correct": answers[0], "wrong": answers[1]}
    return {name: ids.tolist() for name, ids in named.items()}


def sweep(side: str, site: str, pairs: Pairs, dtype: str = "float32") -> Task:
    """A patching sweep over all layers, and all positions or heads."""
    return Task(side, {"do": "sweep", "site": site, "dtype": dtype, **make_pairs(pairs)})


def forward(side: str, n_texts: int, n_pos: int, **more: Any) -> Task:
    """A plain forward, three times a turn."""
    request = {"do": "forward", "dtype": "float32", "ids": make_ids(n_texts, n_pos).tolist(), "repeats": 3}
    return Task(side, {**request, **more})


def removal(side: str, do: str, n_pos: int, dictionary: str, n_edits: int = N_EDITS) -> Task:
    """Removal of vectors at the last position of one text; time counts per edit."""
    place = {"layer": EDIT_LAYER, "n_edits": n_edits, "dictionary": dictionary, "ids": make_ids(1, n_pos).tolist()}
    return Task(side, {"do": do, "dtype": "float32", **place}, per=n_edits)


def make_rows(dictionary: str) -> list[Row]:
    """All rows that measure time; `dictionary` is a safetensors file of an encoder and vectors."""
    lens, us = "transformer_lens", "residscope"
    rows = []
    for n_texts, n_pos in ((8, 16), (1, 128), (8, 256)):
        theirs = Against(forward("transformers", n_texts, n_pos), most=1.02, note="aim 0.9")
        more = Against(forward("nnsight", n_texts, n_pos))
        rows.append(Row(1, f"forward, {n_texts} x {n_pos}", forward(us, n_texts, n_pos), (theirs, more)))
    streams = ["resid_pre", "resid_mid", "resid_post"]
    for n_texts, n_pos in ((8, 16), (1, 128), (8, 256)):
        plain = Against(forward(us, n_texts, n_pos), most=1.03, note="our plain forward")
        name = f"forward that keeps all residual streams, {n_texts} x {n_pos}"
        rows.append(Row(2, name, forward(us, n_texts, n_pos, keep=streams), (plain,)))
    for n_texts, n_pos in ((8, 16), (8, 256)):
        theirs = Against(forward(lens, n_texts, n_pos, do="keep_all"), most=1.0)
        name = f"forward that keeps everything, {n_texts} x {n_pos}"
        rows.append(Row(3, name, forward(us, n_texts, n_pos, do="keep_all"), (theirs,)))

    def patching(number: int, name: str, site: str, pairs: Pairs, least: float, note: str = "") -> Row:
        against = [Against(sweep(lens, site, pairs), least=least, note=note)]
        if site == "resid_pre" and pairs == "one token":
            against.append(Against(sweep("nnsight", site, pairs)))
        flops = remaining_flops(pairs) if site == "resid_pre" else None
        return Row(number, f"{name}, pairs differ in {pairs}", sweep(us, site, pairs), tuple(against), flops=flops)

    rows.append(patching(4, "residual sweep", "resid_pre", "one token", 40, "aim 60"))
    rows.append(patching(5, "residual sweep", "resid_pre", "every token", 6, "aim 8"))
    halves = tuple(
        Against(sweep(lens, "resid_pre", "every token", dtype), least=13, note=f"it in {dtype}")
        for dtype in ("bfloat16", "float32")
    )
    name = "residual sweep in bfloat16, pairs differ in every token"
    rows.append(Row(6, name, sweep(us, "resid_pre", "every token", "bfloat16"), halves, tolerance=None))
    for site, name in (("attn_out", "attention-out sweep"), ("mlp_out", "MLP-out sweep")):
        rows.append(patching(7, name, site, "one token", 40))
        rows.append(patching(7, name, site, "every token", 6))
    rows.append(patching(8, "head sweep", "z", "one token", 12))
    rows.append(patching(8, "head sweep", "z", "every token", 4))
    for n_pos, singly, batched in ((16, 700, 10), (128, 1200, 70)):
        against = (
            Against(removal(lens, "remove", n_pos, dictionary, 8), least=singly, note="a hooked forward each"),
            Against(removal("transformers", "remove", n_pos, dictionary, 8), note="a hooked forward each"),
            Against(removal(lens, "remove_batched", n_pos, dictionary), least=batched, note="batched by hand"),
        )
        name = f"removal of a vector at the last of {n_pos} tokens, features of the next site read, per edit"
        flops = N_EDITS * removal_flops(n_pos)
        rows.append(Row(9, name, removal(us, "remove", n_pos, dictionary), against, flops=flops))
    return rows


def removal_flops(n_pos: int) -> float:
    """Of one removal at the last position, as below: one token through one layer, and all its features."""
    return 2 * 12 * D_MODEL**2 + 4 * D_MODEL * n_pos + 2 * D_MODEL * N_FEATURES


def remaining_flops(pairs: Pairs) -> float:
    """Of a residual sweep, what must be computed however it is done.

    An edit of layer `l` at position `p` changes positions `p` to the last, from layer `l` on. In its own layer queries,
    keys and values change at `p` alone; in the last layer only the last position is read. Edits that replace a value
    by an equal one cost nothing. Two logits are read.
    """
    square, total = 2 * D_MODEL**2, 0.0
    for layer in range(N_LAYERS):
        for pos in range(N_POS):
            if pairs == "one token" and (pos < SUBJECT or (layer == 0 and pos > SUBJECT)):
                continue
            for at in range(layer, N_LAYERS):
                changed = 1 if at == layer else N_POS - pos
                read = range(N_POS - 1, N_POS) if at == N_LAYERS - 1 else range(pos, N_POS)
                queries = 1 if at == N_LAYERS - 1 else changed
                total += square * (2 * changed + queries + 9 * len(read))
                total += sum(4 * D_MODEL * (position + 1) for position in read)
            total += 4 * D_MODEL
    return N_PAIRS * total
