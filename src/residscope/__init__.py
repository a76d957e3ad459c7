"""Residscope: the residual stream of transformer language models, visible, decomposable and editable."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from residscope import demo as demo
    from residscope.analyses.vocabulary import Vocabulary as Vocabulary
    from residscope.analyses.vocabulary import vocabulary as vocabulary
    from residscope.direction import Direction as Direction
    from residscope.directions.pca import Basis as Basis
    from residscope.directions.pca import pca as pca
    from residscope.directions.projection import Projection as Projection
    from residscope.directions.projection import project as project
    from residscope.directions.river import River as River
    from residscope.directions.river import river as river
    from residscope.errors import Cancelled as Cancelled
    from residscope.errors import ResidscopeError as ResidscopeError
    from residscope.results.result import Result as Result
    from residscope.results.result import open as open
    from residscope.running.model import Model as Model
    from residscope.running.model import load as load
    from residscope.running.progress import progress as progress
    from residscope.running.run import Run as Run
    from residscope.sites import Site as Site
    from residscope.transformer.config import Config as Config
    from residscope.transformer.tokens import Tokens as Tokens

__version__ = "0.1.0"

# Where each public name is. Imported on first use, so that `import residscope` imports no torch.
_PUBLIC = {
    "load": "residscope.running.model",
    "Model": "residscope.running.model",
    "Run": "residscope.running.run",
    "Tokens": "residscope.transformer.tokens",
    "Config": "residscope.transformer.config",
    "Site": "residscope.sites",
    "pca": "residscope.directions.pca",
    "Basis": "residscope.directions.pca",
    "Direction": "residscope.direction",
    "project": "residscope.directions.projection",
    "Projection": "residscope.directions.projection",
    "river": "residscope.directions.river",
    "River": "residscope.directions.river",
    "vocabulary": "residscope.analyses.vocabulary",
    "Vocabulary": "residscope.analyses.vocabulary",
    "Result": "residscope.results.result",
    "open": "residscope.results.result",
    "progress": "residscope.running.progress",
    "Cancelled": "residscope.errors",
    "ResidscopeError": "residscope.errors",
}
__all__ = ["demo", *_PUBLIC]


if not TYPE_CHECKING:  # a checker knows the names above, and should refuse any other

    def __getattr__(name: str) -> Any:
        if name == "demo":
            return import_module("residscope.demo")
        if name not in _PUBLIC:
            raise AttributeError(f"module 'residscope' has no attribute {name!r}")
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
