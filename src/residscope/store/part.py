"""What the parts of the library share: whose a thing is, how it is deleted, and what may be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from residscope.errors import BadArgument, NameTaken, NotSaved, NotYours
from residscope.store.artefacts import Artefacts
from residscope.store.database import Database
from residscope.store.home import Home
from residscope.store.limits import Limits
from residscope.store.tables import Comment, Description, Direction, List, Run, Text, read_clock
from residscope.store.values import Person

Row = TypeVar("Row", Text, Direction, Description, Comment, List, Run)


@dataclass(frozen=True)
class Part(Generic[Row]):
    """One kind of thing that people keep."""

    database: Database
    artefacts: Artefacts
    home: Home
    limits: Limits

    _table: ClassVar[Any]

    def delete(self, user: Person, *ids: int) -> None:
        """Delete one's own; `restore` brings it back.

        Raises:
          NotSaved, NotYours: One of them is not there, or another's; nothing is deleted.
        """
        with self.database.changing() as session:
            for row in [self._own(session, user, one) for one in sorted({*ids})]:
                row.deleted = read_clock()

    def restore(self, user: Person, *ids: int, name: str | None = None) -> None:
        """Bring back what one deleted, under another name if one is given.

        Raises:
          NotSaved, NotYours: One of them is not there, or another's.
          NameTaken: Something has its name by now. Nothing is restored.
          BadArgument: What is brought back has no name.
        """
        if name is not None and "name" not in self._table.__table__.columns:
            raise BadArgument(f"A {self._kind} has no name, and {name!r} was given.", "Leave the name out.")
        name = None if name is None else self.limits.check_name(name)
        with self.database.changing() as session:
            for one in sorted({*ids}):  # in one order, so that two who lock several never wait for each other
                row = self._own(session, user, one, deleted=True)
                with self._naming(session, name or getattr(row, "name", None)):
                    row.deleted = None
                    if name is not None:
                        row.name = name  # type: ignore[attr-defined]  # checked above

    def _own(self, session: Session, user: Person, id: int, *, deleted: bool = False) -> Row:
        """The row, to be changed by `user`: the one place that decides whether they may. It is locked until the end."""
        row = self._seek(session, id, lock=True)
        if row.user_id != user.id:
            raise NotYours(f"{self._what(id)} is another's.", "Only who made it may change it.")
        if not deleted:
            self._check_kept(row)
        return row

    def _any(self, session: Session, reader: Person | None, id: int) -> Row:
        """The row, to be read: anybody's, and of deleted ones one's own."""
        row = self._seek(session, id)
        if reader is None or row.user_id != reader.id:
            self._check_kept(row)
        return row

    def _seek(self, session: Session, id: int, *, lock: bool = False) -> Row:
        query = select(self._table).where(self._table.id == id)
        row: Row | None = session.scalar(query.with_for_update(of=self._table) if lock else query)
        if row is None or getattr(row, "model", self.home.fingerprint) != self.home.fingerprint:
            raise NotSaved(f"{self._what(id)} is not there.", "List what there is.")
        return row

    def _check_kept(self, row: Row) -> None:
        if row.deleted:
            raise NotSaved(f"{self._what(row.id)} was deleted.", "Its owner may restore it.")

    @property
    def _kind(self) -> str:
        return str(self._table.__name__).lower()

    def _what(self, id: int) -> str:
        return f"{self._table.__name__} {id}"

    @contextmanager
    def _naming(self, session: Session, name: str | None) -> Iterator[None]:
        """Write what the block changes; the database says whether the name is taken."""
        try:
            yield
            session.flush()
        except IntegrityError as error:
            if name is None or f"uq_{self._table.__tablename__}_name" not in _constraint(error):
                raise
            raise NameTaken(f"You have a {self._kind} named {name!r} already.", "Choose another name.") from None


def check_count(session: Session, limits: Limits, limit: str, table: Any, user: Person, more: int) -> None:
    """Refuse more of a person's rows than the limit of that name allows.

    Raises:
      OverLimit: They would be too many.
    """
    kept = select(func.count()).where(table.user_id == user.id, table.deleted.is_(None))
    found = (session.scalar(kept) or 0) + more
    limits.check(limit, found, f"{user.name} would have {found:,} {table.__tablename__}")


def _constraint(error: IntegrityError) -> str:
    """What was violated; SQLite names the columns of an index and not the index."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis:
        return str(diagnosis.constraint_name)
    message = str(error.orig)
    for table in ("texts", "directions", "lists"):
        if message.endswith(f"{table}.name"):
            return f"uq_{table}_name"
    return message
