"""What a family says of its models."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from residscope.transformer.config import Config, Keys


def _whole(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Source:
    """Where one of our parameters lies: a tensor of the checkpoint, and the part of it, as a view without a copy."""

    name: str
    view: Callable[[Tensor], Tensor] = _whole


@dataclass(frozen=True)
class Family:
    """How one family's files become a `Config` and the parameters of a `Transformer`.

    Attributes:
      model_type: As config.json names it.
      prefix: What stands before the tensors' names in files of the whole model, and is absent from the bare one.
      read_config: Reads every key of config.json that changes the computation.
      sources: Our parameters' names, and where each lies, names without the prefix.
      buffers: Patterns of tensors in historic files that are not parameters.
    """

    model_type: str
    prefix: str
    read_config: Callable[[Keys, str], Config]
    sources: Callable[[Config], dict[str, Source]]
    buffers: tuple[str, ...] = ()
