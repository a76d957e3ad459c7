"""What all tests share: no network, the models that lie beside the checkout, and shapes that are checked."""

import atexit
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers inherit it; nothing is kept in the tester's own folder
    os.environ["RESIDSCOPE_DATA"] = tempfile.mkdtemp(prefix="residscope-tests-")
    atexit.register(shutil.rmtree, os.environ["RESIDSCOPE_DATA"], ignore_errors=True)
os.environ["OMP_NUM_THREADS"] = "1"  # small models lose by more; what the tests start inherits it

from jaxtyping import config, install_import_hook

# Before residscope is imported: annotated shapes can be checked, in the modules that have any. Two make functions anew
# at every call, whose wrapping would cost more than all the tests.
SOURCE = Path(__file__).parents[1] / "src"
WRAPPED_AT_EVERY_CALL = {"residscope.running.metrics", "residscope.running.prepare"}
SHAPED = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if "from jaxtyping import" in path.read_text()
}
if os.environ.get("CHECK_SHAPES") != "none":  # as `make check` sets it
    install_import_hook(sorted(SHAPED - WRAPPED_AT_EVERY_CALL), "beartype.beartype")

import pytest

import residscope as rs
from tests.models import family_model, shared_path

FIRST_CASE = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in {(item.path, getattr(item, "originalname", item.name)): item for item in reversed(items)}.values():
        item.stash[FIRST_CASE] = True


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check shapes in the first case of each test, unless it is long: checking takes ten times what running takes.

    With CHECK_SHAPES=all, as `make prove` sets it, they are checked in all but those that give what has another type.
    """
    long = item.get_closest_marker("slow") or item.get_closest_marker("browser")
    once = bool(long) or FIRST_CASE not in item.stash
    untyped = item.get_closest_marker("untyped") is not None
    config.update("jaxtyping_disable", untyped or (once and os.environ.get("CHECK_SHAPES") != "all"))


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at once where anything speaks to another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "unix"
        if host not in ("127.0.0.1", "::1", "localhost", "unix"):
            raise AssertionError(f"a test spoke to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of models, tokenizers and texts beside the checkout."""
    return shared_path("")


@pytest.fixture(scope="session")
def stories_path() -> Path:
    """A real trained Llama of 260,032 parameters."""
    return shared_path("models/stories260K")


@pytest.fixture(scope="session")
def stories(stories_path: Path) -> rs.Model:
    return rs.load(stories_path)


@pytest.fixture(scope="session")
def demo() -> rs.Model:
    """The bundled model."""
    return rs.load("demo")


@pytest.fixture(scope="session")
def gpt2() -> rs.Model:
    """A small GPT-2 of which every parameter is drawn at random, in float64."""
    return family_model("gpt2")


@pytest.fixture(scope="session")
def llama() -> rs.Model:
    """A small Llama with grouped queries, in float64."""
    return family_model("llama")
