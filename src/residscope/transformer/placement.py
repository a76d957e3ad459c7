"""Which part of a model lies on which device, decided by its config alone."""

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
import torch

from residscope.errors import BadArgument, TooLarge
from residscope.transformer.config import Config, is_finite
from residscope.transformer.transformer import Transformer

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
WEIGHTS_SHARE = 0.75  # of what is free; the rest is for activations
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # in malloc.h


@dataclass(frozen=True)
class Plan:
    """Which part of a model lies on which device; printing it shows a table.

    The stream goes from device to device with the blocks, and comes back to the first, where the logits are made.

    Attributes:
      name: Of the model, for people.
      config: The model's.
      dtype: Of its weights.
      first: Device of the embedding, the final norm and the unembedding.
      blocks: Device of each block.
      free: Bytes that are free on each device, before anything is loaded; empty where nobody asked.
    Raises:
      BadArgument: There are not as many blocks as layers.
    """

    name: str
    config: Config
    dtype: str
    first: str
    blocks: tuple[str, ...]
    free: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.blocks) != self.config.n_layers:
            raise BadArgument(
                f"The plan places {len(self.blocks)} blocks, and the model has {self.config.n_layers}.",
                "Name a device for each.",
            )

    @property
    def devices(self) -> tuple[str, ...]:
        """Those that are used, the first first."""
        return tuple(dict.fromkeys((self.first, *self.blocks)))

    @property
    def n_bytes(self) -> int:
        """Of all weights, tied ones once."""
        ends, block = count_bytes(self.config, self.dtype)
        return ends + block * self.config.n_layers

    def bytes_on(self, device: str) -> int:
        """Of the weights on one device."""
        ends, block = count_bytes(self.config, self.dtype)
        return ends * (device == self.first) + block * self.blocks.count(device)

    def device_of(self, parameter: str) -> torch.device:
        """Where a parameter of the `Transformer` goes, by its name."""
        part, _, rest = parameter.partition(".")
        return torch.device(self.blocks[int(rest.partition(".")[0])] if part == "blocks" else self.first)

    def __str__(self) -> str:
        ends, block = count_bytes(self.config, self.dtype)
        tied = "embedding = unembedding" if self.config.tied else "embedding, unembedding"
        rows = [(tied, self.first, ends)]
        for device, layers in groupby(range(len(self.blocks)), key=self.blocks.__getitem__):
            several = list(layers)
            which = f"blocks {several[0]} to {several[-1]}" if len(several) > 1 else f"block {several[0]}"
            rows.append((which, device, block * len(several)))
        lines = [f"{self.name}: {as_size(self.n_bytes)} of weights in {self.dtype}, {as_size(block)} a block"]
        lines += [f"  {part:<24}{device:<10}{as_size(n_bytes):>10}" for part, device, n_bytes in rows]
        for device in self.devices if self.free else ():
            free, used = self.free[device], self.bytes_on(device)
            lines.append(f"  {device}: {as_size(free)} free, {as_size(free - used)} once loaded")
        return "\n".join(lines)

    __repr__ = __str__


def spread(name: str, config: Config, dtype: str, free: Mapping[str, int]) -> Plan:
    """Fill device after device with blocks, so that as few are used as the weights need.

    Args:
      name: Of the model.
      config: The model's.
      dtype: Of the weights.
      free: Bytes that are free on each device, in the order in which they are filled. Weights take three quarters.
    Raises:
      TooLarge: They do not hold the model.
    """
    ends, block = count_bytes(config, dtype)
    room = {device: int(WEIGHTS_SHARE * n_bytes) for device, n_bytes in free.items()}
    first = next((device for device in room if room[device] >= ends), None)
    blocks: list[str] = []
    for device in room:
        left = room[device] - ends * (device == first)
        blocks += [device] * (max(0, left) // block)
    if first is None or len(blocks) < config.n_layers:
        needed, there = as_size(ends + block * config.n_layers), as_size(sum(room.values()))
        raise TooLarge(
            f"{name} has {needed} of weights in {dtype}, and {', '.join(free)} may hold {there} of them, a quarter of "
            "what is free left out for activations.",
            "Name more devices, or a dtype of fewer bytes.",
        )
    return Plan(name, config, dtype, first, tuple(blocks[: config.n_layers]), dict(free))


def read_free(devices: Mapping[str, Any]) -> dict[str, int]:
    """The bytes that somebody says are free on each device.

    Raises:
      BadArgument: One is no number of bytes.
    """
    free = {}
    for device, n_bytes in devices.items():
        if not is_finite(n_bytes) or n_bytes < 0:
            raise BadArgument(f"{n_bytes!r} was given as free on {device}.", "Give bytes, as 8e9 for 8 GB.")
        free[device] = int(n_bytes)
    return free


def make_shapes(config: Config, dtype: torch.dtype) -> Transformer:
    """The model on torch's meta device: every tensor has its shape and no numbers."""
    with torch.device("meta"):
        return Transformer(config).to(dtype).eval().requires_grad_(False)


def count_bytes(config: Config, dtype: str) -> tuple[int, int]:
    """Of the weights before and after the blocks, tied ones once, and of one block."""
    small = make_shapes(replace(config, n_layers=1, windows=config.windows[:1]), DTYPES[dtype])
    block = sum(parameter.nbytes for parameter in small.blocks.parameters())
    return sum(parameter.nbytes for parameter in small.parameters()) - block, block


def free_bytes(device: torch.device) -> int:
    """What is free now on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([int(psutil.virtual_memory().available), *_free_in_groups()])


def keep_freed_memory() -> None:
    """Have this process keep up to 2 GB that arrays leave, for the next ones, as torch does on GPUs.

    Pages fresh from the system are filled with zeros first, which can take longer than the work they are for. Only of
    glibc, and unless its own variables (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_) say otherwise.
    """
    if sys.platform != "linux" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for option, n_bytes in ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_THRESHOLD, 2**25)):  # the most that glibc takes
            mallopt(option, n_bytes)


def _free_in_groups(root: Path = Path("/sys/fs/cgroup"), of_process: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the limits of the groups that this process is in leave it, as of a container; files can be dropped."""
    found = []
    try:
        own = of_process.read_text().rpartition("0::")[2].strip().lstrip("/")
        for group in (root / own, *(root / own).parents):
            limit = group / "memory.max"
            if group.is_relative_to(root) and limit.is_file() and limit.read_text().strip() != "max":
                files = re.search(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
                used = int((group / "memory.current").read_text()) - int(files[1] if files else 0)
                found.append(max(0, int(limit.read_text()) - used))
    except (OSError, ValueError):  # another system, or another kind of groups
        return found
    return found


def find_devices() -> dict[str, int]:
    """Free bytes of this machine's GPUs, the emptiest first, and of the CPU."""
    gpus = {f"cuda:{i}": free_bytes(torch.device("cuda", i)) for i in range(torch.cuda.device_count())}
    return dict(sorted(gpus.items(), key=lambda item: -item[1])) | {"cpu": free_bytes(torch.device("cpu"))}


def as_size(n_bytes: int) -> str:
    """For people: 18.5 GB, 3.2 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.3g} {unit}"
    return f"{n_bytes:.0f} bytes"
