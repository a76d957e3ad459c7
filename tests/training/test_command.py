"""The whole training as one command, from texts to what the model does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training.__main__ import main

import residscope as rs
from tests.models import shared_path

ROOT = Path(__file__).parents[2]


def train(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "training", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})


@pytest.mark.slow
def test_one_command_makes_a_model_and_measures_it(tmp_path: Path) -> None:
    shared = shared_path("corpora").parent
    asked = ["--shared", str(shared), "--into", str(tmp_path), "--steps", "2", "--stories", "3", "--prompts", "24"]
    asked += ["--tokens", "0", "--seed", "7"]
    done = train(*asked)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "seed_7"
    assert rs.load(folder / "model").config.d_model == 128
    kept = json.loads((folder / "evaluation.json").read_text())
    assert kept["recipe"]["seed"] == 7
    assert kept["measured"]["prose, nats per byte"]["met"] is False
    assert kept["measured"]["prose, nats per byte"]["cells"]["stories260K"] == pytest.approx(0.7303, abs=0.002)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--shared", "/nowhere"], "there is no corpora/tinystories_sample_2MB.txt"),
        (["--prompts", "5"], "every wording and order is to be there; take 24 at least"),
    ],
)
def test_what_cannot_be_made_is_said_first(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert says in capsys.readouterr().err
