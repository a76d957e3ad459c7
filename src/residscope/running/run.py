"""A run: texts through a model, of which only what is asked for is kept, and computed when it is."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from residscope.errors import NotKept
from residscope.running.positions import Positions, gather, resolve
from residscope.running.texts import Texts
from residscope.sites import Site, find_site, find_sites
from residscope.transformer.transformer import Frame, Watch

if TYPE_CHECKING:
    from residscope.running.model import Model


class Keeper(Watch):
    """Keeps what it sees at some sites."""

    def __init__(self, wanted: Collection[Site]) -> None:
        self.found: dict[Site, Tensor] = {}
        self._wanted = wanted

    def needs(self, kind: str, layer: int | None = None) -> bool:
        return Site(kind, layer) in self._wanted

    def __call__(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        site = Site(kind, layer)
        if site in self._wanted:
            self.found[site] = value
        return value


class Run:
    """Texts in one padded batch, and their activations.

    What was not kept is computed when asked for, by one more pass from the nearest stream that was, and kept from
    then on. Padded positions read NaN.

    Attributes:
      model: Whose activations.
      tokens: Of the texts.
      source: What was given as texts.
    Holds:
      Every text's numbers equal those of running it alone.
    """

    def __init__(
        self, model: "Model", source: Texts, keep: str | Site | Iterable[str | Site], *, strict: bool = False
    ) -> None:
        self.model = model
        self.source = source
        self.tokens = model.tokenize(source)
        self._kept: dict[Site, Tensor] = {}
        self._strict = strict
        self.keep(keep)

    @property
    def kept(self) -> tuple[Site, ...]:
        """The sites held in memory."""
        return tuple(site for site in self.model.sites if _place(site, self.model) in self._kept)

    @property
    def n_bytes(self) -> int:
        """Memory that is held."""
        return sum(value.nbytes for value in self._kept.values())

    @property
    def logits(self) -> Tensor:
        """[batch pos d_vocab] Scores of the next token, at every position; `at("logits", pos)` computes only some."""
        return self["logits"]

    def __getitem__(self, site: str | Site) -> Tensor:
        """The activation at `site`, with the axes its kind names; NaN where padded.

        Raises:
          UnknownSite: The model has none of that name.
          NotKept: The run is strict, and did not keep it.
        """
        found = find_site(site, self.model.sites)
        value, padded = self._read(found), ~self.tokens.mask.to(self.model.device)
        if not bool(padded.any()):
            return value
        for axis in _position_axes(found):
            shape = [1] * value.ndim
            shape[0], shape[axis] = padded.shape
            value = value.masked_fill(padded.reshape(shape), torch.nan)
        return value

    def at(self, site: str | Site, pos: Positions) -> Tensor:
        """The activation at some positions of each text: `[batch d_model]` for an int, `[batch n d_model]` otherwise.

        Args:
          site: For `pattern`, positions are those of the query.
          pos: As in the conventions: an int counts from the first token, negative from each text's own end.
        Raises:
          UnknownSite, NotKept: As for `run[site]`.
          UnknownPosition: A text has no such position.
        """
        found = find_site(site, self.model.sites)
        positions = resolve(pos, self.tokens.n_tokens)
        if found.kind == "logits" and found not in self._kept and not self._strict:
            last = self.at(_last_stream(self.model), positions)
            value = self._unembed(last, Watch())
        else:
            value = gather(self[found], positions, _position_axes(found)[0])
        return value.squeeze(_position_axes(found)[0]) if isinstance(pos, int) else value

    @torch.no_grad()
    def keep(self, sites: str | Site | Iterable[str | Site]) -> None:
        """Compute these sites in one pass from the nearest kept stream, and keep them.

        Args:
          sites: As for `model.run`: a kind means all its layers, "all" all sites.
        Raises:
          UnknownSite: The model has none of that name.
        """
        wanted = {_place(site, self.model) for site in find_sites(sites, self.model.sites)} - self._kept.keys()
        if not wanted:
            return
        transformer, n_layers, keeper = self.model.transformer, self.model.config.n_layers, Keeper(wanted)
        spans = [_span(site, n_layers) for site in wanted]
        start, stop = min(first for first, _ in spans), max(last for _, last in spans)
        frame = Frame(
            self.model.config,
            self.tokens.n_tokens,
            n_positions=self.tokens.ids.shape[1],
            device=self.model.device,
            dtype=self.model.dtype,
        )
        streams = {_span(site, n_layers)[1]: x for site, x in self._kept.items() if site.kind.startswith("resid_p")}
        start = max((depth for depth in streams if depth <= start), default=0)
        if Site("embed") in wanted or start not in streams:
            streams[0] = transformer.embed(self.tokens.ids.to(self.model.device), frame, keeper)
        x = streams[start]
        for layer in range(start, stop):
            x = transformer.blocks[layer](x, frame, keeper)
        if stop < n_layers:
            keeper("resid_pre", stop, x)
        elif Site("logits") in wanted:
            self._unembed(x, keeper)
        elif Site("ln_final") in wanted:
            transformer.norm_final(x, keeper)
        self._kept |= keeper.found

    def _read(self, site: Site) -> Tensor:
        place = _place(site, self.model)
        if place not in self._kept:
            if self._strict:
                raise NotKept(
                    f"{site} was not kept, and the run is strict.", f"Run again with keep=[{str(site)!r}, ...]."
                )
            self.keep([site])
        return self._kept[place]

    @torch.no_grad()
    def _unembed(self, x: Tensor, watch: Watch) -> Tensor:
        return self.model.transformer.unembed(self.model.transformer.norm_final(x, watch), watch)


def _place(site: Site, model: "Model") -> Site:
    """Where a site's value is kept: the stream after a layer is the stream before the next."""
    if site.kind == "resid_post" and site.layer is not None and site.layer + 1 < model.config.n_layers:
        return Site("resid_pre", site.layer + 1)
    return site


def _span(site: Site, n_layers: int) -> tuple[int, int]:
    """The stream that computing `site` begins from, and the one after the last layer it runs; 0 is before layer 0."""
    if site.layer is None:
        return (0, 0) if site.kind == "embed" else (n_layers, n_layers)
    return site.layer, site.layer + (site.kind != "resid_pre")


def _last_stream(model: "Model") -> Site:
    return Site("resid_post", model.config.n_layers - 1)


def _position_axes(site: Site) -> list[int]:
    return [axis for axis, name in enumerate(site.axes) if name in ("pos", "query", "key")]
