"""A model's weights by the field's names, with named axes, from whatever layout they lie in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

import torch
from einops import rearrange
from torch import Tensor

from residscope.errors import BadArgument, UnknownWeight
from residscope.transformer.config import Config
from residscope.transformer.transformer import Block, Norm, Transformer


@dataclass(frozen=True)
class Kind:
    """What all weights of one name have in common.

    Attributes:
      parameter: Its name in `Transformer.state_dict()`; in the layer's block where every layer has one.
      pattern: From the parameter's axes to the weight's, as einops writes it.
      transformer_lens: The name TransformerLens gives it; in the layer's block where every layer has one.
    """

    parameter: str
    pattern: str
    transformer_lens: str
    layered: bool = True

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of what is read."""
        return tuple(self.pattern.split(" -> ")[1].split())

    def place(self, layer: int | None) -> str:
        """The parameter's whole name."""
        return self.parameter if layer is None else f"blocks.{layer}.{self.parameter}"


@dataclass(frozen=True, eq=False)
class Folded:
    """A projection that reads what a norm gives before its weight and bias.

    Attributes:
      weight: With the axes of the weight it was made of.
      bias: The same without the axis that is read; zeros where there is none.
    """

    weight: Tensor
    bias: Tensor


class Weights:
    """The weights of one model by name: `weights["W_O.3"]`, or `weights["W_O"]` for all layers, one on the other.

    TransformerLens's names, `blocks.3.attn.W_O`, are read too. Iterating gives every name. What one layer's name gives
    is a view on the model's own memory, so it is not to be written to; all layers in one are a copy.

    Args:
      transformer: Whose weights.
    """

    def __init__(self, transformer: Transformer) -> None:
        self._transformer = transformer
        there = {name for name, _ in transformer.named_parameters(remove_duplicate=False)}
        kinds = list_kinds(transformer.config)
        self._kinds = {name: kind for name, kind in kinds.items() if kind.place(0 if kind.layered else None) in there}
        self._of_transformer_lens = {kind.transformer_lens: name for name, kind in self._kinds.items()}

    def __getitem__(self, name: str) -> Tensor:
        """The weight, with the axes that `axes` names.

        Raises:
          UnknownWeight: The model has none of that name; the message lists the nearest.
        """
        kind, layer = self._find(name)
        if layer is None and self._kinds[kind].layered:
            return torch.stack([self._read(kind, one) for one in range(self._transformer.config.n_layers)])
        return self._read(kind, layer)

    def axes(self, name: str) -> tuple[str, ...]:
        """Names of the axes of `weights[name]`.

        Raises:
          UnknownWeight: As for `weights[name]`.
        """
        kind, layer = self._find(name)
        axes = self._kinds[kind].axes
        return ("layer", *axes) if layer is None and self._kinds[kind].layered else axes

    def __iter__(self) -> Iterator[str]:
        names = [name for name, kind in self._kinds.items() if not kind.layered]
        last = [name for name in names if name in ("ln_final_w", "ln_final_b", "W_U", "b_U")]
        yield from (name for name in names if name not in last)
        for layer in range(self._transformer.config.n_layers):
            yield from (f"{name}.{layer}" for name, kind in self._kinds.items() if kind.layered)
        yield from last

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: str) -> bool:
        try:
            self._find(name)
        except UnknownWeight:
            return False
        return True

    def place(self, name: str) -> tuple[str, str]:
        """The parameter that a weight of one layer is, and einops's pattern from the parameter's axes to the weight's.

        Raises:
          UnknownWeight: As for `weights[name]`.
        """
        kind, layer = self._find(name)
        return self._kinds[kind].place(layer), self._kinds[kind].pattern

    def transformer_lens(self, name: str) -> str:
        """The name that TransformerLens gives it.

        Raises:
          UnknownWeight: As for `weights[name]`.
        """
        kind, layer = self._find(name)
        theirs = self._kinds[kind].transformer_lens
        return theirs if layer is None else f"blocks.{layer}.{theirs}"

    def folded(self, name: str, *, centre: bool = False) -> Folded:
        """A projection with the weight and bias of the norm before it taken into its own; the model stays as it is.

        A norm is `n = x / s * w + b`, `x` less its mean first where the norm takes it off, `s` its scale, `w` its
        weight with any offset. For a projection `n W + c` this gives `W' = w * W` and `c' = b W + c`, in float32 at
        least, so that the projection is `x / s W' + c'`. Where no norm stands before it, `W` and `c` themselves. What
        comes after the projection stays outside: norms of queries and keys, a cap of the logits.

        Args:
          name: W_Q, W_K, W_V, W_gate, W_in, W_U; or W_out, before which some models norm the activation. With a layer,
            or without for all.
          centre: Also take the mean off `W'` over the axis that is read, where the norm takes it off `x`: then `x`
            needs no centring. RMS norms do not, and leave `W'` as it is.
        Raises:
          UnknownWeight: The model has none of that name.
          BadArgument: It is no projection that a norm can stand before.
        Holds:
          Applied to the normed stream before weight and bias, it gives the value at q, k, v, mlp_pre, mlp_up, logits.
        """
        kind, layer = self._find(name)
        if kind not in _READ_AXIS:
            raise BadArgument(f"No norm is folded into {kind}.", f"Choose {', '.join(_READ_AXIS)}.")
        if layer is None and self._kinds[kind].layered:
            each = [self.folded(f"{kind}.{one}", centre=centre) for one in range(self._transformer.config.n_layers)]
            return Folded(torch.stack([one.weight for one in each]), torch.stack([one.bias for one in each]))
        weight = self._read(kind, layer)
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        bias_kind, axis = f"b{kind[1:]}", self._kinds[kind].axes.index(_READ_AXIS[kind])
        bias = weight.new_zeros([size for number, size in enumerate(weight.shape) if number != axis])
        if bias_kind in self._kinds:
            bias = bias + self._read(bias_kind, layer)
        norm = self._norm_before(kind, layer)
        if norm is not None and norm.bias is not None:
            bias = bias + torch.tensordot(norm.bias.detach().to(weight.dtype), weight, dims=([0], [axis]))
        if norm is not None and norm.weight is not None:
            by = norm.offset + norm.weight.detach().to(weight.dtype)
            weight = weight * by.reshape([-1 if number == axis else 1 for number in range(weight.ndim)])
        else:
            weight = weight.clone()  # a new value in any case
        if norm is not None and norm.centres and centre:
            weight = weight - weight.mean(axis, keepdim=True)
        return Folded(weight, bias)

    def __repr__(self) -> str:
        return f"Weights({', '.join(self._kinds)}; {self._transformer.config.n_layers} layers)"

    def _read(self, kind: str, layer: int | None) -> Tensor:
        found = self._kinds[kind]
        parameter = self._transformer.get_parameter(found.place(layer)).detach()
        sizes = {"d_head": self._transformer.config.d_head} if "(" in found.pattern else {}
        return rearrange(parameter, found.pattern, **sizes)

    def _norm_before(self, kind: str, layer: int | None) -> Norm | None:
        if layer is None:
            return self._transformer.ln_final
        block = cast(Block, self._transformer.blocks[layer])
        if kind == "W_out":
            return block.mlp.norm if block.mlp else None
        return block.ln1 if kind in ("W_Q", "W_K", "W_V") or block.shared_norm else block.ln2

    def _find(self, name: str) -> tuple[str, int | None]:
        if not isinstance(name, str):
            raise UnknownWeight(
                f"The weight {name!r} was asked for, and weights have names.",
                "Write kind.layer, as in W_O.0; list(model.weights) names them all.",
            )
        theirs = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        inner = (theirs[2] if theirs else name).replace("attn._", "attn.")  # grouped heads are stored so there
        kind = self._of_transformer_lens.get(inner)
        if kind and self._kinds[kind].layered is not bool(theirs):
            kind = None
        given = kind and (f"{kind}.{int(theirs[1])}" if theirs else kind)
        kind, _, number = (given or name).partition(".")
        if kind in self._kinds:
            if not number:
                return kind, None
            layered, n_layers = self._kinds[kind].layered, self._transformer.config.n_layers
            if layered and number.isdecimal() and int(number) < n_layers:
                return kind, int(number)
            found = f"{kind} has layers 0 to {n_layers - 1}" if layered else "the model has one such weight"
            raise UnknownWeight(f"There is no weight {name!r}: {found}.", "Layers count from 0.")
        lower = {one.lower(): one for one in self._kinds}
        nearest = [lower[one] for one in get_close_matches(kind.lower(), lower, n=5, cutoff=0)]
        raise UnknownWeight(
            f"The model has no weight {name!r}: the nearest names are {', '.join(nearest)}.",
            "Write kind.layer, as in W_O.0; list(model.weights) names them all.",
        )


# The axis of each projection along which it reads a stream that a norm may have normed.
_READ_AXIS = {
    **dict.fromkeys(("W_Q", "W_K", "W_V", "W_gate", "W_in"), "d_model"),
    "W_out": "d_mlp",
    "W_U": "d_model",
}


def list_kinds(config: Config) -> dict[str, Kind]:
    """Every weight that a model of this config may have, in the order in which a layer uses them."""
    per_head, whole = "d_head -> d_head", "({0} d_head) -> {0} d_head"
    found = {
        "W_E": Kind("embedding.weight", "d_vocab d_model -> d_vocab d_model", "embed.W_E", layered=False),
        "W_pos": Kind("positions.weight", "pos d_model -> pos d_model", "pos_embed.W_pos", layered=False),
        **_norm("embed_norm", "embed_norm", "embed.ln", layered=False),
        **_norm("ln1", "ln1", "ln1"),
    }
    for name, heads in (("Q", "head"), ("K", "kv_head"), ("V", "kv_head")):
        pattern = f"({heads} d_head) d_model -> {heads} d_model d_head"
        found[f"W_{name}"] = Kind(f"attn.{name.lower()}.weight", pattern, f"attn.W_{name}")
        found[f"b_{name}"] = Kind(f"attn.{name.lower()}.bias", whole.format(heads), f"attn.b_{name}")
    for name, heads in (("q_norm", "head"), ("k_norm", "kv_head")):
        pattern = per_head if config.qk_norm == "head" else whole.format(heads)
        found |= _norm(name, f"attn.{name}", f"attn.{name}", pattern)
    found |= {
        "W_O": Kind("attn.o.weight", "d_model (head d_head) -> head d_head d_model", "attn.W_O"),
        "b_O": Kind("attn.o.bias", "d_model -> d_model", "attn.b_O"),
        **_norm("attn_norm_post", "ln1_post", "ln1_post"),
        **_norm("ln2", "ln2", "ln2"),
    }
    for name, part in (("gate", "gate"), ("in", "up")):
        found[f"W_{name}"] = Kind(f"mlp.{part}.weight", "d_mlp d_model -> d_model d_mlp", f"mlp.W_{name}")
        found[f"b_{name}"] = Kind(f"mlp.{part}.bias", "d_mlp -> d_mlp", f"mlp.b_{name}")
    return found | {
        **_norm("mlp_norm", "mlp.norm", "mlp.ln", "d_mlp -> d_mlp"),
        "W_out": Kind("mlp.down.weight", "d_model d_mlp -> d_mlp d_model", "mlp.W_out"),
        "b_out": Kind("mlp.down.bias", "d_model -> d_model", "mlp.b_out"),
        **_norm("mlp_norm_post", "ln2_post", "ln2_post"),
        **_norm("ln_final", "ln_final", "ln_final", layered=False),
        "W_U": Kind("unembedding.weight", "d_vocab d_model -> d_model d_vocab", "unembed.W_U", layered=False),
        "b_U": Kind("unembedding.bias", "d_vocab -> d_vocab", "unembed.b_U", layered=False),
    }


def _norm(
    name: str, module: str, transformer_lens: str, pattern: str = "d_model -> d_model", *, layered: bool = True
) -> dict[str, Kind]:
    return {
        f"{name}_w": Kind(f"{module}.weight", pattern, f"{transformer_lens}.w", layered),
        f"{name}_b": Kind(f"{module}.bias", pattern, f"{transformer_lens}.b", layered),
    }
