"""What one transformer is: facts of its blocks, read from a family's config file."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

from residscope.errors import BadCheckpoint, BadFact, UnsupportedModel
from residscope.transformer.rotary import Rotary

MOST_LAYERS = 4096

Activation = Literal["gelu", "gelu_new", "relu", "silu", "solu"]

# The words that some facts are written with.
_KNOWN: dict[str, tuple[str | None, ...]] = {
    "norm": (None, "layer", "rms"),
    "qk_norm": (None, "head", "whole"),
    "activation": get_args(Activation),
}


def is_finite(value: Any) -> bool:
    """Whether it is a number, and neither infinite nor NaN."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Facts of one model. None of them is a model's name: `family` is only said, never asked.

    Attributes:
      family: The family that read the config, as `model_type` names it.
      n_kv_heads: Key and value heads; query heads share them in groups of `n_heads / n_kv_heads`. None: `n_heads`.
      d_head: Entries of a head; None: `d_model / n_heads`.
      d_mlp: Hidden entries of an MLP; 0 where blocks have attention only.
      n_ctx: Most tokens of a prompt.
      norm: "layer" centres, "rms" does not; None where nothing is normed.
      norm_weight: Whether norms have a weight, and "layer" a bias.
      norm_offset: What is added to a norm's weight before it multiplies.
      pre_norm: Whether attention and MLP read the normed stream; else they read the stream itself.
      post_norm: Whether what they give is normed before it is added.
      parallel: Whether attention and MLP read the same stream.
      shared_norm: Whether they read it through one norm.
      embed_scale: Factor of the token embedding.
      embed_norm: Whether the embedding is normed.
      learned_positions: Whether the embedding of the position is added.
      rotary: How queries and keys are turned; None where they are not.
      rotary_windowed: The same for layers with a window, where they differ.
      alibi: Whether scores fall with distance, by a slope for each head.
      windows: For each layer, how many keys back a query sees, itself included; None all. Empty: all, everywhere.
      attn_scale: Factor of the scores before the softmax; None: `d_head ** -0.5`.
      attn_scale_by_layer: Whether the scores are divided by the layer's number, from 1, as well.
      attn_cap, logit_cap: `cap * tanh(x / cap)` of scores and logits.
      qk_norm: Whether queries and keys are normed, head by head or all heads as one; before they are turned.
      gated: Whether the MLP multiplies its activation by a second projection.
      mlp_norm: Whether the activation is normed before it is read.
      tied: Whether the unembedding is the embedding.
    Raises:
      BadFact: A fact makes no sense; it is a BadArgument.
    """

    family: str = "own"
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int = None  # type: ignore[assignment]  # filled in below
    d_head: int = None  # type: ignore[assignment]
    d_mlp: int
    d_vocab: int
    n_ctx: int
    norm: Literal["layer", "rms"] | None = "layer"
    norm_eps: float = 1e-5
    norm_weight: bool = True
    norm_offset: float = 0.0
    pre_norm: bool = True
    post_norm: bool = False
    parallel: bool = False
    shared_norm: bool = False
    embed_scale: float = 1.0
    embed_norm: bool = False
    learned_positions: bool = False
    rotary: Rotary | None = None
    rotary_windowed: Rotary | None = None
    alibi: bool = False
    windows: tuple[int | None, ...] = ()
    attn_scale: float = None  # type: ignore[assignment]
    attn_scale_by_layer: bool = False
    attn_cap: float | None = None
    logit_cap: float | None = None
    qk_norm: Literal["head", "whole"] | None = None
    activation: Activation = "gelu_new"
    gated: bool = False
    mlp_norm: bool = False
    qkv_bias: bool = True
    attn_out_bias: bool = True
    mlp_bias: bool = True
    unembed_bias: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_mlp", "d_vocab", "n_ctx"):
            size, least = getattr(self, name), 0 if name == "d_mlp" else 1
            if size is None and name in ("n_kv_heads", "d_head"):
                continue
            if type(size) is not int or not least <= size < (MOST_LAYERS if name == "n_layers" else 2**31):
                raise BadFact(f"{name} is {size!r}", f"Give a whole number from {least} on.")
        self._fill("n_kv_heads", self.n_heads)
        if self.d_head is None and self.d_model % self.n_heads:
            raise BadFact(f"{self.d_model} entries of the stream do not make {self.n_heads} heads", "Give d_head.")
        self._fill("d_head", self.d_model // self.n_heads)
        self._fill("attn_scale", self.d_head**-0.5)
        self._check_types()
        if self.n_heads % self.n_kv_heads:
            raise BadFact(
                f"{self.n_heads} heads do not share {self.n_kv_heads} key and value heads evenly",
                "Give an n_kv_heads that divides n_heads.",
            )
        if self.norm is None and (self.post_norm or self.qk_norm or self.embed_norm or self.mlp_norm):
            raise BadFact("some values are to be normed, and norm is None", 'Give norm="layer" or norm="rms".')
        if self.shared_norm and not self.parallel:
            raise BadFact("attention and MLP share a norm, and do not read the same stream", "Give parallel=True.")
        if self.rotary and self.rotary.n_dims > self.d_head:
            raise BadFact(
                f"{self.rotary.n_dims} of {self.d_head} entries of a head are to be turned", "Turn d_head at most."
            )
        if not 0 <= self.norm_eps < 1:
            raise BadFact(f"norm_eps is {self.norm_eps!r}", "Give a number from 0 to 1.")
        if not self.attn_scale:
            raise BadFact(f"attn_scale is {self.attn_scale!r}", "Leave it out for d_head ** -0.5.")
        if self.windows and len(self.windows) != self.n_layers:
            raise BadFact(
                f"windows are given for {len(self.windows)} layers of {self.n_layers}", "Give one for each, or none."
            )

    def _check_types(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type is bool and type(value) is not bool:
                raise BadFact(f"{name} is {value!r}", "Give True or False.")
            real = is_finite(value)
            if (field.type is float and not real) or (field.type == float | None and not (real or value is None)):
                raise BadFact(f"{name} is {value!r}", "Give a finite number.")
            if field.type == Rotary | None and not isinstance(value, Rotary | None):
                raise BadFact(f"{name} is {value!r}", "Give a Rotary, or None.")
        if not isinstance(self.family, str):
            raise BadFact(f"family is {self.family!r}", "Give a string.")
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                listed = ", ".join(map(repr, known))
                raise BadFact(f"{name} is {getattr(self, name)!r}, and not one of {listed}", "Give one of them.")
        windows: object = self.windows
        each = windows if isinstance(windows, (tuple, list)) else ["no list"]
        if any(window is not None and (type(window) is not int or window < 1) for window in each):
            raise BadFact(f"windows is {windows!r}", "Give for each layer a whole number from 1 on, or None.")

    def _fill(self, name: str, value: int | float) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    def window(self, layer: int) -> int | None:
        """How many keys back a query of that layer sees, itself included."""
        return self.windows[layer] if self.windows else None

    def rotary_of(self, layer: int) -> Rotary | None:
        """How that layer turns queries and keys."""
        return self.rotary_windowed if self.rotary_windowed and self.window(layer) else self.rotary

    @property
    def absent(self) -> frozenset[str]:
        """Kinds of sites that a model of this config has not."""
        return frozenset(kind for kinds, _, missing in WHERE_ABSENT if missing(self) for kind in kinds.split())


# Kinds of sites that some models lack, where they are lacking in words, and in the config.
WHERE_ABSENT: tuple[tuple[str, str, Callable[[Config], bool]], ...] = (
    ("pos_embed", "positions are not learned", lambda c: not c.learned_positions),
    ("ln1 ln1_scale ln2 ln2_scale ln_final ln_final_scale", "nothing is normed", lambda c: c.norm is None),
    ("ln1 ln1_scale ln2 ln2_scale", "norms stand only behind", lambda c: not c.pre_norm),
    ("ln2 ln2_scale", "attention and MLP share a norm", lambda c: c.shared_norm),
    ("q_norm q_norm_scale k_norm k_norm_scale", "queries and keys are not normed", lambda c: not c.qk_norm),
    ("q_rot k_rot", "queries and keys are not turned", lambda c: not c.rotary),
    ("attn_raw mlp_raw attn_norm_post mlp_norm_post", "no norm stands behind", lambda c: not c.post_norm),
    ("attn_norm_post_scale mlp_norm_post_scale", "no norm stands behind", lambda c: not c.post_norm),
    ("resid_mid", "attention and MLP are parallel", lambda c: c.parallel),
    ("mlp_up", "the MLP is not gated", lambda c: not c.gated),
    (
        "resid_mid ln2 ln2_scale mlp_pre mlp_up mlp_act mlp_raw mlp_out mlp_norm_post mlp_norm_post_scale",
        "there is no MLP",
        lambda c: not c.d_mlp,
    ),
)


# Keys of any config.json that say nothing of what the model computes: training, generation, heads for other tasks.
_HARMLESS = frozenset(
    """
    _attn_implementation_autoset _commit_hash _from_model_config _name_or_path _num_labels architectures
    attn_implementation auto_map bad_words_ids begin_suppress_tokens bos_token_id cache_implementation
    chunk_size_feed_forward
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing
    id2label initializer_range is_decoder label2id language length_penalty max_length min_length
    model_type name_or_path no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences
    output_attentions output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16
    use_cache
    """.split()
)


_ACTIVATION_NAMES: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class Keys:
    """A config file of which every key is either read, known to be harmless, or refused by name.

    Args:
      raw: The parsed config.json.
      source: Where it lies, for messages.
    """

    def __init__(self, raw: Mapping[str, Any], source: str) -> None:
        self._raw = raw
        self._source = source
        self._read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        if key not in self._raw:
            raise BadCheckpoint(
                f"The config of {self._source} has no {key!r}.", "Compare it with the model's original config.json."
            )
        return self.get(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The key's value; `default` where it is missing or null."""
        self._read.add(key)
        value = self._raw.get(key)
        return default if value is None else value

    def nullable(self, key: str, default: Any) -> Any:
        """The key's value, None where it is null; `default` only where it is missing."""
        return self.get(key, None if key in self._raw else default)

    def count_layers(self, key: str) -> int:
        """The number of layers under `key`, small enough that they can be listed."""
        n_layers = self[key]
        if type(n_layers) is not int or not 1 <= n_layers < MOST_LAYERS:
            raise ValueError(f"{key} is {n_layers!r}")
        return n_layers

    def only(self, key: str, value: Any) -> None:
        """Refuse any other value of `key` than the one we compute."""
        if self.get(key, value) != value:
            raise UnsupportedModel(
                f"The config of {self._source} sets {key}={self._raw[key]!r}, and only {value!r} is supported.",
                "Choose a model without it.",
            )

    def activation(self, key: str, default: str) -> Activation:
        """The activation that `key` names, by whichever of its names."""
        name = self.get(key, default)
        if name not in _ACTIVATION_NAMES:
            raise UnsupportedModel(
                f"The config of {self._source} has the activation {name!r}.",
                f"Supported: {', '.join(sorted(_ACTIVATION_NAMES))}.",
            )
        return _ACTIVATION_NAMES[name]

    def ignore(self, *keys: str) -> None:
        """Keys of this family that do not change what the model computes in inference."""
        self._read.update(keys)

    def finish(self) -> None:
        """Refuse the keys that nobody read.

        Raises:
          UnsupportedModel: Names them.
        """
        unknown = sorted(key for key in self._raw.keys() - self._read - _HARMLESS if self._raw[key] is not None)
        if unknown:
            raise UnsupportedModel(
                f"The config of {self._source} has keys that may change what the model computes, and that are not "
                f"known here: {', '.join(f'{key}={self._raw[key]!r}' for key in unknown)}.",
                "Remove from config.json those that do not; a model that needs the others is not supported.",
            )
