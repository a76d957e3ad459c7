"""A head's two circuits as thin matrices, the norms around them folded, and what matrices read and write most."""

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.transformer.config import Config
from residscope.transformer.weights import Weights

# The ends of each matrix that are streams; neurons have no tokens.
SIDES = {
    "OV": ("in", "out"),
    "QK": ("query", "key"),
    "W_in": ("in",),
    "W_gate": ("in",),
    "W_out": ("out",),
}


def read_ov(
    weights: Weights, config: Config, layer: int
) -> tuple[Float[Tensor, "head d_model d_head"], Float[Tensor, "head d_head d_model"]]:
    """What every head of a layer reads and writes: W_V, one for each head, and W_O."""
    values = weights.folded(f"W_V.{layer}", centre=True).weight
    values = values.repeat_interleave(config.n_heads // config.n_kv_heads, dim=0)
    out = weights[f"W_O.{layer}"].to(values)
    return values, pass_norm(weights, config, f"attn_norm_post_w.{layer}", out) if config.post_norm else out


def read_qk(
    weights: Weights, config: Config, layer: int
) -> tuple[Float[Tensor, "head d_model d_head"], Float[Tensor, "head d_model d_head"]]:
    """What every head of a layer asks with and is found by, W_Q and W_K, one for each head, before they are turned."""
    queries, keys = (weights.folded(f"W_{name}.{layer}", centre=True).weight for name in "QK")
    if config.qk_norm:
        queries, keys = (
            _fold_qk_norm(weights, config, f"{name}_norm_w.{layer}", one) for name, one in (("q", queries), ("k", keys))
        )
    return queries, keys.repeat_interleave(config.n_heads // config.n_kv_heads, dim=0)


def pass_norm(
    weights: Weights, config: Config, name: str, x: Float[Tensor, "*part d_model"]
) -> Float[Tensor, "*part d_model"]:
    """What a norm makes of vectors of the stream, but for its scale and bias.

    Args:
      weights: Of the model.
      config: Likewise.
      name: Of the norm's weight, which it may lack.
      x: The vectors.
    """
    x = x - x.mean(-1, keepdim=True) if config.norm == "layer" else x
    return x * (config.norm_offset + weights[name].to(x)) if name in weights else x


def _fold_qk_norm(
    weights: Weights, config: Config, name: str, projection: Float[Tensor, "heads d_model d_head"]
) -> Float[Tensor, "heads d_model d_head"]:
    if config.norm == "layer":
        projection = projection - projection.mean(-1 if config.qk_norm == "head" else (0, -1), keepdim=True)
    if name not in weights:
        return projection
    return projection * (config.norm_offset + weights[name].to(projection)[..., None, :])


def decompose(
    weights: Weights, config: Config, matrix: str, layer: int, head: int | None
) -> tuple[Float[Tensor, " component"], list[Float[Tensor, "component d_model"]]]:
    """Singular values of a matrix of `SIDES`, largest first, and the vectors of its sides."""
    if head is not None:
        read = read_ov if matrix == "OV" else read_qk
        left, right = (each[head] for each in read(weights, config, layer))
        # Thin matrices are turned upright first, so that what is left to split is d_head by d_head.
        (left, first), (right, second) = map(torch.linalg.qr, (left, right.mT if matrix == "OV" else right))
        u, scales, v = torch.linalg.svd(first @ second.mT)
        return scales, [(left @ u).mT, v @ right.mT]
    whole = weights.folded(f"{matrix}.{layer}", centre=True).weight
    if matrix == "W_out":
        whole = (pass_norm(weights, config, f"mlp_norm_post_w.{layer}", whole) if config.post_norm else whole).mT
    u, scales, _ = torch.linalg.svd(whole, full_matrices=False)
    return scales, [u.mT]


def read_tokens(
    weights: Weights, config: Config, side: str, vectors: Float[Tensor, "component d_model"]
) -> Float[Tensor, "component d_vocab"]:
    """What each token has to do with vectors of a side: along its embedding, or in its logit.

    Args:
      weights: Of the model.
      config: Likewise.
      side: "out", vectors of the last stream; "normed", past the final norm; any other, what is read.
      vectors: They.
    """
    if side not in ("out", "normed"):
        found = vectors @ weights["W_E"].to(vectors).mT
    else:  # the norm folded into the vectors, of which there are fewer than tokens
        normed = vectors if side == "normed" else pass_norm(weights, config, "ln_final_w", vectors)
        found = normed @ weights["W_U"].to(vectors)
        if config.logit_cap:
            return found
    return found - found.mean(-1, keepdim=True)


def find_furthest(readings: Float[Tensor, "component d_vocab"]) -> Float[Tensor, "component 1"]:
    """The sign that puts the token furthest along each vector on its positive end."""
    return readings.gather(1, readings.abs().argmax(1, keepdim=True)).sign()
