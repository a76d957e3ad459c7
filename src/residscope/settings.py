"""Settings of the front doors, from the environment: `RESIDSCOPE_PORT=9000` and so on."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the commands take where they are not told otherwise.

    Attributes:
      model: The model of plain `residscope`.
      texts: A file of sample texts in place of the package's own.
      data: A folder in which principal components are kept, so that a second start need not compute them.
      host: Where the server listens: the loopback interface.
      port: Where it listens; the next free one is taken if it is busy.
      dtype, device: Of the model.
      queue_limit: Requests that may wait for computing; more are answered 429.
    """

    model_config = SettingsConfigDict(env_prefix="RESIDSCOPE_")

    model: str = "demo"
    texts: Path | None = None
    data: Path | None = None
    host: str = "127.0.0.1"
    port: int = 7474
    dtype: str = "float32"
    device: str = "auto"
    queue_limit: int = 64
