"""A run: texts through a model, of which only what is asked for is kept, and computed when it is."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from residscope.errors import BadArgument, BadMetric, NotKept, UnknownSite
from residscope.running.changes import Change, apply_changes, hide, tokens_first
from residscope.running.positions import Positions, gather, is_single, resolve
from residscope.running.texts import Texts, describe_texts
from residscope.sites import KINDS, Site, find_sites
from residscope.transformer.tokens import Tokens
from residscope.transformer.transformer import Pass

if TYPE_CHECKING:
    from residscope.running.edits import Edit
    from residscope.running.metrics import Metric, Reading
    from residscope.running.model import Model

Place = tuple[str, int | None]


class Enough(Exception):
    """Everything that a pass was for has been seen."""


class Recording(Pass):
    """A pass that changes what it is told to, keeps what is wanted, and ends with the last of it.

    Args:
      changes: What is changed, in order; those before `wanted` in the same place come first.
      wanted: Places to keep.
    """

    def __init__(
        self, *args: Any, changes: Sequence[Change] = (), wanted: Collection[Site] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.found: dict[Site, Tensor] = {}
        self._wanted = {(site.kind, site.layer) for site in wanted}
        self._changes: defaultdict[Place, list[Change]] = defaultdict(list)
        for change in changes:
            self._changes[change.place.kind, change.place.layer].append(change)

    def needs(self, kind: str, layer: int | None) -> bool:
        return (kind, layer) in self._wanted or (kind, layer) in self._changes

    def __call__(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        place = (kind, layer)
        if place in self._changes:
            value = self.change(kind, layer, value)
        if place in self._wanted:
            self.found[Site(kind, layer)] = value
            if len(self.found) == len(self._wanted):
                raise Enough
        return value

    def change(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        """A site's value after the changes there."""
        return self.hide(kind, layer, apply_changes(self._changes[kind, layer], value, int(self.positions[0])))

    def hide(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        """Of scores and patterns what queries may see; any other value as it is."""
        if layer is None or kind not in ("scores", "pattern"):
            return value
        return hide(kind, value, self.positions, self.config.window(layer))


class Differentiating(Recording):
    """A recording whose values are points of a graph: what they make can be differentiated by them."""

    def __call__(self, kind: str, layer: int | None, value: Tensor) -> Tensor:
        if (kind, layer) in self._changes:
            value = self.change(kind, layer, value)
        if (kind, layer) in self._wanted:
            value = value if value.requires_grad else value.detach().requires_grad_()
            self.found[Site(kind, layer)] = value
            if len(self.found) == len(self._wanted):
                raise Enough
            # A new object: a norm divides by a scale that is not its own. What is hidden changes nothing.
            return self.hide(kind, layer, value.view_as(value))
        return value


class Run:
    """Texts in one padded batch, and their activations.

    What was not kept is computed when asked for, by one more pass from the nearest stream that was, and kept from
    then on. Padded positions read NaN.

    Attributes:
      model: Whose activations.
      tokens: Of the texts.
      source: What was given as texts.
      edits: What was changed; an edited site reads its value after the edit.
      changes: The same, ready for these tokens.
    Holds:
      Every text's numbers equal those of running it alone.
    """

    def __init__(
        self,
        model: "Model",
        source: Texts,
        keep: str | Site | Iterable[str | Site],
        *,
        edits: "Sequence[Edit]" = (),
        strict: bool = False,
    ) -> None:
        self.model = model
        self.source = source
        self.tokens: Tokens = model.tokenize(source)
        self.edits = tuple(edits)
        self.changes = [change for edit in edits for change in edit.prepare(model, self.tokens)]
        self._kept: dict[Site, Tensor] = {}
        self._strict = strict
        self.keep(keep)

    @property
    def name(self) -> str:
        """The model's, and whether it was edited: what results of the run are named by."""
        return f"{self.model.name}, edited" if self.edits else self.model.name

    @property
    def settings(self) -> dict[str, Any]:
        """What the settings of every result of the run begin with."""
        return {
            "has_bos": self.tokens.has_bos,
            "edits": [repr(edit) for edit in self.edits],
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    @property
    def kept(self) -> tuple[Site, ...]:
        """The sites held in memory."""
        return tuple(site for site in self.model.sites if self.model.place(site) in self._kept)

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
        found = self.model.find(site)
        return self._blank(found, self.raw(found))

    def _blank(self, site: Site, value: Tensor) -> Tensor:
        """The value with NaN where padded."""
        padded = ~self.tokens.mask
        if not bool(padded.any()):
            return value
        padded = padded.to(value.device)
        for axis in _position_axes(site):
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
        found = self.model.find(site)
        positions = resolve(pos, self.tokens.n_tokens)
        if found.kind == "logits" and found not in self._kept and not self._strict:
            transformer = self.model.transformer
            with torch.no_grad():
                stream = gather(self[self.model.last_site], positions, 1)
                value = transformer.cap_logits(transformer.unembedding(stream))
        else:
            value = gather(self[found], positions, _position_axes(found)[0])
        return value.squeeze(_position_axes(found)[0]) if is_single(pos) else value

    @torch.no_grad()
    def keep(self, sites: str | Site | Iterable[str | Site]) -> None:
        """Compute these sites in one pass from the nearest kept stream, and keep them.

        Args:
          sites: As for `model.run`: a kind means all its layers, "all" all sites but `head_out`.
        Raises:
          UnknownSite: The model has none of that name.
        """
        if not isinstance(sites, (str, Site)) and isinstance(sites, Iterable):  # a search takes longer than a look
            sites = [site for site in sites if site not in self._kept]
        wanted = {self.model.place(site) for site in find_sites(sites, self.model.sites)} - self._kept.keys()
        if wanted:
            self._kept |= self.record(wanted)

    def gradients(self, metric: "Metric", sites: str | Site | Iterable[str | Site]) -> dict[str, Tensor]:
        """How a metric changes with every entry of some sites, each text's with its own; one backward pass.

        Args:
          metric: With one number for each text.
          sites: As for `model.run`.
        Returns:
          By the site's name, with the site's axes; NaN where padded.
        Raises:
          UnknownSite: The model has none of that name, or none was named.
          BadMetric: It gives more than one number for each text, has no gradient, does not fit the texts, or makes
            logits of its own where those are asked for; "all" leaves them out then.
        Holds:
          Equal to autograd through transformers' model, to 1e-4 of the largest.
        """
        check_metric(metric)
        found = find_sites(sites, self.model.sites)
        if not found:
            raise UnknownSite("The gradient at no site was asked for.", "Name one at least, as resid_pre.0.")
        reading = metric.bind(self.model, self.tokens)
        logits = Site("logits")
        if logits in found and logits not in reading.places:
            if sites != "all":
                raise BadMetric(
                    f"The gradient at logits was asked for, and {metric!r} makes its own from {self.model.last_site}.",
                    'Ask for it there, or give rs.metric(function, reads=["logits"]).',
                )
            found = tuple(site for site in found if site != logits)
        gradients = self.differentiate(reading, [self.model.place(site) for site in found])
        return {str(site): self._blank(site, gradients[self.model.place(site)]) for site in found}

    def differentiate(
        self, reading: "Reading", places: Sequence[Site], changes: Sequence[Change] = ()
    ) -> dict[Site, Tensor]:
        """Gradients of a bound metric's sum at some places, when these changes are made too."""
        with torch.enable_grad():
            recorded = self.record({*places, *reading.places}, changes, Differentiating)
            read = [
                read_at(recorded[place], place, reading.positions).to(self.model.device) for place in reading.places
            ]
            value = reading.compute(read)
            if value.ndim != 2:
                raise BadMetric(
                    f"The metric gives {list(value.shape[2:])} numbers for each text.", "Give one that gives one."
                )
            if not value.requires_grad:
                raise BadMetric(
                    "The metric has no gradient: it is a constant, or a count or choice of what it reads.",
                    "Give one that changes smoothly, as a logit or a log probability.",
                )
            points = [recorded[place] for place in places]
            found = torch.autograd.grad(value.sum(), points, allow_unused=True, materialize_grads=True)
        return dict(zip(places, found, strict=True))

    def record(
        self, wanted: Collection[Site], changes: Sequence[Change] = (), how: type[Recording] = Recording
    ) -> dict[Site, Tensor]:
        """What some places hold when these changes are made too; computed anew, and not kept.

        Args:
          wanted: Places, as `model.place` gives them.
          changes: Made after the run's own at the same place.
          how: `Differentiating` builds a graph.
        """
        transformer, model = self.model.transformer, self.model
        first = min(model.depth(place) for place in (*wanted, *(change.place for change in changes)))
        kept = list(self._kept.items())  # at once: another thread may keep more meanwhile
        streams = {model.depth(site): x for site, x in kept if site.kind.startswith("resid_p")}
        start = max((depth for depth in streams if depth < first), default=-1)
        recording = how(
            model.config,
            self.tokens.n_tokens,
            n_positions=self.tokens.ids.shape[1],
            device=model.device,
            dtype=model.dtype,
            changes=[*self.changes, *changes],
            wanted=wanted,
        )
        try:
            if start < 0:
                x, layer = transformer.embed(self.tokens.ids.to(model.device), recording), 0
            else:
                x, layer = streams[start], model.layer_after(model.sites[start])
            x = transformer(x, recording, layer)
            transformer.unembed(transformer.norm_final(x, recording), recording)
        except Enough:
            pass
        return recording.found

    @torch.no_grad()
    def look_up(self, places: Collection[Site]) -> dict[Site, Tensor]:
        """What some places hold, with whatever padded positions do; what was not kept is computed, and let go."""
        found = {place: self._kept[place] for place in places if place in self._kept}
        missing = set(places) - found.keys()
        return {**found, **self.record(missing)} if missing else found

    def raw(self, site: Site) -> Tensor:
        """The activation with whatever padded positions hold.

        Raises:
          NotKept: The run is strict, and did not keep it.
        """
        place = self.model.place(site)
        if place not in self._kept:
            if self._strict:
                raise NotKept(
                    f"{site} was not kept, and the run is strict.", f"Run again with keep=[{str(site)!r}, ...]."
                )
            self.keep([site])
        return self._kept[place]

    def __repr__(self) -> str:
        edits = f", edits={list(self.edits)!r}" if self.edits else ""
        return f"model.run({describe_texts(self.source)}{edits})"


def check_run(run: object) -> None:
    """Refuse what is no run.

    Raises:
      BadArgument: It is none.
    """
    if not isinstance(run, Run):
        raise BadArgument(f"A {type(run).__name__} was given as a run.", "Give what model.run gives.")


def check_metric(metric: object) -> None:
    """Refuse what is no metric.

    Raises:
      BadMetric: It is none.
    """
    if not callable(getattr(metric, "bind", None)):
        raise BadMetric(f"{metric!r} was given as a metric.", "Give rs.logit(...) or such, or rs.metric(function).")


def check_metrics(name: str, metrics: Any) -> "list[Metric]":
    """An argument that is a list of metrics.

    Raises:
      BadMetric: It is none.
    """
    if not isinstance(metrics, Iterable):
        raise BadMetric(f"{name}={metrics!r} was asked for.", "Give a list of metrics.")
    found = list(metrics)
    for metric in found:
        check_metric(metric)
    return found


def read_at(value: Tensor, place: Site, positions: Int[Tensor, "batch n"]) -> Tensor:
    """`[1 batch n ...]` of a site's value, as metrics read it."""
    return gather(tokens_first(place.kind, value), positions, 1)[None]


def _position_axes(site: Site) -> list[int]:
    return [axis for axis, name in enumerate(KINDS[site.kind].axes) if name in ("pos", "query", "key")]
