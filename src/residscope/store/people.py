"""Who is who: names, passwords, and sessions that can be ended."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import delete, select

from residscope.errors import BadArgument, SignInRefused
from residscope.store.database import Database
from residscope.store.limits import Limits
from residscope.store.tables import SignIn, User, read_clock
from residscope.store.values import Person

SESSION_DAYS = 30
_LEAST_PASSWORD = 8
_HASHER = PasswordHasher()


@dataclass(frozen=True)
class People:
    """The people of a database."""

    database: Database
    limits: Limits

    def name(self, name: str) -> Person:
        """The person of that name, new where there is none."""
        name = name.strip()
        if not name or not name.isprintable():
            raise BadArgument(f"{name!r} is no name.", "Write letters.")
        self.limits.check("name_limit", len(name), f"The name has {len(name)} characters")
        with self.database.changing() as session:
            if (row := session.scalar(select(User).filter_by(name=name))) is None:
                self.database.put(session, User(name=name, created=read_clock()))
                row = session.scalars(select(User).filter_by(name=name)).one()
            return Person(row.id, row.name)

    def add(self, name: str, password: str) -> Person:
        """Let a person sign in by a password; a new one, if they could already. Sessions they had are ended.

        Raises:
          BadArgument: The password is short, or the name is none.
        """
        if len(password) < _LEAST_PASSWORD:
            raise BadArgument(f"The password has {len(password)} characters.", f"Take {_LEAST_PASSWORD} or more.")
        hashed = _HASHER.hash(password)
        return self._set_password(self.name(name), hashed)

    def revoke(self, name: str) -> Person:
        """End a person's sessions, and let them sign in no more; what they saved stays.

        Raises:
          BadArgument: There is nobody of that name.
        """
        with self.database.reading() as session:
            row = session.scalar(select(User).filter_by(name=name))
        if row is None:
            raise BadArgument(f"There is nobody named {name!r}.", "See `residscope users list`.")
        return self._set_password(Person(row.id, row.name), None)

    def list(self) -> dict[str, bool]:
        """Everybody's name, and whether they may sign in by a password."""
        with self.database.reading() as session:
            return {row.name: row.password is not None for row in session.scalars(select(User).order_by(User.name))}

    def sign_in(self, name: str, password: str | None = None) -> str:
        """Begin a session.

        Args:
          name: Who.
          password: None on a loopback address, where a name is enough.
        Returns:
          A token that `who` knows, for 30 days; only its hash is kept.
        Raises:
          SignInRefused: Name and password do not go together.
        """
        person = self.name(name) if password is None else self._check(name, password)
        token = secrets.token_urlsafe(32)
        now = read_clock()
        with self.database.changing() as session:
            session.execute(delete(SignIn).where(SignIn.expires < now))
            session.add(
                SignIn(
                    token_hash=_hash(token),
                    user_id=person.id,
                    by_password=password is not None,
                    expires=now + timedelta(days=SESSION_DAYS),
                )
            )
        return token

    def who(self, token: str, *, by_password: bool = False) -> Person | None:
        """Whose session it is; None if it has ended, or was begun without the password that is asked for now."""
        with self.database.reading() as session:
            row = session.get(SignIn, _hash(token))
            if row is None or row.expires < read_clock() or (by_password and not row.by_password):
                return None
            return Person(row.user.id, row.user.name)

    def sign_out(self, token: str) -> None:
        """End a session."""
        with self.database.changing() as session:
            session.execute(delete(SignIn).where(SignIn.token_hash == _hash(token)))

    def _set_password(self, person: Person, hashed: str | None) -> Person:
        with self.database.changing() as session:
            session.get_one(User, person.id).password = hashed
            session.execute(delete(SignIn).where(SignIn.user_id == person.id))
        return person

    def _check(self, name: str, password: str) -> Person:
        with self.database.reading() as session:
            row = session.scalar(select(User).filter_by(name=name.strip()))
        hashed = row.password if row and row.password else _hash_nobodys()
        try:
            _HASHER.verify(hashed, password)
        except VerifyMismatchError:
            row = None
        if row is None or row.password is None:
            raise SignInRefused("That name and password do not go together.", "See that both are right.")
        return Person(row.id, row.name)


@cache
def _hash_nobodys() -> str:
    """What is compared where nobody has the name: it takes as long, and so tells nothing."""
    return _HASHER.hash(secrets.token_urlsafe())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
