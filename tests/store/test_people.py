"""Who is who, over both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from residscope.errors import BadArgument, SignInRefused
from residscope.store.library import Library
from residscope.store.tables import SignIn, read_clock


def test_a_name_is_one_person(library: Library) -> None:
    ada = library.people.name(" Ada ")
    assert library.people.name("Ada") == ada
    assert ada.name == "Ada"
    assert library.people.name("ada") != ada
    for name in ("", " ", "a\nb", "a\0"):
        with pytest.raises(BadArgument, match="is no name"):
            library.people.name(name)


def test_passwords(library: Library) -> None:
    people = library.people
    ada = people.add("Ada", "correct horse")
    people.name("Bob")
    assert people.list() == {"Ada": True, "Bob": False}
    assert people.who(people.sign_in("Ada", "correct horse"), by_password=True) == ada
    for name, password in (("Ada", "wrong"), ("Ada", ""), ("Bob", "correct horse"), ("Eve", "correct horse")):
        with pytest.raises(SignInRefused, match="do not go together"):
            people.sign_in(name, password)
    assert list(people.list()) == ["Ada", "Bob"]  # who fails to sign in is not made
    with pytest.raises(BadArgument, match="has 7 characters"):
        people.add("Ada", "seven77")


def test_sessions_end(library: Library) -> None:
    people = library.people
    people.add("Ada", "correct horse")
    kept, ended = people.sign_in("Ada", "correct horse"), people.sign_in("Ada", "correct horse")
    people.sign_out(ended)
    assert people.who(ended) is None
    assert people.who(kept)
    people.add("Ada", "another horse")
    assert people.who(kept) is None
    token = people.sign_in("Ada", "another horse")
    people.revoke("Ada")
    assert people.who(token) is None
    with pytest.raises(SignInRefused):
        people.sign_in("Ada", "another horse")
    with pytest.raises(BadArgument, match="nobody named 'Eve'"):
        people.revoke("Eve")


def test_sessions_expire(library: Library) -> None:
    token = library.people.sign_in("Ada")
    assert library.people.who(token)
    with library._database.changing() as session:
        session.execute(update(SignIn).values(expires=read_clock() - timedelta(seconds=1)))
    assert library.people.who(token) is None


def test_tokens_and_passwords_are_kept_as_hashes(library: Library) -> None:
    library.people.add("Ada", "correct horse")
    token = library.people.sign_in("Ada", "correct horse")
    with library._database.reading() as session:
        kept = session.connection().exec_driver_sql("SELECT token_hash FROM sessions").scalars().all()
        hashes = session.connection().exec_driver_sql("SELECT password FROM users").scalars().all()
    assert token not in kept
    assert [one.split("$")[1] for one in hashes] == ["argon2id"]


def test_a_session_by_name_alone_is_told_from_one_by_password(library: Library) -> None:
    token = library.people.sign_in("Ada")
    assert library.people.who(token) == library.people.name("Ada")
    assert library.people.who(token, by_password=True) is None
    assert library.people.who("nonsense") is None
