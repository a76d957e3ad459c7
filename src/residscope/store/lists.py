"""Lists of directions, in an order."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from residscope.store.directions import find_direction
from residscope.store.part import Part
from residscope.store.tables import Item, List
from residscope.store.values import DirectionList, Person


@dataclass(frozen=True)
class Lists(Part[List]):
    """Lists of anybody's directions, everybody's to read."""

    _table = List

    def add(self, user: Person, name: str, directions: Sequence[int] = ()) -> DirectionList:
        """Begin a list.

        Raises:
          NameTaken: One has a list of that name.
          NotSaved: A direction is not there.
        """
        name = self.limits.check_name(name)
        with self.database.changing() as session:
            row = List(user_id=user.id, model=self.home.fingerprint, name=name)
            with self._naming(session, name):
                session.add(row)
            self._arrange(session, row, directions)
            return _describe(row)

    def change(
        self, user: Person, id: int, *, name: str | None = None, directions: Sequence[int] | None = None
    ) -> DirectionList:
        """Give one's own list another name, and these directions, in this order, in place of what it has.

        Raises:
          NameTaken: One has a list of that name.
          NotSaved: A direction is not there.
        """
        name = None if name is None else self.limits.check_name(name)
        with self.database.changing() as session:
            row = self._own(session, user, id)
            with self._naming(session, name):
                row.name = name or row.name
            if directions is not None:
                self._arrange(session, row, directions)
            return _describe(row)

    def append(self, user: Person, id: int, direction: int) -> DirectionList:
        """Put a direction at the end of one's own list, unless it is there."""
        with self.database.changing() as session:
            row = self._own(session, user, id)
            there = [item.direction_id for item in row.items]
            self._arrange(session, row, [*there, direction])
            return _describe(row)

    def find(self, reader: Person | None, *, deleted: bool = False) -> list[DirectionList]:
        """Everybody's lists by their names; or one's own that were deleted."""
        query = select(List).where(List.model == self.home.fingerprint).options(selectinload(List.items))
        if deleted:
            query = query.where(List.deleted.is_not(None), List.user_id == (reader.id if reader else None))
        else:
            query = query.where(List.deleted.is_(None))
        with self.database.reading() as session:
            return [_describe(row) for row in session.scalars(query.order_by(List.name, List.id)).unique()]

    def read(self, reader: Person | None, id: int) -> DirectionList:
        """One list.

        Raises:
          NotSaved: There is none of that number.
        """
        with self.database.reading() as session:
            return _describe(self._any(session, reader, id))

    def _arrange(self, session: Session, row: List, directions: Sequence[int]) -> None:
        there = {item.direction_id: item for item in row.items}
        items = []
        for position, one in enumerate(dict.fromkeys(directions)):
            if one not in there:
                found = find_direction(session, self.home.fingerprint, one)
                there[one] = Item(direction=found, direction_id=found.id)
            there[one].position = position
            items.append(there[one])
        row.items = items
        session.flush()


def _describe(row: List) -> DirectionList:
    there = tuple(item.direction_id for item in row.items if not item.direction.deleted)
    return DirectionList(row.id, row.name, row.user.name, there, row.created, row.deleted)
