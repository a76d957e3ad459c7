"""Rotary position embeddings: the angles by which queries and keys are turned, for every scaling in use."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadCheckpoint, BadFact, UnsupportedModel

RotaryType = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope"]


@dataclass(frozen=True)
class Rotary:
    """How a model turns queries and keys.

    Attributes:
      type: "default", or how wavelengths are stretched: "linear", "dynamic", "llama3", "yarn", "longrope".
      n_dims: Entries of a head that are turned.
      theta: The base of the wavelengths.
      n_ctx_original: Tokens of the context before scaling.
      factor: By how much the context is stretched.
      attention_factor: Multiplies cosines and sines.
      low_freq_factor, high_freq_factor: Of llama3: the bounds of the wavelengths that are stretched in part.
      beta_fast, beta_slow, truncate: Of yarn: the same, and whether they are rounded to whole entries.
      short_factors, long_factors: longrope's divisor of each frequency, within and beyond `n_ctx_original`.
      interleaved: Whether neighbours are turned against each other; else the first half against the second.
    Raises:
      BadFact: A number makes no sense; it is a BadArgument.
    """

    type: RotaryType
    n_dims: int
    theta: float
    n_ctx_original: int
    factor: float = 1.0
    attention_factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    interleaved: bool = False

    def __post_init__(self) -> None:
        if self.n_dims < 2 or self.n_dims % 2 or self.n_ctx_original < 1:
            raise BadFact(
                f"{self.n_dims} entries of a head are to be turned, over {self.n_ctx_original} positions",
                "Give an even n_dims, and the context's length.",
            )
        if self.theta <= 1 or self.factor <= 0 or self.attention_factor <= 0:
            raise BadFact(
                f"rope_theta is {self.theta}, factor {self.factor}, attention_factor {self.attention_factor}",
                "Give a theta above 1, and factors above 0.",
            )
        if not self.low_freq_factor < self.high_freq_factor or self.beta_fast <= 0 or self.beta_slow <= 0:
            raise BadFact("the bounds of the frequencies to be scaled are out of order", "Give the lower one first.")

    def regime(self, n_tokens: int) -> int:
        """A text's length as far as its angles depend on it: texts of one regime share frequencies."""
        if self.type == "longrope":
            return int(n_tokens > self.n_ctx_original)
        if self.type == "dynamic":
            return max(n_tokens, self.n_ctx_original)
        return 0

    def inverse_frequencies(self, n_tokens: int) -> Float[Tensor, " frequency"]:
        """Radians per token of each pair of entries, float32, for a text of `n_tokens`.

        Source: RoFormer (Su et al. 2021); linear and dynamic: kaiokendev, bloc97 and emozilla (2023); yarn: Peng et
        al. 2023; longrope: Ding et al. 2024; llama3: Meta's Llama 3.1 code.
        Holds: equal to transformers' for every type.
        """
        exponents = torch.arange(0, self.n_dims, 2, dtype=torch.float32) / self.n_dims
        theta = self.theta
        if self.type == "dynamic":
            stretch = self.factor * self.regime(n_tokens) / self.n_ctx_original - (self.factor - 1)
            theta *= stretch ** (self.n_dims / (self.n_dims - 2))
        frequencies = 1.0 / theta**exponents
        if self.type == "linear":
            return frequencies / self.factor
        if self.type == "llama3":
            return self._keep_short_waves(frequencies)
        if self.type == "yarn":
            return self._ramp(frequencies)
        if self.type == "longrope":
            factors = self.long_factors if self.regime(n_tokens) else self.short_factors
            return frequencies / torch.tensor(factors)
        return frequencies

    def angles(
        self, positions: Int[Tensor, "batch pos"], n_tokens: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch pos n_dims"], Float[Tensor, "batch pos n_dims"]]:
        """Cosines and sines, float32; every text's as if it were alone."""
        regimes, which = torch.unique(torch.tensor([self.regime(n) for n in n_tokens.tolist()]), return_inverse=True)
        tokens_of = {self.regime(n): n for n in n_tokens.tolist()}
        frequencies = torch.stack([self.inverse_frequencies(tokens_of[r]) for r in regimes.tolist()])
        turns = positions[:, :, None].float() * frequencies.to(positions.device)[which][:, None, :]
        turns = torch.cat((turns, turns), dim=-1)
        return turns.cos() * self.attention_factor, turns.sin() * self.attention_factor

    def _keep_short_waves(self, frequencies: Float[Tensor, " frequency"]) -> Float[Tensor, " frequency"]:
        turns = self.n_ctx_original * frequencies / (2 * math.pi)
        share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        share = share.clamp(0, 1)
        return (1 - share) * frequencies / self.factor + share * frequencies

    def _ramp(self, frequencies: Float[Tensor, " frequency"]) -> Float[Tensor, " frequency"]:
        def dimension(n_turns: float) -> float:
            return self.n_dims * math.log(self.n_ctx_original / (n_turns * 2 * math.pi)) / (2 * math.log(self.theta))

        low, high = dimension(self.beta_fast), dimension(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.n_dims - 1)
        width = high - low or 0.001
        share = 1 - ((torch.arange(self.n_dims // 2) - low) / width).clamp(0, 1)
        return (1 - share) * frequencies / self.factor + share * frequencies


def read_rotary(
    parameters: Mapping[str, Any], *, theta: float, n_dims: int, n_ctx: int, source: str
) -> tuple[Rotary, int]:
    """The rotary embedding that a config's `rope_parameters` or `rope_scaling` asks for, and the context it gives.

    Args:
      parameters: That dictionary; empty for none.
      theta: The config's `rope_theta`, used where the dictionary names none.
      n_dims: Entries of a head that are turned.
      n_ctx: The config's `max_position_embeddings`.
      source: Where the config lies, for messages.
    Raises:
      UnsupportedModel: The type, or a key, is not known.
      BadCheckpoint: A key that the type needs is missing, or a list has the wrong length.
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    older_name = given.pop("type", "default")
    rope_type = given.pop("rope_type", older_name)
    if rope_type not in get_args(RotaryType):
        raise UnsupportedModel(
            f"The config of {source} has the rope type {rope_type!r}.",
            f"Supported: {', '.join(get_args(RotaryType))}.",
        )
    try:
        rotary = _read_type(rope_type, given, float(given.pop("rope_theta", theta)), n_dims, n_ctx)
    except KeyError as error:
        raise BadCheckpoint(
            f"The rope parameters of {source} are of type {rope_type!r} and lack {error.args[0]!r}.",
            "Compare them with the model's original config.json.",
        ) from None
    if given:
        raise UnsupportedModel(
            f"The rope parameters of {source} have keys that are not known here: {', '.join(sorted(given))}.",
            "Remove those that do not change what the model computes.",
        )
    for factors in (rotary.short_factors, rotary.long_factors):
        if rope_type == "longrope" and len(factors) != n_dims // 2:
            raise BadCheckpoint(
                f"The rope parameters of {source} have {len(factors)} longrope factors, and {n_dims // 2} frequencies.",
                "Compare them with the model's original config.json.",
            )
    # A dynamic model runs on beyond its trained context; the others state the stretched one.
    return rotary, int(n_ctx * rotary.factor) if rope_type == "dynamic" else n_ctx


def _read_type(rope_type: RotaryType, given: dict[str, Any], theta: float, n_dims: int, n_ctx: int) -> Rotary:
    original = int(given.pop("original_max_position_embeddings", n_ctx))
    if rope_type == "default":
        given.pop("factor", None)
        return Rotary("default", n_dims, theta, n_ctx)
    if rope_type in ("linear", "dynamic"):
        return Rotary(rope_type, n_dims, theta, n_ctx, factor=float(given.pop("factor")))
    if rope_type == "llama3":
        return Rotary(
            "llama3",
            n_dims,
            theta,
            original,
            factor=float(given.pop("factor")),
            low_freq_factor=float(given.pop("low_freq_factor")),
            high_freq_factor=float(given.pop("high_freq_factor")),
        )
    factor = float(given.pop("factor", n_ctx / original))
    if rope_type == "yarn":
        return Rotary(
            "yarn",
            n_dims,
            theta,
            original,
            factor=factor,
            attention_factor=_yarn_attention_factor(given, factor),
            beta_fast=float(given.pop("beta_fast", 32.0)),
            beta_slow=float(given.pop("beta_slow", 1.0)),
            truncate=bool(given.pop("truncate", True)),
        )
    default = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    return Rotary(
        "longrope",
        n_dims,
        theta,
        original,
        factor=factor,
        attention_factor=float(given.pop("attention_factor", default)),
        short_factors=tuple(float(factor) for factor in given.pop("short_factor")),
        long_factors=tuple(float(factor) for factor in given.pop("long_factor")),
    )


def _yarn_attention_factor(given: dict[str, Any], factor: float) -> float:
    def scale(mscale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

    mscale, mscale_all = given.pop("mscale", 0.0), given.pop("mscale_all_dim", 0.0)
    default = scale(mscale) / scale(mscale_all) if mscale and mscale_all else scale(1.0)
    return float(given.pop("attention_factor", default))
