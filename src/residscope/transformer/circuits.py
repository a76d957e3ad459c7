"""A head's two circuits as thin matrices, the norms around them folded: where it looks, and what it moves."""

from jaxtyping import Float
from torch import Tensor

from residscope.transformer.config import Config
from residscope.transformer.weights import Weights


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
