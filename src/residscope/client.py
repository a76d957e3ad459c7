"""`rs.Client`: a workbench's library from a notebook or a script."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter

from residscope import errors
from residscope.direction import Direction
from residscope.directions.file import read_direction
from residscope.errors import BadArgument, ResidscopeError, Unreachable
from residscope.results.result import Result
from residscope.results.result import open as open_result
from residscope.store.values import (
    Card,
    Comment,
    Description,
    DirectionList,
    Found,
    Imported,
    Neighbour,
    Run,
    Saved,
    Text,
)

T = TypeVar("T")

_ERRORS = {
    error.code(): error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, ResidscopeError)
}
_PATHS: dict[type, str] = {
    Saved: "directions",
    Description: "descriptions",
    Comment: "comments",
    DirectionList: "lists",
    Run: "runs",
}
_SECONDS = 60.0


class Client:
    """The library of a running workbench, as one person.

    Wherever a saved direction, a description or a list is asked for, what this gave or its number is taken.

    Args:
      address: Where the workbench is open, as "http://127.0.0.1:7474".
      user: One's name.
      password: Where the workbench wants one.
    Raises:
      Unreachable: Nothing answers there.
      SignInRefused: Name and password do not go together.
      ResidscopeError: What the server refuses, as the same error that Python gives.
    """

    def __init__(self, address: str, *, user: str, password: str | None = None) -> None:
        self._address = address
        try:
            self._http = httpx.Client(base_url=address.rstrip("/") + "/api/v1", timeout=_SECONDS)
        except httpx.InvalidURL as error:
            raise self._unreachable(f"cannot be asked ({error})") from None
        self._ask("POST", "/me", json={"name": user, "password": password})
        self.user = user

    def __repr__(self) -> str:
        return f"Client({self._address!r}, user={self.user!r})"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def save(
        self, direction: Direction, *, name: str | None = None, description: str = "", tags: Iterable[str] = ()
    ) -> Saved:
        """Keep a direction, under another name than its own if one is given.

        Raises:
          NameTaken: One has a direction of that name.
          BadDirection, UnknownSite: It is no direction of the workbench's model.
        """
        name = direction.name if name is None else name
        asked = {"name": name, "description": description, "tags": list(tags)}
        return _read(Saved, self._ask("POST", "/directions/file", params=asked, content=direction.to_bytes()))

    def directions(
        self,
        words: str = "",
        *,
        owner: str | None = None,
        site: str | None = None,
        tag: str | None = None,
        list: DirectionList | int | None = None,
        deleted: bool = False,
        count: int = 1000,
    ) -> tuple[Saved, ...]:
        """Saved directions, the last changed first; those of a list in its order.

        Args:
          words: Each occurs in the name, a description or a tag.
          owner: Whose; None is everybody's.
          site: Where they live.
          tag: That they have.
          list: That they are in.
          deleted: One's own that were deleted, in place of those that were not.
          count: How many at most.
        """
        asked = {"words": words, "owner": owner, "site": site, "tag": tag, "deleted": deleted, "count": count}
        given = {key: value for key, value in asked.items() if value is not None}
        if list is not None:
            given["list"] = _number(list)
        return _read(Found, self._ask("GET", "/directions", params=given)).directions

    def load(self, direction: Saved | int, *, revision: int | None = None) -> Direction:
        """The direction itself, as it is or as a revision was."""
        asked = {} if revision is None else {"revision": revision}
        answer = self._ask("GET", f"/directions/{_number(direction)}/file", params=asked)
        return read_direction(answer.content, f"direction {_number(direction)}")

    def card(self, direction: Saved | int) -> Card:
        """What people say of a direction, and what it was."""
        return _read(Card, self._ask("GET", f"/directions/{_number(direction)}"))

    def change(self, direction: Saved | int, *, name: str | None = None, tags: Iterable[str] | None = None) -> Saved:
        """Give one's own direction another name or other tags."""
        asked = {"name": name, "tags": None if tags is None else list(tags)}
        return _read(Saved, self._ask("PATCH", f"/directions/{_number(direction)}", json=asked))

    def revise(self, direction: Saved | int, new: Direction) -> Saved:
        """Give one's own direction another vector; the old one stays as a revision."""
        path = f"/directions/{_number(direction)}/file"
        return _read(Saved, self._ask("PUT", path, content=new.to_bytes()))

    def nearest(self, direction: Saved | int | Direction, *, count: int = 10) -> list[Neighbour]:
        """The saved directions at the smallest angle to one, either sign."""
        asked = {"count": count}
        if isinstance(direction, Direction):
            answer = self._ask("POST", "/directions/nearest", params=asked, content=direction.to_bytes())
        else:
            answer = self._ask("GET", f"/directions/{_number(direction)}/nearest", params=asked)
        return _read(list[Neighbour], answer)

    def describe(self, direction: Saved | int, text: str) -> Description:
        """Say what a direction means."""
        return _read(
            Description, self._ask("POST", f"/directions/{_number(direction)}/descriptions", json={"text": text})
        )

    def vote(self, description: Description | int, value: int) -> Description:
        """Vote for (1) or against (-1) a description, or neither (0)."""
        return _read(Description, self._ask("PUT", f"/descriptions/{_number(description)}/vote", json={"value": value}))

    def comment(self, direction: Saved | int, text: str) -> Comment:
        """Remark on a direction."""
        return _read(Comment, self._ask("POST", f"/directions/{_number(direction)}/comments", json={"text": text}))

    def reword(self, description: Description | int, text: str) -> Description:
        """Say one's own description in other words."""
        return _read(Description, self._ask("PATCH", f"/descriptions/{_number(description)}", json={"text": text}))

    def lists(self, *, deleted: bool = False) -> list[DirectionList]:
        """Everybody's lists; or one's own that were deleted."""
        return _read(list[DirectionList], self._ask("GET", "/lists", params={"deleted": deleted}))

    def add_list(self, name: str, directions: Sequence[Saved | int] = ()) -> DirectionList:
        """Begin a list."""
        asked = {"name": name, "directions": [*map(_number, directions)]}
        return _read(DirectionList, self._ask("POST", "/lists", json=asked))

    def change_list(
        self, listed: DirectionList | int, *, name: str | None = None, directions: Sequence[Saved | int] | None = None
    ) -> DirectionList:
        """Give one's own list another name, or these directions in this order."""
        numbers = None if directions is None else [*map(_number, directions)]
        asked = {"name": name, "directions": numbers}
        return _read(DirectionList, self._ask("PATCH", f"/lists/{_number(listed)}", json=asked))

    def texts(self, *, deleted: bool = False) -> list[Text]:
        """One's own texts, pinned ones first; or those that were deleted."""
        return _read(list[Text], self._ask("GET", "/my_texts", params={"deleted": deleted}))

    def add_texts(self, texts: Sequence[str]) -> list[Text]:
        """Keep texts; all of them or none."""
        asked = {"texts": [{"text": text} for text in texts]}
        return _read(list[Text], self._ask("POST", "/my_texts", json=asked))

    def change_text(self, text: Text | int, *, name: str | None = None, pinned: bool | None = None) -> Text:
        """Give one's own text a name ("" takes it away), or pin it: it stands on the page *Stream* each time."""
        asked: dict[str, Any] = {} if name is None else {"name": name or None}
        if pinned is not None:
            asked["pinned"] = pinned
        return _read(Text, self._ask("PATCH", f"/my_texts/{_number(text)}", json=asked))

    def runs(self) -> list[Run]:
        """One's runs, the last asked for first."""
        return _read(list[Run], self._ask("GET", "/runs"))

    def run(self, run: Run | int) -> Run:
        """A run as it is now."""
        return _read(Run, self._ask("GET", f"/runs/{_number(run)}"))

    def start(self, kind: str, **settings: Any) -> Run:
        """Let the workbench compute an analysis; it goes on though nobody waits.

        Args:
          kind: Its name in the workbench's interface, as "patch" or "heads".
          settings: The words of the request, as that has them.
        Raises:
          BadArgument: There is no such analysis.
          ResidscopeError: The words are none of its.
        """
        return _read(Run, self._ask("POST", "/runs", json={"kind": kind, "settings": settings}))

    def stop(self, run: Run | int) -> Run:
        """Cancel one's own run."""
        return _read(Run, self._ask("POST", f"/runs/{_number(run)}/stop"))

    def result(self, run: Run | int) -> Result:
        """What came of a run.

        Raises:
          NotSaved: There is nothing yet.
        """
        content = self._ask("GET", f"/runs/{_number(run)}/result").content
        with TemporaryDirectory() as folder:
            path = Path(folder) / "result.safetensors"
            path.write_bytes(content)
            return open_result(path)

    def delete(self, thing: Saved | Description | Comment | DirectionList | Run | Text) -> None:
        """Delete what is one's own; `restore` brings it back."""
        if isinstance(thing, Text):
            self._ask("DELETE", "/my_texts", params={"ids": [thing.id]})
        else:
            self._ask("DELETE", _path(thing))

    def restore(
        self, thing: Saved | Description | Comment | DirectionList | Run | Text, *, name: str | None = None
    ) -> None:
        """Bring back what one deleted, under another name if one is given.

        Raises:
          NameTaken: Something has its name by now.
          BadArgument: It has no name.
        """
        asked = {} if name is None else {"name": name}
        if isinstance(thing, Text):
            self._ask("POST", "/my_texts/restore", params={"ids": [thing.id], **asked})
        else:
            self._ask("POST", f"{_path(thing)}/restore", params=asked)

    def export_library(self, path: str | Path, directions: Sequence[Saved | int] | None = None) -> None:
        """Write everybody's directions and lists and one's own texts to a file, or the given directions alone."""
        asked = {} if directions is None else {"ids": [*map(_number, directions)]}
        Path(path).write_bytes(self._ask("GET", "/library", params=asked).content)

    def import_library(self, path: str | Path) -> Imported:
        """Bring what such a file holds into the library, as one's own; all of it or nothing.

        Raises:
          BadLibrary: The file is none, is cut short, or is another model's.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise BadArgument(f"{path} cannot be read ({error.strerror}).", "Name a file.") from None
        return _read(Imported, self._ask("POST", "/library", content=content))

    def _ask(self, method: str, path: str, **asked: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **asked)
        except httpx.HTTPError as error:
            raise self._unreachable(f"does not answer ({error})") from None
        if answer.is_success:
            return answer
        try:
            told = answer.json()["error"]
            raise _ERRORS.get(told["code"], ResidscopeError)(told["message"], told["hint"])
        except (ValueError, LookupError, TypeError):
            raise self._unreachable(f"gives an answer of another kind ({answer.status_code})") from None

    def _unreachable(self, why: str) -> Unreachable:
        message = f"A workbench was asked for, and {self._address!r} {why}."
        return Unreachable(message, "Give the address that `residscope serve` prints.")


def _read(kind: type[T], answer: httpx.Response) -> T:
    return TypeAdapter(kind).validate_json(answer.content)


def _number(thing: Any) -> int:
    return thing if isinstance(thing, int) else int(thing.id)


def _path(thing: Any) -> str:
    try:
        return f"/{_PATHS[type(thing)]}/{thing.id}"
    except KeyError:
        raise BadArgument(f"{thing!r} was given.", "Give what a client gave.") from None
