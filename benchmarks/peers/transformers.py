"""Plain transformers, with fused attention."""

import sys
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.peers.worker import Job, Request, device, ids_of, serve

MODEL = sys.argv[1]


@cache
def load(dtype: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    return model.to(device()).eval()


def forward(request: Request) -> Job:
    model, ids = load(request["dtype"]), ids_of(request)
    return Job(lambda: None, lambda _: model(ids, use_cache=False).logits, lambda _, logits: {"values": logits[:, -1]})


def remove(request: Request) -> Job:
    """One hooked full forward for each vector; the next stream is read, the logits are not."""
    model, ids, dictionary = load(request["dtype"]), ids_of(request), load_file(request["dictionary"], device())
    vectors, blocks = dictionary["vectors"][: request["n_edits"]], model.transformer.h

    def one(vector: Tensor) -> Tensor:
        found = []

        def take_out(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = args[0].clone()
            x[:, -1] -= vector
            return (x, *args[1:])

        def read(module: Any, args: tuple[Tensor, ...]) -> None:
            found.append((args[0][:, -1] @ dictionary["encoder"]).relu())

        layer = request["layer"]
        hooks = [blocks[layer].register_forward_pre_hook(take_out), blocks[layer + 1].register_forward_pre_hook(read)]
        model(ids, use_cache=False)
        for hook in hooks:
            hook.remove()
        return found[0]

    return Job(lambda: None, lambda _: torch.stack([one(v) for v in vectors]), lambda _, x: {"values": x})


if __name__ == "__main__":
    serve({"forward": forward, "remove": remove})
