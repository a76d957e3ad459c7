"""The dictionaries of a graph, in the order of the model, and what each finds at the chosen positions of a prompt."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.dictionaries.contract import find_places
from residscope.dictionaries.neuronpedia import find_pages
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.errors import BadArgument, BadCheckpoint, BadDictionary
from residscope.running.changes import Change
from residscope.running.model import Model
from residscope.running.positions import Positions, resolve
from residscope.running.run import Run, read_at
from residscope.running.sweep import list_carried
from residscope.running.texts import Texts
from residscope.sites import Site

Dictionaries = Mapping[str, SparseAutoencoder] | Sequence[SparseAutoencoder]
Where = Positions | Literal["last", "all"]
Node = Sequence[int | str]  # layer, or the site that a dictionary reads; feature; position

TOKEN = -1  # in place of a level's number
ERROR = -1  # in place of a feature's number: what the dictionary leaves unexplained
_EMBEDDED = Site("embed")
MEASURED = ("norm", "layer_norm")  # scalings whose scale moves with what it is taken of
_ALIASES = {"gpt2small": "gpt2"}  # TransformerLens's name for it, which dictionaries' files have
STREAM = ("resid_pre", "resid_mid", "resid_post")


@dataclass(frozen=True, eq=False)
class Level:
    """One dictionary of a graph.

    Attributes:
      layer: As people count: of the stream after the last layer, the number of layers.
      read, written: Where its input and its output are computed.
    """

    dictionary: SparseAutoencoder
    layer: int
    read: Site
    written: Site

    def describe(self) -> dict[str, Any]:
        """What a graph keeps of it."""
        dictionary = self.dictionary
        return {
            "layer": self.layer,
            "site": str(dictionary.site),
            "writes": str(dictionary.writes),
            "dictionary": dictionary.name,
            "n_features": dictionary.n_features,
            "source": dictionary.source,
            "fingerprint": dictionary.fingerprint,
            "pages": find_pages(dictionary),
        }


@dataclass(frozen=True, eq=False)
class Sources:
    """What can be ablated at a place: features, then the errors of the dictionary; or tokens.

    Attributes:
      place: Where they are written.
      features: [source] `ERROR` for what the dictionary leaves unexplained; of tokens their ids.
      slots: [source] Which of the chosen positions.
      activations: [source] Of an error its length.
      vectors: [source d] What each writes there.
    """

    place: Site
    features: Int[Tensor, " source"]
    slots: Int[Tensor, " source"]
    activations: Float[Tensor, " source"]
    vectors: Float[Tensor, "source d"]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, which: slice | Tensor) -> "Sources":
        """Some of them."""
        return Sources(
            self.place, self.features[which], self.slots[which], self.activations[which], self.vectors[which]
        )


def arrange(model: Model, dictionaries: Dictionaries) -> list[Level]:
    """Dictionaries in the order in which the model computes what they read.

    Raises:
      BadArgument: They are none, or fewer than two.
      BadDictionary: Two read the same site, or one is of another model, holds NaN, or reads or writes another number of
        entries than the model has there.
      UnknownSite: The model has no such site.
    """
    given: Any = list(dictionaries.values()) if isinstance(dictionaries, Mapping) else dictionaries
    if not isinstance(given, Sequence) or not all(isinstance(one, SparseAutoencoder) for one in given):
        raise BadArgument(f"{str(dictionaries)[:80]} was given as dictionaries.", "Give what rs.load_dictionary gives.")
    if len(given) < 2:
        raise BadArgument(
            f"{len(given)} dictionaries were given, and edges lead from one to the next.", "Give two or more."
        )
    levels = [_place(model, one) for one in given]
    levels.sort(key=lambda level: model.depth(level.read))
    for one, other in pairwise(levels):
        if one.read == other.read:
            raise BadDictionary(
                f"{one.dictionary.name} and {other.dictionary.name} both read {one.dictionary.site}.",
                "Give one for each site.",
            )
    return levels


def _check_model(model: Model, dictionary: SparseAutoencoder) -> None:
    """Refuse a dictionary of another model, where it is known of which it is, and what the model is called.

    Raises:
      BadDictionary: Neither name begins as the other does.
    """
    theirs, ours = dictionary.facts.get("model_name"), model.known_as
    if not isinstance(theirs, str) or ours is None:
        return
    short = [re.sub(r"[^a-z0-9]", "", name.rpartition("/")[2].lower()) for name in (theirs, ours)]
    one, other = (_ALIASES.get(name, name) for name in short)
    if not (one.startswith(other) or other.startswith(one)):
        raise BadDictionary(
            f"{dictionary.name} was trained on {theirs}, and the model is {ours}.",
            "Take dictionaries of this model. If it goes by both names: dataclasses.replace(dictionary, facts={}).",
        )


def _place(model: Model, dictionary: SparseAutoencoder) -> Level:
    _check_model(model, dictionary)
    site, written = find_places(dictionary, model)
    for name in ("encoder_bias", "decoder_bias", "threshold", "gate_bias", "magnitude"):  # where NaN may only silence
        value = getattr(dictionary, name)
        if value is not None and bool(value.isnan().any()):
            raise BadDictionary(f"{dictionary.name} holds NaN in its {name}.", "Load it anew.")
    layer = model.config.n_layers if site.layer is None else site.layer + (site.kind == "resid_post")
    return Level(dictionary.to(model.device_of(model.place(site))), layer, model.place(site), model.place(written))


def list_steps(model: Model, levels: Sequence[Level], later: bool, tokens: bool) -> dict[int, list[int]]:
    """From which level to which edges lead: to the next, or to all that follow; tokens stand before all."""
    steps: dict[int, list[int]] = {}
    if tokens:
        steps[TOKEN] = [*range(len(levels) if later else 1)]
    for number, level in enumerate(levels):
        after = [other for other, target in enumerate(levels) if model.depth(target.read) > model.depth(level.written)]
        if after:
            steps[number] = after if later else after[:1]
    return steps


def check_node(node: Any) -> tuple[int | str, int, int]:
    """A node as somebody names it.

    Raises:
      BadArgument: It is not a layer or a site, and two whole numbers.
    """
    fits = isinstance(node, Sequence) and len(node) == 3 and all(isinstance(one, SupportsIndex) for one in node[1:])
    if not fits or not isinstance(node[0], (SupportsIndex, str)):
        raise BadArgument(f"{node!r} was given as a node.", "Give its layer, feature and position: (5, 10603, -1).")
    layer, feature, pos = node
    return layer, feature, pos


def find_level(dictionaries: Sequence[Mapping[str, Any]], layer: int | str) -> int:
    """The number of a dictionary by its layer, or by the site that it reads.

    Args:
      dictionaries: The `layer` and the `site` of each.
      layer: -1 is of tokens.
    Raises:
      BadArgument: There is none, or a layer has several.
    """
    if layer == TOKEN:
        return TOKEN
    found = [number for number, one in enumerate(dictionaries) if layer in (one["layer"], one["site"])]
    if len(found) == 1:
        return found[0]
    if found:
        sites = [dictionaries[number]["site"] for number in found]
        raise BadArgument(f"Layer {layer} has {len(found)} dictionaries.", f"Name one by its site: {sites}.")
    raise BadArgument(
        f"There is no dictionary of layer {layer!r}.", f"Layers are {[one['layer'] for one in dictionaries]}."
    )


def find_nodes(
    levels: Sequence[Level],
    run: Run,
    positions: Int[Tensor, " pos"],
    nodes: Sequence[Node],
    *,
    errors: bool,
    tokens: bool,
) -> Int[Tensor, "node 3"]:
    """Level, slot and feature of nodes that somebody names; of layer -1 they are tokens.

    Raises:
      BadArgument: There is no such dictionary, feature or token, the position is not looked at, or errors or tokens are
        no sources here.
    """
    known, found = [{"layer": level.layer, "site": str(level.dictionary.site)} for level in levels], []
    for node in nodes:
        layer, feature, pos = check_node(node)
        pos = pos + int(run.tokens.n_tokens[0]) if pos < 0 else pos
        level, at = find_level(known, layer), (positions == pos).nonzero()[:, 0].tolist()
        named = f"Node {layer}.{feature}@{pos} was named"
        if not at:
            raise BadArgument(f"{named}.", f"Positions that are looked at are {positions.tolist()}.")
        for word, meant, there in (("tokens", level == TOKEN, tokens), ("errors", feature == ERROR, errors)):
            if meant and not there:
                raise BadArgument(f"{named}, and {word} are no sources here.", f"Give {word}=True.")
        if level == TOKEN and feature != int(run.tokens.ids[0, pos]):
            raise BadArgument(f"{named}.", f"The token at {pos} is {int(run.tokens.ids[0, pos])}.")
        if level != TOKEN and not ERROR <= feature < levels[level].dictionary.n_features:
            raise BadArgument(f"{named}.", f"Its dictionary has {levels[level].dictionary.n_features} features.")
        found.append([level, at[0], feature])
    return torch.tensor(found, dtype=torch.long).view(-1, 3)


def list_ways(levels: Sequence[Level], steps: Mapping[int, Sequence[int]]) -> list[tuple[Site, Level]]:
    """From which place to which dictionary edges lead."""
    places = {number: _EMBEDDED if number == TOKEN else levels[number].written for number in steps}
    return [(places[number], levels[target]) for number, targets in steps.items() for target in targets]


def list_skipped(levels: Sequence[Level]) -> list[str]:
    """Layers of the stream between two dictionaries of it for which there is none."""
    there = [level.layer for level in levels if level.read.kind in STREAM]
    return [f"resid_pre.{layer}" for one, other in pairwise(there) for layer in range(one + 1, other)]


def choose_positions(run: Run, positions: Where) -> Int[Tensor, " pos"]:
    """Positions of the only text of a run, in order.

    Raises:
      BadArgument: The run has several texts, or a word is not known.
      UnknownPosition: There is no such position.
    """
    if len(run.tokens.ids) != 1:
        raise BadArgument(f"{len(run.tokens.ids)} prompts were given.", "Make a graph of each.")
    if isinstance(positions, str) and positions not in ("last", "all"):
        raise BadArgument(f"positions={positions!r} was asked for.", 'Give "last", "all" or positions.')
    known: dict[Any, Positions] = {"last": -1, "all": None}
    found = resolve(known[positions] if isinstance(positions, str) else positions, run.tokens.n_tokens)
    return torch.tensor(sorted({*found[0].tolist()}))


def read_stream(run: Run, place: Site, positions: Int[Tensor, " pos"]) -> Float[Tensor, "pos d"]:
    """What a place of the run holds at some positions, heads side by side.

    Raises:
      BadCheckpoint: NaN or infinity, which come from the weights.
    """
    value = read_at(run.raw(place), place, positions[None])[0, 0].flatten(1)
    if not bool(value.isfinite().all()):
        raise BadCheckpoint(
            f"{run.model.name} gives NaN or infinity at {place}.", "Its weights hold some; load them anew."
        )
    return value


def find_sources(
    level: Level, run: Run, positions: Int[Tensor, " pos"], active: Float[Tensor, "pos feature"], errors: bool
) -> tuple[Sources, float]:
    """The features that are active at some positions, and on request the dictionary's errors.

    Args:
      level: Of the dictionary.
      run: Of the prompt.
      positions: Where.
      active: What the dictionary makes of the run there.
      errors: Whether they are sources too.
    Returns:
      They, and the length of the dictionary's error, as a share of what is to be explained.
    Raises:
      BadDictionary: The dictionary makes NaN.
    """
    dictionary = level.dictionary
    x = read_stream(run, level.read, positions)
    slots, features = (active > 0).nonzero(as_tuple=True)
    values = active[slots, features]
    vectors = dictionary.write(features, values, x.to(dictionary.decoder)[slots])
    target = read_stream(run, level.written, positions)
    some = torch.unique(features)
    decoded = dictionary.decode(active[:, some], of=x, only=some)
    error = target - decoded.reshape(target.shape).to(target)
    if not bool(error.isfinite().all()) or bool(active.isnan().any()):
        raise BadDictionary(
            f"{dictionary.name} makes NaN of {dictionary.site}.", "Its weights hold some; load it anew."
        )
    missed = float(error.norm() / (target - dictionary.decoder_bias.to(target)).norm())
    if errors:
        slots = torch.cat((slots, torch.arange(len(x), device=slots.device)))
        features = torch.cat((features, torch.full((len(x),), ERROR, device=slots.device)))
        values = torch.cat((values, error.norm(dim=-1).to(values)))
        vectors = torch.cat((vectors, error.to(vectors)))
    return Sources(level.written, features, slots, values, vectors), missed


def find_tokens(run: Run, positions: Int[Tensor, " pos"]) -> Sources:
    """The embeddings of the tokens at some positions."""
    place = _EMBEDDED
    vectors = read_stream(run, place, positions)
    ids = run.tokens.ids[0, positions].to(vectors.device)
    slots = torch.arange(len(positions), device=vectors.device)
    return Sources(place, ids, slots, vectors.norm(dim=-1), vectors)


def make_ablations(run: Run, sources: Sources, positions: Int[Tensor, " pos"]) -> Iterator[list[Change]]:
    """Each source's vector taken off, alone."""
    shape = run.raw(sources.place).shape[2:]
    at = [torch.tensor([[position]]) for position in positions.tolist()]
    shifts = -sources.vectors.to(run.raw(sources.place)).view(len(sources), 1, 1, *shape)
    for slot, shift in zip(sources.slots.tolist(), shifts, strict=True):
        yield [Change(sources.place, at[slot], shift=shift)]


def list_patterns(model: Model, levels: Sequence[Level]) -> list[Site]:
    """Patterns of all attention between the first dictionary and the last."""
    first, last = model.depth(levels[0].written), model.depth(levels[-1].read)
    return [site for site in model.sites if site.kind == "pattern" and first < model.depth(site) < last]


def read_prompt(model: Model, prompt: Texts, levels: Sequence[Level], room: int = 0) -> Run:
    """The run that everything is compared with; it keeps patterns where they fit into so many bytes."""
    first, last = (model.last_attention(place) for place in (levels[0].written, levels[-1].read))
    places = [place for level in levels for place in (level.read, level.written)]
    patterns, tokens = list_patterns(model, levels), model.tokenize(prompt)
    n_bytes = len(patterns) * model.config.n_heads * tokens.ids.shape[1] ** 2 * model.dtype.itemsize
    carried = list_carried(model, range(first + 1, last + 1))
    return model.run(prompt, keep=[*places, *carried, *(patterns if n_bytes <= room else [])])
