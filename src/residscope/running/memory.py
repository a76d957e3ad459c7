"""How much memory work takes: measured on tensors that have shapes and no numbers, before it is done."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from residscope.transformer.config import Config


def bytes_of_token(config: Config, n_positions: int, dtype: torch.dtype) -> int:
    """About what one token of a layer holds at a time while it is computed, beside `n_positions` keys."""
    streams = 8 * config.d_model + (config.n_heads + 2 * config.n_kv_heads) * config.d_head * 3
    hidden = (3 + config.gated) * config.d_mlp
    scores = 4 * config.n_heads * n_positions
    return (streams + hidden + scores) * dtype.itemsize


def where_indices_are(device: torch.device) -> torch.device:
    """Of values on a device: indices have to have numbers, even where values have shapes alone."""
    return torch.device("cpu") if device.type == "meta" else device


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Bytes of the tensors that are made within it, while they live.

    Args:
      shapes: Whether those count that have shapes and no numbers.
    Attributes:
      n_bytes: Of those that live now.
      peak_bytes: The most at a time.
    """

    def __init__(self, *, shapes: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.n_bytes: int = 0
        self.peak_bytes: int = 0
        self._shapes = shapes
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, call: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = {id(x.untyped_storage()) for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)}
        out = call(*args, **(kwargs or {}))
        for x in tree_iter(out):
            if not isinstance(x, Tensor) or (x.is_meta and not self._shapes):
                continue
            if id(storage := x.untyped_storage()) not in given and storage not in self._seen:
                self._seen.add(storage)
                weakref.finalize(storage, self._free, storage.nbytes())
                self.n_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.n_bytes)
        return out

    def _free(self, n_bytes: int) -> None:
        self.n_bytes -= n_bytes
