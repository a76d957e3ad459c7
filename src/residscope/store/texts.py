"""Texts of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from residscope.store import values
from residscope.store.part import Part, check_count
from residscope.store.tables import Text
from residscope.store.values import Person


@dataclass(frozen=True)
class Texts(Part[Text]):
    """Texts, which nobody but their owner reads."""

    _table = Text

    def add(self, user: Person, texts: Sequence[tuple[str | None, str]]) -> list[values.Text]:
        """Keep texts, each with a name or None; all of them or none.

        Raises:
          NameTaken: One has a text of such a name.
          OverLimit, BadArgument: A name or text is too long, or empty, or they are too many.
        """
        with self.database.changing() as session:
            check_count(session, self.limits, "texts_limit", Text, user, len(texts))
            rows = []
            for name, text in texts:
                name = None if name is None else self.limits.check_name(name)
                row = Text(user_id=user.id, name=name, text=self.limits.check_text("text_limit", text, "The text"))
                with self._naming(session, name):
                    session.add(row)
                rows.append(row)
            return [_describe(row) for row in rows]

    def change(self, user: Person, id: int, **facts: Any) -> values.Text:
        """Change a text's `name`, None for none, or whether it is `pinned`: in front of those that are not.

        Raises:
          NameTaken: One has a text of that name.
        """
        name = facts.get("name")
        name = None if name is None else self.limits.check_name(name)
        with self.database.changing() as session:
            row = self._own(session, user, id)
            with self._naming(session, name):
                row.name = name if "name" in facts else row.name
                row.pinned = bool(facts.get("pinned", row.pinned))
            return _describe(row)

    def find(self, user: Person, *, deleted: bool = False) -> list[values.Text]:
        """One's texts: pinned ones first, each as they came."""
        kept = Text.deleted.is_not(None) if deleted else Text.deleted.is_(None)
        query = select(Text).where(Text.user_id == user.id, kept).order_by(Text.pinned.desc(), Text.id)
        with self.database.reading() as session:
            return [_describe(row) for row in session.scalars(query)]


def _describe(row: Text) -> values.Text:
    return values.Text(row.id, row.name, row.text, row.pinned, row.created, row.deleted)
