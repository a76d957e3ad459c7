"""Devices that are not there: tensors that say they are on "cuda:0" or "cuda:1", lie on the CPU, and do not mix."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map

CPU = torch.device("cpu")


class Pretended(TorchFunctionMode):
    """What a tensor's device is said to be is kept beside it, and every call on tensors of two devices fails.

    As with real ones, numbers without axes mix with everything, and an index may be on the CPU.
    """

    def __torch_function__(
        self, call: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(call, "__name__", "") == "__get__":
            if call == torch.Tensor.device.__get__:
                return device_of(args[0])
            found = call(*args)
            return _mark(found, device_of(args[0])) if isinstance(found, Tensor) else found
        kwargs = dict(kwargs or {})
        name = (resolve_name(call) or str(call)).rpartition(".")[2]
        if call is torch.autograd.grad:  # each of the second's tensors has its gradient beside it
            return tuple(_mark(x, device_of(of)) for x, of in zip(call(*args, **kwargs), args[1], strict=True))
        if name == "to":
            return _move(call, args, kwargs)
        if name == "cpu":
            return _mark(args[0].clone(), CPU)
        given = list(_tensors((args, kwargs)))
        here = {device_of(x) for x in given if x.ndim}
        if name in ("__getitem__", "__setitem__"):
            here = {device_of(args[0])} | (here - {CPU})
        if len(here) > 1:
            raise RuntimeError(f"{name} was called on tensors of {', '.join(map(str, here))}")
        asked = kwargs.pop("device", None)
        device = torch.device(asked) if asked is not None else next(iter(here), device_of(given[0]) if given else CPU)
        return tree_map(lambda x: _mark(x, device) if isinstance(x, Tensor) else x, call(*args, **kwargs))


def device_of(x: Tensor) -> torch.device:
    """Where a tensor is said to be."""
    found: torch.device = getattr(x, "pretended", CPU)
    return found


def place(module: torch.nn.Module, device: str) -> None:
    """Say that a module's parameters are there."""
    for parameter in module.parameters():
        _mark(parameter, torch.device(device))


def _mark(x: Tensor, device: torch.device) -> Tensor:
    x.pretended = device  # type: ignore[attr-defined]  # ours
    return x


def _tensors(values: Any) -> Iterable[Tensor]:
    return (x for x in tree_leaves(values) if isinstance(x, Tensor))


def _move(call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """`x.to(device)`, `x.to(dtype)`, `x.to(other)`, in any mix: the dtype is changed, the device said."""
    x, *rest = args
    rest += kwargs.values()
    device, others = device_of(x), []
    for value in rest:
        if isinstance(value, Tensor):
            device = device_of(value)
            others.append(value.dtype)
        elif isinstance(value, (torch.device, str)):
            device = torch.device(value)
        else:
            others.append(value)
    moved = call(x, *others) if others else x
    if moved is x and device != device_of(x):
        moved = x.clone()
    return moved if moved is x else _mark(moved, device)
