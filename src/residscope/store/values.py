"""What the library gives: plain values, apart from the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Person:
    """Who acts."""

    id: int
    name: str


@dataclass(frozen=True)
class Description:
    """What a direction means, in somebody's words.

    Attributes:
      origin: Whose words they were, where they were imported.
      score: Votes for less votes against.
      my_vote: 1, -1 or 0, of who reads.
    """

    id: int
    text: str
    author: str
    origin: str | None
    score: int
    my_vote: int
    created: datetime
    changed: datetime


@dataclass(frozen=True)
class Comment:
    """A remark on a direction."""

    id: int
    text: str
    author: str
    origin: str | None
    created: datetime


@dataclass(frozen=True)
class Revision:
    """What a direction was from a moment on; `number` counts from 0."""

    number: int
    name: str
    artefact: str
    created: datetime


@dataclass(frozen=True)
class Saved:
    """A saved direction.

    Attributes:
      owner: Who saved it.
      origin: Whose it was, where it was imported.
      width: Entries of its vector.
      description: The best voted, if there is any.
      revision: The number of the last.
    """

    id: int
    name: str
    owner: str
    origin: str | None
    site: str
    width: int
    tags: tuple[str, ...]
    description: Description | None
    revision: int
    created: datetime
    changed: datetime
    deleted: datetime | None


@dataclass(frozen=True)
class Card:
    """All that is kept of one direction: `descriptions` best first, `lists` by their numbers."""

    direction: Saved
    descriptions: tuple[Description, ...]
    comments: tuple[Comment, ...]
    revisions: tuple[Revision, ...]
    lists: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """Some of what was searched for: `total` of all, and these from `start` on."""

    total: int
    start: int
    directions: tuple[Saved, ...]


@dataclass(frozen=True)
class Neighbour:
    """A saved direction, and the cosine of its angle to another."""

    direction: Saved
    cosine: float


@dataclass(frozen=True)
class DirectionList:
    """Directions in an order, by their numbers; deleted ones are left out."""

    id: int
    name: str
    owner: str
    directions: tuple[int, ...]
    created: datetime
    deleted: datetime | None


@dataclass(frozen=True)
class Text:
    """A text of one's own."""

    id: int
    name: str | None
    text: str
    pinned: bool
    created: datetime
    deleted: datetime | None


@dataclass(frozen=True)
class Progress:
    """So many steps of so many, and what of."""

    done: int
    total: int
    what: str


@dataclass(frozen=True)
class Run:
    """An analysis that was asked for; `artefact` names its result, once there is one.

    Attributes:
      state: "waiting", "running", "done", "failed", "cancelled"; or "interrupted", of one that does not run any more.
      log: Times, each with what began then or went wrong.
      progress: While it runs.
    """

    id: int
    owner: str
    kind: str
    settings: Mapping[str, Any]
    state: str
    artefact: str | None
    log: tuple[tuple[str, str], ...]
    created: datetime
    changed: datetime
    deleted: datetime | None
    progress: Progress | None = None


@dataclass(frozen=True)
class Imported:
    """How much a file brought, and how many votes on its descriptions stay behind; what was there is not counted."""

    n_directions: int
    n_lists: int
    n_texts: int
    n_votes_left: int
