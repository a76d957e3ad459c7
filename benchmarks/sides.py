"""The sides of a comparison as processes, and the environments that peers run in (`.peers/`)."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]
PEERS = {"transformers": "transformers", "transformer_lens": "transformer-lens", "nnsight": "nnsight"}


def make_environment(name: str) -> str:
    """The Python of a peer's environment, made anew when its constraints change."""
    constraints, folder = ROOT / f"benchmarks/peers/{name}.txt", ROOT / ".peers" / name
    python, ready = str(folder / "bin/python"), folder / "ready"
    if not ready.is_file() or ready.read_text() != constraints.read_text():
        print(f"Making the environment of {name} ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for package in ("torch", PEERS[name]):  # torch goes first: an unpinned one may pull gigabytes of CUDA packages
            subprocess.run([python, "-m", "pip", "install", "-qq", "-c", constraints, package], check=True)
        ready.write_text(constraints.read_text())
    return python


def version_of(name: str) -> str:
    """Of a peer, as its constraints say."""
    lines = (ROOT / f"benchmarks/peers/{name}.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{PEERS[name]}=="))


class SideFailed(Exception):
    """A side could not do what it was asked, or its process ended; the message says where."""


class Side:
    """One process that answers requests; used as a context.

    Args:
      name: A module of `benchmarks.peers`.
      model: The checkpoint's directory.
      settings: Environment variables of its own.
    """

    def __init__(self, name: str, model: Path, **settings: str) -> None:
        self.name = name
        python = make_environment(name) if name in PEERS else sys.executable
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)] if name not in PEERS else [str(ROOT)])
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": path}
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.peers.{name}", str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env={**os.environ, **offline, **settings},
        )
        self.facts = self._read()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have it do something, and wait."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise SideFailed(f"{self.name}: " + "".join(self._log.readlines()[-12:]))
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise SideFailed(f"{self.name}: {found['error']}")
        return found

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()
