"""The one transformer definition. Every flag is a fact of the config; sites are announced as they are computed."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from residscope.transformer.config import Activation, Config
from residscope.transformer.products import Linear
from residscope.transformer.rotary import Rotary

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "solu": lambda x: x * x.softmax(-1),
}


class Past:
    """Keys and values of the positions before, layer by layer, for generating token by token."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def n_tokens(self) -> int:
        """Positions held."""
        return next((k.shape[1] for k, _ in self._layers.values()), 0)

    def extend(
        self, layer: int, k: Float[Tensor, "batch pos kv_head d_head"], v: Float[Tensor, "batch pos kv_head d_head"]
    ) -> tuple[Float[Tensor, "batch key kv_head d_head"], Float[Tensor, "batch key kv_head d_head"]]:
        """Append new positions, and give all."""
        if layer in self._layers:
            past_k, past_v = self._layers[layer]
            k, v = torch.cat((past_k, k), dim=1), torch.cat((past_v, v), dim=1)
        self._layers[layer] = (k, v)
        return k, v


class Pass:
    """One pass through a model: where its tokens stand, and what happens at each site. This one only computes.

    What flows is `[batch pos ...]` here. Others keep or change what they see, or compute only some tokens, as `[token
    ...]`; the blocks do not know which.

    Args:
      config: The model's.
      n_tokens: Length of each text.
      n_positions: Positions computed in this pass.
      device, dtype: Of the pass.
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
        self.config = config
        self.n_tokens = n_tokens
        self.past = past
        self.device = device
        self.dtype = dtype
        start = past.n_tokens if past else 0
        self.positions = torch.arange(start, start + n_positions, device=device)
        self._angles: dict[Rotary, tuple[Tensor, Tensor]] = {}
        self._masks: dict[int | None, Tensor] = {}

    def needs(self, kind: str, layer: int | None) -> bool:
        """Whether a site has to be computed apart that the fastest way does not form: norm scales, scores, heads."""
        return False

    def __call__(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        """Called with each site's value; what it returns goes on."""
        return value

    def align(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        """The value of an earlier site, at the tokens that are computed now."""
        return value

    def move(self, x: Tensor, device: torch.device) -> Tensor:
        """The value where the next block is, and with it what the pass holds for itself."""
        if device != self.device:
            self.device, self.positions = device, self.positions.to(device)
            self._angles.clear()
            self._masks.clear()
        return x.to(device)

    def angles(self, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """Cosines and sines, `[batch pos 1 n_dims]`."""
        if rotary not in self._angles:
            positions = self.positions[None].expand(len(self.n_tokens), -1)
            cos, sin = rotary.angles(positions, self.n_tokens)
            self._angles[rotary] = cos[:, :, None].to(self.dtype), sin[:, :, None].to(self.dtype)
        return self._angles[rotary]

    def attend(
        self,
        attention: "Attention",
        q: Float[Tensor, "batch query head d_head"],
        k: Float[Tensor, "batch pos kv_head d_head"],
        v: Float[Tensor, "batch pos kv_head d_head"],
    ) -> Float[Tensor, "batch query head d_head"]:
        """Each head's values, mixed by its pattern; fused where nobody has to see scores or pattern."""
        if self.past:
            k, v = self.past.extend(attention.layer, k, v)
        n_keys = k.shape[1]
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if attention.cap or self.needs("scores", attention.layer) or self.needs("pattern", attention.layer):
            return self._attend_openly(attention, q, k, v).transpose(1, 2)
        if q.is_meta:  # shapes alone: what a fused kernel gives, where torch would spell attention out
            shaped: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]
            return shaped.transpose(1, 2)
        causal = q.shape[2] == n_keys and not attention.slopes and (attention.window or n_keys) >= n_keys
        z = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if causal else self._mask(attention, n_keys),
            is_causal=causal,
            scale=attention.scale,
            enable_gqa=attention.groups > 1,
        )
        return z.transpose(1, 2)

    def _attend_openly(self, attention: "Attention", q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if attention.groups > 1:
            k, v = (x.repeat_interleave(attention.groups, dim=1) for x in (k, v))
        dtype, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)  # in which fused kernels hold both
        scores = attention.cap_scores((q.to(wide) @ k.to(wide).transpose(-1, -2)).mul_(attention.scale))
        scores = scores.add_(self._mask(attention, k.shape[2]))
        shown = scores.to(dtype)
        changed = self("scores", attention.layer, shown)
        pattern = attention.softmax(scores) if changed is shown else attention.softmax_edited(changed.to(wide))
        shown = pattern.to(dtype)
        changed = self("pattern", attention.layer, shown)
        pattern = pattern if changed is shown else changed.to(wide)
        return (pattern @ v.to(wide)).to(dtype)

    def _mask(self, attention: "Attention", n_keys: int) -> Float[Tensor, "heads query key"]:
        if attention.window not in self._masks:
            keys = torch.arange(n_keys, device=self.positions.device)
            self._masks[attention.window] = attention.mask(self.positions, keys, self.dtype)
        return self._masks[attention.window]


class Embedding(nn.Module):
    """A row for each index. Not torch's: drawing its first values costs two seconds of imports."""

    def __init__(self, n_rows: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_rows, d_model))

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        return F.embedding(ids, self.weight)


class Norm(nn.Module):
    """Divide by the standard deviation of what is centred, or by the root mean square of what is not.

    Args:
      site: The kind of site that its output is; its scale is that kind's, with `_scale`.
    """

    def __init__(self, config: Config, size: int, site: str, layer: int | None = None) -> None:
        super().__init__()
        self.centres = config.norm == "layer"
        self.weight = nn.Parameter(torch.empty(size)) if config.norm_weight else None
        self.bias = nn.Parameter(torch.empty(size)) if config.norm_weight and self.centres else None
        self.size, self.eps, self.offset = size, config.norm_eps, config.norm_offset
        self.site, self.layer = site, layer

    def forward(self, x: Float[Tensor, "*batch size"], p: Pass) -> Float[Tensor, "*batch size"]:
        """The normed value; announces the scale where the pass needs it, and uses it where the pass changed it."""
        if p.needs(f"{self.site}_scale", self.layer):
            scale = self.compute_scale(x)
            changed = p(f"{self.site}_scale", self.layer, scale)
            if changed is not scale:
                return self.divide(x, changed[..., None])
        return self.plain(x)

    def plain(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """The normed value."""
        if self.centres:
            return F.layer_norm(x, (self.size,), self.weight, self.bias, self.eps)
        wide = self.centre(x)
        return self._weigh(wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps), x.dtype)

    def divide(self, x: Float[Tensor, "*batch size"], scale: Float[Tensor, "*batch _"]) -> Float[Tensor, "*batch size"]:
        """The normed value under another scale than its own."""
        return self._weigh(self.centre(x) / scale, x.dtype)

    def centre(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """In float32 at least, less the mean where this norm takes it off."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return wide - wide.mean(-1, keepdim=True) if self.centres else wide

    def transpose(self, direction: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        """A direction of what is normed: `norm(x) . d = x . transpose(d) / scale + bias . d`."""
        weighed = direction if self.weight is None else direction * (self.offset + self.weight.to(direction))
        return weighed - weighed.mean(-1, keepdim=True) if self.centres else weighed

    def compute_scale(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch"]:
        """What `x` is divided by."""
        length: Tensor = torch.linalg.vector_norm(self.centre(x), dim=-1)
        return (length.square() / self.size + self.eps).sqrt().to(x.dtype)

    def _weigh(self, wide: Float[Tensor, "*batch size"], dtype: torch.dtype) -> Float[Tensor, "*batch size"]:
        if self.weight is None:
            return wide.to(dtype)
        if self.offset:
            return (wide * (self.offset + self.weight.to(wide.dtype))).to(dtype)
        normed: Tensor = self.weight * wide.to(dtype)
        return normed if self.bias is None else normed + self.bias


class Attention(nn.Module):
    """Causal self-attention of one layer."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        d_q, d_kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q = Linear(config.d_model, d_q, bias=config.qkv_bias)
        self.k = Linear(config.d_model, d_kv, bias=config.qkv_bias)
        self.v = Linear(config.d_model, d_kv, bias=config.qkv_bias)
        self.o = Linear(d_q, config.d_model, bias=config.attn_out_bias)
        self.q_norm: Norm | None = None
        self.k_norm: Norm | None = None
        if config.qk_norm:
            q_size, k_size = (config.d_head, config.d_head) if config.qk_norm == "head" else (d_q, d_kv)
            self.q_norm, self.k_norm = Norm(config, q_size, "q_norm", layer), Norm(config, k_size, "k_norm", layer)
        self.layer = layer
        self.d_head = config.d_head
        self.groups = config.n_heads // config.n_kv_heads
        self.scale = config.attn_scale / (layer + 1 if config.attn_scale_by_layer else 1)
        self.cap = config.attn_cap
        self.window = config.window(layer)
        self.rotary = config.rotary_of(layer)
        self.slopes = alibi_slopes(config.n_heads) if config.alibi else None

    def forward(self, x: Float[Tensor, "*batch d_model"], p: Pass) -> Float[Tensor, "*query d_model"]:
        k = self._turn("k", p("k", self.layer, self._project(self.k, self.k_norm, x, p)), p)
        v = p("v", self.layer, self._project(self.v, None, x, p))
        q = self._turn("q", p("q", self.layer, self._project(self.q, self.q_norm, x, p)), p)
        z = p("z", self.layer, p.attend(self, q, k, v))
        if not p.needs("head_out", self.layer):
            out: Tensor = self.o(z.flatten(-2))
            return out
        bias: Tensor | None = self.o.bias
        by_head = rearrange(self.o.weight, "d_model (head d_head) -> head d_head d_model", d_head=self.d_head)
        written = p("head_out", self.layer, torch.einsum("...hd,hdm->...hm", z, by_head)).sum(-2)
        return written if bias is None else written + bias

    def _project(
        self, project: nn.Module, norm: Norm | None, x: Float[Tensor, "*batch d_model"], p: Pass
    ) -> Float[Tensor, "*batch head d_head"]:
        flat: Tensor = project(x)
        split = self._split(flat)
        if norm is None:
            return split
        if norm.size == self.d_head:
            normed: Tensor = norm(split, p)
            return normed
        if p.needs(f"{norm.site}_scale", self.layer):
            scale = norm.compute_scale(flat)[..., None].expand(split.shape[:-1])  # one of all heads, shown for each
            changed = p(f"{norm.site}_scale", self.layer, scale)
            if changed is not scale:
                return self._split(norm.divide(flat, changed.repeat_interleave(self.d_head, dim=-1)))
        return self._split(norm.plain(flat))

    def _split(self, flat: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch head d_head"]:
        return flat.view(*flat.shape[:-1], flat.shape[-1] // self.d_head, self.d_head)

    def _turn(self, kind: str, x: Float[Tensor, "*batch head d_head"], p: Pass) -> Float[Tensor, "*token head d_head"]:
        return p(f"{kind}_rot", self.layer, turn(x, *p.angles(self.rotary), self.rotary)) if self.rotary else x

    def cap_scores(self, scores: Tensor) -> Tensor:
        """Kept within the cap, where there is one."""
        return self.cap * torch.tanh(scores / self.cap) if self.cap else scores

    def softmax(self, scores: Tensor) -> Tensor:
        """Over the keys, in float32 at least."""
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)

    def softmax_edited(self, scores: Tensor) -> Tensor:
        """The same where edits may have hidden every key from a query: it sees nothing, and mixes nothing."""
        return self.softmax(scores).masked_fill((scores == -torch.inf).all(-1, keepdim=True), 0)

    def mask(
        self, queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], dtype: torch.dtype
    ) -> Float[Tensor, "heads query key"]:
        """What is added to the scores: minus infinity where a query may not look, and what distance costs."""
        hidden = find_hidden(queries, keys, self.window)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(hidden, -torch.inf)[None]
        if self.slopes is None:
            return mask
        # Each query's own position would add the same to all its scores.
        return mask + torch.tensor(self.slopes, device=keys.device)[:, None, None].to(dtype) * keys


def find_hidden(
    queries: Int[Tensor, " query"], keys: Int[Tensor, " key"], window: int | None
) -> Bool[Tensor, "query key"]:
    """Where a query may not look: ahead, and further back than the window."""
    back = queries[:, None] - keys
    return (back < 0) | (back >= window) if window else back < 0


def alibi_slopes(n_heads: int) -> tuple[float, ...]:
    """How much each head's scores fall with a key's distance. Source: Press et al. 2021, "Train Short, Test Long"."""
    power = 1 << (n_heads.bit_length() - 1)
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return (*slopes, *(2 ** (-4 * (2 * head + 1) / power) for head in range(n_heads - power)))


def turn(
    x: Float[Tensor, "*batch head d_head"],
    cos: Float[Tensor, "*batch 1 n_dims"],
    sin: Float[Tensor, "*batch 1 n_dims"],
    rotary: Rotary,
) -> Float[Tensor, "*batch head d_head"]:
    """Rotate the first `n_dims` entries of each head: first half against second half, or neighbours; the rest stays."""
    turned, rest = x[..., : rotary.n_dims], x[..., rotary.n_dims :]
    if rotary.interleaved:
        turned = rearrange(turned, "... (pair two) -> ... (two pair)", two=2)
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
    if rotary.interleaved:
        turned = rearrange(turned, "... (two pair) -> ... (pair two)", two=2)
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


class MLP(nn.Module):
    """The two-layer network of one layer, gated or not."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.up = Linear(config.d_model, config.d_mlp, bias=config.mlp_bias)
        self.gate = Linear(config.d_model, config.d_mlp, bias=config.mlp_bias) if config.gated else None
        self.down = Linear(config.d_mlp, config.d_model, bias=config.mlp_bias)
        self.norm = Norm(config, config.d_mlp, "mlp_norm", layer) if config.mlp_norm else None
        self.activation = ACTIVATIONS[config.activation]
        self.layer = layer

    def forward(self, x: Float[Tensor, "*batch d_model"], p: Pass) -> Float[Tensor, "*token d_model"]:
        pre = p("mlp_pre", self.layer, (self.gate or self.up)(x))
        if self.gate:
            up = p("mlp_up", self.layer, self.up(x))
            act = self.activation(p.align("mlp_pre", self.layer, pre)) * up
        else:
            act = self.activation(pre)
        if self.norm:
            act = self.norm(act, p)
        out: Tensor = self.down(p("mlp_act", self.layer, act))
        return out


class Block(nn.Module):
    """One layer: attention and the MLP, one after the other or side by side, each adding to the stream."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        pre, post = config.norm and config.pre_norm, config.norm and config.post_norm
        own_norm = pre and config.d_mlp and not config.shared_norm
        self.ln1 = Norm(config, config.d_model, "ln1", layer) if pre else None
        self.attn = Attention(config, layer)
        self.ln1_post = Norm(config, config.d_model, "attn_norm_post", layer) if post else None
        self.ln2 = Norm(config, config.d_model, "ln2", layer) if own_norm else None
        self.mlp = MLP(config, layer) if config.d_mlp else None
        self.ln2_post = Norm(config, config.d_model, "mlp_norm_post", layer) if post and config.d_mlp else None
        self.parallel, self.shared_norm = config.parallel, config.shared_norm
        self.layer = layer
        self._constant_values: tuple[list[tuple[int, int]], Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Where its weights are, all together."""
        return self.attn.q.weight.device

    def constant_values(self) -> Float[Tensor, "head d_head"]:
        """What every head mixes whatever the tokens are: the bias of its values, and what the norm's bias gives.

        Kept until one of the weights that it is made of changes: reading W_V anew takes as long as a small run.
        """
        attention, bias = self.attn, self.ln1.bias if self.ln1 else None
        made_of = [one for one in (attention.v.weight, attention.v.bias, bias) if one is not None]
        state = [(one.data_ptr(), 0 if one.is_inference() else one._version) for one in made_of]
        if self._constant_values is None or self._constant_values[0] != state:
            nothing = attention.v.weight.new_zeros(attention.v.in_features)
            values: Tensor = attention.v(nothing if bias is None else bias).detach()
            each = values.view(-1, attention.d_head).repeat_interleave(attention.groups, dim=0)
            self._constant_values = state, each
        return self._constant_values[1]

    def forward(self, x: Float[Tensor, "*batch d_model"], p: Pass) -> Float[Tensor, "*token d_model"]:
        """The stream after this layer; what it reads has been announced by whoever made it."""
        normed = self._norm(self.ln1, x, p)
        attn_out = self._post("attn", self.ln1_post, self.attn(normed, p), p)
        if self.mlp is None:
            return p.align("resid_pre", self.layer, x) + attn_out
        if not self.parallel:
            x = p("resid_mid", self.layer, p.align("resid_pre", self.layer, x) + attn_out)
            mlp_out = self._post("mlp", self.ln2_post, self.mlp(self._norm(self.ln2, x, p), p), p)
            return p.align("resid_mid", self.layer, x) + mlp_out
        if self.shared_norm:
            normed = p.align("ln1" if self.ln1 else "resid_pre", self.layer, normed)
        else:
            normed = self._norm(self.ln2, p.align("resid_pre", self.layer, x), p)
        mlp_out = self._post("mlp", self.ln2_post, self.mlp(normed, p), p)
        return p.align("resid_pre", self.layer, x) + p.align("attn_out", self.layer, attn_out) + mlp_out

    def _norm(self, norm: Norm | None, x: Tensor, p: Pass) -> Tensor:
        return p(norm.site, self.layer, norm(x, p)) if norm else x

    def _post(self, part: str, norm: Norm | None, out: Tensor, p: Pass) -> Tensor:
        if norm:
            out = norm(p(f"{part}_raw", self.layer, out), p)
        return p(f"{part}_out", self.layer, out)


class Transformer(nn.Module):
    """Embedding, blocks, final norm, unembedding. `running` walks it; it keeps nothing."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.d_vocab, config.d_model)
        self.embed_norm = Norm(config, config.d_model, "embed_norm") if config.embed_norm else None
        self.positions = Embedding(config.n_ctx, config.d_model) if config.learned_positions else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.ln_final = Norm(config, config.d_model, "ln_final") if config.norm else None
        self.unembedding = Linear(config.d_model, config.d_vocab, bias=config.unembed_bias)
        if config.tied:
            self.unembedding.weight = self.embedding.weight

    def attention(self, layer: int) -> Attention:
        """Of one layer."""
        block: Any = self.blocks[layer]
        attention: Attention = block.attn
        return attention

    def device_of(self, layer: int | None) -> torch.device:
        """Where a layer is; None and the one after the last: where the stream comes in and the logits are made."""
        if layer is None or layer == self.config.n_layers:
            return self.embedding.weight.device
        block: Any = self.blocks[layer]
        device: torch.device = block.device
        return device

    def embed(self, ids: Int[Tensor, "*batch"], p: Pass) -> Float[Tensor, "*token d_model"]:
        """The stream before the first layer."""
        x: Tensor = self.embedding(ids)
        if self.config.embed_scale != 1:
            x = x * torch.tensor(self.config.embed_scale, dtype=x.dtype, device=x.device)
        x = p("embed", None, x)
        if self.positions:
            positions = p("pos_embed", None, self.positions(p.positions).expand(x.shape))
            x = p.align("embed", None, x) + positions
        if self.embed_norm:
            x = self.embed_norm(x, p)
        return p("resid_pre", 0, p.move(x, self.device_of(0)))

    def forward(self, x: Float[Tensor, "*batch d_model"], p: Pass, start: int = 0) -> Float[Tensor, "*token d_model"]:
        """The stream after the last layer, from the stream before layer `start`; it is announced where it is read."""
        x = p.move(x, self.device_of(start))
        for layer, block in enumerate(self.blocks[start:], start + 1):
            x = p.move(block(x, p), self.device_of(layer))
            x = p("resid_pre", layer, x) if layer < self.config.n_layers else p("resid_post", layer - 1, x)
        return x

    def norm_final(self, x: Float[Tensor, "*batch d_model"], p: Pass) -> Float[Tensor, "*batch d_model"]:
        """The stream after the last layer, normed."""
        return p("ln_final", None, self.ln_final(x, p)) if self.ln_final else x

    def unembed(self, x: Float[Tensor, "*batch d_model"], p: Pass) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of the normed stream."""
        return p("logits", None, self.cap_logits(self.unembedding(x)))

    def cap_logits(self, logits: Tensor) -> Tensor:
        """Kept within the cap, where there is one."""
        cap = self.config.logit_cap
        return cap * torch.tanh(logits / cap) if cap else logits
