"""How much is kept. Every limit is a setting, and the error names it."""

from collections.abc import Iterable
from dataclasses import dataclass

from residscope.errors import BadArgument, OverLimit


@dataclass(frozen=True)
class Limits:
    """What the library takes, a field for each setting.

    Attributes:
      name_limit: Characters of a name or a tag.
      description_limit: Characters of a description or a comment.
      text_limit: Bytes of a text.
      texts_limit: Texts of one person.
      directions_limit: Directions of one person.
      tags_limit: Tags of one direction.
      import_limit: Bytes of an imported file.
    """

    name_limit: int = 120
    description_limit: int = 10_000
    text_limit: int = 2**18
    texts_limit: int = 1_000
    directions_limit: int = 10_000
    tags_limit: int = 20
    import_limit: int = 2**28

    def check(self, limit: str, found: int, what: str) -> None:
        """Refuse more than a limit allows.

        Args:
          limit: A field's name.
          found: How much it is.
          what: A clause without its end, as "The name has 130 characters".
        Raises:
          OverLimit: It is more.
        """
        if found > (most := getattr(self, limit)):
            raise OverLimit(
                f"{what}, and {most:,} are allowed.",
                f"Give less, or start the server with a higher RESIDSCOPE_{limit.upper()}.",
            )

    def check_words(self, limit: str, words: str, what: str) -> str:
        """The words without space around them, if they can be kept.

        Args:
          limit: A field's name.
          words: Any.
          what: Their name at a sentence's beginning, as "The name".
        Raises:
          OverLimit: They are too long.
          BadArgument: They are empty, or hold a sign that databases refuse.
        """
        words = words.strip()
        if not words:
            raise BadArgument(f"{what} is empty.", "Write something.")
        if "\0" in words or any("\ud800" <= sign <= "\udfff" for sign in words):
            raise BadArgument(f"{what} has a sign that is no text.", "Take it out.")
        in_bytes = limit == "text_limit"
        size = len(words.encode()) if in_bytes else len(words)
        self.check(limit, size, f"{what} has {size:,} {'bytes' if in_bytes else 'characters'}")
        return words

    def check_name(self, name: str) -> str:
        """`check_words` of a name."""
        return self.check_words("name_limit", name, "The name")

    def check_tags(self, tags: Iterable[str]) -> list[str]:
        """Each once, in their order."""
        found = sorted({self.check_words("name_limit", tag, "A tag") for tag in tags})
        self.check("tags_limit", len(found), f"The direction would have {len(found)} tags")
        return found
