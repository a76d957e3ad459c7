"""What the package carries: a model with dictionaries of its stream, sample texts, and prompt pairs for what it does.

`rs.load("demo")` loads the model; `MODEL_CARD.md` says what it is and is not.
"""

from collections.abc import Mapping
from pathlib import Path

from residscope.demo.bundled import Bundled
from residscope.demo.tasks import pairs as pairs
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder

texts = Path(__file__).parent / "texts.txt"
dictionaries: Mapping[str, SparseAutoencoder] = Bundled()
