"""How a vector at a site reaches the logits by matrices and norms alone, where it does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.sites import Site
from residscope.transformer.circuits import pass_norm
from residscope.transformer.config import Config
from residscope.transformer.weights import Weights

STREAM_PARTS = (
    "embed",
    "pos_embed",
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "attn_norm_post",
    "mlp_out",
    "mlp_norm_post",
)
_WAYS = ("v", "z", "head_out", "attn_raw", "mlp_act", "mlp_raw")


@dataclass(frozen=True, eq=False)
class DirectPath:
    """A vector on its way to the logits.

    Attributes:
      vector: [d_model] What one unit of it adds to the stream, but for the scales of norms; or past the final norm.
      side: As `read_tokens` takes it: "out", the final norm is still to come; "normed", it is not.
      scales: Sites of what the norms on the way divide by.
      through: The matrices on the way, for people; empty where there are none.
    """

    vector: Float[Tensor, " d_model"]
    side: Literal["out", "normed"]
    scales: Sequence[Site]
    through: str


def find_direct_path(
    weights: Weights, config: Config, site: Site, head: int | None, vector: Float[Tensor, " d"]
) -> DirectPath | None:
    """The way of a vector at a site to the logits; None where it depends on more than the scales of norms.

    Args:
      weights: Of the model.
      config: Likewise.
      site: Where the vector lives.
      head: Of which head, where the site has heads. What several query heads read of a value counts for each of them.
      vector: It.
    Holds:
      One unit of `z` moves `head_out` by `vector`, and one of `mlp_act` moves `mlp_raw`, or `mlp_out` without a norm
      behind the MLP.
    """
    final = [Site("ln_final_scale")] if config.norm else []
    if site.kind == "ln_final":
        return DirectPath(vector, "normed", [], "")
    if site.kind in STREAM_PARTS and not (config.embed_norm and site.layer is None):
        return DirectPath(vector, "out", final, "")
    if site.kind not in _WAYS:
        return None
    through = ""
    if site.kind == "mlp_act":
        vector, through = vector @ weights[f"W_out.{site.layer}"].to(vector), "W_out"
    elif site.kind in ("v", "z") and head is not None:
        n_readers = config.n_heads // config.n_kv_heads if site.kind == "v" else 1
        heads = range(head * n_readers, (head + 1) * n_readers)
        vector = vector @ weights[f"W_O.{site.layer}"][list(heads)].to(vector).sum(0)
        through = f"W_O of head{'s' if n_readers > 1 else ''} {', '.join(map(str, heads))}"
    if not config.post_norm:
        return DirectPath(vector, "out", final, through)
    norm = "mlp_norm_post" if site.kind.startswith("mlp") else "attn_norm_post"
    vector = pass_norm(weights, config, f"{norm}_w.{site.layer}", vector)
    return DirectPath(vector, "out", [Site(f"{norm}_scale", site.layer), *final], through)


def pull_back(
    weights: Weights, config: Config, site: Site, head: int | None, width: int, target: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, " d"], str] | None:
    """What one unit of each entry at a site adds along a vector of the last stream, and through which matrices.

    Args:
      weights: Of the model.
      config: Likewise.
      site: Where the entries are.
      head: Of which head, where the site has heads.
      width: How many entries there are.
      target: Of the last stream; for `ln_final` past the final norm.
    Returns:
      None where there is no such way.
    Holds:
      `found @ vector` is `find_direct_path(..., vector).vector @ target`.
    """
    with torch.enable_grad():
        entries = torch.zeros(width, dtype=target.dtype, device=target.device, requires_grad=True)
        path = find_direct_path(weights, config, site, head, entries)  # which is linear
        return None if path is None else (torch.autograd.grad(path.vector @ target, entries)[0], path.through)
