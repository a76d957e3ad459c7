"""Analyses that were asked for, and what came of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from residscope.errors import BadArgument, NotSaved
from residscope.store import values
from residscope.store.part import Part
from residscope.store.tables import Run, read_clock
from residscope.store.values import Person

STATES = ("waiting", "running", "done", "failed", "cancelled")


@dataclass(frozen=True)
class Runs(Part[Run]):
    """Runs, listed for their owner, and read by all who have their link."""

    _table = Run

    def add(self, user: Person, kind: str, settings: Mapping[str, Any]) -> values.Run:
        """Keep that an analysis was asked for.

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
            row = Run(
                user_id=user.id,
                model=self.home.fingerprint,
                kind=self.limits.check_name(kind),
                settings=dict(settings),
                state=STATES[0],
            )
            session.add(row)
            session.flush()
            return _describe(row)

    def move(self, user: Person, id: int, state: str, result: bytes | None = None) -> values.Run:
        """Say how far one's run is, and give its result once there is one.

        Raises:
          BadArgument: There is no such state.
        """
        if state not in STATES:
            raise BadArgument(f"There is no state {state!r}.", f"Choose one of {', '.join(STATES)}.")
        artefact = None if result is None else self.artefacts.write(result)
        with self.database.changing() as session:
            row = self._own(session, user, id)
            row.state, row.changed, row.artefact = state, read_clock(), artefact or row.artefact
            session.flush()
            return _describe(row)

    def find(self, user: Person, *, deleted: bool = False) -> list[values.Run]:
        """One's runs, the newest first."""
        kept = Run.deleted.is_not(None) if deleted else Run.deleted.is_(None)
        query = select(Run).where(Run.user_id == user.id, Run.model == self.home.fingerprint, kept)
        with self.database.reading() as session:
            return [_describe(row) for row in session.scalars(query.order_by(Run.id.desc())).unique()]

    def read(self, reader: Person | None, id: int) -> values.Run:
        """One run.

        Raises:
          NotSaved: There is none of that number.
        """
        with self.database.reading() as session:
            return _describe(self._any(session, reader, id))

    def result(self, reader: Person | None, id: int) -> bytes:
        """What came of it.

        Raises:
          NotSaved: There is no such run, or no result yet.
        """
        run = self.read(reader, id)
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
        created=row.created,
        changed=row.changed,
        deleted=row.deleted,
    )
