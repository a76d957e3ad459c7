"""Finding a dictionary: what is refused and why, pickles, the hub, what a call says; weights stay on disk."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import residscope as rs
from residscope.errors import BadArgument, BadDictionary
from tests.dictionaries.test_golden import GOLDEN
from tests.models import family_model

SPARSIFY = GOLDEN / "sparsify/topk/layers.1"
LEARNED = GOLDEN / "dictionary_learning/topk/any/trainer_0"
SCOPE = GOLDEN / "gemma_scope/gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_7"
PICKLE = GOLDEN / "sae_lens_0/pickle.pt"


def copy(folder: Path, into: Path) -> Path:
    """Where it may be changed; under the same name, which says the site."""
    return Path(shutil.copytree(folder, into / folder.name))


def change_json(path: Path, *keys: str, to: Any) -> None:
    facts = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(json.dumps(facts))


def change_tensor(path: Path, name: str, change: Callable[[Tensor], Tensor | None]) -> None:
    """Another tensor in its place, or none."""
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {key: torch.from_numpy(x) for key, x in np.load(path).items()}
    else:
        arrays = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    changed = change(arrays.pop(name))
    arrays |= {} if changed is None else {name: changed.contiguous()}
    if path.suffix == ".npz":
        plain: dict[str, Any] = {key: x.numpy() for key, x in arrays.items()}
        np.savez(path, **plain)
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.save(arrays, path)


@pytest.mark.parametrize(
    ("folder", "file", "name"),
    [
        (SPARSIFY, "sae.safetensors", "encoder.bias"),
        (LEARNED, "ae.pt", "encoder.bias"),
        (GOLDEN / "dictionary_learning/gated/attn_out_layer1/trainer_0", "ae.pt", "r_mag"),
        (SCOPE, "params.npz", "threshold"),
        (GOLDEN / "sae_lens/transcoder-skip", "sae_weights.safetensors", "W_skip"),
    ],
)
def test_tensors_that_do_not_fit(folder: Path, file: str, name: str, tmp_path: Path) -> None:
    changes: dict[str, Callable[[Tensor], Tensor | None]] = {
        "none": lambda x: None,
        "shape": lambda x: x[:-1],
        "nan": lambda x: torch.where(torch.arange(len(x)).view(-1, *[1] * (x.ndim - 1)) == 0, torch.nan, x),
        "whole": lambda x: x.long(),
    }
    says = {
        "none": f"has no {name}\\. It has to have",
        "shape": rf"{name} in .* is \[.*\], where \[.*\] would fit",
        "nan": f"{name} in .* holds NaN",
        "whole": f"{name} in .* holds NaN, infinity or whole numbers",
    }
    for what, change in changes.items():
        copied = copy(folder, tmp_path / what)
        rs.load_dictionary(copied, site="resid_pre.1", allow_pickle=True)
        change_tensor(copied / file, name, change)
        with pytest.raises(BadDictionary, match=says[what]):
            rs.load_dictionary(copied, site="resid_pre.1", allow_pickle=True)


@pytest.mark.parametrize(
    ("folder", "keys", "to", "says"),
    [
        (SPARSIFY, ["gain"], 2, "has gain, which may change what is computed"),
        (SPARSIFY, ["transcode"], "false", "transcode='false'. Say true or false"),
        (SPARSIFY, ["signed"], True, "Features below zero are not supported"),
        (SPARSIFY, ["activation"], "relu", "activation='relu'. Supported: topk, groupmax"),
        (SPARSIFY, ["k"], 21, "k=21, and 20 features"),
        (SPARSIFY, ["d_in"], 13, r"encoder.weight in .* is \[20, 12\], where \[20, 13\] would fit"),
        (SPARSIFY, ["num_latents"], 21, r"encoder.weight in .* is \[20, 12\], where \[21, 12\] would fit"),
        (SPARSIFY, ["skip_connection"], True, "has no W_skip"),
        (GOLDEN / "sparsify/groupmax/layers.1.self_attn", ["k"], 3, "k=3, and 20 features"),
        (LEARNED, ["trainer", "dict_class"], "CrossCoder", "dict_class='CrossCoder'. Supported: AutoEncoder, "),
        (LEARNED, ["trainer", "dict_class"], "AutoEncoder", "has no bias, an unknown b_dec"),
        (LEARNED, ["trainer", "k"], 5, "has k=4, and its config k=5"),
        (LEARNED, ["trainer"], [1], r"has trainer=\[1\]"),
        (LEARNED, ["buffer", "io"], "in_and_out", "does not say what it reads and what it writes"),
    ],
)
def test_configs_that_do_not_fit(folder: Path, keys: list[str], to: Any, says: str, tmp_path: Path) -> None:
    copied = copy(folder, tmp_path)
    change_json(next(copied.glob("c*.json")), *keys, to=to)
    with pytest.raises(BadDictionary, match=says):
        rs.load_dictionary(copied, allow_pickle=True)


def test_the_site_is_said_where_the_files_do_not(tmp_path: Path) -> None:
    for folder in (SPARSIFY, SCOPE):
        nameless = Path(shutil.copytree(folder, tmp_path / folder.name[:3] / "nameless"))
        with pytest.raises(BadDictionary, match=r'does not say which site it reads\. Say it: .*site="'):
            rs.load_dictionary(nameless)
        found = rs.load_dictionary(nameless, site="blocks.4.hook_mlp_out")
        assert found.site == rs.load_dictionary(nameless, site=rs.Site("mlp_out", 4)).site == rs.Site("mlp_out", 4)
        assert found.call == f"rs.load_dictionary({str(nameless)!r}, site='mlp_out.4')"
        assert eval(found.call, {"rs": rs}).fingerprint == found.fingerprint
    measured = copy(LEARNED, tmp_path)
    (measured / "eval_results.json").write_text(json.dumps({"l0": 3.7, "frac_variance_explained": 0.8}))
    facts = rs.load_dictionary(measured, allow_pickle=True).facts
    assert (facts["n_active"], facts["variance_explained"]) == (3.7, 0.8)


@pytest.mark.parametrize(
    ("path", "site", "says"),
    [
        (5, None, r"5 was given as a dictionary's path\."),
        (None, None, r"None was given as a dictionary's path\."),
        (SPARSIFY, 5, r"site=5 was asked for\."),
    ],
)
def test_what_is_no_path_or_site_is_refused(path: Any, site: Any, says: str) -> None:
    with pytest.raises(BadArgument, match=says):
        rs.load_dictionary(path, site=site)


def test_a_stream_is_said_to_be_centred() -> None:
    found = rs.load_dictionary(GOLDEN / "sae_lens_0/folder", centred=True)
    x = torch.randn(3, 12) + 2
    plain = rs.load_dictionary(GOLDEN / "sae_lens_0/folder/cfg.json")  # a file of the folder is as good
    torch.testing.assert_close(found.encode(x), plain.encode(x - x.mean(-1, keepdim=True)))
    again = eval(found.to(torch.device("meta")).call, {"rs": rs})
    assert again.centred
    assert again.fingerprint == found.fingerprint != plain.fingerprint
    assert found.call in found.direction(3).as_python()
    assert plain.source == str(GOLDEN / "sae_lens_0/folder/cfg.json")


def test_transcoders_of_gemma_scope_read_what_the_norm_makes_before_its_weight(tmp_path: Path) -> None:
    model = family_model("gemma2")
    d, n = model.config.d_model, 20
    rng = np.random.default_rng(0)
    shapes = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,), "threshold": (n,)}
    weights: dict[str, Any] = {name: rng.random(shape, np.float32) - 0.5 for name, shape in shapes.items()}
    folder = tmp_path / "gemma-scope-2b-pt-transcoders/layer_1/width_16k/average_l0_7"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **weights)
    found = rs.load_dictionary(folder)
    assert (found.site, found.writes) == (rs.Site("resid_mid", 1), rs.Site("mlp_out", 1))
    run = model.run(torch.tensor([[1, 2, 3]]))
    normed = run["ln2.1"] / (1 + model.weights["ln2_w.1"])
    expected = replace(found, scaling="none").encode(normed)
    assert 0 < int((expected > 0).sum()) < expected.numel()
    torch.testing.assert_close(found.encode(run["resid_mid.1"]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        found.reconstruct(run["resid_mid.1"]).float(), expected @ found.decoder + found.decoder_bias
    )
    moved = rs.load_dictionary(folder, site="resid_mid.0")
    assert moved.writes == rs.Site("mlp_out", 0)


def test_what_of_gemma_scope_has_no_site(tmp_path: Path) -> None:
    folder = tmp_path / "gemma-scope-2b-pt-res/embedding"
    shutil.copytree(SCOPE, folder)
    with pytest.raises(BadDictionary, match="which is no site"):
        rs.load_dictionary(folder, site="resid_pre.1")


@pytest.mark.parametrize("path", [LEARNED, PICKLE])
def test_a_pickle_is_opened_only_when_asked(path: Path) -> None:
    with pytest.raises(BadDictionary, match=r"are pickled\. .*allow_pickle=True"):
        rs.load_dictionary(path)
    dictionary = rs.load_dictionary(path, allow_pickle=True)
    assert dictionary.n_features in (20, 24)
    direction, told = dictionary.direction(3), dict[str, Any]()
    exec("\n".join(direction.python), told)
    torch.testing.assert_close(told["direction"].vector, direction.vector, rtol=0, atol=0)
    on_another_device = dictionary.to(torch.device("meta"))
    assert repr(rs.clamp(on_another_device[3], 0.0)).startswith(
        f"rs.clamp(feature=rs.load_dictionary({str(path)!r}, allow_pickle=True)[3]"
    )


class Runs:
    """What unpickling would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    learned, ran = copy(LEARNED, tmp_path), tmp_path / "ran"
    for evil in (learned / "ae.pt", tmp_path / "evil.pt"):
        torch.save({"cfg": Runs(ran), "state_dict": {}, "k": Runs(ran)}, evil)
        with pytest.raises(BadDictionary, match=r"holds \S+ no tensor or plain value\. Do not open it\.$"):
            rs.load_dictionary(learned if evil.parent == learned else evil, allow_pickle=True)
        evil.write_bytes(pickle.dumps(Runs(ran), protocol=2))
        with pytest.raises(BadDictionary, match="no tensor or plain value") as refused:
            rs.load_dictionary(learned if evil.parent == learned else evil, allow_pickle=True)
        assert "weights_only" not in str(refused.value)
    assert not ran.exists()
    torch.save([1], tmp_path / "other.pt")
    with pytest.raises(BadDictionary, match="no cfg and state_dict"):
        rs.load_dictionary(tmp_path / "other.pt", allow_pickle=True)
    torch.save([1], learned / "ae.pt")
    (tmp_path / "cut.pt").write_bytes(PICKLE.read_bytes()[:2000])
    with pytest.raises(BadDictionary, match=r"cut\.pt cannot be read"):
        rs.load_dictionary(tmp_path / "cut.pt", allow_pickle=True)
    with pytest.raises(BadDictionary, match="something else than tensors"):
        rs.load_dictionary(learned, allow_pickle=True)
    scope = copy(SCOPE, tmp_path)
    (scope / "params.npz").write_bytes((SCOPE / "params.npz").read_bytes()[:2000])
    with pytest.raises(BadDictionary, match=r"params\.npz cannot be read"):
        rs.load_dictionary(scope, site="resid_pre.1")
    np.savez(scope / "params.npz", W_enc=np.array([Runs(ran)], dtype=object))
    with pytest.raises(BadDictionary, match="cannot be read"):
        rs.load_dictionary(scope, site="resid_pre.1")
    assert not ran.exists()


def test_pickles_of_the_package_before_it_was_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class LanguageModelSAERunnerConfig:
        pass

    LanguageModelSAERunnerConfig.__module__ = "sae_training.config"
    LanguageModelSAERunnerConfig.__qualname__ = "LanguageModelSAERunnerConfig"
    module = type(sys)("sae_training.config")
    module.LanguageModelSAERunnerConfig = LanguageModelSAERunnerConfig  # type: ignore[attr-defined]
    config = LanguageModelSAERunnerConfig()
    config.__dict__ |= {"hook_point": "blocks.2.hook_resid_pre", "d_in": 12, "d_sae": 24, "dtype": torch.float32}
    weights = load_file(GOLDEN / "sae_lens_0/folder/sae_weights.safetensors")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "sae_training", module)
        patched.setitem(sys.modules, "sae_training.config", module)
        torch.save({"cfg": config, "state_dict": weights}, tmp_path / "first.pt")
    found = rs.load_dictionary(tmp_path / "first.pt", allow_pickle=True)
    assert found.site == rs.Site("resid_pre", 2)
    assert torch.equal(found.decoder, weights["W_dec"])


def test_unknown_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadDictionary, match=r"holds nothing\. A dictionary of SAELens, sparsify"):
        rs.load_dictionary(tmp_path)
    (tmp_path / "weights.bin").touch()
    with pytest.raises(BadDictionary, match=r"holds weights\.bin\. A dictionary of SAELens, sparsify"):
        rs.load_dictionary(tmp_path)
    with pytest.raises(BadDictionary, match="what no library names so"):
        rs.load_dictionary(tmp_path / "weights.bin")
    with pytest.raises(BadDictionary, match="cannot be looked at"):
        rs.load_dictionary("x" * 5000)


def test_a_folder_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def give(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(tmp_path)

    with pytest.raises(BadDictionary, match=r"no folder 'some/repository/layers\.1' here, and the hub gave none"):
        rs.load_dictionary("some/repository/layers.1")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    copy(SPARSIFY, tmp_path)
    found = rs.load_dictionary("some/repository/layers.1")
    assert found.site == rs.Site("resid_post", 1)
    assert found.source == "some/repository/layers.1"
    assert asked[-1][0] == "some/repository"
    assert "layers.1/sae.safetensors" in asked[-1][1]
    assert not [name for name in asked[-1][1] if name.endswith(".pt")]
    shutil.copy(PICKLE, tmp_path)
    with pytest.raises(BadDictionary, match=r"has none of .*fetched only with allow_pickle=True"):
        rs.load_dictionary("some/repository/pickle.pt")
    assert rs.load_dictionary("some/repository/pickle.pt", allow_pickle=True).n_features == 24
    assert "pickle.pt" in asked[-1][1]


MEMORY = """
import sys, psutil, residscope as rs
for folder in sys.argv[1:]:
    rs.load_dictionary(folder, allow_pickle=True)
    before = psutil.Process().memory_info().rss
    several = [rs.load_dictionary(folder, allow_pickle=True) for _ in range(4)]
    print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.slow
def test_weights_stay_on_disk_until_they_are_used(tmp_path: Path) -> None:
    n, d = 4096, 512
    shapes = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,)}
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    mapped, pickled = tmp_path / "mapped", tmp_path / "pickled"
    mapped.mkdir()
    save_file(weights, mapped / "sae_weights.safetensors")
    (mapped / "cfg.json").write_text(json.dumps({"hook_name": "blocks.1.hook_resid_pre"}))
    pickled.mkdir()
    torch.save(weights | {"threshold": torch.ones(n)}, pickled / "ae.pt")
    trainer = {"dict_class": "JumpReluAutoEncoder", "submodule_name": "resid_post_layer_1"}
    (pickled / "config.json").write_text(json.dumps({"trainer": trainer}))
    command = [sys.executable, "-c", MEMORY, str(mapped), str(pickled)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for grown in done.stdout.split():
        assert int(grown) < 2 * n * d * 4  # of four, each of which has twice that


def test_what_is_no_config_and_no_site_is_said(tmp_path: Path) -> None:
    folder = copy(GOLDEN / "sae_lens/topk", tmp_path)
    with pytest.raises(BadDictionary, match='site="bogus" was given, which is no site'):
        rs.load_dictionary(folder, site="bogus")
    for text in ("[]", "null", "{}"):
        (folder / "cfg.json").write_text(text)
        with pytest.raises(BadDictionary, match="and no settings"):
            rs.load_dictionary(folder)
