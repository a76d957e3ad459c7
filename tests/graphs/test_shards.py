"""Tracing that ended early goes on from what it has, whenever it was killed."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import residscope as rs
from residscope.errors import BadArgument, Cancelled
from residscope.graphs.tracer import Tracer

PROMPT = "Lily had a red ball."
OPTIONS: dict[str, Any] = {"positions": [2, 4, -1], "tokens": True, "split": True, "outputs": [rs.logit(" She")]}

KILLED = """
import os, signal, sys
from pathlib import Path
import residscope as rs
replace, seen = Path.replace, []
def die(self, target):
    seen.append(self)
    if len(seen) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = die
options = dict(positions=[2, 4, -1], tokens=True, split=True, outputs=[rs.logit(" She")])
rs.causal_graph(rs.load("demo"), "Lily had a red ball.", rs.demo.dictionaries, out=sys.argv[1], **options)
"""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Places whose sources are traced."""
    seen: list[str] = []
    step = Tracer.step

    def counted(self: Tracer, sources: Any, targets: Any, *others: Any) -> Any:
        if targets:
            seen.append(str(sources.place))
        return step(self, sources, targets, *others)

    monkeypatch.setattr(Tracer, "step", counted)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("n_writes", "left"), [(1, 5), (4, 3)])
def test_what_was_killed_in_the_midst_of_a_file_goes_on(
    demo: rs.Model, tmp_path: Path, steps: list[str], n_writes: int, left: int
) -> None:
    call = [sys.executable, "-c", KILLED, str(tmp_path / "shards"), str(n_writes)]
    assert subprocess.run(call, check=False).returncode == -signal.SIGKILL
    assert list((tmp_path / "shards").glob("*.new"))
    graph = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, out=tmp_path / "shards", **OPTIONS)
    assert len(steps) == left
    steps.clear()
    assert graph.to_json() == rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, **OPTIONS).to_json()
    assert len(steps) == 5
    steps.clear()
    again = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, out=tmp_path / "shards", **OPTIONS)
    assert not steps
    assert again.to_json() == graph.to_json()


def test_what_was_cancelled_goes_on(demo: rs.Model, tmp_path: Path, steps: list[str]) -> None:
    with pytest.raises(Cancelled), rs.progress(lambda step: work.cancel() if step.done > 300 else None) as work:
        rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, out=tmp_path, **OPTIONS)
    n_done = len(list(tmp_path.glob("*.safetensors")))
    assert n_done
    steps.clear()
    told: list[int] = []
    with rs.progress(lambda step: told.append(step.total - step.done)):
        rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, out=tmp_path, **OPTIONS)
    assert len(steps) == 5 - n_done
    assert told[-1] == 0


def test_other_folders_are_refused(demo: rs.Model, tmp_path: Path) -> None:
    def trace(folder: Path, prompt: str = PROMPT, **options: Any) -> None:
        some = [rs.demo.dictionaries["resid_pre.0"], rs.demo.dictionaries["resid_pre.1"]]
        rs.causal_graph(demo, prompt, some, out=folder, **options)

    trace(tmp_path / "one")
    for differs, change in (
        ("top", {"top": 3}),
        ("share, top", {"share": 0.5}),
        ("prompt", {"prompt": "Tom had a red ball."}),
        ("positions", {"positions": [1]}),
        ("competition", {"competition": False}),
        ("outputs", {"outputs": [rs.loss()]}),
    ):
        options: dict[str, Any] = change
        with pytest.raises(BadArgument, match=rf"begun by another call, which differs in {differs}\."):
            trace(tmp_path / "one", **options)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/mine.txt").write_text("mine")
    with pytest.raises(BadArgument, match="holds other files"):
        trace(tmp_path / "two")
    with pytest.raises(BadArgument, match="cannot be used"):
        trace(tmp_path / "two/mine.txt")


def test_functions_among_the_outputs_are_told_by_what_they_compute(demo: rs.Model, tmp_path: Path) -> None:
    some = [rs.demo.dictionaries[f"resid_pre.{layer}"] for layer in (0, 1)]

    def make(token: int) -> rs.Metric:
        return rs.metric(lambda logits: logits[..., token])

    first = rs.causal_graph(demo, PROMPT, some, out=tmp_path, outputs=[make(5)])
    again = rs.causal_graph(demo, PROMPT, some, out=tmp_path, outputs=[make(5)])
    assert again.to_json() == first.to_json()
    with pytest.raises(BadArgument, match="differs in outputs"):
        rs.causal_graph(demo, PROMPT, some, out=tmp_path, outputs=[make(6)])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _take_another(path: Path) -> None:
    path.write_bytes(path.with_name("level_1.safetensors").read_bytes())


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _change(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
        tensors = load_file(path)
        path.unlink()  # what was read is mapped
        save_file(tensors | {name: change(tensors[name]).contiguous()}, path, said)

    return write


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_cut, "cannot be read"),
        (_become_folder, "cannot be read"),
        (_take_another, "is not what was written"),
        (_change("edges.weights", torch.zeros_like), "is not what was written"),
        (_change("edges.weights", lambda x: x[:-1]), "is not what was written"),
        (_change("edges.features", lambda x: x + 5000), "is not what was written"),
        (_change("effects", lambda x: x[:, :0]), "is not what was written"),
        (_change("n_measured", lambda x: x + 1), "is not what was written"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    demo: rs.Model, tmp_path: Path, harm: Callable[[Path], None], says: str
) -> None:
    some = [rs.demo.dictionaries[f"resid_pre.{layer}"] for layer in (0, 1)]
    options: dict[str, Any] = {"out": tmp_path, "outputs": [rs.loss()]}
    graph = rs.causal_graph(demo, PROMPT, some, **options)
    path = tmp_path / "level_0.safetensors"
    harm(path)
    with pytest.raises(BadArgument, match=rf"level_0\.safetensors {says}.*Remove it, and the level is traced anew"):
        rs.causal_graph(demo, PROMPT, some, **options)
    path.rmdir() if path.is_dir() else path.unlink()
    assert rs.causal_graph(demo, PROMPT, some, **options).to_json() == graph.to_json()
