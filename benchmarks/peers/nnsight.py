"""nnsight, in this process."""

import sys
from functools import cache
from typing import Any

import torch
from nnsight import TransformersModel, save
from torch import Tensor

from benchmarks.peers.worker import Job, Request, device, difference, ids_of, serve

MODEL = sys.argv[1]


@cache
def load(dtype: str) -> Any:
    return TransformersModel(MODEL, task="text-generation", dispatch=True, dtype=getattr(torch, dtype)).to(device())


def read_logits(model: Any, ids: Tensor) -> Tensor:
    with model.trace(ids):
        logits = model.output.logits.save()
    found: Tensor = logits
    return found


def read_streams(model: Any, ids: Tensor) -> list[Tensor]:
    with model.trace(ids):
        streams = save([block.input for block in model.transformer.h])
    found: list[Tensor] = streams
    return found


def forward(request: Request) -> Job:
    model, ids = load(request["dtype"]), ids_of(request)
    return Job(lambda: None, lambda _: read_logits(model, ids), lambda _, logits: {"values": logits[:, -1]})


def sweep(request: Request) -> Job:
    """One trace for each layer and position."""
    model, metric = load(request["dtype"]), difference(request)
    clean, corrupted = ids_of(request, "clean"), ids_of(request, "corrupted")

    def one(stream: Tensor, layer: int, pos: int) -> Tensor:
        with model.trace(corrupted):
            model.transformer.h[layer].input[:, pos] = stream[:, pos]
            logits = model.output.logits.save()
        return metric(logits)

    return Job(
        lambda: (read_streams(model, clean), metric(read_logits(model, corrupted))),
        lambda prepared: torch.stack(
            [one(x, layer, pos) for layer, x in enumerate(prepared[0]) for pos in range(clean.shape[1])]
        ),
        lambda prepared, values: {"values": values, "base": prepared[1]},
    )


if __name__ == "__main__":
    serve({"forward": forward, "sweep": sweep})
