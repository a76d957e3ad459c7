"""The one transformer definition. Every flag is a fact of the config; sites are announced as they are computed."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from residscope.transformer.config import Activation, Config

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class Watch:
    """What a forward pass calls at every site. This one lets everything pass; others keep or change what they see."""

    def needs(self, kind: str, layer: int | None = None) -> bool:
        """Whether the site has to be computed apart; fused attention never forms `pattern`."""
        return False

    def __call__(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        """Called with each site's value; what it returns goes on."""
        return value


class Past:
    """Keys and values of the positions before, layer by layer, for generating token by token."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def n_tokens(self) -> int:
        """Positions held."""
        return next((k.shape[2] for k, _ in self._layers.values()), 0)

    def extend(
        self, layer: int, k: Float[Tensor, "batch kv_head pos d_head"], v: Float[Tensor, "batch kv_head pos d_head"]
    ) -> tuple[Float[Tensor, "batch kv_head key d_head"], Float[Tensor, "batch kv_head key d_head"]]:
        """Append new positions, and give all."""
        if layer in self._layers:
            past_k, past_v = self._layers[layer]
            k, v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        self._layers[layer] = (k, v)
        return k, v


class Frame:
    """What is the same for every layer of one pass: where the tokens stand.

    Args:
      config: The model's.
      n_tokens: Length of each text.
      device: Of the pass.
      dtype: Of the pass.
      n_positions: Positions computed in this pass.
      past: Keys and values of earlier positions; this pass adds its own.
    """

    def __init__(
        self,
        config: Config,
        n_tokens: Int[Tensor, " batch"],
        *,
        n_positions: int,
        device: torch.device,
        dtype: torch.dtype,
        past: Past | None = None,
    ) -> None:
        start = past.n_tokens if past else 0
        self.past = past
        self.positions = torch.arange(start, start + n_positions, device=device)[None].expand(len(n_tokens), -1)
        self.angles: tuple[Tensor, Tensor] | None = None
        if config.rotary:
            cos, sin = config.rotary.angles(self.positions, n_tokens)
            self.angles = cos.to(dtype), sin.to(dtype)


class Embedding(nn.Module):
    """A row for each index. Not torch's: drawing its first values costs two seconds of imports."""

    def __init__(self, n_rows: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_rows, d_model))

    def forward(self, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        return F.embedding(ids, self.weight)


class RMSNorm(nn.Module):
    """Divide by the root mean square, in float32 at least; no centring, no bias."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def make_norm(config: Config) -> nn.Module:
    """The norm that the config names."""
    norm = nn.LayerNorm if config.norm == "layer" else RMSNorm
    return norm(config.d_model, config.norm_eps)


class Attention(nn.Module):
    """Causal self-attention of one layer."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        d_q, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q = nn.Linear(config.d_model, d_q, bias=config.qkv_bias)
        self.k = nn.Linear(config.d_model, d_kv, bias=config.qkv_bias)
        self.v = nn.Linear(config.d_model, d_kv, bias=config.qkv_bias)
        self.o = nn.Linear(d_q, config.d_model, bias=config.attn_out_bias)
        self.layer = layer
        self.d_head = config.d_head
        self.groups = config.n_heads // config.n_kv_heads
        self.scale = config.attn_scale / (layer + 1 if config.attn_scale_by_layer else 1)

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], frame: Frame, watch: Watch
    ) -> Float[Tensor, "batch pos d_model"]:
        q, k, v = (
            rearrange(project(x), "batch pos (head d_head) -> batch head pos d_head", d_head=self.d_head)
            for project in (self.q, self.k, self.v)
        )
        if frame.angles:
            q, k = turn(q, *frame.angles), turn(k, *frame.angles)
        if frame.past:
            k, v = frame.past.extend(self.layer, k, v)
        if watch.needs("pattern", self.layer):
            z = self._attend_openly(q, k, v, watch)
        else:
            z = F.scaled_dot_product_attention(
                q, k, v, is_causal=q.shape[2] == k.shape[2], scale=self.scale, enable_gqa=self.groups > 1
            )
        z = watch("z", self.layer, rearrange(z, "batch head pos d_head -> batch pos head d_head"))
        out: Tensor = self.o(z.flatten(-2))
        return out

    def _attend_openly(
        self,
        q: Float[Tensor, "batch head query d_head"],
        k: Float[Tensor, "batch kv_head key d_head"],
        v: Float[Tensor, "batch kv_head key d_head"],
        watch: Watch,
    ) -> Float[Tensor, "batch head query d_head"]:
        k, v = k.repeat_interleave(self.groups, dim=1), v.repeat_interleave(self.groups, dim=1)
        scores = q @ k.transpose(-1, -2) * self.scale
        n_query, n_key = scores.shape[-2:]
        later = torch.ones(n_query, n_key, dtype=torch.bool, device=q.device).triu(1 + n_key - n_query)
        scores = scores.masked_fill(later, -torch.inf)
        pattern = scores.softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
        return watch("pattern", self.layer, pattern) @ v


def turn(
    x: Float[Tensor, "batch head pos d_head"],
    cos: Float[Tensor, "batch 1 pos n_dims"],
    sin: Float[Tensor, "batch 1 pos n_dims"],
) -> Float[Tensor, "batch head pos d_head"]:
    """Rotate the first `n_dims` entries of each head, first half against second half; the rest stays."""
    n_dims = cos.shape[-1]
    turned, rest = x[..., :n_dims], x[..., n_dims:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    return torch.cat((turned, rest), dim=-1)


class MLP(nn.Module):
    """The two-layer network of one layer, gated or not."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.gate = nn.Linear(config.d_model, config.d_mlp, bias=config.mlp_bias) if config.gated else None
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.mlp_bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        hidden = self.activation(self.gate(x)) * self.up(x) if self.gate else self.activation(self.up(x))
        out: Tensor = self.down(hidden)
        return out


class Block(nn.Module):
    """One layer: attention, then the MLP, each reading the normed stream and adding to it."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.ln1 = make_norm(config)
        self.attn = Attention(config, layer)
        self.ln2 = make_norm(config)
        self.mlp = MLP(config)
        self.layer = layer

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], frame: Frame, watch: Watch
    ) -> Float[Tensor, "batch pos d_model"]:
        x = watch("resid_pre", self.layer, x)
        x = x + watch("attn_out", self.layer, self.attn(self.ln1(x), frame, watch))
        x = watch("resid_mid", self.layer, x)
        x = x + watch("mlp_out", self.layer, self.mlp(self.ln2(x)))
        return watch("resid_post", self.layer, x)


class Transformer(nn.Module):
    """Embedding, blocks, final norm, unembedding. `running` walks it; it keeps nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.d_vocab, config.d_model)
        self.positions = None if config.rotary else Embedding(config.n_ctx, config.d_model)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.ln_final = make_norm(config)
        self.unembedding = nn.Linear(config.d_model, config.d_vocab, bias=False)
        if config.tied:
            self.unembedding.weight = self.embedding.weight

    def embed(self, ids: Int[Tensor, "batch pos"], frame: Frame, watch: Watch) -> Float[Tensor, "batch pos d_model"]:
        """The stream before the first layer."""
        x = watch("embed", None, self.embedding(ids))
        return x + self.positions(frame.positions) if self.positions else x

    def norm_final(self, x: Float[Tensor, "*batch d_model"], watch: Watch) -> Float[Tensor, "*batch d_model"]:
        """The stream after the last layer, normed."""
        return watch("ln_final", None, self.ln_final(x))

    def unembed(self, x: Float[Tensor, "*batch d_model"], watch: Watch) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of the normed stream."""
        return watch("logits", None, self.unembedding(x))
