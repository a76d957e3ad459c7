"""How much heads read of what heads of earlier layers write, by their weights alone."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.results.result import Result
from residscope.running.arguments import read_choice
from residscope.running.model import Model, check_model
from residscope.running.progress import report
from residscope.transformer.circuits import read_ov, read_qk

READERS = {
    "Q": "the later head's queries: |W_OV W_QK| / (|W_OV| |W_QK|)",
    "K": "the later head's keys: |W_OV W_QK'| / (|W_OV| |W_QK|), W_QK' the other way around",
    "V": "the later head's values: |W_OV W_OV*| / (|W_OV| |W_OV*|), W_OV* the later head's",
}
_N_RANDOM = 16  # heads drawn on each side, so that chance is the mean of 256 pairs


@dataclass(frozen=True, eq=False, repr=False)
class Composition(Result):
    """What every head gives to every head of a later layer, beyond chance.

    Attributes:
      values: [layer head target_layer target_head] Frobenius norm of the product over the product of the norms, less
        `chance`; NaN where the target's layer is not later, or where a head's matrices are all zero.
      chance: The mean of the same of random matrices of these shapes.
      chance_sd: Its standard deviation over the pairs that were drawn.
    """

    values: Float[Tensor, "layer head target_layer target_head"]
    chance: float
    chance_sd: float

    axes: ClassVar[tuple[str, ...]] = ("layer", "head", "target_layer", "target_head")
    view: ClassVar[str | None] = "composition"

    def to_frame(self) -> pd.DataFrame:
        """One row a pair of heads of which the target's layer is later."""
        frame = super().to_frame()
        return frame[frame["target_layer"] > frame["layer"]].reset_index(drop=True)


def composition(model: Model, kind: Literal["Q", "K", "V"]) -> Composition:
    """How much the queries, keys or values of each head are made of what each head of an earlier layer writes.

    Args:
      model: Any with two layers at least.
      kind: What of the later head; see `READERS`.
    Returns:
      values  [layer head target_layer target_head]  0 is chance; the whole, with chance, lies between 0 and 1
    Raises:
      BadArgument: No such kind, or the model has one layer.
    Holds:
      Equal to the norms of the d_model by d_model matrices. Weights and means of norms are folded, their scales cancel;
      biases, positions, and MLPs between the heads are left out.
    Source: Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).
    """
    check_model(model)
    config = model.config
    read_choice("kind", kind, READERS)
    if config.n_layers < 2:
        raise BadArgument(
            f"{model.name} has one layer, and heads compose with those of earlier ones.", "Take a deeper model."
        )
    chance = draw_chance(config.d_model, config.d_head)
    values = torch.full((config.n_layers, config.n_heads) * 2, torch.nan)
    writers: list[Tensor] = []
    for layer in range(config.n_layers):
        report(layer, config.n_layers, "composing heads")
        read, write = (each.to(model.device) for each in read_ov(model.weights, config, layer))
        if kind == "V":
            readers = face(write.mT, read.mT)
        else:
            queries, keys = (each.to(model.device) for each in read_qk(model.weights, config, layer))
            readers = face(keys, queries.mT) if kind == "Q" else face(queries, keys.mT)
        for earlier, writer in enumerate(writers):
            values[earlier, :, layer] = compose(writer, readers) - chance.mean()
        writers.append(face(read, write))
    report(config.n_layers, config.n_layers, "composing heads")
    return Composition(
        name=f"{kind}-composition of {model.name}",
        settings={
            "kind": kind,
            "meaning": READERS[kind],
            "chance": f"mean of {chance.numel()} pairs of random heads of these shapes, taken off",
            "norms": "folded, scales left out",
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=(*model.python, f"rs.composition(model, {kind!r})"),
        values=values,
        chance=float(chance.mean()),
        chance_sd=float(chance.std()),
    )


def face(
    far: Float[Tensor, "head d_model d_head"], near: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "head d_head d_model"]:
    """A circuit of length one, as the stream between two heads meets it.

    A product of matrices is as long without what only turns its far end: of the far matrix a triangle is left.

    Args:
      far: The matrix of the circuit that the other head does not meet.
      near: The one that it does.
    """
    circuit = torch.linalg.qr(far, mode="r").R @ near
    unit: Tensor = circuit / torch.linalg.matrix_norm(circuit, keepdim=True)
    return unit


def compose(
    writers: Float[Tensor, "head d_head d_model"], readers: Float[Tensor, "target_head d_head d_model"]
) -> Float[Tensor, "head target_head"]:
    """Frobenius norms of the products of all circuits on one side with all on the other.

    Args:
      writers: As `face` gives them.
      readers: Likewise.
    """
    products = torch.einsum("hrm,gsm->hrgs", writers, readers)
    lengths: Tensor = torch.linalg.vector_norm(products, dim=(1, 3))
    return lengths


def draw_chance(d_model: int, d_head: int) -> Float[Tensor, "head target_head"]:
    """What random circuits of these shapes compose."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> Float[Tensor, "head d_model d_head"]:
        return torch.randn(_N_RANDOM, d_model, d_head, generator=generator)

    return compose(face(draw(), draw().mT), face(draw(), draw().mT))
