"""What a family says of its models, and the reading that families share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from residscope.errors import UnsupportedModel
from residscope.transformer.config import Config, Keys
from residscope.transformer.rotary import read_rotary
from residscope.transformer.transformer import Transformer


def _whole(tensor: Tensor) -> Tensor:
    return tensor


def _no_parts(config: Config) -> dict[str, "Source"]:
    return {}


@dataclass(frozen=True)
class Source:
    """Where one of our parameters lies: a tensor of the checkpoint, and the part of it, a view where one exists."""

    name: str
    view: Callable[[Tensor], Tensor] = _whole


@dataclass(frozen=True)
class Family:
    """How one family's files become a `Config` and the parameters of a `Transformer`.

    Attributes:
      model_type: As config.json names it.
      prefix: What stands before the tensors' names in files of the whole model, and is absent from the bare one.
      read_config: Reads every key of config.json that changes the computation.
      modules: Our modules, and what the files call them without the prefix; `{layer}` is each layer's number.
      example: The keys of config.json without which it is not read, as a published model has them.
      parts: Parameters that are a part of a tensor, and where they lie, names without the prefix.
      buffers: Patterns of tensors in historic files that are not parameters.
      other_prefixes: What other files have in the prefix's place.
      heads: Names that the unembedding has had, without any prefix.
    """

    model_type: str
    prefix: str
    read_config: Callable[[Keys, str], Config]
    modules: Mapping[str, str]
    example: Mapping[str, Any]
    parts: Callable[[Config], dict[str, Source]] = _no_parts
    buffers: tuple[str, ...] = ()
    other_prefixes: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("lm_head.weight",)

    def sources(self, config: Config) -> dict[str, Source]:
        """Our parameters' names, and where each lies; which of weight and bias there are follows from the config."""
        theirs = {
            ours.format(layer=layer): name.format(layer=layer)
            for layer in range(config.n_layers)
            for ours, name in self.modules.items()
        }
        with torch.device("meta"):
            parameters = [name.rpartition(".") for name, _ in Transformer(config).named_parameters()]
        whole = {f"{ours}.{kind}": Source(f"{theirs[ours]}.{kind}") for ours, _, kind in parameters if ours in theirs}
        return whole | self.parts(config)


def read_sizes(keys: Keys, **defaults: int) -> dict[str, Any]:
    """The sizes of a `Config`, under the names that most families give them; `defaults` where the family has one."""

    def size(key: str) -> Any:
        return keys.get(key, defaults[key]) if key in defaults else keys[key]

    sizes = {
        "n_layers": keys.count_layers("num_hidden_layers"),
        "d_model": size("hidden_size"),
        "n_heads": size("num_attention_heads"),
        "n_kv_heads": keys.get("num_key_value_heads", defaults.get("num_key_value_heads")),
        "d_head": keys.get("head_dim", defaults.get("head_dim")),
        "d_mlp": size("intermediate_size"),
        "d_vocab": size("vocab_size"),
    }
    return {name: value for name, value in sizes.items() if value is not None}


def read_rope(
    keys: Keys,
    source: str,
    sizes: Mapping[str, Any],
    *,
    theta_key: str = "rope_theta",
    share_key: str = "partial_rotary_factor",
    share: float | None = None,
    types: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`rotary` and `n_ctx` of a `Config`, from `rope_parameters` or the older keys.

    Args:
      keys: The config.
      source: Where it lies, for messages.
      sizes: What `read_sizes` found.
      theta_key: The older key of the base of the wavelengths.
      share_key: The older key of the share of a head's entries that are turned.
      share: That share where the config names none; None: the family turns all.
      types: What the family calls the types of scaling by other names.
    Raises:
      UnsupportedModel, BadCheckpoint: As `read_rotary`.
    """
    given = {**keys.get("rope_scaling", {}), **keys.get("rope_parameters", {})}
    for key in given.keys() & {"type", "rope_type"}:
        given[key] = (types or {}).get(given[key], given[key])
    original = keys.get("original_max_position_embeddings")  # Phi's place for it; goes before the dictionary's
    if original is not None:
        given["original_max_position_embeddings"] = original
    n_dims = sizes.get("d_head", sizes["d_model"] // sizes["n_heads"])
    if share is not None:
        n_dims = int(n_dims * given.pop("partial_rotary_factor", keys.get(share_key, share)))
    theta, n_ctx = float(keys.get(theta_key, 10_000.0)), keys["max_position_embeddings"]
    rotary, n_ctx = read_rotary(given, theta=theta, n_dims=n_dims, n_ctx=n_ctx, source=source)
    return {"rotary": rotary, "n_ctx": n_ctx}


def read_windows(keys: Keys, source: str, window: int | None, default: Sequence[str]) -> tuple[int | None, ...]:
    """A window for every layer that `layer_types` calls sliding.

    Args:
      keys: The config.
      source: Where it lies, for messages.
      window: How many keys back such a layer sees.
      default: The layers' types where the config does not list them.
    Raises:
      UnsupportedModel: A type is not known.
    """
    windows = {"full_attention": None, "sliding_attention": window}
    types = keys.get("layer_types", default)
    unknown = sorted(set(types) - set(windows))
    if unknown:
        raise UnsupportedModel(
            f"The config of {source} has layers of type {', '.join(unknown)}.", f"Supported: {', '.join(windows)}."
        )
    return tuple(windows[kind] for kind in types)
