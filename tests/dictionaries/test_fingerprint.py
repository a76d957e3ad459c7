"""Which dictionary it is: told by what it computes, kept by directions, and another of the same name refused."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.errors import BadDirection
from residscope.sites import Site

NAMED = {"name": "other", "facts": {"context_size": 7}}
CHANGED: dict[str, Any] = {
    "site": Site("resid_pre", 3),
    "target": Site("mlp_out", 2),
    "activation": "relu",
    "k": 3,
    "by_decoder_norm": False,
    "less_decoder_bias": False,
    "centred": True,
    "scaling": "constant",
    "factor": 2.0,
}


@pytest.fixture(scope="module")
def dictionary() -> rs.SparseAutoencoder:
    """One that has every array that any has."""
    found = rs.demo.dictionaries["resid_pre.2"]
    row = torch.ones(found.n_features)
    return replace(found, threshold=row, gate_bias=row, magnitude=row, skip=torch.eye(found.d_in))


@pytest.mark.parametrize("name", [one.name for one in fields(rs.SparseAutoencoder) if one.init])
def test_all_that_is_computed_changes_it_and_nothing_else(dictionary: rs.SparseAutoencoder, name: str) -> None:
    value = getattr(dictionary, name)
    other: Any
    if isinstance(value, Tensor):
        other = value.clone()
        other.flatten()[-1] += 1e-3
    else:
        other = {**CHANGED, **NAMED}[name]
    assert (replace(dictionary, **{name: other}).fingerprint == dictionary.fingerprint) == (name in NAMED)


def test_it_is_the_same_wherever_it_lies(dictionary: rs.SparseAutoencoder) -> None:
    again = rs.load_dictionary("demo/resid_pre.2-topk")
    assert again.fingerprint == rs.demo.dictionaries["resid_pre.2"].fingerprint
    across = replace(dictionary, encoder=dictionary.encoder.T.contiguous().T)
    assert across.to(torch.device("cpu")).fingerprint == dictionary.fingerprint
    assert len(dictionary.fingerprint) == 64


def test_a_feature_of_another_dictionary_of_that_name_is_refused(tmp_path: Path) -> None:
    ours = rs.demo.dictionaries["resid_pre.2"]
    theirs = replace(ours, encoder_bias=ours.encoder_bias + 1)
    feature = theirs.direction(17)
    assert (feature.history["fingerprint"], feature.history["dictionary"]) == (theirs.fingerprint, ours.name)
    path = tmp_path / "feature.safetensors"
    mix = (rs.Direction.of(torch.ones(ours.d_in), ours.site) - 0.5 * feature).named("a mix")
    for one in (feature, mix.at("resid_pre.1")):
        one.save(path)
        with pytest.raises(BadDirection, match=rf"{theirs.fingerprint[:8]}.* here has {ours.fingerprint[:8]}"):
            rs.load_direction(path, dictionaries=[ours])
        assert rs.load_direction(path, dictionaries=[theirs, replace(ours, name="other")]).name == one.name
        assert rs.load_direction(path).name == one.name
    history = {key: value for key, value in feature.history.items() if key != "fingerprint"}
    replace(feature, history=history).save(path)  # as a version before this one did
    assert rs.load_direction(path, dictionaries=[ours]).history == history
