"""Whether a dictionary fits a model: what it explains at its site, and what it would explain read otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadDictionary, TooFewTokens
from residscope.results.result import Indices, Result
from residscope.running.edits import ablate
from residscope.running.edits import replace as replaced
from residscope.running.metrics import loss
from residscope.running.model import Model
from residscope.running.texts import Texts, describe_texts
from residscope.sites import Site
from residscope.summaries.moments import Moments
from residscope.transformer.tokens import Tokens, stack

if TYPE_CHECKING:
    from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder

MEASURES = {
    "variance_explained": "1 - sum |x - reconstruction|^2 / sum |x - mean|^2",
    "n_active": "features above zero, per token",
    "dead": "share of the features that are zero at every token",
}
_ENOUGH, _BETTER = 0.5, 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Contract(Result):
    """What a dictionary gives as its config says it is to be read, and as others might have meant it.

    Attributes:
      values: [reading measure]
      readings: What each row is; the first is the config's.
      measures: What each column is.
      loss_recovered: Of the config's reading: 1 where the reconstruction predicts as well as the stream itself, 0 where
        as badly as zeros.
      n_tokens: Over which all this is.
      warning: A sentence where the dictionary does not fit, with the likely cause; None where it does.
    """

    values: Float[Tensor, "reading measure"]
    readings: Sequence[str]
    measures: Sequence[str]
    loss_recovered: float
    n_tokens: int
    warning: str | None

    axes: ClassVar[tuple[str, ...]] = ("reading", "measure")

    def __getitem__(self, measure: str) -> float:
        """A measure of the config's reading."""
        return float(self.values[0, list(self.measures).index(measure)])

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        return {axis: np.array(self.readings if axis == "reading" else self.measures)[index]}

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={self[name]:.3g}" for name in self.measures)
        return f"Contract({said}, loss_recovered={self.loss_recovered:.3f}, warning={self.warning!r})"


@torch.no_grad()
def check(dictionary: "SparseAutoencoder", model: Model, texts: Texts) -> Contract:
    """Try a dictionary on texts, as its config says and as it might have been meant.

    Tried are the layers beside, a centred or an uncentred stream, inputs scaled to one length, and texts with or
    without the beginning-of-sequence token, one thing at a time. Position 0 counts nowhere, and is left as it is.

    Args:
      dictionary: Any.
      model: Its site has to have as many entries as the dictionary reads.
      texts: Much text; each is cut at the context.
    Raises:
      UnknownSite: The model has no such site.
      BadDictionary: It reads another number of entries.
      TooFewTokens: The texts have no two tokens that count.
    Holds:
      A dictionary that gives back what it reads explains all variance and recovers all loss.
    Source: `loss_recovered` as in Bricken et al., "Towards Monosemanticity" (2023), with zeros for the ablation.
    """
    site = model.find(dictionary.site)
    width = _width(model, site)
    if width != len(dictionary.decoder_bias):
        raise BadDictionary(
            f"{dictionary.name} reads {len(dictionary.decoder_bias)} entries, and {site} of {model.name} has {width}.",
            "Take the model that it was trained on.",
        )
    dictionary, bos = dictionary.to(model.device_of(model.place(site))), model.tokenizer.bos_id
    wants_bos = dictionary.facts.get("prepend_bos")
    lists = model.corpus(texts).lists
    first = any(ids[0] == bos for ids in lists)
    habit = first if wants_bos is None or bos is None else bool(wants_bos)
    trials = {"as configured": (dictionary, site, habit)}
    for step, name in ((-1, "one layer earlier"), (1, "one layer later")):
        layer = None if site.layer is None else site.layer + step
        if layer is not None and Site(site.kind, layer) in model.sites:
            trials[name] = (dictionary, Site(site.kind, layer), habit)
    centring = "uncentred" if dictionary.centred else "centred"
    trials[centring] = (replace(dictionary, centred=not dictionary.centred), site, habit)
    if dictionary.scaling == "none":
        trials["inputs scaled to one length"] = (replace(dictionary, scaling="norm"), site, habit)
    if bos is not None:
        trials["without the first token" if habit else "with a first token"] = (dictionary, site, not habit)
    rows, n_tokens, recovered = [], 0, float("nan")
    for number, (tried, place, with_bos) in enumerate(trials.values()):
        batches = _batches(model, lists, bos, with_bos)
        row, n = _measure(tried, model, place, batches)
        rows.append(row)
        if number == 0:
            n_tokens, recovered = n, _recover(tried, model, place, batches)
    values = torch.tensor(rows, dtype=torch.float64)
    return Contract(
        name=f"{dictionary.name} on {site} of {model.name}",
        settings={
            "site": str(site),
            "has_bos": habit,
            "left_out": [0],
            "config": dict(dictionary.facts),
            "meaning": MEASURES,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=(
            *model.python,
            "dictionary = rs.load_dictionary(...)",
            f"dictionary.check(model, {describe_texts(texts)})",
        ),
        values=values,
        readings=list(trials),
        measures=list(MEASURES),
        loss_recovered=recovered,
        n_tokens=n_tokens,
        warning=_warn(list(trials), values[:, 0].tolist()),
    )


def _width(model: Model, site: Site) -> int:
    sizes = [model.axis_size(axis, 0) for axis in site.axes if axis not in ("batch", "pos")]
    return int(np.prod(sizes))


def _batches(model: Model, lists: Sequence[Sequence[int]], bos: int | None, with_bos: bool) -> list[Tokens]:
    """The texts with or without the first token, in batches."""
    plain = [list(ids[1:] if bos is not None and ids[0] == bos else ids) for ids in lists]
    first = [] if bos is None or not with_bos else [bos]
    texts = [[*first, *ids][: model.config.n_ctx] for ids in plain]
    corpus = model.corpus(stack([ids for ids in texts if len(ids) > 1], model.tokenizer)) if texts else None
    return list(corpus.batches("checking")) if corpus else []


def _measure(
    dictionary: "SparseAutoencoder", model: Model, site: Site, batches: Sequence[Tokens]
) -> tuple[list[float], int]:
    """The measures in their order, and of how many tokens."""
    moments, missed, n_active = Moments.empty(len(dictionary.decoder_bias)), 0.0, 0
    fired = torch.zeros(dictionary.n_features, dtype=torch.bool)
    for tokens in batches:
        counted = tokens.mask.clone()
        counted[:, 0] = False
        x = model.run(tokens, keep=site)[site][counted.to(model.device)].flatten(1).to(dictionary.decoder.dtype)
        features = dictionary.encode(x)
        missed += float((x - dictionary.decode(features, of=x)).double().square().sum())
        n_active += int((features > 0).sum())
        fired |= (features > 0).any(0).cpu()
        moments = moments.merge(Moments.of(x))
    if moments.n < 2:
        raise TooFewTokens(f"The texts have {moments.n} tokens that count.", "Give more text.")
    spread = float(moments.scatter.trace())
    explained = 1 - missed / spread if spread else float("nan")
    return [explained, n_active / moments.n, float((~fired).double().mean())], moments.n


def _recover(dictionary: "SparseAutoencoder", model: Model, site: Site, batches: Sequence[Tokens]) -> float:
    """How much of the loss that zeros would cost the reconstruction saves."""
    totals = torch.zeros(3, dtype=torch.float64)
    after = slice(1, None)
    for tokens in batches:
        base = model.run(tokens, keep=site)
        x = base.raw(site)[:, 1:].nan_to_num()
        edited = [[], [replaced(site, dictionary.reconstruct(x), pos=after)], [ablate(site, pos=after)]]
        n_predicted = (tokens.n_tokens - 1).double()
        for number, edits in enumerate(edited):
            run = model.run(tokens, edits=edits) if edits else base
            totals[number] += (loss()(run).double().cpu() * n_predicted).sum()
    whole, kept, without = map(float, totals)
    return (without - kept) / (without - whole)


def _warn(readings: Sequence[str], explained: Sequence[float]) -> str | None:
    best = int(np.nanargmax(explained))
    if explained[best] < _ENOUGH:
        return f"However it is read, it explains at most {explained[best]:.0%} of the variance: likely another model's."
    if explained[best] > explained[0] + _BETTER:
        return (
            f"Read as configured it explains {explained[0]:.0%} of the variance, and {explained[best]:.0%} read "
            f"{readings[best]}: the config, or the way this model was loaded, is likely off by that."
        )
    return None
