"""Dictionaries that the libraries themselves wrote: features and what they write are what the libraries make of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import residscope as rs

GOLDEN = Path(__file__).parents[1] / "golden"


def list_cases(library: str) -> list[str]:
    return [folder.name for folder in sorted((GOLDEN / library).iterdir()) if folder.is_dir()]


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def check(dictionary: rs.SparseAutoencoder, case: str, outputs: dict[str, Tensor]) -> None:
    """Encode, decode, and both in one."""
    x, features, written = outputs["x"], outputs[f"{case}/features"], outputs[f"{case}/written"]
    assert 0 < int((features > 0).sum()) < features.numel()
    assert_equal(dictionary.encode(x), features)
    assert_equal(dictionary.decode(features, of=x), written)
    assert_equal(dictionary.reconstruct(x), written)


@pytest.mark.parametrize("case", list_cases("sae_lens"))
def test_sae_lens(case: str) -> None:
    dictionary = rs.load_dictionary(GOLDEN / "sae_lens" / case)
    outputs = load_file(GOLDEN / "sae_lens" / "outputs.safetensors")
    check(dictionary, case.removesuffix("-training"), outputs)
    assert dictionary.site == (rs.Site("z", 1) if "heads" in case else rs.Site("resid_pre", 1))
    assert dictionary.writes == (rs.Site("mlp_out", 1) if "transcoder" in case else dictionary.site)
    old = float(torch.linspace(0.05, 0.3, 20).sum())  # the sum of how often each is active
    assert dictionary.facts["n_active"] == pytest.approx(
        4 if case.startswith("topk") else old if case == "old" else 3.5
    )
