"""What the server serves: one model, its sample texts, and what was computed of them."""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from residscope.cards.feature import Activations, read_activations
from residscope.cards.search import Match, find_active, find_nearest, find_texts, rank_active
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.direction import Direction, combine
from residscope.directions.pca import Basis, pca_of_heads, pca_of_sites
from residscope.directions.position_means import PositionMeans, position_means_of_places
from residscope.directions.projection import Projection, project
from residscope.directions.river import river
from residscope.directions.vectors import check_direction, find_vectors, list_vector_sites, width_of
from residscope.directions.weights import token_direction
from residscope.errors import AnotherSite, BadDictionary, NotSaved, UnknownComponent, UnknownToken
from residscope.running.model import Model
from residscope.running.run import Run
from residscope.running.texts import read_texts
from residscope.server.directions import Kept, Of, Term
from residscope.sites import KINDS, Place, Site
from residscope.store.bases import BasisStore
from residscope.store.library import Library
from residscope.store.limits import Limits
from residscope.store.values import Neighbour, Saved
from residscope.transformer.tokens import Tokens

_RUNS_BYTES = 2**29
_MOMENTS_BYTES = 2**30
_MOST_MADE = 1000
_MOST_SAVED = 500  # that are looked through
_RESIDUAL = ("resid_pre", "resid_mid", "resid_post")
_FIRST_TEXTS = 20  # that the page asks for
_NAMES = (" Mary", " John", " Lily", " Tim", " Tom", " Anna", " Sam", " Alice", " Bob", " James", " Ben", " Paul")


class Workbench:
    """A model with its sample texts. Runs and bases are computed once and kept.

    Args:
      model: Any.
      texts: A file of sample texts.
      data: Where bases are kept between sessions; None keeps them in memory only.
      dictionaries: Of the model, by the site that each reads.
      misfits: What does not fit of them, by their sites.
      library: Where saved directions come from; None has none.
    """

    def __init__(
        self,
        model: Model,
        texts: Path,
        *,
        data: Path | None = None,
        dictionaries: Mapping[str, SparseAutoencoder] | None = None,
        misfits: Mapping[str, str] | None = None,
        library: Library | None = None,
    ) -> None:
        self.model, self._library = model, library
        self.limits = library.limits if library else Limits()
        self._dictionaries, self._misfits = dictionaries or {}, misfits or {}
        self.path = texts
        self.texts = read_texts(texts)
        self._store = BasisStore(data, model, self.texts) if data else None
        self._streams: list[str | Site] = ["resid_pre", Site("resid_post", model.config.n_layers - 1)]
        self._bases: dict[Place, Basis] = {}
        self._position_means: dict[Place, PositionMeans] = {}
        self._runs: OrderedDict[tuple[str, ...], Run] = OrderedDict()
        self._activations: dict[str, Activations] = {}
        self._made: OrderedDict[tuple[Place, Of], Direction] = OrderedDict()

    def describe(self) -> dict[str, Any]:
        """The model's facts, and the sites a direction can live at."""
        config, model = self.model.config, self.model
        heads = {site.kind: n_heads for site, n_heads in list_vector_sites(model).items()}
        sites = [
            {
                "kind": kind,
                "n_layers": config.n_layers if KINDS[kind].layered else None,
                "n_heads": n_heads,
                "meaning": KINDS[kind].meaning,
            }
            for kind, n_heads in heads.items()
            if not KINDS[kind].same_as
        ]
        return {
            "name": model.name,
            "family": config.family,
            "n_layers": config.n_layers,
            "d_model": config.d_model,
            "n_heads": config.n_heads,
            "n_kv_heads": config.n_kv_heads,
            "d_vocab": config.d_vocab,
            "n_ctx": config.n_ctx,
            "n_parameters": model.n_parameters,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "prepends_bos": model.tokenizer.prepends_bos,
            "names": [name for name in _NAMES if _is_token(model, name)][:2],
            "n_texts": len(self.texts),
            "sites": sites,
            "dictionaries": {site: one.n_features for site, one in self._dictionaries.items()},
            "misfits": dict(self._misfits),
        }

    def fingerprints(self) -> dict[str, str]:
        """Of each dictionary, by the site that it reads: a graph's file tells by them of which it is."""
        return {site: one.fingerprint for site, one in self._dictionaries.items()}

    def tokens(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Each text's pieces, and which of them are marks."""
        tokens = self.tokenize(texts)
        return [
            {"pieces": pieces, "special": special[: len(pieces)]}
            for pieces, special in zip(tokens.pieces, tokens.special.tolist(), strict=True)
        ]

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Texts of a request.

        Raises:
          OverLimit: They are too many, or one is too long.
          PromptTooLong: One is longer than the model's context.
        """
        self.limits.check_texts(len(texts))
        tokens = self.model.tokenize(list(texts))
        longest = int(tokens.n_tokens.max())
        self.limits.check("request_tokens_limit", longest, f"The longest text has {longest:,} tokens")
        return tokens

    def place(self, name: str) -> Place:
        """The place of that name, `resid_pre.3` or `z.3:1`.

        Raises:
          UnknownSite: The model has no such site, or it holds no vectors.
          BadArgument: It has heads and none was named, or has no such head.
        """
        site, _, head = name.partition(":")
        return Place(*find_vectors(self.model, site, int(head) if head.isdecimal() else None))

    @property
    def first(self) -> Place:
        """Where the page opens."""
        return Place(Site("resid_pre", self.model.config.n_layers // 2))

    def warm_up(self) -> None:
        """Compute what the page asks for first: components of the residual stream, and a run of the first texts."""
        self.basis(self.first)
        self.run(self.texts[:_FIRST_TEXTS])

    def has_basis(self, place: Place) -> bool:
        """Whether it needs no computing any more."""
        return place in self._bases

    def kin(self, place: Place) -> tuple[Place, ...]:
        """The places whose bases come of one pass: all heads; or, if memory allows, the whole stream or kind."""
        if place.head is not None:
            return tuple(Place(place.site, head) for head in range(list_vector_sites(self.model)[place.site] or 0))
        kinds = _RESIDUAL if place.site.kind in _RESIDUAL else (place.site.kind,)
        kin = tuple(Place(other) for other in self.model.sites if other.kind in kinds)
        return kin if len(kin) * 8 * width_of(self.model, place.site) ** 2 <= _MOMENTS_BYTES else (place,)

    def basis(self, place: Place) -> Basis:
        """Components of the sample texts there, computed with its kin."""
        if place not in self._bases:
            kept = self._store.read(place) if self._store else None
            found = {place: kept} if kept else self._compute(place)
            self._bases |= found
            if self._store and not kept:
                for basis in found.values():
                    self._store.write(basis)
        return self._bases[place]

    def _compute(self, place: Place) -> dict[Place, Basis]:
        kin = self.kin(place)
        if place.head is not None:
            return dict(zip(kin, pca_of_heads(self.model, self.path, place.site), strict=True))
        return {
            Place(site): one for site, one in pca_of_sites(self.model, self.path, [one.site for one in kin]).items()
        }

    def position_means(self, place: Place) -> PositionMeans:
        """Means of the sample texts there at each position, computed with its kin."""
        if place not in self._position_means:
            kin = self.kin(place)
            self._position_means |= zip(kin, position_means_of_places(self.model, self.path, kin), strict=True)
        return self._position_means[place]

    def dictionary(self, place: Place) -> SparseAutoencoder:
        """The dictionary that reads a place.

        Raises:
          BadDictionary: There is none.
        """
        if str(place) not in self._dictionaries:
            there = ", ".join(self._dictionaries) or "none"
            raise BadDictionary(f"No dictionary reads {place}.", f"Those here read: {there}.")
        return self._dictionaries[str(place)]

    def list_dictionaries(self, sites: Sequence[str] | None = None) -> list[SparseAutoencoder]:
        """The dictionaries that read some sites, or all.

        Raises:
          BadDictionary: There is none of a site, or none at all.
        """
        if not self._dictionaries:
            raise BadDictionary(
                f"This server has no dictionaries of {self.model.name}.",
                "Start it with residscope serve MODEL --dictionary PATH, one for each layer.",
            )
        if sites is None:
            return list(self._dictionaries.values())
        return [self.dictionary(Place(self.model.find(site))) for site in sites]

    def activations(self, site: str) -> Activations:
        """What the dictionary of a site finds in the sample texts, read once.

        Raises:
          BadDictionary: There is none.
        """
        [dictionary] = self.list_dictionaries([site])
        if site not in self._activations:
            self._activations[site] = read_activations(self.model, dictionary, self.path)
        return self._activations[site]

    def load(self, id: int, revision: int) -> Direction:
        """A saved direction, as a revision was.

        Raises:
          NotSaved: There is none of that number.
        """
        if self._library is None:
            raise NotSaved(f"Direction {id} was asked for, and nothing is kept here.", "Open a library.")
        found = self._library.directions.load(None, id, revision)
        # What a file says of how it was made is whoever's wrote the file, and is not to be run.
        line = f"direction = rs.load_direction({found.name + '.safetensors'!r})  # File, on the card of direction {id}"
        return replace(found, python=(*self.model.python, line))

    def make(self, place: Place, of: Of) -> Direction:
        """A direction at a place, with the mean and the deviation of the sample texts where it has none of its own.

        Raises:
          AnotherSite: It lives at another, and is not said to be meant here.
        """
        found = self._make(place, of)
        if _home(found) != place:
            if not of.here:
                raise AnotherSite(
                    f"{found.name} lives at {_home(found)}, and {place} was asked for.",
                    'Go there, or say "here": true.',
                )
            found = found.at(place.site, head=place.head)
            check_direction(self.model, found)
        return self.basis(place).measure(found)

    def _make(self, place: Place, of: Of) -> Direction:
        """A direction where it lives, made once: a probe is fitted, a contrast read."""
        key = place, of.model_copy(update={"here": False})  # whether it is read elsewhere makes no other
        if key not in self._made:
            self._made[key] = of.make(self, place)
            if len(self._made) > _MOST_MADE:
                self._made.popitem(last=False)
        return self._made[key]

    def find(self, place: Place, along: Sequence[Term]) -> Direction:
        """A direction, or the sum of several."""
        parts = [(term.weight, self.make(place, term.of)) for term in along]
        return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else self.basis(place).measure(combine(parts))

    def home(self, place: Place, of: Of) -> dict[str, Any]:
        """What a direction is called, and where it lives, `place` being shown."""
        found = self._make(place, of)
        return {"name": found.name, "site": str(_home(found))}

    def describe_directions(self, place: Place, made: Sequence[Of]) -> dict[str, Any]:
        """Directions at a place without their vectors, and their cosines to the components there."""
        basis = self.basis(place)
        return {
            "site": str(place),
            "directions": [self._describe_direction(self.make(place, of), basis) for of in made],
        }

    def _describe_direction(self, direction: Direction, basis: Basis) -> dict[str, Any]:
        return {
            "name": direction.name,
            "deviation": direction.deviation,
            "offset": direction.offset,
            "left_out": list(direction.left_out),
            "history": dict(direction.history),
            "cosines": (basis.components @ direction.vector).tolist(),
        }

    def describe_basis(self, place: Place) -> dict[str, Any]:
        """A basis without its vectors."""
        basis = self.basis(place)
        return {
            "site": str(place),
            "n_texts": basis.n_texts,
            "n_tokens": basis.n_tokens,
            "n_cut": basis.n_cut,
            "left_out": list(basis.left_out),
            "shares": basis.shares.tolist(),
            "deviations": basis.deviations.tolist(),
            "offsets": basis.offsets.tolist(),
            "warning": basis.warning,
        }

    def projections(self, texts: Sequence[str], place: Place, start: int, stop: int) -> bytes:
        """Values [component batch pos] along some components."""
        basis = self.basis(place)
        if not 0 <= start < stop <= len(basis):
            raise UnknownComponent(
                f"Components {start} to {stop} were asked for, and {place} has {len(basis)}.",
                "Give the first, and the one after the last.",
            )
        found = project(self.run(texts), basis[start:stop])
        return _pack(found.values, {"axes": found.axes})

    def find_active(self, text: str, place: Place, pos: int | None, top: int) -> dict[str, Any]:
        """Components, features where a dictionary reads the place, and what is saved there, most active in a text."""
        run, basis, dictionary = self.run([text]), self.basis(place), self._dictionaries.get(str(place))
        kept = self._list_saved(place)
        found = find_active(run, basis, dictionary, pos=pos, top=top)
        saved = rank_active(run, [self.make(place, _keep(one)) for one in kept], pos=pos, top=top)
        return {"found": found, "saved": [_tell(kept[match.number], match) for match in saved]}

    def find_promoting(self, place: Place, token: str, top: int) -> dict[str, Any]:
        """What points the way at a place that makes a token likely, and through which matrices that leads."""
        direction = token_direction(self.model, token, site=place.site, head=place.head)
        return {**self.find_nearest(place, direction, top, same_way=True), "through": direction.history["through"]}

    def find_nearest(self, place: Place, direction: Direction, top: int, *, same_way: bool = False) -> dict[str, Any]:
        """Components, features, and what is saved anywhere, that lie nearest to a direction; or point the same way."""
        dictionary, near = self._dictionaries.get(str(place)), self._find_saved_near(direction, top)
        saved = [{**_tell(one.direction, None), "value": one.cosine} for one in near]
        saved.sort(key=lambda one: -one["value"] if same_way else 0)
        found = find_nearest(direction, self.basis(place), dictionary, top=top, same_way=same_way)
        return {"found": found, "saved": saved}

    def list_near(self, place: Place, along: Sequence[Term], top: int) -> list[Direction | SparseAutoencoder]:
        """The dictionary of a place, and the saved directions that lie nearest to a direction, itself left out."""
        own = {term.of.id for term in along if isinstance(term.of, Kept) and len(along) == 1}
        near = [one.direction for one in self._find_saved_near(self.find(place, along), top + len(own))]
        saved = [self.load(one.id, one.revision) for one in near if one.id not in own]
        dictionary = self._dictionaries.get(str(place))
        return [*([] if dictionary is None else [dictionary]), *saved[:top]]

    def list_saved_near(self, direction: Direction, top: int) -> list[Direction]:
        """Saved directions that lie nearest to one."""
        near = self._find_saved_near(direction, top)
        return [self.load(one.direction.id, one.direction.revision) for one in near]

    def _find_saved_near(self, direction: Direction, top: int) -> Sequence[Neighbour]:
        return self._library.directions.nearest(None, direction, top) if self._library else []

    def _list_saved(self, place: Place) -> Sequence[Saved]:
        if self._library is None:
            return []
        return self._library.directions.find(None, site=str(place), count=_MOST_SAVED).directions

    def order_texts(self, place: Place, along: Sequence[Term]) -> list[int]:
        """Numbers of the sample texts, those that excite a direction most first."""
        return [number for number, _ in find_texts(self.model, self.texts, self.find(place, along))]

    def values(self, texts: Sequence[str], place: Place, made: Sequence[Of]) -> bytes:
        """Values [direction batch pos] along some directions."""
        run = self.run(texts)
        found = [project(run, self.make(place, of)) for of in made]
        return _pack(torch.stack([one.values for one in found]), {"axes": ("direction", *found[0].axes)})

    def by_position(self, place: Place, made: Sequence[Of]) -> bytes:
        """Of some directions [direction pos]: what each position's mean has along it, less its offset."""
        means, found = self.position_means(place).values, [self.make(place, of) for of in made]
        rows = [means @ direction.vector - direction.offset for direction in found]
        return _pack(torch.stack(rows), {"axes": ("direction", "pos")})

    def river(self, text: str, place: Place, along: Sequence[Term]) -> bytes:
        """Values [layer pos] of one text, and the names of the rows."""
        found = river(self.run([text]), self.find(place, along))
        return _pack(found.values[0], {"axes": found.axes[1:], "rows": found.rows, "here": found.here})

    def projection(
        self, texts: Sequence[str], place: Place, along: Sequence[Term], *, free: bool, centre: str
    ) -> Projection:
        """The coloured text itself, to be exported; `free` is of the sum as long as it comes."""
        taken: Any = self.position_means(place) if centre == "position" else centre
        found = project(self.run(texts), self.find(place, along), centre=taken)
        if not free:
            return found
        vectors = torch.stack([term.weight * self.make(place, term.of).vector for term in along])
        length = float(vectors.sum(0).norm())
        return replace(
            found,
            name=f"{found.name}, of length {length:.3g}",
            settings={**found.settings, "length": length},
            python=(*found.python[:-1], f"{found.python[-1]}.values * {length!r}"),
            values=length * found.values,
            deviation=found.deviation and length * found.deviation,
            offset=length * found.offset,
            by_position=found.by_position and [length * one for one in found.by_position],
        )

    def run(self, texts: Sequence[str]) -> Run:
        """A run of the texts, kept while those used since leave room."""
        key = tuple(texts)
        if (run := self._runs.pop(key, None)) is None:
            self.tokenize(texts)
            run = self.model.run(list(texts), keep=self._streams)
        self._runs[key] = run
        while len(self._runs) > 1 and sum(kept.n_bytes for kept in self._runs.values()) > _RUNS_BYTES:
            self._runs.popitem(last=False)
        if run.n_bytes > _RUNS_BYTES:
            self._runs[key] = self.model.run(list(texts))
        return self._runs[key]


def _keep(saved: Saved) -> Kept:
    return Kept(kind="saved", id=saved.id, revision=saved.revision)


def _tell(saved: Saved, match: Match | None) -> dict[str, Any]:
    facts = {"id": saved.id, "revision": saved.revision, "name": saved.name, "owner": saved.owner, "site": saved.site}
    return facts if match is None else {**facts, "value": match.value, "pos": match.pos}


def _is_token(model: Model, text: str) -> bool:
    try:
        model.single_token(text)
    except UnknownToken:
        return False
    return True


def _home(direction: Direction) -> Place:
    return Place(direction.site, direction.head)


def _pack(values: Tensor, payload: dict[str, Any]) -> bytes:
    return save({"values": values.float().contiguous()}, metadata={"payload": json.dumps(payload)})
