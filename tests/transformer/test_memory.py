"""Peak memory while loading."""

from pathlib import Path

import pytest
import torch
from benchmarks.loading import measure, write_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_peak_is_at_most_1_15_times_the_weights(tmp_path: Path, stored: torch.dtype, dtype: str) -> None:
    size = write_checkpoint(tmp_path / "model", 300, stored) / (1 if dtype == "float32" else 2)
    assert measure("residscope", tmp_path / "model", dtype)["bytes"] <= 1.15 * size
