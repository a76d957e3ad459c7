"""Whether a dictionary fits a model: what it explains at its site, and what it would explain read otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import isnan, prod
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
    "norm": "each input scaled to a mean square of one",
    "layer_norm": "inputs normalised",
}
_ENOUGH, _BETTER = 0.5, 0.05
_MORE, _LESS = 2.0, 0.1  # times as many active as claimed, and of the variance explained below what is claimed
_ROWS = 1024  # that are encoded at once


@dataclass(frozen=True, eq=False, repr=False)
class Contract(Result):
    """What a dictionary gives as its config says it is to be read, and as others might have meant it.

    Attributes:
      values: [reading measure]
      readings: What each row is; the first is the config's.
      measures: What each column is.
      loss_recovered: Of the config's reading: 1 where the reconstruction predicts as well as the stream itself, 0 where
        as badly as zeros.
      claimed: What the dictionary's files say of a measure.
      n_tokens: Over which all this is.
      n_cut: Texts that were cut at the context, the dictionary's where it names a shorter one than the model's.
      warning: A sentence where the dictionary does not fit, with the likely cause; None where it does.
    """

    values: Float[Tensor, "reading measure"]
    readings: Sequence[str]
    measures: Sequence[str]
    loss_recovered: float
    claimed: Mapping[str, float]
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
        misfit = f"DOES NOT FIT. {self.warning} " if self.warning else ""
        said = [f"{name}={self[name]:.3g}" for name in self.measures]
        said += [f"claimed {name}={value:.3g}" for name, value in self.claimed.items()]
        return f"Contract({misfit}{', '.join(said)}, loss_recovered={self.loss_recovered:.3f})"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        said = f"<p style='color:#b00020;font-weight:bold'>{escape(self.warning)}</p>" if self.warning else ""
        return {"text/plain": repr(self), "text/html": said + self.to_frame().to_html(max_rows=40)}


@torch.no_grad()
def check(dictionary: "SparseAutoencoder", model: Model, texts: Texts) -> Contract:
    """Try a dictionary on texts, as its config says and as it might have been meant.

    Tried are the layers beside, a centred or an uncentred stream, inputs scaled otherwise, and texts with or without
    the beginning-of-sequence token, one thing at a time. Position 0 counts nowhere, and is left as it is.

    Args:
      dictionary: Any.
      model: Its sites have to have as many entries as the dictionary reads and writes.
      texts: Much text; each is cut at the context.
    Raises:
      UnknownSite: The model has no such site.
      BadDictionary: It reads or writes another number of entries, or makes NaN.
      TooFewTokens: The texts have no two tokens that count.
    Holds:
      A dictionary that gives back what it reads explains all variance and recovers all loss.
    Source: `loss_recovered` as in Bricken et al., "Towards Monosemanticity" (2023), with zeros for the ablation.
    """
    site, _ = find_places(dictionary, model)
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
    batches = {has: _batches(model, lists, bos, has, room) for has in {habit, *([] if bos is None else [not habit])}}
    readings = _list_readings(dictionary, model, habit, batches[habit])
    for has_bos, found in batches.items():
        _measure([one for one in readings if one.has_bos == has_bos], model, found)
    if isnan(readings[0].missed):
        raise BadDictionary(f"{dictionary.name} makes NaN of {site}.", "Its weights hold some; load it anew.")
    readings = [one for one in readings if one.has_bos == habit or one.moments.n > 1]  # short texts have fewer without
    values = torch.tensor([one.measures for one in readings], dtype=torch.float64)
    facts = {name: dictionary.facts.get(name) for name in MEASURES}
    claimed = {name: float(value) for name, value in facts.items() if isinstance(value, int | float)}
    return Contract(
        name=f"{dictionary.name} on {site} of {model.name}",
        settings={
            "site": str(site),
            "writes": str(dictionary.writes),
            "has_bos": habit,
            "left_out": [0],
            "config": dict(dictionary.facts),
            "meaning": MEASURES,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=(
            *model.python,
            f"dictionary = {dictionary.call}",
            f"dictionary.check(model, {describe_texts(texts)})",
        ),
        values=values,
        readings=[one.name for one in readings],
        measures=list(MEASURES),
        loss_recovered=_recover(dictionary, model, batches[habit]),
        claimed=claimed,
        n_tokens=readings[0].moments.n,
        n_cut=n_cut,
        warning=_warn(readings, dict(zip(MEASURES, values.T.tolist(), strict=True)), claimed),
    )


def find_places(dictionary: "SparseAutoencoder", model: Model) -> tuple[Site, Site]:
    """What of a model a dictionary reads and writes.

    Raises:
      UnknownSite: The model has no such site.
      BadDictionary: It has another number of entries there.
    """
    site, written = model.find(dictionary.site), model.find(dictionary.writes)
    for does, one, n in (("reads", site, dictionary.d_in), ("writes", written, len(dictionary.decoder_bias))):
        width = prod(model.axis_size(axis, 0) for axis in one.axes if axis not in ("batch", "pos"))
        if width != n:
            raise BadDictionary(
                f"{dictionary.name} {does} {n} entries, and {one} of {model.name} has {width}.",
                "Take the model and the site that it was trained on.",
            )
    return site, written


def _batches(model: Model, lists: Sequence[Sequence[int]], bos: int | None, with_bos: bool, room: int) -> list[Tokens]:
    """The texts with or without the first token, in batches."""
    plain = [list(ids[1:] if bos is not None and ids[0] == bos else ids) for ids in lists]
    first = [] if bos is None or not with_bos else [bos]
    cut = [[*first, *ids][:room] for ids in plain]
    texts = [ids for ids in cut if len(ids) > 1]
    return list(model.corpus(stack(texts, model.tokenizer)).batches("checking")) if texts else []


class _Reading:
    """One way to read a dictionary, how to read it so from now on, and what it explains, batch by batch."""

    def __init__(self, name: str, dictionary: "SparseAutoencoder", has_bos: bool, cure: str = "") -> None:
        self.name, self.dictionary, self.has_bos, self.cure = name, dictionary, has_bos, cure
        self.moments = Moments.empty(len(dictionary.decoder_bias))
        self.missed, self._n_active = 0.0, 0
        self._fired = torch.zeros(dictionary.n_features, dtype=torch.bool)

    def add(self, x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"]) -> None:
        """Values of what it reads and of what it writes."""
        for read, written in zip(torch.split(x, _ROWS), torch.split(y, _ROWS), strict=True):
            features = self.dictionary.encode(read)
            self.missed += float((written - self.dictionary.decode(features, of=read)).double().square().sum())
            self._n_active += int((features > 0).sum())
            self._fired |= (features > 0).any(0).cpu()
        self.moments = self.moments.merge(Moments.of(y))

    @property
    def measures(self) -> list[float]:
        """In the order of `MEASURES`."""
        if self.moments.n < 2:
            counted = "1 token that counts" if self.moments.n == 1 else f"{self.moments.n} tokens that count"
            raise TooFewTokens(f"The texts have {counted}.", "Give more text.")
        spread = float(self.moments.scatter.trace())
        explained = 1 - self.missed / spread if spread else float("nan")
        return [explained, self._n_active / self.moments.n, float((~self._fired).double().mean())]


def _list_readings(
    dictionary: "SparseAutoencoder", model: Model, habit: bool, batches: Sequence[Tokens]
) -> list[_Reading]:
    """As configured first; then with one thing otherwise."""
    readings = [_Reading("as configured", dictionary, habit)]
    for step, name in ((-1, "one layer earlier"), (1, "one layer later")):
        beside = _step(dictionary.site, step, model)
        target = dictionary.target and _step(dictionary.target, step, model)
        if {beside, target or beside} <= {*model.sites}:
            moved = replace(dictionary, site=beside, target=target)
            readings.append(_Reading(name, moved, habit, f'load_dictionary(..., site="{beside}")'))
    centred = not dictionary.centred
    name = "centred" if centred else "uncentred"
    cure = f"load_dictionary(..., centred={centred})"
    readings.append(_Reading(name, replace(dictionary, centred=centred), habit, cure))
    for scaling, name in SCALINGS.items():
        if scaling != dictionary.scaling:
            scaled = replace(dictionary, scaling=scaling)
            cure = f'dataclasses.replace(dictionary, scaling="{scaling}")'
            readings.append(_Reading(name, scaled, habit, cure))
    if dictionary.scaling != "constant":
        length = _find_length(dictionary, model, batches)
        for name, factor in (("square", dictionary.d_in**0.5 / length), ("length", 1 / length)):
            scaled = replace(dictionary, scaling="constant", factor=factor)
            cure = f'dataclasses.replace(dictionary, scaling="constant", factor={factor:.4g})'
            readings.append(_Reading(f"inputs scaled by one factor to a mean {name} of one", scaled, habit, cure))
    if model.tokenizer.bos_id is not None:
        name = "without the first token" if habit else "with a first token"
        readings.append(_Reading(name, dictionary, not habit, f"model.tokenize(texts, bos={not habit})"))
    return readings


def _find_length(dictionary: "SparseAutoencoder", model: Model, batches: Sequence[Tokens]) -> float:
    """The mean length of inputs, by the first batch."""
    for tokens in batches[:1]:
        x = _select(model.run(tokens, keep=dictionary.site)[dictionary.site], tokens)
        return float(x.double().norm(dim=-1).mean())
    return 1.0


def _step(site: Site, step: int, model: Model) -> Site:
    """The same kind of place a layer on; of the stream, whose last layer has another name for what comes after it."""
    layer = -1 if site.layer is None else site.layer + step
    if site.kind == "resid_pre" and layer == model.config.n_layers:
        return Site("resid_post", layer - 1)
    return Site("resid_pre", 0) if site.kind == "resid_post" and layer < 0 else Site(site.kind, layer)


def _select(x: Tensor, tokens: Tokens) -> Float[Tensor, "n d"]:
    """Of every token but the first of each text, heads side by side."""
    counted = tokens.mask.clone()
    counted[:, 0] = False
    return x[counted.to(x.device)].flatten(1)


def _measure(readings: Sequence[_Reading], model: Model, batches: Sequence[Tokens]) -> None:
    """Readings of the same texts share each run."""
    for tokens in batches:
        run = model.run(
            tokens, keep=[site for one in readings for site in (one.dictionary.site, one.dictionary.writes)]
        )
        for one in readings:
            x, y = (
                _select(run[site], tokens).to(one.dictionary.decoder)
                for site in (one.dictionary.site, one.dictionary.writes)
            )
            one.add(x, y)


def _recover(dictionary: "SparseAutoencoder", model: Model, batches: Sequence[Tokens]) -> float:
    """How much of the loss that zeros would cost the reconstruction saves."""
    totals = torch.zeros(3, dtype=torch.float64)
    after, target = slice(1, None), dictionary.writes
    for tokens in batches:
        base = model.run(tokens, keep=[dictionary.site, target])
        written = dictionary.reconstruct(base.raw(dictionary.site)[:, 1:].nan_to_num())
        kept = replaced(target, written.reshape(base.raw(target)[:, 1:].shape), pos=after)
        n_predicted = (tokens.n_tokens - 1).double()
        for number, edits in enumerate([[], [kept], [ablate(target, pos=after)]]):
            run = model.run(tokens, edits=edits) if edits else base
            totals[number] += (loss()(run).double().cpu() * n_predicted).sum()
    whole, saved, without = map(float, totals)
    if without == whole:
        raise TooFewTokens("The texts' loss does not depend on the site.", "Give texts of more than two tokens.")
    return (without - saved) / (without - whole)


def _warn(
    readings: Sequence[_Reading], found: Mapping[str, Sequence[float]], claimed: Mapping[str, float]
) -> str | None:
    """What does not fit, with the likely cause: of the readings the one that explains most, where that is much more."""
    explained, n_active = found["variance_explained"], found["n_active"][0]
    best = int(np.nanargmax(explained))
    if explained[best] < _ENOUGH:
        return (
            f"However it is read, it explains at most {max(explained[best], 0):.0%} of the variance ({n_active:.0f} "
            "features active): likely another model's, or another place's."
        )
    if explained[best] > explained[0] + _BETTER:
        return (
            f"Read as configured it explains {explained[0]:.0%} of the variance ({n_active:.0f} features active), and "
            f"{explained[best]:.0%} read {readings[best].name} ({found['n_active'][best]:.0f} active): the config, or "
            f"the way this model was loaded, is likely off by that. Try {readings[best].cure}."
        )
    said = claimed.get("n_active", n_active)
    if not said / _MORE <= n_active <= said * _MORE:
        return (
            f"{n_active:.1f} features are active where its files claim {said:.1f}, and no other reading explains more: "
            "likely other texts, or another version of the model."
        )
    said = claimed.get("variance_explained", explained[0])
    if explained[0] < said - _LESS:
        return (
            f"It explains {explained[0]:.0%} of the variance where its files claim {said:.0%}, and no other reading "
            "explains more: likely other texts, or another version of the model."
        )
    return None
