"""What the matrices of heads and MLPs read and write most, as tokens: their singular vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadArgument
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_choice, read_whole
from residscope.running.model import Model, check_model
from residscope.transformer.circuits import SIDES, decompose, find_furthest, read_tokens


@dataclass(frozen=True, eq=False, repr=False)
class SingularVectors(Result):
    """The tokens that lie furthest along the singular vectors of one matrix.

    Attributes:
      values: [side component top] Of each token, best first: what its embedding has along the vector, or, of "out",
        the logit that the vector gives it, before the final norm's scale divides; less the vocabulary's mean.
      singular_values: [component] Largest first.
      vectors: [side component d_model] Of length one, in the stream as normed before the norm's weight, or as written.
      token_ids: [side component top] Which tokens.
      texts: The same, as people read them.
      sides: What each side is, in the order of `values`.
    """

    values: Float[Tensor, "side component top"]
    singular_values: Float[Tensor, " component"]
    vectors: Float[Tensor, "side component d_model"]
    token_ids: Int[Tensor, "side component top"]
    texts: Sequence[Sequence[Sequence[str]]]
    sides: Sequence[str]

    axes: ClassVar[tuple[str, ...]] = ("side", "component", "top")
    view: ClassVar[str | None] = "singular_vectors"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "side":
            return {"side": np.array(self.sides)[index]}
        if axis == "component":
            return {"singular_value": self.singular_values.double().numpy()[index]}
        cell = (places["side"], places["component"], index)
        return {"token_id": self.token_ids.numpy()[cell], "token": np.array(self.texts, dtype=object)[cell]}


def singular_vectors(
    model: Model,
    matrix: Literal["OV", "QK", "W_in", "W_gate", "W_out"],
    *,
    layer: int,
    head: int | None = None,
    n: int = 5,
    top: int = 10,
) -> SingularVectors:
    """Split a matrix into what it reads and writes, strongest first, and name the tokens that lie along each.

    Args:
      model: Any.
      matrix: "OV", from the stream that a head reads to what it writes; "QK", from the stream of the query to that of
        the key, before both are turned; or a matrix of the MLP, of which one side is the stream.
      layer: Which.
      head: Of OV and QK.
      n: Components, 1 to the rank.
      top: Tokens of each, 1 to d_vocab.
    Returns:
      values, token_ids  [side component top]  best first
    Raises:
      BadArgument: No such matrix, layer, head, or number.
      UnknownWeight: The model has no such matrix.
    Holds:
      Equal to the singular values and vectors of the whole matrix, norms folded, scales left out. A vector and its
      partner may change sign together: the token furthest along the last side's lies on the positive end.
    Source: Millidge and Black, "The Singular Value Decompositions of Transformer Weight Matrices are Highly
      Interpretable" (2022).
    """
    check_model(model)
    config = model.config
    read_choice("matrix", matrix, SIDES)
    layer = read_whole("layer", layer, 0, config.n_layers - 1)
    if matrix in ("OV", "QK"):
        if head is None:
            raise BadArgument(f"{matrix} was asked for, and no head.", f"Say of which: head=0 to {config.n_heads - 1}.")
        head = read_whole("head", head, 0, config.n_heads - 1)
    elif head is not None:
        raise BadArgument(f"head={head!r} was asked for, and {matrix} is the MLP's.", "Leave it out, or take OV or QK.")
    scales, sides = decompose(model.weights, config, matrix, layer, head)
    n, top = read_whole("n", n, 1, len(scales)), read_whole("top", top, 1, config.d_vocab)
    vectors = torch.stack([side[:n] for side in sides]).to(model.device)
    readings = torch.stack(
        [read_tokens(model.weights, config, name, side) for name, side in zip(SIDES[matrix], vectors, strict=True)]
    )
    furthest = find_furthest(readings[-1])
    best = (readings * furthest).topk(top)
    asked = f"layer={layer}" if head is None else f"layer={layer}, head={head}"
    return SingularVectors(
        name=f"singular vectors of {matrix} of {asked.replace('=', ' ')} of {model.name}",
        settings={
            "matrix": matrix,
            "layer": layer,
            "head": head,
            "norms": "folded, scales left out",
            "read": "W_E" if matrix == "QK" else "in: W_E; out: W_U, direct path only",
            "centre": "the vocabulary's mean" + (", not of logits, which the model caps" if config.logit_cap else ""),
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=(*model.python, f"rs.singular_vectors(model, {matrix!r}, {asked}, n={n}, top={top})"),
        values=best.values.cpu(),
        singular_values=scales[:n].cpu(),
        vectors=(vectors * furthest).cpu(),
        token_ids=best.indices.cpu(),
        texts=[[[model.tokenizer.piece(i) for i in row] for row in side] for side in best.indices.tolist()],
        sides=SIDES[matrix],
    )
