"""A library as one file: safetensors, with everything but the vectors in a JSON header."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload
from torch import Tensor

from residscope import direction as directions
from residscope.directions.file import build_direction, read_direction
from residscope.errors import BadLibrary, NameTaken, NotSaved
from residscope.store.artefacts import Artefacts
from residscope.store.database import Database
from residscope.store.directions import new_direction
from residscope.store.home import Home
from residscope.store.limits import Limits
from residscope.store.part import check_count
from residscope.store.tables import Comment, Description, Direction, Item, List, Revision, Text
from residscope.store.values import Imported, Person

FORMAT = "residscope library 1"


class _Model(BaseModel):
    name: str
    fingerprint: str


class _Words(BaseModel):
    text: str
    author: str
    created: AwareDatetime


class _Revision(BaseModel):
    name: str
    vector: int
    created: AwareDatetime


class _Owned(BaseModel):
    name: str
    owner: str


class _Direction(_Owned):
    created: AwareDatetime
    tags: list[str]
    revisions: list[_Revision]
    descriptions: list[_Words]
    comments: list[_Words]


class _List(_Owned):
    directions: list[int]


class _Text(BaseModel):
    name: str | None
    text: str
    pinned: bool


class _Header(BaseModel):
    format: str
    tool: str
    model: _Model
    vectors: list[dict[str, Any]]
    directions: list[_Direction]
    lists: list[_List]
    texts: list[_Text]


@dataclass(frozen=True)
class Exchange:
    """Writes libraries to files, and brings them back.

    A file is safetensors. Its metadata entry `residscope` is a JSON object with `format` ("residscope library 1"),
    `tool`, `model` (`name` and `fingerprint`), and:

    - `vectors`: what a direction's file says of it, in the order of the tensors `0.vector`, `0.mean` (where it is
      centred), `0.shuffled` (where labels made it), `1.vector`, and so on, in float64;
    - `directions`: `name`, `owner`, `created`, `tags`, `revisions` (`name`, `created`, and the number of the `vector`;
      the last is what it is), `descriptions`, the best voted first, and `comments` (`text`, `author`, `created`);
    - `lists`: `name`, `owner`, and `directions`, which count in this file from 0;
    - `texts`: `name` (or null), `text`, `pinned`.

    Times are written as ISO 8601 has it, with their zone.
    """

    database: Database
    artefacts: Artefacts
    home: Home
    limits: Limits

    def write(self, reader: Person | None, chosen: Sequence[int] | None = None) -> bytes:
        """A file of everybody's directions and lists and one's own texts; or of the chosen directions alone.

        Raises:
          NotSaved: A chosen one is not there.
        """
        query = select(Direction).where(Direction.model == self.home.fingerprint, Direction.deleted.is_(None))
        query = query.order_by(Direction.id).options(
            *map(selectinload, (Direction.tags, Direction.revisions, Direction.descriptions, Direction.comments))
        )
        with self.database.reading() as session:
            rows = list(session.scalars(query if chosen is None else query.where(Direction.id.in_(chosen))).unique())
            if missing := {*(chosen or ())} - {row.id for row in rows}:
                raise NotSaved(f"Direction {min(missing)} is not there.", "List what there is.")
            used = dict.fromkeys(old.artefact for row in rows for old in row.revisions)
            artefacts = {name: number for number, name in enumerate(used)}
            vectors = [read_direction(self.artefacts.read(name), name) for name in artefacts]
            header = _Header(
                format=FORMAT,
                tool=f"residscope {version('residscope')}",
                model=_Model(name=self.home.name, fingerprint=self.home.fingerprint),
                vectors=[vector.facts for vector in vectors],
                directions=[_write_direction(row, artefacts) for row in rows],
                lists=self._write_lists(session, rows) if chosen is None else [],
                texts=self._write_texts(session, reader) if chosen is None and reader else [],
            )
        tensors = {f"{n}.{name}": one for n, vector in enumerate(vectors) for name, one in vector.tensors.items()}
        return save(tensors, metadata={"residscope": json.dumps(header.model_dump(mode="json"))})

    def bring(self, user: Person, content: bytes) -> Imported:
        """Bring what a file holds into the library, as `user`'s; all of it or nothing.

        Whose a direction, description or comment was is kept as its `origin`. What is there already, the same vector of
        the same person, is left as it is; a name that `user` has already gets the former owner's behind it. Votes stay
        behind.

        Raises:
          BadLibrary: The file is no library, is cut short, or is another model's.
          BadDirection: One of its directions is a feature of another dictionary than the one of that name here.
          OverLimit: It is larger than is allowed, or something in it is, or there would be too much.
        """
        self.limits.check("import_limit", len(content), f"The file has {len(content):,} bytes")
        header = _read_header(content)
        if header.model.fingerprint != self.home.fingerprint:
            raise BadLibrary(
                f"The file is of the model {header.model.name} ({header.model.fingerprint[:8]}), and this library of "
                f"{self.home.name} ({self.home.fingerprint[:8]}).",
                "Start the server on the file's model.",
            )
        vectors = _read_vectors(content, header)
        for vector in vectors:
            self.home.check(vector)
        self._check_words(header)
        artefacts = [self.artefacts.write(vector.to_bytes()) for vector in vectors]
        try:
            with self.database.changing() as session:
                return self._insert(session, user, header, vectors, artefacts)
        except IntegrityError:
            raise NameTaken("A name was taken while the file was read.", "Import it again.") from None

    def _insert(
        self,
        session: Session,
        user: Person,
        header: _Header,
        vectors: list[directions.Direction],
        artefacts: list[str],
    ) -> Imported:
        ours = select(Direction).where(Direction.model == self.home.fingerprint, Direction.deleted.is_(None))
        kept = list(session.scalars(ours).unique())
        there = {(row.origin or row.user.name, row.artefact): row for row in kept}
        taken = {row.name for row in kept if row.user_id == user.id}
        rows, new = [], []
        for one in header.directions:
            last = one.revisions[-1].vector
            row = there.get((one.owner, artefacts[last]))
            if row is None:
                row = self._new(user, one, vectors[last], _free(one.name, one.owner, taken), artefacts)
                new.append((row, one))
            rows.append(row)
        check_count(session, self.limits, "directions_limit", Direction, user, len(new))
        session.add_all(row for row, _ in new)
        session.flush()
        for row, one in new:
            self._say(session, user, row, one)
        n_lists = self._insert_lists(session, user, header, rows)
        return Imported(len(new), n_lists, self._insert_texts(session, user, header))

    def _new(
        self, user: Person, one: _Direction, vector: directions.Direction, name: str, artefacts: list[str]
    ) -> Direction:
        revisions = [
            Revision(number=number, name=old.name, artefact=artefacts[old.vector], created=old.created)
            for number, old in enumerate(one.revisions)
        ]
        revisions[-1].name = name
        facts = {"created": one.created, "origin": _origin(one.owner, user)}
        return new_direction(user, self.home, vector, name, one.tags, revisions, **facts)

    def _say(self, session: Session, user: Person, row: Direction, one: _Direction) -> None:
        for table, said in ((Description, one.descriptions), (Comment, one.comments)):
            for words in said:
                new = table(direction_id=row.id, user_id=user.id, text=words.text, created=words.created)
                new.origin = _origin(words.author, user)
                session.add(new)

    def _insert_lists(self, session: Session, user: Person, header: _Header, rows: list[Direction]) -> int:
        kept = self._lists(session)
        there = {(row.user.name, tuple(_shown(row))) for row in kept}
        taken, n = {row.name for row in kept if row.user_id == user.id}, 0
        for one in header.lists:
            items = tuple(dict.fromkeys(rows[place].id for place in one.directions))
            if {(one.owner, items), (user.name, items)} & there:
                continue
            new = List(user_id=user.id, model=self.home.fingerprint, name=_free(one.name, one.owner, taken))
            new.items = [Item(direction_id=id, position=position) for position, id in enumerate(items)]
            session.add(new)
            n += 1
        return n

    def _insert_texts(self, session: Session, user: Person, header: _Header) -> int:
        kept = list(session.scalars(select(Text).where(Text.user_id == user.id, Text.deleted.is_(None))))
        there, taken = {row.text for row in kept}, {row.name for row in kept if row.name}
        new = [one for one in header.texts if one.text not in there]
        check_count(session, self.limits, "texts_limit", Text, user, len(new))
        for one in new:
            name = _free(one.name, user.name, taken) if one.name else None
            session.add(Text(user_id=user.id, name=name, text=one.text, pinned=one.pinned))
        return len(new)

    def _check_words(self, header: _Header) -> None:
        """Refuse what could not have been written here, and take space from around words."""
        limits = self.limits
        for one in header.directions:
            one.name, one.tags = limits.check_name(one.name), limits.check_tags(one.tags)
            for revision in one.revisions:
                revision.name = limits.check_name(revision.name)
            for words in (*one.descriptions, *one.comments):
                words.text = limits.check_words(words.text, "A description or comment")
        for listed in header.lists:
            listed.name = limits.check_name(listed.name)
        for text in header.texts:
            text.name = limits.check_name(text.name) if text.name else None
            text.text = limits.check_text("text_limit", text.text, "A text")
        for name in _people(header):
            limits.check_name(name)

    def _write_lists(self, session: Session, rows: list[Direction]) -> list[_List]:
        places = {row.id: place for place, row in enumerate(rows)}
        return [
            _List(
                name=one.name,
                owner=one.user.name,
                directions=[places[id] for id in _shown(one) if id in places],
            )
            for one in self._lists(session)
        ]

    def _write_texts(self, session: Session, reader: Person) -> list[_Text]:
        query = select(Text).where(Text.user_id == reader.id, Text.deleted.is_(None)).order_by(Text.id)
        return [_Text(name=row.name, text=row.text, pinned=row.pinned) for row in session.scalars(query)]

    def _lists(self, session: Session) -> list[List]:
        query = select(List).where(List.model == self.home.fingerprint, List.deleted.is_(None)).order_by(List.id)
        return list(session.scalars(query).unique())


def _read_header(content: bytes) -> _Header:
    try:
        length = int.from_bytes(content[:8], "little")
        facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["residscope"])
        if facts["format"] != FORMAT:
            raise ValueError(f"its format is {facts['format']!r}")
        header = _Header.model_validate(facts)
        for one in header.directions:
            if not one.revisions:
                raise ValueError(f"{one.name} has no vector")
            _check_numbers([old.vector for old in one.revisions], len(header.vectors))
        for listed in header.lists:
            _check_numbers(listed.directions, len(header.directions))
    except ValidationError as error:
        first = error.errors()[0]
        raise _no_library(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        raise _no_library(error) from None
    return header


def _read_vectors(content: bytes, header: _Header) -> list[directions.Direction]:
    try:
        parts: list[dict[str, Tensor]] = [{} for _ in header.vectors]
        for name, tensor in load(content).items():
            number, _, part = name.partition(".")
            parts[int(number)][part] = tensor
        return [build_direction(part, facts) for part, facts in zip(parts, header.vectors, strict=True)]
    except (SafetensorError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise _no_library(error) from None


def _check_numbers(numbers: Sequence[int], n: int) -> None:
    for number in numbers:
        if not 0 <= number < n:
            raise ValueError(f"it counts {n} and names {number}")


def _no_library(why: object) -> BadLibrary:
    return BadLibrary(f"The file holds no library, or is cut short ({why}).", "Give one that was exported.")


def _write_direction(row: Direction, artefacts: Mapping[str, int]) -> _Direction:
    return _Direction(
        name=row.name,
        owner=row.origin or row.user.name,
        created=row.created,
        tags=sorted(tag.name for tag in row.tags),
        revisions=[
            _Revision(name=old.name, vector=artefacts[old.artefact], created=old.created) for old in row.revisions
        ],
        descriptions=[_write_words(one) for one in row.descriptions],
        comments=[_write_words(one) for one in row.comments],
    )


def _shown(row: List) -> list[int]:
    return [item.direction_id for item in row.items if not item.direction.deleted]


def _write_words(row: Description | Comment) -> _Words:
    return _Words(text=row.text, author=row.origin or row.user.name, created=row.created)


def _people(header: _Header) -> set[str]:
    said = [words for one in header.directions for words in (*one.descriptions, *one.comments)]
    return {*(one.owner for one in (*header.directions, *header.lists)), *(words.author for words in said)}


def _origin(name: str, user: Person) -> str | None:
    return None if name == user.name else name


def _free(name: str, owner: str, taken: set[str]) -> str:
    """The name, or it with more behind it, that is not taken; which it is then."""
    longer = (f"{name} ({owner})" if n == 1 else f"{name} ({owner}) {n}" for n in count(1))
    found = name if name not in taken else next(one for one in longer if one not in taken)
    taken.add(found)
    return found
