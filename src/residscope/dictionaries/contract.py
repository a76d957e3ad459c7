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
    from residscope.dictionaries.sparse_autoencoder import Scaling, SparseAutoencoder

MEASURES = {
    "variance_explained": "1 - sum |x - reconstruction|^2 / sum |x - mean|^2",
    "n_active": "features above zero, per token",
    "dead": "share of the features that are zero at every token",
}
SCALINGS: "dict[Scaling, str]" = {
    "none": "inputs as they are",
    "norm": "inputs scaled to one length",
    "layer_norm": "inputs normalised",
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
      n_cut: Texts that were cut at the context, the dictionary's where it names a shorter one than the model's.
      warning: A sentence where the dictionary does not fit, with the likely cause; None where it does.
    """

    values: Float[Tensor, "reading measure"]
    readings: Sequence[str]
    measures: Sequence[str]
    loss_recovered: float
    n_tokens: int
    n_cut: int
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

    Tried are the layers beside, a centred or an uncentred stream, inputs scaled otherwise, and texts with or without
    the beginning-of-sequence token, one thing at a time. Position 0 counts nowhere, and is left as it is.

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
    corpus, room = model.corpus(texts), model.config.n_ctx
    said = dictionary.facts.get("context_size")
    if isinstance(said, int) and 1 < said < room:
        room = said
    lists = corpus.lists
    n_cut = sum(len(ids) > room for ids in lists) if room < model.config.n_ctx else corpus.n_cut
    first = any(ids[0] == bos for ids in lists)
    habit = first if wants_bos is None or bos is None else bool(wants_bos)
    readings = _list_readings(dictionary, model, site, habit)
    batches = {has_bos: _batches(model, lists, bos, has_bos, room) for has_bos in {one.has_bos for one in readings}}
    for has_bos, found in batches.items():
        _measure([one for one in readings if one.has_bos == has_bos], model, found)
    values = torch.tensor([one.measures for one in readings], dtype=torch.float64)
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
        readings=[one.name for one in readings],
        measures=list(MEASURES),
        loss_recovered=_recover(dictionary, model, site, batches[habit]),
        n_tokens=readings[0].moments.n,
        n_cut=n_cut,
        warning=_warn([one.name for one in readings], values[:, 0].tolist()),
    )


def _width(model: Model, site: Site) -> int:
    sizes = [model.axis_size(axis, 0) for axis in site.axes if axis not in ("batch", "pos")]
    return int(np.prod(sizes))


def _batches(model: Model, lists: Sequence[Sequence[int]], bos: int | None, with_bos: bool, room: int) -> list[Tokens]:
    """The texts with or without the first token, in batches."""
    plain = [list(ids[1:] if bos is not None and ids[0] == bos else ids) for ids in lists]
    first = [] if bos is None or not with_bos else [bos]
    cut = [[*first, *ids][:room] for ids in plain]
    texts = [ids for ids in cut if len(ids) > 1]
    return list(model.corpus(stack(texts, model.tokenizer)).batches("checking")) if texts else []


class _Reading:
    """One way to read a dictionary, and what it explains, batch by batch."""

    def __init__(self, name: str, dictionary: "SparseAutoencoder", site: Site, has_bos: bool) -> None:
        self.name, self.dictionary, self.site, self.has_bos = name, dictionary, site, has_bos
        self.moments = Moments.empty(len(dictionary.decoder_bias))
        self._missed, self._n_active = 0.0, 0
        self._fired = torch.zeros(dictionary.n_features, dtype=torch.bool)

    def add(self, x: Float[Tensor, "n d"]) -> None:
        """Values of its site."""
        features = self.dictionary.encode(x)
        self._missed += float((x - self.dictionary.decode(features, of=x)).double().square().sum())
        self._n_active += int((features > 0).sum())
        self._fired |= (features > 0).any(0).cpu()
        self.moments = self.moments.merge(Moments.of(x))

    @property
    def measures(self) -> list[float]:
        """In the order of `MEASURES`."""
        if self.moments.n < 2:
            raise TooFewTokens(f"The texts have {self.moments.n} tokens that count.", "Give more text.")
        spread = float(self.moments.scatter.trace())
        explained = 1 - self._missed / spread if spread else float("nan")
        return [explained, self._n_active / self.moments.n, float((~self._fired).double().mean())]


def _list_readings(dictionary: "SparseAutoencoder", model: Model, site: Site, habit: bool) -> list[_Reading]:
    """As configured first; then with one thing otherwise."""
    readings = [_Reading("as configured", dictionary, site, habit)]
    for step, name in ((-1, "one layer earlier"), (1, "one layer later")):
        beside = _step(site, step, model)
        if beside in model.sites:
            readings.append(_Reading(name, dictionary, beside, habit))
    centring = "uncentred" if dictionary.centred else "centred"
    readings.append(_Reading(centring, replace(dictionary, centred=not dictionary.centred), site, habit))
    for scaling, name in SCALINGS.items():
        if scaling != dictionary.scaling:
            readings.append(_Reading(name, replace(dictionary, scaling=scaling), site, habit))
    if model.tokenizer.bos_id is not None:
        name = "without the first token" if habit else "with a first token"
        readings.append(_Reading(name, dictionary, site, not habit))
    return readings


def _step(site: Site, step: int, model: Model) -> Site:
    """The same kind of place a layer on; of the stream, whose last layer has another name for what comes after it."""
    layer = -1 if site.layer is None else site.layer + step
    if site.kind == "resid_pre" and layer == model.config.n_layers:
        return Site("resid_post", layer - 1)
    return Site("resid_pre", 0) if site.kind == "resid_post" and layer < 0 else Site(site.kind, layer)


def _measure(readings: Sequence[_Reading], model: Model, batches: Sequence[Tokens]) -> None:
    """Readings of the same texts share each run."""
    for tokens in batches:
        counted = tokens.mask.clone()
        counted[:, 0] = False
        run = model.run(tokens, keep=[one.site for one in readings])
        for one in readings:
            x = run[one.site]
            one.add(x[counted.to(x.device)].flatten(1).to(one.dictionary.decoder))


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
    if without == whole:
        raise TooFewTokens("The texts' loss does not depend on the site.", "Give texts of more than two tokens.")
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
