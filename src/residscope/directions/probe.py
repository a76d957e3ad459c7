"""A linear probe: the direction along which two kinds of texts are told apart best."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from residscope.direction import Direction
from residscope.directions.rows import read_rows
from residscope.directions.vectors import find_vectors
from residscope.errors import BadArgument
from residscope.running.model import Model
from residscope.running.packing import write_lines
from residscope.running.texts import Texts, describe_texts
from residscope.sites import Site, name_place

_MOST_ROUNDS = 2000
_N_SHUFFLED = 40  # twice what it takes to tell an effect from chance at a p of 0.05


def probe(
    model: Model,
    texts: Texts,
    labels: Sequence[Any],
    *,
    site: str | Site,
    head: int | None = None,
    pos: int = -1,
    held_out: float = 0.25,
    strength: float = 1.0,
    seed: int = 0,
) -> Direction:
    """Fit a logistic regression to a site at one position of each text, and take its direction.

    Args:
      model: Any.
      texts: One for each label.
      labels: Of two kinds; the direction points to the second in order (`True`, 1, the later in the alphabet).
      site: One that holds a vector at each position.
      head: Of which head, where the site has heads.
      pos: Where each text is read.
      held_out: Share of the texts that it is tested on, drawn with equal shares of both labels.
      strength: Inverse of the regularisation, scikit-learn's `C`, on standardised entries.
      seed: Of the draw.
    Raises:
      BadArgument: There are not as many labels as texts, not two kinds, or too few of one; the site has heads and none
        was chosen, or has no such head.
      UnknownSite: The model has none of that name, or it holds no vectors.
      UnknownPosition: A text has no such position.
    Holds:
      Equal to scikit-learn's: `(x - mean) . v > history["boundary"]` is what it predicts. `history["accuracy"]` is that
      on held-out texts, `history["accuracy_shuffled"]` the mean of forty that learned from shuffled labels.
    """
    found, head = find_vectors(model, site, head)
    rows = read_rows(model, texts, found, pos, head)
    kinds, classes = np.unique(np.asarray(labels), return_inverse=True)
    if len(classes) != len(rows):
        raise BadArgument(f"{len(classes)} labels were given for {len(rows)} texts.", "Give one for each.")
    if len(kinds) != 2 or min(np.bincount(classes)) < 4 or not 0 < held_out < 1:
        raise BadArgument(
            f"{len(kinds)} kinds of labels were given, of {np.bincount(classes).tolist()} texts, held_out={held_out}.",
            "Give two kinds, four texts of each at least, and hold out a share of them.",
        )
    n_held_out = ceil(held_out * len(rows))
    if min(n_held_out, len(rows) - n_held_out) < 2:
        raise BadArgument(
            f"held_out={held_out} of {len(rows)} texts holds out {n_held_out}, and two of each kind are needed on both "
            "sides.",
            "Hold out another share, or give more texts.",
        )
    x, x_held_out, y, y_held_out = train_test_split(
        rows.numpy(), classes, test_size=held_out, random_state=seed, stratify=classes
    )
    (scaler, regression), accuracy = _fit(x, y, x_held_out, y_held_out, strength)
    drawn = np.random.default_rng(seed)
    shuffled = [_fit(x, drawn.permutation(y), x_held_out, y_held_out, strength) for _ in range(_N_SHUFFLED)]
    weights, *others = (
        torch.from_numpy(one.coef_[0] / scaler.scale_) for one in (regression, *(fitted for (_, fitted), _ in shuffled))
    )
    length = float(weights.norm())
    vector, mean = weights / length, torch.from_numpy(scaler.mean_)
    boundary = -float(regression.intercept_[0]) / length
    said = f"{describe_texts(texts)}, {np.asarray(labels).tolist()!r}, site={str(found)!r}, pos={pos}"
    said += f", held_out={held_out}, strength={strength}, seed={seed}"
    said += "" if head is None else f", head={head}"
    return Direction(
        name=f"probe at {name_place(found, head)}, {accuracy:.0%} right on held-out texts",
        site=found,
        head=head,
        vector=vector,
        mean=mean,
        shuffled=torch.stack([one / one.norm() for one in others]),
        deviation=float(((rows - mean) @ vector).std()) or None,
        history={
            "kind": "probe",
            "accuracy": accuracy,
            "accuracy_shuffled": float(np.mean([right for _, right in shuffled])),
            "boundary": boundary,
            "labels": [str(kind) for kind in kinds],
            "n_texts": len(rows),
            "n_held_out": len(y_held_out),
            "pos": pos,
            **model.provenance,
        },
        python=tuple(write_lines(model.python, [f"direction = rs.probe(model, {said})"])),
    )


def _fit(
    x: np.ndarray, y: np.ndarray, x_held_out: np.ndarray, y_held_out: np.ndarray, strength: float
) -> tuple[tuple[StandardScaler, LogisticRegression], float]:
    """The fitted steps, and their accuracy on what was held out."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_MOST_ROUNDS))
    pipeline.fit(x, y)
    return (pipeline[0], pipeline[1]), float(pipeline.score(x_held_out, y_held_out))
