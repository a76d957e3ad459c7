"""Saved directions: found by words, by place and by vector; with all that people say of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from sqlalchemy import Select, exists, func, or_, select
from sqlalchemy.orm import Session, selectinload

from residscope import direction as directions
from residscope.directions.file import read_direction
from residscope.errors import BadArgument, NotSaved
from residscope.store import values
from residscope.store.home import Home
from residscope.store.part import Part, check_count
from residscope.store.tables import Comment, Description, Direction, Item, List, Revision, Tag, User, Vote, read_clock
from residscope.store.values import Card, Found, Neighbour, Person, Saved

_MANY = (
    selectinload(Direction.tags),
    selectinload(Direction.descriptions).selectinload(Description.votes),
)
_VECTORS = 20_000  # kept in memory to be compared


@dataclass(frozen=True)
class Directions(Part[Direction]):
    """Directions of one model, everybody's to read."""

    _table = Direction
    _vector: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_vector", lru_cache(_VECTORS)(self._read_vector))

    def save(
        self,
        user: Person,
        direction: directions.Direction,
        *,
        name: str | None = None,
        description: str = "",
        tags: Iterable[str] = (),
    ) -> Saved:
        """Keep a direction.

        Args:
          user: Whose it is.
          direction: Of the library's model.
          name: In place of the direction's own.
          description: What it means.
          tags: Words to find it by.
        Raises:
          NameTaken: One has a direction of that name.
          BadDirection, UnknownSite: It is no direction of this model.
          OverLimit: The name, the description, a tag or the number of directions is over its limit.
        """
        self.home.check(direction)
        name = self.limits.check_name(direction.name if name is None else name)
        description = description and self.limits.check_words(description, "The description")
        tags = self.limits.check_tags(tags)
        artefact = self.artefacts.write(direction.to_bytes())
        with self.database.changing() as session:
            check_count(session, self.limits, "directions_limit", Direction, user, 1)
            row = new_direction(
                user, self.home, direction, name, tags, [Revision(number=0, name=name, artefact=artefact)]
            )
            with self._naming(session, name):
                session.add(row)
            if description:
                add_description(session, user, row, description)
            return self._saved(session, row.id, user)

    def change(self, user: Person, id: int, *, name: str | None = None, tags: Iterable[str] | None = None) -> Saved:
        """Give one's own direction another name, where the old one stays in its revisions, and other tags.

        Raises:
          NameTaken: One has a direction of that name.
          OverLimit, BadArgument: The name or a tag is too long or empty, or there are too many tags.
        """
        name = None if name is None else self.limits.check_name(name)
        tags = None if tags is None else self.limits.check_tags(tags)
        with self.database.changing() as session:
            row = self._own(session, user, id)
            if name is not None:
                self._revise(session, row, name, row.artefact)
            if tags is not None:
                kept = {tag.name: tag for tag in row.tags}
                row.tags = [kept.get(tag, Tag(name=tag)) for tag in tags]
            return self._saved(session, id, user)

    def revise(self, user: Person, id: int, direction: directions.Direction) -> Saved:
        """Give one's own direction another vector; the old one stays in its revisions."""
        self.home.check(direction)
        artefact = self.artefacts.write(direction.to_bytes())
        with self.database.changing() as session:
            row = self._own(session, user, id)
            row.site, row.width = self.home.check(direction), len(direction.vector)
            self._revise(session, row, row.name, artefact)
            return self._saved(session, id, user)

    def load(self, reader: Person | None, id: int, revision: int | None = None) -> directions.Direction:
        """The direction itself, under its saved name; as a revision was, or as it is.

        Raises:
          NotSaved: There is no such direction or revision.
        """
        with self.database.reading() as session:
            row = self._any(session, reader, id)
            name, artefact = row.name, row.artefact
            if revision is not None:
                found = session.scalar(select(Revision).filter_by(direction_id=id, number=revision))
                if found is None:
                    raise NotSaved(f"Direction {id} has no revision {revision}.", f"Name one of 0 to {row.revision}.")
                name, artefact = found.name, found.artefact
        return replace(read_direction(self.artefacts.read(artefact), name), name=name)

    def card(self, reader: Person | None, id: int) -> Card:
        """All that is kept of a direction.

        Raises:
          NotSaved: There is none of that number.
        """
        with self.database.reading() as session:
            row = self._any(session, reader, id)
            lists = select(Item.list_id).join(List).where(Item.direction_id == id, List.deleted.is_(None))
            return Card(
                _describe(row, reader),
                tuple(describe_description(one, reader) for one in row.descriptions),
                tuple(describe_comment(one) for one in row.comments),
                tuple(values.Revision(one.number, one.name, one.artefact, one.created) for one in row.revisions),
                tuple(session.scalars(lists.order_by(Item.list_id))),
            )

    def find(
        self,
        reader: Person | None,
        *,
        words: str = "",
        owner: str | None = None,
        site: str | None = None,
        tag: str | None = None,
        list: int | None = None,
        deleted: bool = False,
        start: int = 0,
        count: int = 50,
    ) -> Found:
        """Search.

        Args:
          reader: Who searches.
          words: Each of them occurs in the name, a description or a tag; upper and lower case are one.
          owner: Whose; None is everybody's.
          site: Where they live.
          tag: That they have.
          list: Number of a list that they are in.
          deleted: One's own that were deleted, in place of those that were not.
          start: The first of those found, of which the last changed comes first; in a list, as they stand there.
          count: How many at most.
        """
        query = self._kept(reader, deleted=deleted)
        for word in words.split():
            query = query.where(
                or_(
                    Direction.name.icontains(word, autoescape=True),
                    _has(Description, Description.text.icontains(word, autoescape=True), Description.deleted.is_(None)),
                    _has(Tag, Tag.name.icontains(word, autoescape=True)),
                )
            )
        if owner is not None:
            query = query.where(Direction.user.has(User.name == owner))
        if site is not None:
            query = query.where(Direction.site == site)
        if tag is not None:
            query = query.where(_has(Tag, Tag.name == tag))
        if list is not None:
            listed = (Item.direction_id == Direction.id) & (Item.list_id == list)
            query = query.join(Item, listed).order_by(Item.position)
        with self.database.reading() as session:
            total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
            ordered = query.order_by(Direction.changed.desc(), Direction.id.desc()).offset(start).limit(count)
            rows = session.scalars(ordered.options(*_MANY)).unique()
            return Found(total, start, tuple(_describe(row, reader) for row in rows))

    def nearest(self, reader: Person | None, direction: directions.Direction, count: int = 10) -> list[Neighbour]:
        """The saved directions of the same width at the smallest angle, either sign, nearest first."""
        kept = self._kept(reader).where(Direction.width == len(direction.vector)).order_by(Direction.id)
        with self.database.reading() as session:
            there = session.execute(kept.with_only_columns(Direction.id, Direction.artefact)).all()
            if not there:
                return []
            cosines = np.stack([self._vector(artefact) for _, artefact in there]) @ direction.vector.numpy()
            nearest = {there[at][0]: float(cosines[at]) for at in np.argsort(-np.abs(cosines), kind="stable")[:count]}
            rows = session.scalars(select(Direction).where(Direction.id.in_(nearest)).options(*_MANY)).unique()
            found = {row.id: _describe(row, reader) for row in rows}
            return [Neighbour(found[id], cosine) for id, cosine in nearest.items()]

    def _kept(self, reader: Person | None, *, deleted: bool = False) -> Select[Direction]:
        query = select(Direction).where(Direction.model == self.home.fingerprint)
        if not deleted:
            return query.where(Direction.deleted.is_(None))
        return query.where(Direction.deleted.is_not(None), Direction.user_id == (reader.id if reader else None))

    def _revise(self, session: Session, row: Direction, name: str, artefact: str) -> None:
        if (name, artefact) == (row.name, row.artefact):
            return
        with self._naming(session, name):
            row.name, row.artefact, row.changed, row.revision = name, artefact, read_clock(), row.revision + 1
            session.add(Revision(direction_id=row.id, number=row.revision, name=name, artefact=artefact))

    def _saved(self, session: Session, id: int, reader: Person) -> Saved:
        session.flush()
        session.expire_all()
        return _describe(self._any(session, reader, id), reader)

    def _read_vector(self, artefact: str) -> np.ndarray[Any, Any]:
        vector = read_direction(self.artefacts.read(artefact), artefact).vector
        return vector.to(torch.float64).numpy()


@dataclass(frozen=True)
class Descriptions(Part[Description]):
    """What directions mean, in people's words."""

    _table = Description

    def add(self, user: Person, direction: int, text: str) -> values.Description:
        """Describe anybody's direction.

        Raises:
          NotSaved: There is none of that number.
          OverLimit, BadArgument: The text is too long, or empty.
        """
        text = self.limits.check_words(text, "The description")
        with self.database.changing() as session:
            row = add_description(session, user, find_direction(session, self.home.fingerprint, direction), text)
            return self._described(session, row.id, user)

    def revise(self, user: Person, id: int, text: str) -> values.Description:
        """Say one's own description in other words."""
        text = self.limits.check_words(text, "The description")
        with self.database.changing() as session:
            row = self._own(session, user, id)
            row.text, row.changed = text, read_clock()
            return self._described(session, id, user)

    def vote(self, user: Person, id: int, value: int) -> values.Description:
        """Vote for (1) or against (-1) a description, or take one's vote back (0). A person has one vote for each.

        Raises:
          NotSaved: There is none of that number.
          BadArgument: The value is another.
        """
        if value not in (-1, 0, 1):
            raise BadArgument(f"The vote {value!r} was given.", "Give 1, -1 or 0.")
        with self.database.changing() as session:
            self._any(session, None, id)
            vote = Vote(description_id=id, user_id=user.id, value=value)
            self.database.put(session, vote, replacing=("value",))
            return self._described(session, id, user)

    def _described(self, session: Session, id: int, reader: Person) -> values.Description:
        session.flush()
        session.expire_all()
        return describe_description(self._any(session, reader, id), reader)


@dataclass(frozen=True)
class Comments(Part[Comment]):
    """Remarks on directions."""

    _table = Comment

    def add(self, user: Person, direction: int, text: str) -> values.Comment:
        """Remark on anybody's direction.

        Raises:
          NotSaved: There is none of that number.
          OverLimit, BadArgument: The text is too long, or empty.
        """
        text = self.limits.check_words(text, "The comment")
        with self.database.changing() as session:
            found = find_direction(session, self.home.fingerprint, direction)
            row = Comment(direction_id=found.id, user_id=user.id, text=text)
            session.add(row)
            session.flush()
            return describe_comment(self._any(session, user, row.id))


def new_direction(
    user: Person,
    home: Home,
    direction: directions.Direction,
    name: str,
    tags: Iterable[str],
    revisions: list[Revision],
    **facts: Any,
) -> Direction:
    """A row of which the last revision is what it is."""
    return Direction(
        user_id=user.id,
        model=home.fingerprint,
        name=name,
        site=home.check(direction),
        width=len(direction.vector),
        artefact=revisions[-1].artefact,
        revision=revisions[-1].number,
        tags=[Tag(name=tag) for tag in tags],
        revisions=revisions,
        **facts,
    )


def find_direction(session: Session, model: str, id: int) -> Direction:
    """A direction that is not deleted.

    Raises:
      NotSaved: There is none of that number.
    """
    row = session.get(Direction, id)
    if row is None or row.deleted or row.model != model:
        raise NotSaved(f"Direction {id} is not there.", "List what there is.")
    return row


def add_description(session: Session, user: Person, direction: Direction, text: str) -> Description:
    """A new row."""
    row = Description(user_id=user.id, direction_id=direction.id, text=text)
    session.add(row)
    session.flush()
    return row


def describe_description(row: Description, reader: Person | None) -> values.Description:
    """A row as a value."""
    mine = [vote.value for vote in row.votes if reader and vote.user_id == reader.id]
    return values.Description(
        id=row.id,
        text=row.text,
        author=row.user.name,
        origin=row.origin,
        score=row.score,
        my_vote=mine[0] if mine else 0,
        created=row.created,
        changed=row.changed,
    )


def describe_comment(row: Comment) -> values.Comment:
    """A row as a value."""
    return values.Comment(row.id, row.text, row.user.name, row.origin, row.created)


def _describe(row: Direction, reader: Person | None) -> Saved:
    return Saved(
        id=row.id,
        name=row.name,
        owner=row.user.name,
        origin=row.origin,
        site=row.site,
        width=row.width,
        tags=tuple(sorted(tag.name for tag in row.tags)),
        description=describe_description(row.descriptions[0], reader) if row.descriptions else None,
        revision=row.revision,
        created=row.created,
        changed=row.changed,
        deleted=row.deleted,
    )


def _has(table: Any, *conditions: Any) -> Any:
    return exists().where(table.direction_id == Direction.id, *conditions)
