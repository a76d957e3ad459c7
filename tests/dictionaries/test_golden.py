"""Dictionaries that the libraries themselves wrote: what they encode and decode is what the libraries compute."""

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
    assert dictionary.facts["n_active"] == (4 if case.startswith("topk") else 3.5)


@pytest.mark.parametrize("name", ["folder", "pickle.pt"])
def test_first_dictionaries_of_sae_lens(name: str) -> None:
    dictionary = rs.load_dictionary(GOLDEN / "sae_lens_0" / name, allow_pickle=True)
    check(dictionary, "old", load_file(GOLDEN / "sae_lens_0" / "outputs.safetensors"))
    assert dictionary.site == rs.Site("resid_pre", 1)
    assert dictionary.facts["prepend_bos"] is True
    if name == "folder":  # beside it lies how often each feature is active
        assert dictionary.facts["n_active"] == pytest.approx(float(torch.linspace(0.05, 0.3, 24).sum()))


SPARSIFY = {
    "topk": ("resid_post", "resid_post"),
    "groupmax": ("attn_out", "attn_out"),
    "skip": ("attn_out", "attn_out"),
    "transcoder": ("ln2", "mlp_out"),
    "transcoder-skip": ("ln2", "mlp_out"),
    "transcoder-groupmax": ("resid_pre", "resid_post"),
}


@pytest.mark.parametrize("case", list_cases("sparsify"))
def test_sparsify(case: str) -> None:
    (folder,) = (GOLDEN / "sparsify" / case).iterdir()
    dictionary = rs.load_dictionary(folder)
    check(dictionary, case, load_file(GOLDEN / "sparsify" / "outputs.safetensors"))
    assert (dictionary.site.kind, dictionary.writes.kind) == SPARSIFY[case]
    assert {dictionary.site.layer, dictionary.writes.layer} == {1}
    assert dictionary.facts["n_active"] == 4


@pytest.mark.parametrize("case", list_cases("dictionary_learning"))
def test_dictionary_learning(case: str) -> None:
    (folder,) = (GOLDEN / "dictionary_learning" / case).glob("*/trainer_0")
    site = "mlp_out.1" if case == "standard" else None
    dictionary = rs.load_dictionary(folder, site=site, allow_pickle=True)
    check(dictionary, case, load_file(GOLDEN / "dictionary_learning" / "outputs.safetensors"))
    kinds = {"standard": "mlp_out", "april": "mlp_out", "gated": "attn_out"}
    assert dictionary.site == rs.Site(kinds.get(case, "resid_post"), 1)
    assert dictionary.facts["context_size"] == 16
    assert dictionary.facts["n_active"] == (4 if "topk" in case or case == "matryoshka" else None)


@pytest.mark.parametrize("case", list_cases("gemma_scope"))
def test_gemma_scope(case: str) -> None:
    dictionary = rs.load_dictionary(GOLDEN / "gemma_scope" / case / "layer_1/width_16k/average_l0_7")
    check(dictionary, case, load_file(GOLDEN / "gemma_scope" / "outputs.safetensors"))
    kind = case.removeprefix("gemma-scope-2b-pt-")
    kinds = {"res": "resid_post", "mlp": "mlp_out", "att": "z", "transcoders": "resid_mid"}
    assert dictionary.site == rs.Site(kinds[kind], 1)
    assert dictionary.writes == (rs.Site("mlp_out", 1) if kind == "transcoders" else dictionary.site)
    assert dictionary.facts == {"model_name": "gemma-2-2b", "prepend_bos": True, "context_size": 1024, "n_active": 7}
