"""A sparse autoencoder: an activation as the sum of a few features of a large dictionary."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.dictionaries.contract import Contract, check
from residscope.direction import Direction
from residscope.errors import BadArgument, DictionaryMisfit, count
from residscope.running.arguments import read_choice, read_whole
from residscope.running.model import Model
from residscope.running.texts import Texts
from residscope.sites import Site
from residscope.transformer.products import multiply

Activation = Literal["relu", "topk", "groupmax", "jumprelu", "gated"]
Scaling = Literal["none", "constant", "norm", "layer_norm"]

_EPS = 1e-5  # added where an input is divided, and not where it is put back
_TOLD = ("name", "facts", "source", "options")  # of people's use: they change nothing that is computed


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """Reads an activation as features, and writes it back: `decode(encode(x))`. A transcoder writes another one.

    Attributes:
      name: For people.
      site: Whose values it reads; and writes, where there is no target.
      encoder: [d_in feature]
      decoder: [feature d_out]
      encoder_bias: [feature]
      decoder_bias: [d_out]
      target: Of a transcoder: whose values it writes.
      skip: [d_out d_in] What is written of the input besides.
      activation: What makes features of what the encoder gives.
      k: Of topk: how many of them stay. Of groupmax: how many groups of neighbours there are, of each of which the
        largest stays.
      threshold: [feature] Of jumprelu: what is not above it is zero.
      gate_bias, magnitude: [feature] Of gated: the bias of what decides, and the factor on what is counted.
      by_decoder_norm: Whether features are times the length of their decoder's row; they compete so, too.
      less_decoder_bias: Whether the decoder's bias is taken off the input.
      centred: Whether the dictionary reads and writes a stream without its mean over d_model.
      scaling: How each input is scaled before it is read; written back afterwards, by a transcoder not.
      factor: Of constant scaling: what each input is multiplied by.
      facts: What its file says of the model and the texts it was made on, and of what `check` measures.
      source: What `rs.load_dictionary` was given; None where it was made in memory, or changed since.
      options: What it was given besides.
    """

    name: str
    site: Site
    encoder: Float[Tensor, "d_in feature"] = field(repr=False)
    decoder: Float[Tensor, "feature d_out"] = field(repr=False)
    encoder_bias: Float[Tensor, " feature"] = field(repr=False)
    decoder_bias: Float[Tensor, " d_out"] = field(repr=False)
    target: Site | None = None
    skip: Float[Tensor, "d_out d_in"] | None = field(default=None, repr=False)
    activation: Activation = "relu"
    k: int | None = None
    threshold: Float[Tensor, " feature"] | None = field(default=None, repr=False)
    gate_bias: Float[Tensor, " feature"] | None = field(default=None, repr=False)
    magnitude: Float[Tensor, " feature"] | None = field(default=None, repr=False)
    by_decoder_norm: bool = False
    less_decoder_bias: bool = True
    centred: bool = False
    scaling: Scaling = "none"
    factor: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    source: str | None = field(default=None, init=False, repr=False)  # `replace` leaves it out
    options: Mapping[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def n_features(self) -> int:
        """How many features there are."""
        return len(self.decoder)

    @property
    def d_in(self) -> int:
        """How many entries it reads."""
        return len(self.encoder)

    @property
    def writes(self) -> Site:
        """Whose values it writes."""
        return self.target or self.site

    @cached_property
    def decoder_norms(self) -> Float[Tensor, " feature"]:
        """Length of each row of the decoder."""
        norms: Tensor = self.decoder.norm(dim=-1)
        return norms

    @cached_property
    def encoder_norms(self) -> Float[Tensor, " feature"]:
        """How far what `project` gives of each feature moves at most, for each unit that an unscaled input moves."""
        norms: Tensor = self.encoder.norm(dim=0) * abs(self.factor)
        return norms * self.decoder_norms if self.by_decoder_norm else norms

    def narrow(self, features: Int[Tensor, " n"]) -> "SparseAutoencoder":
        """Some of the features alone, numbered anew."""
        each = ("decoder", "encoder_bias", "threshold", "gate_bias", "magnitude")
        given = {name: getattr(self, name) for name in each if getattr(self, name) is not None}
        some: dict[str, Any] = {name: x[features] for name, x in given.items()}
        return replace(self, encoder=self.encoder[:, features], **some)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every byte of the weights and of all that changes what is read or written, or where.

        Holds:
          The same whatever its name, its place on disk and its device.
        """
        found = hashlib.sha256()
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Tensor):
                found.update(f"{one.name} {value.dtype} {list(value.shape)}".encode())
                found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
            elif one.name not in _TOLD and value != one.default:  # so that a field that is added changes no older one
                found.update(f"{one.name} {value}".encode())
        return found.hexdigest()

    def to(self, device: torch.device) -> "SparseAutoencoder":
        """The same on another device; itself where it is there."""
        if self.decoder.device == device:
            return self
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        moved: dict[str, Any] = {name: x.to(device) for name, x in values.items() if isinstance(x, Tensor)}
        return replace(self, **moved).loaded_from(self.source, **self.options)

    def loaded_from(self, source: str | None, **options: Any) -> "SparseAutoencoder":
        """A copy that knows where, and how, it can be loaded."""
        same = replace(self)
        object.__setattr__(same, "source", source)
        object.__setattr__(same, "options", options)
        return same

    @property
    def call(self) -> str:
        """The Python that loads it; "..." where it has no source."""
        said = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"rs.load_dictionary({self.source!r}{said})" if self.source else "..."

    def encode(self, x: Tensor) -> Tensor:
        """Features of activations.

        Args:
          x: With the site's axes; `[... d_in]`, of `z` also `[... head d_head]`.
        Returns:
          [... feature], nothing below zero, in the dictionary's own dtype.
        Raises:
          BadArgument: The last axis is not the dictionary's.
        """
        return self.activate(self.project(x))

    def project(self, x: Tensor) -> Tensor:
        """What the encoder makes of activations, before any threshold or competition.

        Args:
          x: As for `encode`.
        Returns:
          [... feature] Of gated what both of its biases are still to be added to, else with the bias.
        Raises:
          BadArgument: The last axis is not the dictionary's.
        """
        flat = self._flatten(x)
        shift, scale = self._measure(flat)
        read = (flat - shift) / (scale + _EPS if self.scaling == "layer_norm" else scale)
        read = read - self.decoder_bias if self.less_decoder_bias else read
        if self.activation == "gated":
            return multiply(read, self.encoder.T)
        before = multiply(read, self.encoder.T, self.encoder_bias)
        return before * self.decoder_norms if self.by_decoder_norm else before

    def activate(self, before: Tensor, room: Tensor | None = None) -> Tensor:
        """Features of what `project` gives.

        Args:
          before: [... feature]
          room: What `find_room` gave for other activations: features do not compete then, but stay where they reach it.
        Returns:
          [... feature]
        """
        if self.activation == "gated":
            assert self.gate_bias is not None
            assert self.magnitude is not None
            return (before * self.magnitude + self.encoder_bias).relu() * (before + self.gate_bias > 0)
        if self.activation == "jumprelu":
            assert self.threshold is not None
            return before.relu() * (before > self.threshold)
        if self.activation == "relu":
            return before.relu()
        if room is not None:
            return before.relu() * (before >= room)
        assert self.k is not None
        if self.activation == "topk":
            largest = before.topk(self.k, dim=-1)
            return torch.zeros_like(before).scatter(-1, largest.indices, largest.values.relu())
        groups = before.view(*before.shape[:-1], self.k, -1)
        first = groups.argmax(-1, keepdim=True)
        return torch.zeros_like(groups).scatter(-1, first, groups.gather(-1, first).relu()).flatten(-2)

    def find_room(self, before: Tensor) -> Tensor | None:
        """What a feature reaches that is among the largest, `[... feature]` or `[... 1]`; None where none compete."""
        if self.activation == "topk":
            assert self.k is not None
            return before.topk(self.k, dim=-1).values[..., -1:]
        if self.activation == "groupmax":
            assert self.k is not None
            groups = before.view(*before.shape[:-1], self.k, -1)
            return groups.amax(-1, keepdim=True).expand_as(groups).flatten(-2)
        return None

    def decode(self, features: Tensor, of: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """Activations that features stand for.

        Args:
          features: [... feature]
          of: The activations that they were read from, `[... d_in]`: whose mean and scale are put back, whose shape is
            taken, and what skips the features. Needed where the dictionary has any of these.
          only: Numbers of the features that are given, where all others are zero; what they write is not read then.
        Returns:
          [... d_out]; or with `of` in its dtype, and in its shape but of a transcoder.
        Raises:
          BadArgument: `of` is needed and not given.
        """
        some: Any = slice(None) if only is None else only
        scaled = features / self.decoder_norms[some] if self.by_decoder_norm else features
        written = multiply(scaled, self.decoder[some].T, self.decoder_bias)
        if of is not None:
            flat = self._flatten(of)
            written = written if self.skip is None else written + flat @ self.skip.T
            if self.target:
                return written.to(of.dtype)
            shift, scale = self._measure(flat)
            return (written * scale + shift).reshape(of.shape).to(of.dtype)
        if self.skip is not None or (self.target is None and (self.centred or self.scaling != "none")):
            raise BadArgument(
                f"{self.name} writes something of its input itself, as its mean or scale, and was given none.",
                "Give decode(features, of=x), or use reconstruct(x).",
            )
        return written

    def readout(self, features: Int[Tensor, " n"], of: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """How what `project` gives of each of some features grows with its input, whose scale is held.

        Args:
          features: Their numbers.
          of: The activations that they are read from.
        """
        columns = self.encoder[:, features].T
        columns = columns * self.decoder_norms[features, None] if self.by_decoder_norm else columns
        scale = self._measure(self._flatten(of))[1]
        if self.scaling == "layer_norm":
            scale = scale + _EPS
        if self.centred or self.scaling == "layer_norm":
            columns = columns - columns.mean(-1, keepdim=True)
        return columns / scale

    def write(
        self, features: Int[Tensor, " n"], values: Float[Tensor, " n"], of: Float[Tensor, "n d_in"]
    ) -> Float[Tensor, "n d_out"]:
        """What each of some features writes: the part of `decode` that is its own.

        Args:
          features: Their numbers.
          values: Their activations.
          of: The activations that they were read from.
        """
        rows = self.decoder[features]
        rows = rows / self.decoder_norms[features, None] if self.by_decoder_norm else rows
        written = values[:, None] * rows
        return written if self.target else written * self._measure(self._flatten(of))[1]

    def reconstruct(self, x: Tensor) -> Tensor:
        """`decode(encode(x))`, of the shape and dtype of `x`; of a transcoder what it takes the target to be."""
        return self.decode(self.encode(x), of=x)

    def direction(self, feature: int, *, side: Literal["encoder", "decoder"] = "decoder") -> Direction:
        """What a feature writes, or what it reads, as a direction without a mean.

        Raises:
          BadArgument: There is no such feature, or side.
        """
        feature = self._check(feature)
        read_choice("side", side, ("encoder", "decoder"))
        vector = (self.decoder[feature] if side == "decoder" else self.encoder[:, feature]).double()
        load = ("import residscope as rs", "", f"dictionary = {self.call}")
        return Direction(
            name=f"feature {feature} of {self.name} ({side})",
            site=self.writes if side == "decoder" else self.site,
            vector=vector / vector.norm(),
            history={
                "kind": "feature",
                "feature": feature,
                "side": side,
                "dictionary": self.name,
                "source": self.source,
                "fingerprint": self.fingerprint,
            },
            python=(*load, f"direction = dictionary.direction({feature}, side={side!r})") if self.source else (),
        )

    def check(self, model: Model, texts: Texts) -> Contract:
        """Whether the dictionary fits this model, and what would fit better; as `contract.check`.

        Warns:
          DictionaryMisfit: It does not fit, with the likely cause.
        """
        found = check(self, model, texts)
        if found.warning:
            warnings.warn(f"{self.name} does not fit {model.name}. {found.warning}", DictionaryMisfit, stacklevel=2)
        return found

    def __getitem__(self, feature: int) -> "Feature":
        """A feature, for `rs.clamp`.

        Raises:
          BadArgument: There is none of that number.
        """
        return Feature(self, self._check(feature))

    def __iter__(self) -> "Iterator[Feature]":
        return (self[feature] for feature in range(len(self)))

    def __len__(self) -> int:
        return self.n_features

    def _check(self, feature: int) -> int:
        hint = f"{self.name} has {count(self.n_features, 'feature')}, which count from 0."
        return read_whole("feature", feature, 0, self.n_features - 1, hint)

    def _flatten(self, x: Tensor) -> Tensor:
        flat = x.flatten(-2) if self.site.kind == "z" and x.shape[-1] != self.d_in else x
        if flat.shape[-1] != self.d_in:
            raise BadArgument(
                f"{self.name} reads {self.d_in} entries, and was given {list(x.shape)}.", f"See {self.site}."
            )
        return flat.to(self.decoder.dtype)

    def _measure(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """What is taken off each input, and what it is divided by."""
        mean = flat.mean(-1, keepdim=True)
        if self.scaling == "layer_norm":
            return mean, flat.std(-1, keepdim=True)
        shift = mean if self.centred else torch.zeros_like(mean)
        if self.scaling == "norm":
            return shift, (flat - shift).norm(dim=-1, keepdim=True) / flat.shape[-1] ** 0.5
        return shift, torch.full_like(mean, 1 / self.factor)


@dataclass(frozen=True, eq=False)
class Feature:
    """One feature of a dictionary: what `rs.clamp` takes."""

    dictionary: SparseAutoencoder
    number: int

    @property
    def site(self) -> Site:
        """Where it is read and written."""
        return self.dictionary.site

    @property
    def source(self) -> str | None:
        """What its dictionary was loaded from."""
        return self.dictionary.source

    @property
    def options(self) -> Mapping[str, Any]:
        """How its dictionary was loaded from there."""
        return self.dictionary.options

    @property
    def call(self) -> str:
        """The Python that loads it; "...[3]" where its dictionary has no source."""
        return f"{self.dictionary.call}[{self.number}]"

    @property
    def vector(self) -> Float[Tensor, " d_in"]:
        """What one unit of it writes.

        Raises:
          BadArgument: The dictionary scales its input, so that this differs from token to token; or it writes another
            site than it reads.
        """
        if self.dictionary.target:
            raise BadArgument(
                f"{self.dictionary.name} reads {self.dictionary.site} and writes {self.dictionary.target}.",
                "Edit what it writes: add dictionary.direction(feature), or replace by dictionary.reconstruct(x).",
            )
        if self.dictionary.scaling != "none":
            raise BadArgument(
                f"{self.dictionary.name} scales its input, so its features write another vector at every token.",
                "Edit with replace and dictionary.decode(features, of=x).",
            )
        row = self.dictionary.decoder[self.number]
        return row / self.dictionary.decoder_norms[self.number] if self.dictionary.by_decoder_norm else row

    def read(self, x: Tensor) -> Tensor:
        """Its activation at `[... d_in]`."""
        return self.dictionary.encode(x)[..., self.number].to(x.dtype)
