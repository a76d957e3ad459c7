"""This package."""

import sys
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import residscope as rs
from benchmarks.peers.worker import Job, Request, device, ids_of, serve

MODEL = sys.argv[1]
CACHE = ["resid_pre", "q", "k", "v", "resid_mid"]  # what a sweep takes from its base run
HEADS = ("q", "k", "v", "z", "pattern")


@cache
def load(dtype: str) -> Any:
    return rs.load(MODEL, dtype=dtype)


@dataclass(frozen=True)
class Encoder:
    """The half of a dictionary that reads."""

    site: rs.Site
    weight: Tensor

    def encode(self, x: Tensor) -> Tensor:
        return (x @ self.weight).relu()


def forward(request: Request) -> Job:
    """What is kept beside the logits comes with the request."""
    model, ids = load(request["dtype"]), ids_of(request)
    sites = [*request.get("keep", []), "logits"]
    return Job(lambda: None, lambda _: model.run(ids, keep=sites), lambda _, run: {"values": run.logits[:, -1]})


def keep_all(request: Request) -> Job:
    model, ids = load(request["dtype"]), ids_of(request)
    return Job(lambda: None, lambda _: model.run(ids, keep="all"), lambda _, run: {"values": run.logits[:, -1]})


def sweep(request: Request) -> Job:
    """Every layer and position of a stream, or every layer and head; of layers that are named, by position too."""
    model, site = load(request["dtype"]), request["site"]
    clean, corrupted = ids_of(request, "clean"), ids_of(request, "corrupted")
    metric = rs.logit_difference(request["correct"], request["wrong"])
    layers = request.get("layers", range(model.config.n_layers))
    heads = range(model.config.n_heads) if site in HEADS else [None]
    positions = range(clean.shape[1]) if "layers" in request or site not in HEADS else [None]

    def prepare() -> tuple[Any, Any]:
        base = model.run(corrupted, keep=CACHE)
        return model.run(clean, keep=[site]), base

    def work(runs: tuple[Any, Any]) -> Tensor:
        cells = product(layers, positions, heads)
        edits = [rs.replace(f"{site}.{layer}", runs[0], head=head, pos=pos) for layer, pos, head in cells]
        values: Tensor = model.sweep(runs[1], edits=edits, metric=metric).values
        return values

    return Job(prepare, work, lambda runs, values: {"values": values, "base": metric(runs[1])})


def remove(request: Request) -> Job:
    """All edits in one sweep, whose metric is the features of the next stream."""
    model, ids, dictionary = load(request["dtype"]), ids_of(request), load_file(request["dictionary"], device())
    layer, vectors = request["layer"], dictionary["vectors"][: request["n_edits"]]
    metric = rs.read(Encoder(rs.Site("resid_pre", layer + 1), dictionary["encoder"]), pos=-1)

    def work(run: Any) -> Tensor:
        edits = [rs.add(f"resid_pre.{layer}", vector, scale=-1.0, pos=-1) for vector in vectors]
        values: Tensor = model.sweep(run, edits=edits, metric=metric).values
        return values

    return Job(lambda: model.run(ids, keep=CACHE), work, lambda _, values: {"values": values})


def multiply(request: Request) -> Job:
    """A matrix product of the size that an MLP has: what the machine can do."""
    x, weight = torch.randn(2048, 768, device=device()), torch.randn(768, 3072, device=device())
    return Job(lambda: None, lambda _: x @ weight)


def attribute_heads(request: Request) -> Job:
    """What every head gives to the difference of the answers' logits."""
    model, ids = load(request["dtype"]), ids_of(request)
    metric = rs.logit_difference(request["correct"], request["wrong"])
    return Job(
        lambda: model.run(ids, keep=["z", "mlp_out", "embed", "pos_embed", "ln_final_scale", "ln_final"]),
        lambda run: rs.attribute(run, metric, by="head")["head"],
        lambda run, found: {"values": found.flatten(1)},
    )


def lens(request: Request) -> Job:
    model, ids = load(request["dtype"]), ids_of(request)
    return Job(lambda: model.run(ids, keep=["resid_pre", "resid_post.11"]), rs.logit_lens)


def lens_product(request: Request) -> Job:
    """The matrix product that a lens cannot do without."""
    model, ids = load(request["dtype"]), ids_of(request)
    weight = model.transformer.unembedding.weight
    rows = torch.randn((model.config.n_layers + 1) * ids.numel(), model.config.d_model, device=weight.device)
    into = torch.empty(len(rows), len(weight), device=weight.device)
    return Job(lambda: None, lambda _: torch.mm(rows, weight.T, out=into))


def path_patch(request: Request) -> Job:
    """What every head sends to one head's queries."""
    model, pairs = load(request["dtype"]), rs.pairs(request["pairs"])
    return Job(
        lambda: None,
        lambda _: rs.path_patch(model, pairs, receivers=request["receiver"]).values.flatten(0, 1),
        lambda _, values: {"values": values},
    )


def path_patch_in_full(request: Request) -> Job:
    """The same by two full runs for each head of the first layers."""
    model, pairs = load(request["dtype"]), rs.pairs(request["pairs"])
    kind, layer, head = request["receiver"].split(".")
    site, texts = f"{kind}.{layer}", list(pairs.clean)

    def work(_: None) -> Tensor:
        clean, corrupted = model.run(texts, keep="z"), model.run(list(pairs.corrupted), keep="z")
        values = []
        for sender in product(range(request["n_layers"]), range(model.config.n_heads)):
            sent = rs.replace(f"z.{sender[0]}", corrupted, head=sender[1])
            heard = model.run(texts, keep=site, edits=[rs.freeze("z", clean), sent])
            values.append(pairs.metric()(model.run(texts, edits=[rs.replace(site, heard, head=int(head))])))
        return torch.stack(values)

    return Job(lambda: None, work, lambda _, values: {"values": values})


def head_scores(request: Request) -> Job:
    model = load(request["dtype"])
    return Job(lambda: None, lambda _: rs.head_scores(model))


if __name__ == "__main__":
    serve(
        {
            "forward": forward,
            "keep_all": keep_all,
            "sweep": sweep,
            "remove": remove,
            "multiply": multiply,
            "attribute_heads": attribute_heads,
            "lens": lens,
            "lens_product": lens_product,
            "path_patch": path_patch,
            "path_patch_in_full": path_patch_in_full,
            "head_scores": head_scores,
        }
    )
