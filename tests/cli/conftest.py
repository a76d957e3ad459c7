"""The command line in this process, and servers in processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from residscope.cli.main import main
from tests.patience import PATIENCE

CALL = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CALL:
    """The command line in this process, which has what a process of its own imports for seconds."""
    monkeypatch.setenv("COLUMNS", "200")

    def call_here(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["residscope", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed, said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), printed, said)

    return call_here


class Serving:
    """The workbench in a process of its own, by the command that is installed."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("residscope")), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return errors
