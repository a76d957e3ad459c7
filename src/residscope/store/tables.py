"""The tables of the library. What is deleted keeps its row, with the time; rows of others never go with it."""

from datetime import UTC, datetime
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship


class Moment(TypeDecorator[datetime]):
    """A time in UTC; SQLite keeps no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and not value.tzinfo else value

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None


def read_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


Key = Annotated[int, mapped_column(primary_key=True)]
UserKey = Annotated[int, mapped_column(ForeignKey("users.id"), index=True)]
DirectionKey = Annotated[int, mapped_column(ForeignKey("directions.id"), index=True)]
Created = Annotated[datetime, mapped_column(default=read_clock)]


class Base(DeclarativeBase):
    """What all tables share: how constraints are named, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Moment, dict[str, Any]: JSON, list[list[str]]: JSON}  # noqa: RUF012  # SQLAlchemy's own declaration


class User(Base):
    """A person. Without a password one can be named on a loopback address only."""

    __tablename__ = "users"

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str | None]
    created: Mapped[Created]


class SignIn(Base):
    """A session of a browser or a client. The token itself is known to that one alone."""

    __tablename__ = "sessions"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UserKey]
    by_password: Mapped[bool]
    created: Mapped[Created]
    expires: Mapped[datetime]

    user: Mapped[User] = relationship()


class Owned:
    """A row that belongs to one person, who alone may change or delete it."""

    id: Mapped[Key]
    user_id: Mapped[UserKey]
    created: Mapped[Created]
    deleted: Mapped[datetime | None]


def _unique_among_kept(table: str, *columns: str) -> tuple[Index, ...]:
    """One person's names differ, those of deleted rows aside."""
    kept = text("deleted IS NULL")
    return (Index(f"uq_{table}_name", *columns, unique=True, sqlite_where=kept, postgresql_where=kept),)


class Text(Owned, Base):
    """A text of one's own; without a name if it needs none."""

    __tablename__ = "texts"
    __table_args__ = _unique_among_kept("texts", "user_id", "name")

    name: Mapped[str | None]
    text: Mapped[str]
    pinned: Mapped[bool] = mapped_column(default=False)


class Direction(Owned, Base):
    """A saved direction, as its last revision says it."""

    __tablename__ = "directions"
    __table_args__ = _unique_among_kept("directions", "user_id", "model", "name")

    model: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    site: Mapped[str] = mapped_column(index=True)
    width: Mapped[int]
    artefact: Mapped[str]
    revision: Mapped[int] = mapped_column(default=0)
    origin: Mapped[str | None]
    changed: Mapped[Created]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    revisions: Mapped[list["Revision"]] = relationship(order_by="Revision.number")
    tags: Mapped[list["Tag"]] = relationship(order_by="Tag.name", cascade="all, delete-orphan")
    descriptions: Mapped[list["Description"]] = relationship(
        order_by="desc(Description.score), Description.id",
        primaryjoin="and_(Direction.id == Description.direction_id, Description.deleted.is_(None))",
        viewonly=True,
    )
    comments: Mapped[list["Comment"]] = relationship(
        order_by="Comment.id",
        primaryjoin="and_(Direction.id == Comment.direction_id, Comment.deleted.is_(None))",
        viewonly=True,
    )


class Revision(Base):
    """What a direction was from a moment on. Rows are added, never changed."""

    __tablename__ = "revisions"
    __table_args__ = (UniqueConstraint("direction_id", "number"),)

    id: Mapped[Key]
    direction_id: Mapped[DirectionKey]
    number: Mapped[int]
    name: Mapped[str]
    artefact: Mapped[str]
    created: Mapped[Created]


class Tag(Base):
    """A word on a direction."""

    __tablename__ = "tags"

    direction_id: Mapped[int] = mapped_column(ForeignKey("directions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True, index=True)


class Vote(Base):
    """What one person thinks of one description: the key allows no second."""

    __tablename__ = "votes"
    __table_args__ = (CheckConstraint("value IN (-1, 0, 1)", name="value"),)

    description_id: Mapped[int] = mapped_column(ForeignKey("descriptions.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    value: Mapped[int]


class Description(Owned, Base):
    """What a direction means, in somebody's words."""

    __tablename__ = "descriptions"

    id: Mapped[int] = mapped_column(primary_key=True)
    direction_id: Mapped[DirectionKey]
    text: Mapped[str]
    origin: Mapped[str | None]
    changed: Mapped[Created]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    votes: Mapped[list[Vote]] = relationship(viewonly=True)
    score: Mapped[int] = column_property(
        select(func.coalesce(func.sum(Vote.value), 0))
        .where(Vote.description_id == id)
        .correlate_except(Vote)
        .scalar_subquery()
    )


class Comment(Owned, Base):
    """A remark on a direction."""

    __tablename__ = "comments"

    direction_id: Mapped[DirectionKey]
    text: Mapped[str]
    origin: Mapped[str | None]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class List(Owned, Base):
    """Directions in an order."""

    __tablename__ = "lists"
    __table_args__ = _unique_among_kept("lists", "user_id", "model", "name")

    model: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    items: Mapped[list["Item"]] = relationship(order_by="Item.position", cascade="all, delete-orphan")


class Item(Base):
    """A direction's place in a list."""

    __tablename__ = "list_items"

    list_id: Mapped[int] = mapped_column(ForeignKey("lists.id"), primary_key=True)
    direction_id: Mapped[int] = mapped_column(ForeignKey("directions.id"), primary_key=True, index=True)
    position: Mapped[int]

    direction: Mapped[Direction] = relationship(lazy="joined", innerjoin=True)


class Run(Owned, Base):
    """An analysis that was asked for, and what came of it."""

    __tablename__ = "runs"

    model: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    settings: Mapped[dict[str, Any]]
    state: Mapped[str]
    artefact: Mapped[str | None]
    changed: Mapped[Created]
    log: Mapped[list[list[str]]] = mapped_column(default=list, server_default="[]")

    user: Mapped[User] = relationship(lazy="joined", innerjoin=True)
