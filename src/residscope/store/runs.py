"""Analyses that were asked for, and what came of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from residscope.errors import BadArgument, NotSaved
from residscope.store import values
from residscope.store.part import Part
from residscope.store.tables import Run, read_clock
from residscope.store.values import Person

ENDS = ("done", "failed", "cancelled")
_LOOKED_AT = 100  # of a person's last runs, for one of the same words


@dataclass(frozen=True)
class Runs(Part[Run]):
    """Runs, which their owner alone sees."""

    _table = Run

    def add(self, user: Person, kind: str, settings: Mapping[str, Any]) -> values.Run:
        """Keep that an analysis was asked for; what was asked for in the same words shortly before is asked for anew.
        Of too many the oldest are deleted.

        Args:
          user: Who asks.
          kind: Its name.
          settings: The words of the request.
        Raises:
          OverLimit: The settings are longer than a text may be.
          BadArgument: They hold what JSON cannot.
        """
        try:
            written = json.dumps(dict(settings), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadArgument(f"The settings are no JSON ({error}).", "Give numbers, strings, lists.") from None
        self.limits.check_text("text_limit", written, "The settings")
        with self.database.changing() as session:
            row = self._find_same(session, user, kind, json.loads(written))
            if row is None:
                for old in session.scalars(self._select(user, kept=True).offset(self.limits.runs_limit - 1)).unique():
                    old.deleted = read_clock()
                row = Run(user_id=user.id, model=self.home.fingerprint, kind=self.limits.check_name(kind))
                row.settings = dict(settings)
                session.add(row)
            row.state, row.artefact, row.log, row.created = "waiting", None, [], read_clock()
            row.changed = row.created
            session.flush()
            return _describe(row)

    def finish(
        self, user: Person, id: int, state: str, log: Sequence[tuple[str, str]] = (), result: bytes | None = None
    ) -> values.Run:
        """Say how one's run ended.

        Args:
          user: Whose it is.
          id: Of the run.
          state: "done", "failed" or "cancelled".
          log: Times, each with what began then or went wrong.
          result: Of one that is done.
        Raises:
          BadArgument: There is no such end.
        """
        if state not in ENDS:
            raise BadArgument(f"There is no end {state!r}.", f"Choose one of {', '.join(ENDS)}.")
        artefact = None if result is None else self.artefacts.write(result)
        with self.database.changing() as session:
            row = self._own(session, user, id, deleted=True)  # it may be deleted while it runs
            row.state, row.changed, row.artefact = state, read_clock(), artefact
            row.log = [list(line) for line in log]
            session.flush()
            return _describe(row)

    def _find_same(self, session: Session, user: Person, kind: str, settings: dict[str, Any]) -> Run | None:
        query = self._select(user, kept=True).where(Run.kind == kind).limit(_LOOKED_AT)
        return next((row for row in session.scalars(query).unique() if row.settings == settings), None)

    def _select(self, user: Person, *, kept: bool) -> Select[Run]:
        deleted = Run.deleted.is_(None) if kept else Run.deleted.is_not(None)
        query = select(Run).where(Run.user_id == user.id, Run.model == self.home.fingerprint, deleted)
        return query.order_by(Run.created.desc(), Run.id.desc())

    def find(self, user: Person, *, deleted: bool = False) -> list[values.Run]:
        """One's runs, the last asked for first."""
        with self.database.reading() as session:
            return [_describe(row) for row in session.scalars(self._select(user, kept=not deleted)).unique()]

    def read(self, user: Person, id: int) -> values.Run:
        """One's own run.

        Raises:
          NotSaved, NotYours: There is none of that number, or it is another's.
        """
        with self.database.changing() as session:
            return _describe(self._own(session, user, id, deleted=True))

    def result(self, user: Person, id: int) -> bytes:
        """What came of it.

        Raises:
          NotSaved: There is no such run, or no result yet.
          NotYours: It is another's.
        """
        run = self.read(user, id)
        if run.artefact is None:
            raise NotSaved(f"Run {id} has no result; it is {run.state}.", "Wait for it, or ask again.")
        return self.artefacts.read(run.artefact)


def _describe(row: Run) -> values.Run:
    return values.Run(
        id=row.id,
        owner=row.user.name,
        kind=row.kind,
        settings=row.settings,
        state=row.state,
        artefact=row.artefact,
        log=tuple((at, what) for at, what in row.log),
        created=row.created,
        changed=row.changed,
        deleted=row.deleted,
    )
