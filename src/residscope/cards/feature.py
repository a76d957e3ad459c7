"""What a feature of a dictionary is about: where it is active in texts, what it promotes, what lies near it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.cards.direction import SIDES, find_near
from residscope.dictionaries.neuronpedia import find_pages
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.direction import Direction
from residscope.errors import BadArgument, TooFewTokens
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_whole
from residscope.running.model import Model
from residscope.running.packing import write_lines
from residscope.running.progress import report
from residscope.running.texts import BATCH_TOKENS, Texts, describe_texts
from residscope.summaries.histogram import Histogram
from residscope.transformer.circuits import read_tokens
from residscope.transformer.direct_path import DirectPath, find_direct_path
from residscope.transformer.tokens import stack

_HEADS = ("v", "z")  # all of them side by side: no one way leads to the logits
_NEURONPEDIA = "https://www.neuronpedia.org/"


@dataclass(frozen=True, eq=False)
class Activations:
    """Where a dictionary's features are active in texts, but for position 0.

    Attributes:
      dictionary: Whose.
      lists: The texts' tokens, cut at the context.
      source: What the texts are, as code.
      starts: [feature + 1] Where each feature's places begin among the following.
      texts, pos: [place] In order of the features.
      values: [place] Activations.
      scale: The product of the medians of the scales of the norms on the way to the logits.
      n_tokens: That count.
    """

    dictionary: SparseAutoencoder
    lists: Sequence[Sequence[int]]
    source: str
    starts: Int[Tensor, " start"]
    texts: Int[Tensor, " place"]
    pos: Int[Tensor, " place"]
    values: Float[Tensor, " place"]
    scale: float
    n_tokens: int


@torch.no_grad()
def read_activations(model: Model, dictionary: SparseAutoencoder, texts: Texts) -> Activations:
    """Read all features of a dictionary in texts, once for all that is asked of them.

    Args:
      model: Any.
      dictionary: Of one of its sites.
      texts: Each is cut at the context.
    Raises:
      UnknownSite: The model has no such site.
      TooFewTokens: No text has a second token.
    """
    site = model.find(dictionary.site)
    path = _find_path(model, dictionary, 0)
    scaled = path.scales if path else []
    lists = model.corpus(texts).lists
    scales: list[list[Tensor]] = [[] for _ in scaled]
    found, n_tokens = list[Tensor](), 0
    values = list[Tensor]()
    size = max(1, BATCH_TOKENS // max(map(len, lists)))
    for start in range(0, len(lists), size):
        report(start, len(lists), f"reading features of {site}")
        tokens = stack(lists[start : start + size], model.tokenizer)
        run = model.run(tokens, keep=[site, *scaled])
        counted = tokens.mask.clone()
        counted[:, 0] = False
        at = counted.nonzero().cpu()
        n_tokens += len(at)
        features = dictionary.encode(run[site][counted].flatten(1)).cpu()
        row, feature = features.nonzero(as_tuple=True)
        found.append(torch.stack((feature, at[row, 0] + start, at[row, 1])))
        values.append(features[row, feature].float())
        for own, one in zip(scales, scaled, strict=True):
            own.append(run[one].cpu()[counted.cpu()])
    report(len(lists), len(lists), f"reading features of {site}")
    if not n_tokens:
        raise TooFewTokens("The texts have no second token.", "Give more text.")
    places = torch.cat(found, dim=1)
    order = places[0].argsort(stable=True)
    number = torch.arange(dictionary.n_features + 1)
    return Activations(
        dictionary,
        lists,
        describe_texts(texts),
        torch.searchsorted(places[0, order].contiguous(), number),
        places[1, order],
        places[2, order],
        torch.cat(values)[order],
        math.prod((float(torch.cat(one).median()) for one in scales), start=1.0),
        n_tokens,
    )


@dataclass(frozen=True, eq=False, repr=False)
class FeatureExplanation(Result):
    """What is known of a feature on some texts.

    Attributes:
      values: [side top] What one unit of its activation adds to the logits of tokens, directly, at the median scale on
        these texts of the norms on the way, less the vocabulary's mean. No tokens where more than matrices and norms
        lies on the way: `settings["unit"]` says so.
      token_ids: [side top] Which tokens, strongest first.
      texts: The same, as people read them.
      contexts: Where it is most active, one of a text: `text`, `pos`, `value`, `pieces`, `at` (which of these it is)
        and the `activations` of all of these.
      counts: [bin] How many tokens have activations in each bin, of those where it is active.
      edges: [edge] Where bins begin and end.
      n_active: On how many of `settings["n_tokens"]` tokens it is active.
      near: Features and directions nearest by the size of their cosine: `name` and `cosine`.
      dictionary: Its `name`, `site` and `source`, and the `feature`'s number there.
      page: Of it at Neuronpedia, where the dictionary is known to be there.
    """

    values: Float[Tensor, "side top"]
    token_ids: Int[Tensor, "side top"]
    texts: Sequence[Sequence[str]]
    contexts: Sequence[Mapping[str, Any]]
    counts: Int[Tensor, " bin"]
    edges: Float[Tensor, " edge"]
    n_active: int
    near: Sequence[Mapping[str, Any]]
    dictionary: Mapping[str, Any]
    page: str | None

    axes: ClassVar[tuple[str, ...]] = ("side", "top")
    view: ClassVar[str | None] = "feature"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "side":
            return {"side": np.array(SIDES, dtype=object)[index]}
        cell = places["side"], index
        return {
            "top": index,
            "token_id": self.token_ids.numpy()[cell],
            "text": np.array(self.texts, dtype=object)[cell],
        }


@torch.no_grad()
def explain_feature(
    model: Model,
    dictionary: SparseAutoencoder,
    feature: int,
    texts: Texts | Activations,
    *,
    top: int = 10,
    n_contexts: int = 8,
    around: int = 10,
    n_bins: int = 40,
    near: Iterable[Direction | SparseAutoencoder] | None = None,
) -> FeatureExplanation:
    """Say where a feature is active, what it promotes and suppresses, and what lies near it.

    Args:
      model: Any.
      dictionary: Of one of its sites.
      feature: Its number.
      texts: Each is cut at the context; or what `read_activations` found in them, where many features are asked about.
      top: Tokens of each side.
      n_contexts: Texts.
      around: Tokens shown before and after each.
      n_bins: Of the histogram.
      near: Directions, and dictionaries whose features are looked through; None is this dictionary.
    Raises:
      BadArgument: There is no such feature, or a number is none.
    Holds:
      Activations are those of `dictionary.encode`; contexts are the texts in which the largest is largest.
    """
    direction = dictionary.direction(feature)
    top = read_whole("top", top, 1, model.config.d_vocab)
    n_contexts, around = read_whole("n_contexts", n_contexts, 0, 1000), read_whole("around", around, 0, 1000)
    n_bins = read_whole("n_bins", n_bins, 1, 10_000)
    seen = texts if isinstance(texts, Activations) else read_activations(model, dictionary, texts)
    if seen.dictionary is not dictionary:
        raise BadArgument(f"The activations are of {seen.dictionary.name}.", f"Read those of {dictionary.name}.")
    own = slice(int(seen.starts[feature]), int(seen.starts[feature + 1]))
    values = seen.values[own]
    spread = Histogram.of(values, 0.0, float(values.max()) if len(values) else 1.0, n_bins)
    path = _find_path(model, dictionary, feature)
    strengths, ids = _find_tokens(model, path, seen.scale, top)
    through = f", through {path.through}" if path and path.through else ""
    own_name = f"feature {feature} of {dictionary.name}"
    others = find_near(direction, [dictionary] if near is None else near)
    said = f"top={top}, n_contexts={n_contexts}, around={around}, n_bins={n_bins}"
    return FeatureExplanation(
        name=f"feature {feature} of {dictionary.name}",
        settings={
            "site": str(dictionary.site),
            "unit": f"logits per unit of activation, direct path only{through}" if path else "no tokens",
            "scale": seen.scale,
            "n_tokens": seen.n_tokens,
            "n_texts": len(seen.lists),
            "left_out": [0],
            "model": model.name,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=write_lines(
            model.python,
            [
                f"dictionary = {dictionary.call}",
                f"rs.explain_feature(model, dictionary, {feature}, {seen.source}, {said})",
            ],
        ),
        values=strengths,
        token_ids=ids,
        texts=[[model.tokenizer.piece(i) for i in row] for row in ids.tolist()],
        contexts=_find_contexts(model, seen, own, n_contexts, around),
        counts=spread.counts,
        edges=spread.edges,
        n_active=len(values),
        near=[one for one in others if one["name"] != own_name],
        dictionary={
            "name": dictionary.name,
            "site": str(dictionary.site),
            "source": dictionary.source,
            "feature": feature,
        },
        page=_find_page(dictionary, feature),
    )


def _find_path(model: Model, dictionary: SparseAutoencoder, feature: int) -> DirectPath | None:
    """The way of what one unit of a feature writes to the logits."""
    site = model.find(dictionary.writes)
    if site.kind in _HEADS:
        return None
    row = dictionary.decoder[feature]
    vector = row / dictionary.decoder_norms[feature] if dictionary.by_decoder_norm else row
    vector = vector.to(model.device, torch.promote_types(model.dtype, torch.float32))
    return find_direct_path(model.weights, model.config, site, None, vector)


def _find_page(dictionary: SparseAutoencoder, feature: int) -> str | None:
    pages = find_pages(dictionary)
    return f"{_NEURONPEDIA}{quote(pages)}/{feature}" if pages else None


def _find_tokens(
    model: Model, path: DirectPath | None, scale: float, top: int
) -> tuple[Float[Tensor, "side top"], Int[Tensor, "side top"]]:
    if path is None:
        return torch.zeros(len(SIDES), 0), torch.zeros(len(SIDES), 0, dtype=torch.long)
    promoted = read_tokens(model.weights, model.config, path.side, path.vector[None])[0].cpu() / scale
    best, worst = promoted.topk(top), (-promoted).topk(top)
    return torch.stack([best.values, -worst.values]), torch.stack([best.indices, worst.indices])


def _find_contexts(model: Model, seen: Activations, own: slice, n: int, around: int) -> list[dict[str, Any]]:
    """The places of largest activation, one of a text, with the activations around them."""
    texts, pos, values = seen.texts[own], seen.pos[own], seen.values[own]
    found: list[dict[str, Any]] = []
    used = set[int]()
    for place in values.argsort(descending=True, stable=True).tolist():
        text, at = int(texts[place]), int(pos[place])
        if len(found) == n:
            break
        if text in used:
            continue
        used.add(text)
        ids = seen.lists[text]
        start, end = max(0, at - around), min(len(ids), at + around + 1)
        active = torch.zeros(len(ids))
        active[pos[texts == text]] = values[texts == text]
        pieces = [model.tokenizer.piece(i) for i in ids[start:end]]
        told = {"text": text, "pos": at, "value": float(values[place]), "pieces": pieces, "at": at - start}
        found.append(told | {"activations": active[start:end].tolist()})
    return found
