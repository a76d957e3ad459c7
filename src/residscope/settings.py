"""Settings of the front doors, from the environment: `RESIDSCOPE_PORT=9000` and so on."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from platformdirs import user_data_path
from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from residscope.errors import BadArgument
from residscope.store.limits import Limits


class Settings(BaseSettings):
    """What the commands take where they are not told otherwise.

    Attributes:
      model: The model of plain `residscope`.
      texts: A file of sample texts in place of the package's own.
      data: A folder for what people save and what a second start need not compute; unset, the user's own data folder.
      database_url: Of PostgreSQL, as `postgresql://user:password@host/name`; unset, SQLite in the data folder.
      host: Where the server listens: the loopback interface. Elsewhere people have to sign in.
      port: Where it listens; the next free one is taken if it is busy.
      dtype, device: Of the model.
      memory_bytes: What sweeps may take for activations, as `8GB`; unset, a quarter of what is free.
      queue_limit: Requests that may wait for computing; more are answered 429.
      hosts: Other names under which the server is reached, with commas between; requests that name another are refused.
      public_read: Whether those who have not signed in may read.
      sign_in_limit: Failed attempts to sign in, in a minute, of one address for one name; five times as many for all.
      name_limit: Characters of a name or a tag.
      description_limit: Characters of a description or a comment.
      text_limit: Bytes of a text that is kept.
      texts_limit: Texts of one person.
      directions_limit: Directions of one person.
      runs_limit: Runs of one person; of more the oldest are deleted.
      tags_limit: Tags of one direction.
      import_limit: Bytes of an imported library.
      request_texts_limit: Texts of a request.
      request_tokens_limit: Tokens of each text of a request, where the model's context is longer.
      request_bytes_limit: Bytes of a request that is no imported library.
    """

    model_config = SettingsConfigDict(env_prefix="RESIDSCOPE_")

    model: str = "demo"
    texts: Path | None = None
    data: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=7474, ge=0, le=65535)
    dtype: str = "float32"
    device: str = "auto"
    memory_bytes: ByteSize | None = None
    queue_limit: int = 64
    database_url: str | None = None
    hosts: str = ""
    public_read: bool = False
    sign_in_limit: int = Field(default=10, ge=1)
    name_limit: int = Limits.name_limit
    description_limit: int = Limits.description_limit
    text_limit: int = Limits.text_limit
    texts_limit: int = Limits.texts_limit
    directions_limit: int = Limits.directions_limit
    runs_limit: int = Limits.runs_limit
    tags_limit: int = Limits.tags_limit
    import_limit: int = Limits.import_limit
    request_texts_limit: int = Limits.request_texts_limit
    request_tokens_limit: int = Limits.request_tokens_limit
    request_bytes_limit: int = Limits.request_bytes_limit

    def loading(self, dtype: str | None, device: str | None) -> dict[str, Any]:
        """What `rs.load` takes, with what the command was told in front."""
        memory = None if self.memory_bytes is None else int(self.memory_bytes)
        return {"dtype": dtype or self.dtype, "device": device or self.device, "memory_bytes": memory}

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return self.data or user_data_path("residscope", appauthor=False)

    @property
    def limits(self) -> Limits:
        """How much the library keeps."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})


def read_settings() -> Settings:
    """The settings that the environment gives.

    Raises:
      BadArgument: A variable has a value that makes no sense.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        raise BadArgument(
            f"RESIDSCOPE_{str(first['loc'][0]).upper()} is {first['input']!r}: {first['msg'].lower()}.",
            "Mend or unset it.",
        ) from None
