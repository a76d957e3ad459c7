"""Files named by their content: whole or not there, though the writer be killed in the midst."""

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest

from residscope.errors import BadArgument, BadDatabase
from residscope.store.artefacts import Artefacts
from tests.patience import PATIENCE

CONTENT = os.urandom(2**20)


def write_until_the_system_kills(folder: Path) -> None:
    """Write more than the system lets this process write: it sends a signal in the midst."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))
    Artefacts(folder).write(CONTENT)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path)
    name = artefacts.write(CONTENT)
    assert artefacts.write(CONTENT) == name
    assert artefacts.write(b"other") != name
    assert Artefacts(tmp_path).read(name) == CONTENT
    assert len([*tmp_path.rglob("*.safetensors")]) == 2


def test_a_writer_killed_in_the_midst_leaves_nothing_that_is_taken_for_the_file(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=write_until_the_system_kills, args=(tmp_path,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGXFSZ
    assert [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()] == [2**18]  # it was in the midst
    artefacts = Artefacts(tmp_path)
    assert artefacts.read(artefacts.write(CONTENT)) == CONTENT


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(BadDatabase, match="cannot be read"):
        Artefacts(tmp_path).read("00")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadArgument, match="cannot be written"):
        Artefacts(tmp_path / "file")
