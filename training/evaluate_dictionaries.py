"""What the bundled model's dictionaries explain of held-out text, beside principal components and random directions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import residscope as rs
from training.activations import read_activations

HEADER = """\
| dictionary | variance explained | by PCA | at random | active | loss recovered | dead | tokens | missed |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Figures:
    """One line of the table, over all tokens but position 0.

    Attributes:
      site: Which stream.
      architecture: "topk" or "jumprelu".
      variance_explained, n_active, loss_recovered, dead: As `dictionary.check` gives them.
      by_pca: Variance that as many principal components explain, those of the same text.
      at_random: Variance that as many random directions explain, the largest of as many as there are features.
      n_tokens: That all this is of.
      warning: What `dictionary.check` says where the dictionary does not fit.
    """

    site: str
    architecture: str
    variance_explained: float
    n_active: float
    loss_recovered: float
    dead: float
    by_pca: float
    at_random: float
    n_tokens: int
    warning: str | None

    @property
    def missed(self) -> list[str]:
        """The aims that were not reached."""
        reached = {
            "variance explained at least 0.9": self.variance_explained >= 0.9,
            "at most 32 active": self.n_active <= 32,
            "loss recovered at least 0.95": self.loss_recovered >= 0.95,
            "under 5% dead": self.dead < 0.05,
            "above PCA": self.variance_explained > self.by_pca,
            "above random directions": self.variance_explained > self.at_random,
        }
        return [aim for aim, met in reached.items() if not met]

    def __str__(self) -> str:
        shares = f"{self.variance_explained:.3f} | {self.by_pca:.3f} | {self.at_random:.3f}"
        rest = f"{self.n_active:.1f} | {self.loss_recovered:.3f} | {self.dead:.1%} | {self.n_tokens:,}"
        return f"| {self.site} {self.architecture} | {shares} | {rest} | {', '.join(self.missed)} |"


def measure_dictionaries(model: rs.Model, folder: Path, texts: Sequence[str]) -> list[Figures]:
    """The table of a folder of dictionaries.

    Args:
      model: Whose streams they are of.
      folder: Holds a folder for each.
      texts: That neither the model nor they were trained on.
    """
    return [measure_dictionary(model, rs.load_dictionary(one), texts) for one in sorted(folder.iterdir())]


def measure_dictionary(model: rs.Model, dictionary: rs.SparseAutoencoder, texts: Sequence[str]) -> Figures:
    """One line of it."""
    contract = dictionary.check(model, texts)
    site, k = str(dictionary.site), min(math.ceil(contract["n_active"]), model.config.d_model)
    found = read_activations(model, [site], model.corpus(texts).batches("measuring"))
    x = torch.cat([one[site] for one in found])
    return Figures(
        site=site,
        architecture=dictionary.activation,
        variance_explained=contract["variance_explained"],
        n_active=contract["n_active"],
        loss_recovered=contract.loss_recovered,
        dead=contract["dead"],
        by_pca=float(rs.pca(model, texts, site).shares[:k].sum()),
        at_random=explain_at_random(x, dictionary.n_features, k),
        n_tokens=contract.n_tokens,
        warning=contract.warning,
    )


def explain_at_random(x: Float[Tensor, "token d_model"], n_features: int, k: int) -> float:
    """The share of the variance that a random dictionary explains, at the scale that suits it best.

    Args:
      x: Activations.
      n_features: Directions, each read and written alike; what is read is centred.
      k: How many of them stay, those of the largest projection.
    """
    rows = torch.randn(n_features, x.shape[1], generator=torch.Generator().manual_seed(0))
    rows = rows / rows.norm(dim=1, keepdim=True)
    centred = (x - x.mean(0)).to(rows)
    largest = (centred @ rows.T).topk(k, dim=1)
    written = torch.zeros(len(x), n_features).scatter(1, largest.indices, largest.values.relu()) @ rows
    return float((written * centred).sum() ** 2 / (written.square().sum() * centred.square().sum()))
