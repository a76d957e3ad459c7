"""The built views and pages that the package carries."""

from pathlib import Path

from residscope.errors import ViewsNotBuilt

STATIC = Path(__file__).parent / "static"


def read_static(name: str) -> str:
    """A built file's text.

    Raises:
      ViewsNotBuilt: This is a checkout in which `make build` was not run.
    """
    path = STATIC / name
    if not path.is_file():
        raise ViewsNotBuilt(f"The view {name} is not built.", "Run `make build` in the checkout, or install a wheel.")
    return path.read_text(encoding="utf-8")
