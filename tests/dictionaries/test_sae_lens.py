"""Dictionaries as SAELens writes them: each architecture by its formula, older configs, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import residscope as rs
from residscope.errors import BadArgument, BadDictionary

D_IN, N = 8, 24
X = torch.randn(5, 3, D_IN, generator=torch.Generator().manual_seed(9)) * 2 + 1


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WEIGHTS = {
    "W_enc": draw(D_IN, N, seed=1),
    "W_dec": draw(N, D_IN, seed=2),
    "b_enc": draw(N, seed=3),
    "b_dec": draw(D_IN, seed=4),
}
THRESHOLD = {"threshold": draw(N, seed=5).abs()}
GATE = {"b_gate": draw(N, seed=6), "b_mag": draw(N, seed=7), "r_mag": draw(N, seed=8)}
CONFIG = {
    "architecture": "standard",
    "d_in": D_IN,
    "d_sae": N,
    "dtype": "float32",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "metadata": {"hook_name": "blocks.1.hook_resid_pre", "model_name": "some", "prepend_bos": True},
}


def write(folder: Path, weights: dict[str, Tensor] = WEIGHTS, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    given = {key: value for key, value in (CONFIG | config).items() if value is not None}
    (folder / "cfg.json").write_text(json.dumps(given))
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


def features_before(x: Tensor) -> Tensor:
    return (x - WEIGHTS["b_dec"]) @ WEIGHTS["W_enc"]


def keep_largest(before: Tensor, k: int) -> Tensor:
    order = before.argsort(dim=-1, descending=True)
    kept = torch.zeros_like(before, dtype=torch.bool)
    for i in range(k):
        kept |= torch.arange(N) == order[..., i : i + 1]
    return torch.where(kept, before, 0).clamp(min=0)


def of_architecture(name: str, folder: Path) -> tuple[rs.SparseAutoencoder, Tensor]:
    before = features_before(X)
    if name == "standard":
        return rs.load_dictionary(write(folder)), (before + WEIGHTS["b_enc"]).relu()
    if name == "topk":
        return rs.load_dictionary(write(folder, architecture="topk", k=3)), keep_largest(before + WEIGHTS["b_enc"], 3)
    if name == "jumprelu":
        found = rs.load_dictionary(write(folder, WEIGHTS | THRESHOLD, architecture="jumprelu"))
        before = before + WEIGHTS["b_enc"]
        return found, torch.where(before > THRESHOLD["threshold"], before, 0)
    weights = {key: WEIGHTS[key] for key in ("W_enc", "W_dec", "b_dec")} | GATE
    found = rs.load_dictionary(write(folder, weights, architecture="gated"))
    magnitude = (before * GATE["r_mag"].exp() + GATE["b_mag"]).relu()
    return found, torch.where(before + GATE["b_gate"] > 0, magnitude, 0)


@pytest.mark.parametrize("name", ["standard", "topk", "jumprelu", "gated"])
def test_architectures(name: str, tmp_path: Path) -> None:
    dictionary, features = of_architecture(name, tmp_path / name)
    assert dictionary.site == rs.Site("resid_pre", 1)
    assert dictionary.n_features == len(dictionary) == N
    torch.testing.assert_close(dictionary.encode(X), features)
    assert 0 < int((features > 0).sum()) < features.numel()
    torch.testing.assert_close(dictionary.decode(features), features @ WEIGHTS["W_dec"] + WEIGHTS["b_dec"])
    torch.testing.assert_close(dictionary.reconstruct(X), dictionary.decode(dictionary.encode(X)))
    assert dictionary.facts["prepend_bos"] is True


def test_features_that_compete_by_what_they_write(tmp_path: Path) -> None:
    dictionary = rs.load_dictionary(write(tmp_path, architecture="topk", k=3, rescale_acts_by_decoder_norm=True))
    norms = WEIGHTS["W_dec"].norm(dim=-1)
    features = keep_largest((features_before(X) + WEIGHTS["b_enc"]) * norms, 3)
    torch.testing.assert_close(dictionary.encode(X), features)
    written = features / norms @ WEIGHTS["W_dec"] + WEIGHTS["b_dec"]
    torch.testing.assert_close(dictionary.decode(features), written)
    torch.testing.assert_close(dictionary[4].vector, WEIGHTS["W_dec"][4] / norms[4])


def test_inputs_that_are_scaled_are_scaled_back(tmp_path: Path) -> None:
    plain = rs.load_dictionary(write(tmp_path / "plain"))
    by_norm = rs.load_dictionary(write(tmp_path / "norm", normalize_activations="constant_norm_rescale"))
    factor = D_IN**0.5 / X.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(by_norm.encode(X), plain.encode(X * factor))
    torch.testing.assert_close(by_norm.reconstruct(X), plain.reconstruct(X * factor) / factor)
    layer = rs.load_dictionary(write(tmp_path / "layer", normalize_activations="layer_norm"))
    mean, deviation = X.mean(-1, keepdim=True), X.std(-1, keepdim=True)
    normed = (X - mean) / (deviation + 1e-5)
    torch.testing.assert_close(layer.encode(X), plain.encode(normed))
    torch.testing.assert_close(layer.reconstruct(X), plain.reconstruct(normed) * deviation + mean)
    with pytest.raises(BadArgument, match="its mean or scale, and was given none"):
        layer.decode(layer.encode(X))
    with pytest.raises(BadArgument, match="another vector at every token"):
        _ = layer[0].vector


def test_a_centred_stream(tmp_path: Path) -> None:
    metadata = CONFIG["metadata"] | {"model_from_pretrained_kwargs": {"center_writing_weights": True}}  # type: ignore[operator]
    centred = rs.load_dictionary(write(tmp_path / "centred", metadata=metadata))
    plain = rs.load_dictionary(write(tmp_path / "plain"))
    mean = X.mean(-1, keepdim=True)
    torch.testing.assert_close(centred.encode(X), plain.encode(X - mean))
    torch.testing.assert_close(centred.reconstruct(X), plain.reconstruct(X - mean) + mean)


def test_heads_are_read_side_by_side(tmp_path: Path) -> None:
    metadata = {"hook_name": "blocks.0.attn.hook_z"}
    dictionary = rs.load_dictionary(write(tmp_path, metadata=metadata, reshape_activations="hook_z"))
    assert dictionary.site == rs.Site("z", 0)
    heads = X.view(5, 3, 2, 4)
    torch.testing.assert_close(dictionary.encode(heads), dictionary.encode(X))
    torch.testing.assert_close(dictionary.reconstruct(heads), dictionary.reconstruct(X).view(5, 3, 2, 4))


def test_older_configs_say_the_same(tmp_path: Path) -> None:
    old = {
        "architecture": None,
        "metadata": None,
        "hook_point": "blocks.1.hook_resid_pre",
        "hook_point_layer": 1,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 3},
        "normalize_activations": None,
        "apply_b_dec_to_input": None,
    }
    new = rs.load_dictionary(write(tmp_path / "new", architecture="topk", k=3))
    weights = WEIGHTS | {"scaling_factor": torch.ones(N)}
    assert torch.equal(rs.load_dictionary(write(tmp_path / "old", weights, **old)).encode(X), new.encode(X))
    folded = write(tmp_path / "folded", normalize_activations=True)
    assert rs.load_dictionary(folded).scaling == "none"


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in WEIGHTS.items()}
    found = rs.load_dictionary(write(tmp_path, half))
    assert torch.equal(found.decoder, half["W_dec"].float())


def test_features_are_directions_and_are_clamped(gpt2: rs.Model, tmp_path: Path) -> None:
    weights = {
        "W_enc": draw(32, N, seed=1),
        "W_dec": draw(N, 32, seed=2),
        "b_enc": draw(N, seed=3),
        "b_dec": draw(32, seed=4),
    }
    dictionary = rs.load_dictionary(write(tmp_path, weights, d_in=32))
    for side, vector in (("decoder", weights["W_dec"][7]), ("encoder", weights["W_enc"][:, 7])):
        direction = dictionary.direction(7, side=side)  # type: ignore[arg-type]
        torch.testing.assert_close(direction.vector.float() * vector.norm(), vector)
        assert direction.site == dictionary.site
    run = gpt2.run("abcdef")
    x = run["resid_pre.1"].float()
    edited = gpt2.run("abcdef", edits=rs.clamp(dictionary[7], 0.0))["resid_pre.1"].float()
    torch.testing.assert_close(edited, x - dictionary.encode(x)[..., 7:8] * weights["W_dec"][7], rtol=1e-4, atol=1e-4)
    with pytest.raises(BadArgument, match="feature=24 was asked for"):
        dictionary[24]
    with pytest.raises(BadArgument, match="reads 32 entries"):
        dictionary.encode(X)


@pytest.mark.parametrize(
    ("weights", "config", "says"),
    [
        ({}, {"architecture": "crosscoder"}, "architecture='crosscoder'. Supported: standard, topk"),
        ({}, {"architecture": ["topk"]}, "architecture="),
        ({}, {"activation_fn": "tanh-relu"}, "activation_fn='tanh-relu'"),
        ({}, {"normalize_activations": "by hand"}, "normalize_activations='by hand'"),
        ({}, {"architecture": "topk"}, "k=None"),
        ({}, {"architecture": "topk", "k": 0}, "k=0"),
        ({}, {"architecture": "topk", "k": 25}, "k=25, and 24 features"),
        ({}, {"architecture": "topk", "k": True}, "k=True"),
        ({}, {"activation_fn": "topk", "activation_fn_kwargs": [32]}, "k=None"),
        ({}, {"model_from_pretrained_kwargs": "x"}, "model_from_pretrained_kwargs='x'"),
        ({}, {"metadata": {}}, "does not say which site it reads"),
        ({}, {"metadata": {"hook_name": "blocks.1.ln2.hook_normalized"}}, "which is no site here"),
        ({}, {"metadata": {"sae_lens_version": "6.0.0"}, "tied": True}, "has tied, which may change what is computed"),
        ({}, {"metadata": [1]}, r"metadata=\[1\]"),
        ({}, {"hook_head_index": 3}, "hook_head_index=3"),
        ({}, {"rescale_acts_by_decoder_norm": "false"}, "rescale_acts_by_decoder_norm='false'. Say true or false"),
        ({}, {"apply_b_dec_to_input": 0}, "apply_b_dec_to_input=0"),
        ({}, {"model_from_pretrained_kwargs": {"center_writing_weights": "no"}}, "center_writing_weights='no'"),
        ({}, {"reshape_activations": "hook_z"}, "reshape_activations='hook_z', and reads"),
        ({}, {"reshape_activations": "hook_q"}, "reshape_activations='hook_q'. Supported: none, hook_z"),
        ({}, {"architecture": "jumprelu"}, "has no threshold"),
        ({"extra": torch.zeros(1)}, {}, "an unknown extra"),
        ({"scaling_factor": torch.full((N,), 2.0)}, {}, "factors from finetuning"),
        ({"b_enc": torch.zeros(3)}, {}, r"b_enc in .* is \[3\], where \[24\] would fit"),
        ({}, {"d_sae": 9}, r"W_enc in .* is \[8, 24\], where \[8, 9\] would fit"),
        ({"b_dec": torch.full((D_IN,), torch.nan)}, {}, "b_dec in .* NaN"),
        ({"b_dec": torch.zeros(D_IN, dtype=torch.long)}, {}, "whole numbers"),
    ],
)
def test_what_is_refused(weights: dict[str, Tensor], config: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(BadDictionary, match=says):
        rs.load_dictionary(write(tmp_path, WEIGHTS | weights, **config))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadDictionary, match="no folder"):
        rs.load_dictionary(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        BadDictionary, match=r"holds notes\.txt. A dictionary of SAELens, sparsify, dictionary_learning, Gemma Scope"
    ):
        rs.load_dictionary(tmp_path)
    write(tmp_path)
    (tmp_path / "cfg.json").write_text("[1")
    with pytest.raises(BadDictionary, match=r"cfg\.json cannot be read"):
        rs.load_dictionary(tmp_path)
    write(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"none")
    with pytest.raises(BadDictionary, match=r"sae_weights\.safetensors cannot be read"):
        rs.load_dictionary(tmp_path)


@pytest.mark.untyped
@pytest.mark.parametrize("feature", [-1, N, 1.5, "3", None, [1]])
def test_what_is_no_feature_is_refused(feature: Any, tmp_path: Path) -> None:
    dictionary = rs.load_dictionary(write(tmp_path))
    for ask in (dictionary.__getitem__, dictionary.direction):
        with pytest.raises(BadArgument, match=rf"feature=.* was asked for\. .* has {N} features, which count from 0"):
            ask(feature)
    numbered: Any = np.int64(3)
    assert dictionary[numbered].number == 3
    with pytest.raises(BadArgument, match="side='Decoder' was asked for"):
        dictionary.direction(3, side="Decoder")  # type: ignore[arg-type]
