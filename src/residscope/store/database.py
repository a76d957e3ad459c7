"""The database: opened, brought up to date, read and changed."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from residscope.errors import BadArgument, BadDatabase
from residscope.store.tables import Base

_MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_SECONDS = 30.0  # a writer of SQLite waits so long for others
_LOCK = 0x7E51D5C0  # of PostgreSQL, held while the schema is brought up to date


class Database:
    """SQLite or PostgreSQL, with the schema of this version.

    Args:
      url: As SQLAlchemy writes it: `sqlite:////path/to/file.db`, `postgresql://user@host/name`.
    Raises:
      BadDatabase: It cannot be opened, or a newer version made it.
    Holds:
      A change is there whole or not at all; several processes may read and change at once.
    """

    def __init__(self, url: str) -> None:
        self._engine = _create_engine(url)
        with self._worded():
            _migrate(self._engine)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One state of everything, whatever others change meanwhile."""
        with self._worded(), self._sessions() as session:
            if self._engine.dialect.name == "postgresql":  # SQLite does nothing less
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """A transaction: kept when the block ends, nothing of it when the block raises."""
        with self._worded(), self._sessions.begin() as session:
            session.connection(execution_options={"changes": True})
            yield session

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Say in words that the database fails: it is gone, full, no database, or busy for too long."""
        try:
            yield
        except DatabaseError as error:
            if type(error) not in (DatabaseError, OperationalError):  # what was asked was wrong
                raise
            cause = str(error.orig).strip().splitlines()[0]
            place = self._engine.url.render_as_string(hide_password=True)
            raise BadDatabase(f"The database {place} cannot be used ({cause}).", "See that it is there.") from None

    def put(self, session: Session, row: Base, *, replacing: tuple[str, ...] = ()) -> None:
        """Insert a row whose key may be there already; then only the columns `replacing` of the old one change."""
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        table: Any = type(row).__table__
        values = {column.name: getattr(row, column.name) for column in table.columns}
        given = {name: value for name, value in values.items() if value is not None}
        insert: Any = dialect.insert(table).values(given)
        if replacing:
            changed = {name: insert.excluded[name] for name in replacing}
            insert = insert.on_conflict_do_update(index_elements=table.primary_key.columns.keys(), set_=changed)
        else:
            insert = insert.on_conflict_do_nothing()
        session.execute(insert)

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()


def _create_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ArgumentError("it is neither SQLite nor PostgreSQL")
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except (SQLAlchemyError, ImportError) as error:
        raise BadDatabase(
            f"RESIDSCOPE_DATABASE_URL names no database ({error}).", "Write postgresql://user:password@host/name."
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins
    # SQLite's own knows the letters of ASCII alone.
    connection.create_function("lower", 1, lambda word: word and str(word).lower(), deterministic=True)
    connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then wants to write would be refused at once where another wrote between.
    changes = connection.get_execution_options().get("changes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if changes else "BEGIN")


def _migrate(engine: Engine) -> None:
    """Bring the schema up to date; of several processes one does, the others wait."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    head, known = script.get_current_head(), {revision.revision for revision in script.walk_revisions()}
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with engine.connect().execution_options(changes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        there = MigrationContext.configure(connection).get_current_revision()
        if there not in (None, *known):
            raise BadDatabase(
                f"The database has the schema {there}, which is newer than this version's {head}.",
                "Install the version of Residscope that made it, or a later one.",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def place_database(folder: Path) -> str:
    """The URL of the database in a data folder, which is made where it is missing.

    Raises:
      BadArgument: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadArgument(f"{folder} cannot be written ({error.strerror}).", "Name another folder.") from None
    return f"sqlite:///{folder.resolve() / 'residscope.db'}"
