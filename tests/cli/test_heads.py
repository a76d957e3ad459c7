"""`residscope heads`: every model is scored once, kept as files, and shown beside the others; a failure is one line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument
from residscope.store.atlas import Atlas
from tests.cli.conftest import CALL
from tests.models import family_model, random_model, save

FEW = ("--n-tokens", "10", "--n-sequences", "2")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two small models on disk."""
    folder = tmp_path_factory.mktemp("models")
    return [str(save(random_model(family)[0], folder / family)) for family in ("gpt2", "llama")]


def test_models_side_by_side_and_as_files(call: CALL, paths: list[str], tmp_path: Path) -> None:
    atlas = tmp_path / "new" / "atlas"
    done = call("heads", *paths, "--out", str(atlas), *FEW)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows, last = [line for line in done.stdout.splitlines() if line.strip()][1:]
    assert last == f"Side by side: {atlas / 'index.html'}"
    assert header.split() == ["score", *paths]
    assert [row.split("  ")[0].strip() for row in rows][-2:] == ["copying", "least copying"]
    loaded = rs.load(paths[1])
    scores = rs.head_scores(loaded, n_tokens=10, n_sequences=2)
    layer, head, value = scores.best("induction")
    induction = next(row for row in rows if row.startswith(" induction"))
    assert f"{layer}.{head} {value:.3f}" in induction
    least = divmod(int(scores["copying"].argmin()), 4)
    assert f"{least[0]}.{least[1]} {float(scores['copying'].min()):.3f}" in rows[-1]
    names = sorted(path.name for path in atlas.iterdir())
    assert names.pop(2) == "index.html"
    assert names.pop() == "side_by_side.safetensors"
    assert [name.split("-")[0] for name in names] == ["gpt2", "gpt2", "llama", "llama"]
    kept = rs.open(atlas / names[3])
    assert torch.equal(kept.values, scores.values)
    table = list(csv.DictReader((atlas / names[2]).open()))
    assert len(table) == kept.values.numel()
    assert float(table[-1]["value"]) == pytest.approx(float(kept.values[-1, -1, -1]))


def test_what_was_scored_is_not_scored_again(
    call: CALL, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[dict[str, Any]] = []
    plain = rs.head_scores

    def watched(model: rs.Model, **options: Any) -> rs.HeadScores:
        scored.append(options)
        return plain(model, **options)

    monkeypatch.setattr("residscope.store.atlas.head_scores", watched)
    first = call("heads", paths[0], "--out", str(tmp_path), *FEW, "--json")
    assert len(scored) == 1
    again = call("heads", paths[0], paths[0], "--out", str(tmp_path), *FEW, "--json")
    assert len(scored) == 1
    assert again.returncode == 0
    (parsed,) = json.loads(again.stdout)
    assert [parsed] == json.loads(first.stdout)
    assert parsed["result"].endswith(":HeadScores")
    assert torch.tensor(parsed["values"]).shape == (7, 3, 4)
    for number, other in enumerate(
        (["--seed", "1"], ["--read", "layer0"], ["--dtype", "float64"], ["--n-tokens", "9"])
    ):
        call("heads", paths[0], "--out", str(tmp_path), *FEW, *other)
        assert len(scored) == number + 2
    call("heads", paths[1], "--out", str(tmp_path), *FEW)
    assert len(scored) == 6
    for path in tmp_path.glob("llama-*.safetensors"):
        path.write_bytes(path.read_bytes()[:-9])  # half a file is as good as none
    assert call("heads", paths[1], "--out", str(tmp_path), *FEW).returncode == 0
    assert len(scored) == 7


def test_models_of_one_name_do_not_take_each_others_place(tmp_path: Path) -> None:
    hf, tokenizer = random_model("gpt2", seed=1)
    changed = rs.load(hf, tokenizer=tokenizer)
    first = Atlas(tmp_path).score(family_model("gpt2"), n_tokens=5)
    second = Atlas(tmp_path).score(changed, n_tokens=5)
    assert not torch.equal(first.values, second.values)
    assert len(list(tmp_path.iterdir())) == 4
    changed.name = "somebody/gpt2"  # as an id of the hub reads
    assert torch.equal(Atlas(tmp_path).score(changed, n_tokens=6).values, rs.head_scores(changed, n_tokens=6).values)
    assert len(list(tmp_path.glob("gpt2-*"))) == 2


def test_without_a_folder_nothing_is_kept(
    call: CALL, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("heads", paths[0], *FEW).returncode == 0
    assert not list(tmp_path.iterdir())


def test_a_failure_is_one_line_and_the_other_models_are_scored(call: CALL, paths: list[str], tmp_path: Path) -> None:
    done = call("heads", "/nowhere", paths[0], "--out", str(tmp_path / "atlas"), *FEW)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: /nowhere: There is no directory '/nowhere'")
    assert len(done.stderr.splitlines()) == 1
    assert paths[0] in done.stdout
    done = call("heads", "/nowhere", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    done = call("heads", paths[0], "--n-tokens", "21")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the context is 40" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (tmp_path / "file").touch()
    done = call("heads", paths[0], "--out", str(tmp_path / "file"))
    assert done.returncode == 1
    assert f"{tmp_path / 'file'} cannot be written (File exists). Name another folder." in done.stderr
    done = call("heads")
    assert done.returncode == 2
    assert "Missing argument 'MODEL...'" in done.stderr
    assert call("heads", paths[0], "--read", "layer1").returncode == 2


def test_progress_goes_to_those_who_wait(paths: list[str]) -> None:
    steps: list[Any] = []
    with rs.progress(steps.append):
        rs.head_scores(rs.load(paths[0]), n_tokens=5)
    assert [(step.done, step.total, step.what) for step in steps] == [(n, 3, "scoring heads") for n in range(4)]


def test_the_mosaic_has_every_model_of_the_folder(call: CALL, paths: list[str], tmp_path: Path) -> None:
    for path in paths:
        call("heads", path, "--out", str(tmp_path), *FEW)
    (tmp_path / "other.safetensors").write_text("no result")
    kept = Atlas(tmp_path).kept
    assert [*kept] == ["gpt2", "llama"]
    call("heads", paths[0], "--out", str(tmp_path), *FEW, "--seed", "3")
    assert [*Atlas(tmp_path).kept][2] == "llama"
    assert all(name.startswith("gpt2-") for name in [*Atlas(tmp_path).kept][:2])
    mosaic = rs.head_mosaic(kept)
    assert (tmp_path / "index.html").stat().st_size > len(mosaic.to_bytes()) / 2
    for model, scores in enumerate(kept.values()):
        n_layers, n_heads = mosaic.shapes[model]
        assert torch.equal(mosaic.values[model, :, :n_layers, :n_heads], scores.values)
        assert bool(mosaic.values[model, :, n_layers:].isnan().all())
    assert len(mosaic.to_frame()) == sum(scores.values.numel() for scores in kept.values())
    assert mosaic.to_frame()["model"].unique().tolist() == ["gpt2", "llama"]
    with pytest.raises(BadArgument, match="0 models were given"):
        rs.head_mosaic({})
