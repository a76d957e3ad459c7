"""How much is kept. Every limit is a setting, and the error names it."""

from dataclasses import dataclass

from residscope.errors import OverLimit


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
