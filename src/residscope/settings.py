"""Settings of the front doors, from the environment: `RESIDSCOPE_PORT=9000` and so on."""

from pathlib import Path
from typing import Any

from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from residscope.errors import BadArgument


class Settings(BaseSettings):
    """What the commands take where they are not told otherwise.

    Attributes:
      model: The model of plain `residscope`.
      texts: A file of sample texts in place of the package's own.
      data: A folder in which principal components are kept, so that a second start need not compute them.
      host: Where the server listens: the loopback interface.
      port: Where it listens; the next free one is taken if it is busy.
      dtype, device: Of the model.
      memory_bytes: What sweeps may take for activations, as `8GB`; unset, a quarter of what is free.
      queue_limit: Requests that may wait for computing; more are answered 429.
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

    def loading(self, dtype: str | None, device: str | None) -> dict[str, Any]:
        """What `rs.load` takes, with what the command was told in front."""
        memory = None if self.memory_bytes is None else int(self.memory_bytes)
        return {"dtype": dtype or self.dtype, "device": device or self.device, "memory_bytes": memory}


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
