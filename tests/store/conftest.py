"""Libraries over both databases: every test that asks for one passes on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
import torch

from residscope.direction import Direction
from residscope.store.home import Home
from residscope.store.library import Library
from residscope.store.limits import Limits
from residscope.store.values import Person
from tests.store.postgres import serve_postgres

HOME = Home("small", "f1", {"resid_pre.0": 4, "resid_pre.1": 4, "z.0": 6, "z.0:0": 2, "z.0:1": 2, "z.0:2": 2})
NUMBERS = count()

Opened = Callable[..., Library]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with serve_postgres() as address:
        yield address


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'residscope.db'}"
    address, name = request.getfixturevalue("postgres"), f"test_{next(NUMBERS)}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{address}/{name}"


@pytest.fixture
def opened(url: str, tmp_path: Path) -> Iterator[Opened]:
    """Opens the database, as often as is called for."""
    libraries = []

    def open_library(home: Home = HOME, **limits: int) -> Library:
        libraries.append(Library(tmp_path, home, url=url, limits=Limits(**limits)))
        return libraries[-1]

    yield open_library
    for library in libraries:
        library.close()


@pytest.fixture
def library(opened: Opened) -> Library:
    return opened()


@pytest.fixture
def ada(library: Library) -> Person:
    return library.people.name("Ada")


@pytest.fixture
def bob(library: Library) -> Person:
    return library.people.name("Bob")


def direction(
    *numbers: float, site: str = "resid_pre.1", head: int | None = None, name: str = "one", mean: bool = False
) -> Direction:
    """A small direction."""
    wide = torch.arange(len(numbers), dtype=torch.float64) / 3 if mean else None
    return Direction.of(numbers or (1.0, 2.0, 3.0, 4.0), site, name, head=head, mean=wide, history={"kind": "test"})
