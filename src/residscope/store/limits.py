"""How much is kept, and taken at a time. Every limit is a setting, and the error names it."""

from collections.abc import Iterable
from dataclasses import dataclass

from residscope.errors import BadArgument, OverLimit


@dataclass(frozen=True)
class Limits:
    """What the library and the server take, a field for each setting.

    Attributes:
      name_limit: Characters of a name or a tag.
      description_limit: Characters of a description or a comment.
      text_limit: Bytes of a text.
      texts_limit: Texts of one person.
      directions_limit: Directions of one person.
      runs_limit: Runs of one person; of more the oldest are deleted.
      tags_limit: Tags of one direction.
      import_limit: Bytes of an imported file.
      request_texts_limit: Texts of a request.
      request_tokens_limit: Tokens of each of them, where the model's context is longer.
      request_bytes_limit: Bytes of a request.
    """

    name_limit: int = 120
    description_limit: int = 10_000
    text_limit: int = 2**18
    texts_limit: int = 1_000
    directions_limit: int = 10_000
    runs_limit: int = 1_000
    tags_limit: int = 20
    import_limit: int = 2**28
    request_texts_limit: int = 1_000
    request_tokens_limit: int = 8_192
    request_bytes_limit: int = 2**22

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
            raise OverLimit(f"{what}, and {most:,} are allowed.", say_higher(limit))

    def check_texts(self, n: int) -> None:
        """Refuse more texts than a request may have."""
        self.check("request_texts_limit", n, f"{n:,} texts were given at once")

    def check_text(self, limit: str, text: str, what: str) -> str:
        """The text, if it can be kept.

        Args:
          limit: A field's name.
          text: Any.
          what: Its name at a sentence's beginning, as "The name".
        Raises:
          OverLimit: It is too long.
          BadArgument: It is empty, or holds a sign that databases refuse.
        """
        if not text or text.isspace():
            raise BadArgument(f"{what} is empty.", "Write something.")
        if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
            raise BadArgument(f"{what} has a sign that is no text.", "Take it out.")
        in_bytes = limit == "text_limit"
        size = len(text.encode()) if in_bytes else len(text)
        self.check(limit, size, f"{what} has {size:,} {'bytes' if in_bytes else 'characters'}")
        return text

    def check_words(self, words: str, what: str) -> str:
        """`check_text` of a description or comment, without space around it."""
        return self.check_text("description_limit", words.strip(), what)

    def check_name(self, name: str, what: str = "The name") -> str:
        """`check_text` of a name, without space around it."""
        return self.check_text("name_limit", name.strip(), what)

    def check_tags(self, tags: Iterable[str]) -> list[str]:
        """Each once, in their order."""
        found = sorted({self.check_name(tag, "A tag") for tag in tags})
        self.check("tags_limit", len(found), f"The direction would have {len(found)} tags")
        return found


def say_higher(limit: str) -> str:
    """What to do where there is more than the limit of that name allows."""
    return f"Give less, or start the server with a higher RESIDSCOPE_{limit.upper()}."
