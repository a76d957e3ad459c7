"""What the scripts for dictionaries share: sizes, inputs, and parameters of which none is zero."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

D_IN, N_FEATURES, N_ACTIVE = 12, 20, 4
X = torch.randn(6, D_IN, generator=torch.Generator().manual_seed(0)) * 1.5 + 0.5


def draw(module: nn.Module, seed: int) -> None:
    """Draw every parameter; thresholds are above zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = 0.5 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn.abs() + 0.2 if "threshold" in name else drawn)


def save(outputs: dict[str, Tensor], folder: Path) -> None:
    """Write inputs and outputs beside the dictionaries."""
    save_file({name: x.detach().contiguous() for name, x in outputs.items()}, folder / "outputs.safetensors")
