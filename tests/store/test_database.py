"""The database: its schema follows from its migrations, old ones are brought up to date, newer ones are refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from residscope.errors import BadArgument, BadDatabase
from residscope.store.database import Database, place_database
from residscope.store.library import Library
from residscope.store.tables import Base
from tests.store.conftest import HOME, Opened

HERE = Path(__file__).parent


def test_migrations_make_the_tables_that_the_code_knows(url: str, opened: Opened) -> None:
    opened()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_an_old_database_is_brought_up_to_date(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "residscope.db") as old:
        old.executescript((HERE / "revision_0001.sql").read_text())
    old.close()
    library = Library(tmp_path, HOME)
    ada, bob = library.people.name("Ada"), library.people.name("Bob")
    assert library.people.list() == {"Ada": True, "Bob": False}
    (found,) = library.directions.find(ada).directions
    assert (found.name, found.owner, found.site, found.tags) == ("number", "Ada", "resid_pre.1", ("noun",))
    card = library.directions.card(bob, found.id)
    assert [(one.text, one.score, one.my_vote) for one in card.descriptions] == [("plural", 1, 1), ("nouns", 0, 0)]
    assert [one.text for one in card.comments] == ["sure?"]
    assert [(one.number, one.name) for one in card.revisions] == [(0, "first"), (1, "number")]
    assert [one.directions for one in library.lists.find(ada)] == [(found.id,)]
    assert [(one.name, one.text, one.pinned) for one in library.texts.find(ada)] == [("mine", "Once upon", True)]
    assert [(one.kind, one.settings, one.state) for one in library.runs.find(ada)] == [("lens", {"a": [1]}, "done")]
    assert [one.name for one in library.directions.find(ada, deleted=True).directions] == ["gone"]
    library.close()


def test_a_newer_database_is_refused(url: str, tmp_path: Path, opened: Opened) -> None:
    opened()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(BadDatabase, match="the schema 9999, which is newer than this version's 0002"):
        opened()


def test_sqlite_is_opened_as_several_processes_need_it(tmp_path: Path) -> None:
    database = Database(place_database(tmp_path / "data"))
    with database.reading() as session:
        asked = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        assert [session.scalar(text(f"PRAGMA {name}")) for name in asked] == ["wal", 1, 30000, 2]
    database.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://localhost/x", "neither SQLite nor PostgreSQL"),
        ("nonsense", "RESIDSCOPE_DATABASE_URL names no database"),
        ("sqlite:////nowhere/at/all.db", r"sqlite:////nowhere/at/all.db cannot be used \(unable to open"),
        ("postgresql://me:secret@127.0.0.1:1/x", r"postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/x cannot be used"),
    ],
)
def test_a_database_that_cannot_be_opened(url: str, says: str) -> None:
    with pytest.raises(BadDatabase, match=says) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "residscope.db").write_text("no database" * 100)
    with pytest.raises(BadDatabase, match="file is not a database"):
        Library(tmp_path, HOME)
    with pytest.raises(BadArgument, match="cannot be written"):
        Library(tmp_path / "residscope.db", HOME)


def test_a_database_that_is_busy_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residscope.store.database._BUSY_SECONDS", 0.05)
    library = Library(tmp_path, HOME)
    ada = library.people.name("Ada")
    with closing(sqlite3.connect(tmp_path / "residscope.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BadDatabase, match="database is locked"):
            library.lists.add(ada, "mine")
        assert library.lists.find(ada) == []  # who reads does not wait
    assert library.lists.add(ada, "mine").name == "mine"
    library.close()
