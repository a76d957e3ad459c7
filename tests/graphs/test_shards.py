"""Tracing that ended early goes on from what it has, whenever it was killed."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
        ("rule", {"top": 3}),
        ("prompt", {"prompt": "Tom had a red ball."}),
        ("positions", {"positions": [1]}),
        ("competition", {"competition": False}),
        ("outputs", {"outputs": [rs.loss()]}),
    ):
        options: dict[str, Any] = change
        with pytest.raises(BadArgument, match=f"begun by another call, which differs in {differs}"):
            trace(tmp_path / "one", **options)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/mine.txt").write_text("mine")
    with pytest.raises(BadArgument, match="holds other files"):
        trace(tmp_path / "two")
    with pytest.raises(BadArgument, match="cannot be used"):
        trace(tmp_path / "two/mine.txt")
    shard = tmp_path / "one/level_0.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(BadArgument, match=r"level_0\.safetensors cannot be read"):
        trace(tmp_path / "one")
