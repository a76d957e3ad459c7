"""Dictionaries of a graph that are likely another model's, or another place's, by the prompt alone."""

from collections.abc import Sequence

import torch

from residscope.graphs.levels import Level, read_stream
from residscope.running.model import Model
from residscope.running.run import Run
from residscope.sites import Site

_SUSPICIOUS = 0.3  # of what is to be explained, the length of an error, which is 9% of the variance
_TRIED = 2  # dictionaries, the worst
_LITTLE, _MUCH, _MORE = 0.25, 0.5, 0.1  # shares of the variance: where it is read, elsewhere, and so much more
_FEWEST, _MOST = 6, 8  # tokens by which places are compared


def find_misfits(levels: Sequence[Level], run: Run, missed: Sequence[float], n_active: Sequence[int]) -> list[str]:
    """What is wrong with dictionaries, in words.

    Args:
      levels: Of all dictionaries.
      run: Of the prompt.
      missed: Of each dictionary the length of its error at the positions that are looked at, as a share of what is to
        be explained.
      n_active: How many features of each are active there.
    """
    said = {number: "has no active feature at these positions" for number, n in enumerate(n_active) if not n}
    worst = sorted((n for n in range(len(levels)) if n not in said), key=lambda n: -missed[n])
    for turn, number in enumerate(n for n in worst if missed[n] > _SUSPICIOUS):
        found = _find_cause(levels[number], run) if turn < _TRIED else None
        if found is None and missed[number] > 1:
            found = "explains nothing of {} at these positions: likely it is another model's"
        if found:
            said[number] = found
    return [
        f"{dictionary.name} {said[number].format(dictionary.site)}. See dictionary.check(model, texts)."
        for number, dictionary in enumerate(level.dictionary for level in levels)
        if number in said
    ]


def _find_cause(level: Level, run: Run) -> str | None:
    """How much of the prompt a dictionary explains where it reads, and where one a layer off would; in words where
    that is little, or much less.
    """
    dictionary, n_tokens = level.dictionary, int(run.tokens.n_tokens[0])
    if level.read != level.written or n_tokens < _FEWEST:
        return None
    places = [level.read, *_list_beside(run.model, level.read)]
    run.keep(places)
    positions = torch.arange(1, n_tokens)[-_MOST:]
    x = torch.stack([read_stream(run, place, positions) for place in places]).to(dictionary.decoder)
    features = dictionary.encode(x)
    some = features.flatten(0, 1).any(0).nonzero()[:, 0]
    error = x - dictionary.decode(features[..., some], of=x, only=some)
    explained = 1 - error.square().sum((1, 2)) / (x - x.mean(1, keepdim=True)).square().sum((1, 2))
    own, best = float(explained[0]), int(explained.argmax())
    other = float(explained[best])
    if other >= max(_MUCH, own + _MORE):
        beside = f"and {other:.0%} of {places[best]}: likely it is that one's"
        return f"explains {max(0, own):.0%} of {{}} in this prompt, {beside}"
    if own >= _LITTLE:
        return None
    return f"explains {max(0, own):.0%} of {{}} in this prompt: likely it is another model's, or another place's"


def _list_beside(model: Model, place: Site) -> list[Site]:
    """The same a layer earlier and a layer later."""
    n_layers = model.config.n_layers
    row = [Site(place.kind, layer) for layer in range(n_layers)]
    if place.kind in ("resid_pre", "resid_post"):
        row = [*(Site("resid_pre", layer) for layer in range(n_layers)), Site("resid_post", n_layers - 1)]
    at = row.index(place)
    return [row[i] for i in (at - 1, at + 1) if 0 <= i < len(row) and row[i] in model.sites]
