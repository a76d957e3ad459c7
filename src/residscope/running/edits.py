"""Edits of activations as data: frozen values that say where and what. `model.run` and `model.sweep` take them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from torch import Tensor

from residscope.direction import Direction
from residscope.errors import BadEdit
from residscope.running.changes import Change, Function
from residscope.running.packing import Readable, owner_of, pack, recorded, source_of, unpack
from residscope.running.positions import PADDED, Positions, resolve
from residscope.running.prepare import PREPARE, prepare
from residscope.running.run import Run
from residscope.running.target import Editable
from residscope.running.texts import Texts
from residscope.sites import Site, read_site
from residscope.transformer.tokens import Tokens

Numbers = Tensor | np.ndarray | Sequence[float] | float
Recorded = Run | Mapping[str, Tensor]
Part = int | Sequence[int] | None
Where = Positions | Literal["new"]


@dataclass(frozen=True, eq=False)
class Edit:
    """What to change, where. Made by `rs.replace`, `rs.add` and the others; `repr` is the Python that makes it.

    Attributes:
      name: Of the function that makes it.
      sites: Where; of all but `freeze` there is one.
      arguments: The rest of that function's arguments, those at their default left out; arrays are copies, runs and
        what was recorded of them are not.
    """

    name: str
    sites: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {name: _copy(value) for name, value in self.arguments.items()}
        object.__setattr__(self, "arguments", MappingProxyType(own))
        if self.name not in PREPARE:
            raise BadEdit(f"There is no edit {self.name!r}.", f"Known: {', '.join(PREPARE)}.")
        known = _parameters(self.name)
        missing = {one.name for one in known if one.default is one.empty} - self.arguments.keys()
        unknown = self.arguments.keys() - {"head", "neuron", "pos"} - {one.name for one in known}
        if missing or unknown or not self.sites:
            said = [f"no {name}" for name in sorted(missing)] + [f"an unknown {name}" for name in sorted(unknown)]
            said = said if self.sites else ["no site"]
            raise BadEdit(f"rs.{self.name} was given {' and '.join(said)}.", f"See help(rs.{self.name}).")
        draws = self.arguments.get("draws", 1)
        if not isinstance(draws, int) or draws < 1:
            raise BadEdit(f"{draws!r} draws were asked for.", "Give one at least.")

    def __reduce__(self) -> tuple[type["Edit"], tuple[str, tuple[str, ...], dict[str, Any]]]:
        return Edit, (self.name, self.sites, dict(self.arguments))

    @property
    def _with(self) -> str | None:
        """What an ablation puts in a part's place, where that has a name."""
        found = self.arguments.get("with_")
        return found if isinstance(found, str) else None

    def prepare(self, model: Editable, tokens: Tokens) -> list[Change]:
        """The edit as changes of these tokens, checked.

        Raises:
          BadEdit, UnknownSite, UnknownPosition: It does not fit; says what was asked and what there is.
        """
        return prepare(self, model, tokens)

    def draw(self, number: int) -> "Edit":
        """One of the draws of a resampling; any other edit is itself."""
        if "draws" not in self.arguments or self._with != "resample":
            return self
        arguments = {name: value for name, value in self.arguments.items() if name != "draws"}
        return Edit(self.name, self.sites, arguments | {"seed": arguments.get("seed", 0) + number})

    def at(self, positions: Sequence[int] | None) -> "Edit":
        """The same at other positions."""
        arguments = {name: value for name, value in self.arguments.items() if name != "pos"}
        return Edit(self.name, self.sites, arguments if positions is None else arguments | {"pos": list(positions)})

    def of_text(self, text: int, batch: Tokens) -> "Edit":
        """What the edit does to one text of a batch: its own positions, keys, draws, and values of a run.

        Raises:
          BadEdit: It has positions or a run for another number of texts.
        """

        def of(values: Tensor) -> Tensor:
            if not values.ndim or len(values) != len(batch.ids):
                raise BadEdit(
                    f"rs.{self.name} was given {list(values.shape)} for {len(batch.ids)} texts.", "Give as many."
                )
            return values[text : text + 1]

        def own(name: str, value: Any) -> Any:
            if name == "pos" and isinstance(value, Tensor):
                return of(value)
            if name == "key":  # what is written on moves its end
                keys = [key for key in resolve(value, batch.n_tokens)[text].tolist() if key != PADDED]
                return keys or slice(0)  # a slice may find none
            if isinstance(value, Run):
                value = recorded(value, self)
            if isinstance(value, Mapping):
                return {key: of(values) for key, values in value.items()}
            return value

        arguments = {name: own(name, value) for name, value in self.arguments.items()}
        if self.name == "noise" or self._with == "resample":
            arguments["text"] = text
        if self._with in ("mean", "resample") and "texts" not in self.arguments:
            others = [ids for i, ids in enumerate(batch.lists()) if i != text or self._with == "mean"]
            arguments |= {"texts": others} if others else {}
        return Edit(self.name, self.sites, arguments)

    def to_json(self, folder: str | Path | None = None) -> dict[str, Any]:
        """As JSON; vectors of more than 16 numbers lie beside it, named by a hash of their content.

        Args:
          folder: Where those are written.
        Raises:
          BadEdit: It holds a function, a feature of a dictionary that was made in memory, or a long vector and there is
            no folder.
        Holds:
          `Edit.from_json` of it is the same edit, with a run as the values that it has at the sites.
        """
        if self.name == "apply":
            raise BadEdit("An edit by a function is not data, and has no JSON.", "Use one of the other edits.")
        place = None if folder is None else Path(folder)
        return {
            "edit": self.name,
            "sites": list(self.sites),
            **{name: pack(value, self, place) for name, value in self.arguments.items()},
        }

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        folder: str | Path | None = None,
        *,
        dictionaries: Callable[..., Any] | None = None,
    ) -> "Edit":
        """The edit that `to_json` wrote.

        Args:
          data: What `to_json` gave.
          folder: Where its long vectors were written.
          dictionaries: Opens those that its features are of: `rs.load_dictionary`.
        Raises:
          BadEdit: It is none, a vector that it names is not in `folder`, or nothing opens its dictionary.
        """
        given: Any = data
        arguments = dict(given) if isinstance(given, Mapping) else {}
        name, sites = arguments.pop("edit", None), arguments.pop("sites", None)
        if not isinstance(name, str) or name not in PREPARE or name == "apply" or not isinstance(sites, list):
            raise BadEdit(f"{str(data)[:80]} is no edit.", f"Known: {', '.join(n for n in PREPARE if n != 'apply')}.")
        try:
            place = None if folder is None else Path(folder)
            read = {key: unpack(value, place, dictionaries) for key, value in arguments.items()}
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadEdit(f"{str(data)[:80]} is no edit ({error!r}).", "Write it with `to_json`.") from None
        return cls(name, tuple(map(str, sites)), read)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Edit)
            and repr(self) == repr(other)
            and all(owner_of(value) is owner_of(other.arguments[name]) for name, value in self.arguments.items())
        )

    def __hash__(self) -> int:
        return hash((self.name, self.sites))

    def __repr__(self) -> str:
        first = [repr(list(self.sites)) if self.name == "freeze" else repr(self.sites[0])]
        words = {"pos": "query"} if self.name == "knockout" else {}
        given = [f"{words.get(name, name)}={source_of(value)}" for name, value in self.arguments.items()]
        return f"rs.{self.name}({', '.join(given if self.name == 'clamp' else first + given)})"


def as_edits(edits: "Edit | Sequence[Edit]") -> tuple[Edit, ...]:
    """One edit, or several made together, as a tuple.

    Raises:
      BadEdit: Something is none.
    """
    several: Any = (edits,) if isinstance(edits, Edit) else edits
    if not isinstance(several, Sequence) or not all(isinstance(one, Edit) for one in several):
        raise BadEdit(f"{edits!r} was given as edits.", "Give what rs.replace, rs.ablate and the others make.")
    return tuple(several)


def _copy(value: Any) -> Any:
    """An array, or a list of some, that nobody else can write into."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_copy(one) if isinstance(one, (Tensor, np.ndarray)) else one for one in value]
    return value


@cache
def _parameters(name: str) -> tuple[Parameter, ...]:
    """What an edit of that name is told, beside where it is."""
    return tuple(signature(PREPARE[name]).parameters.values())[1:]


def _edit(name: str, site: str | Site, **arguments: Any) -> Edit:
    return Edit(name, (str(site),), {key: value for key, value in arguments.items() if value is not None})


def replace(
    site: str | Site,
    value: "Numbers | Direction | Recorded",
    *,
    head: Part = None,
    neuron: Part = None,
    pos: Where = None,
    along: "Tensor | Direction | Sequence[Direction | Tensor] | None" = None,
) -> Edit:
    """Put another value in a site's place.

    Args:
      site: Any editable one.
      value: A run of as many texts, whose value at the same positions is taken; or numbers: of one place (the site's
        axes after the position, without that of a single head), of each text [batch ...], or of each text and
        position [batch n ...].
      head: One or several, where the site has heads; None is all, or the one that a direction given is of.
      neuron: The same for hidden entries of the MLP.
      pos: As in the conventions; None is all.
      along: [d] or [k d] of the site's last axis, or directions: only what lies in the space they span is replaced.
    Holds:
      Replacing every site by another run's gives that run.
    """
    return _edit("replace", site, value=value, head=head, neuron=neuron, pos=pos, along=along)


def add(
    site: str | Site,
    vector: "Numbers | Direction",
    scale: float = 1.0,
    pos: Where = None,
    *,
    head: Part = None,
    neuron: Part = None,
) -> Edit:
    """Add `scale` times a vector, in the units of the site.

    Args:
      site: Any editable one.
      vector: As the value of `replace`; a direction adds its unit vector.
      scale: Its factor.
      pos: As in the conventions; None is all; "new", while writing, each token as it is written.
      head: One or several, where the site has heads; None is all, or the one that a direction given is of.
      neuron: The same for hidden entries of the MLP.
    """
    return _edit("add", site, vector=vector, scale=scale, pos=pos, head=head, neuron=neuron)


def scale(site: str | Site, factor: float, *, head: Part = None, neuron: Part = None, pos: Where = None) -> Edit:
    """Multiply by a factor.

    Args:
      site: Any editable one.
      factor: One leaves everything as it is.
      head: One or several, where the site has heads; None is all.
      neuron: The same for hidden entries of the MLP.
      pos: As in the conventions; None is all.
    """
    return _edit("scale", site, factor=factor, head=head, neuron=neuron, pos=pos)


def noise(
    site: str | Site, sd: float, seed: int = 0, *, head: Part = None, neuron: Part = None, pos: Where = None
) -> Edit:
    """Add normal noise, drawn for each text and position.

    Args:
      site: Any editable one.
      sd: Its standard deviation, in the units of the site.
      seed: The same draws for the same text number and position, whatever stands beside.
      head: One or several, where the site has heads; None is all.
      neuron: The same for hidden entries of the MLP.
      pos: As in the conventions; None is all.
    """
    return _edit("noise", site, sd=sd, seed=seed, head=head, neuron=neuron, pos=pos)


def ablate(
    site: str | Site,
    with_: "Literal['zero', 'constant', 'mean', 'resample'] | Recorded" = "zero",
    *,
    head: Part = None,
    neuron: Part = None,
    pos: Where = None,
    along: "Tensor | Direction | Sequence[Direction | Tensor] | None" = None,
    texts: Texts | None = None,
    by: Literal["all", "pos"] | Positions = "all",
    seed: int = 0,
    draws: int = 1,
) -> Edit:
    """Take a part's contribution away.

    Args:
      site: Any editable one.
      with_: What stands in its place: "zero"; "constant", what the head writes whatever it attends to (its value
        bias, and what it makes of the norm's; for `z`, `v`, `head_out`, `attn_out`), which is zero where
        TransformerLens has folded both; "mean" over texts; "resample", another text's value; or a run's.
      head: One or several, where the site has heads; None is all, or the one that a direction given is of.
      neuron: The same for hidden entries of the MLP.
      pos: As in the conventions; None is all.
      along: [d] or [k d] of the site's last axis, or directions: only what lies in the space they span is taken away.
      texts: For "mean" and "resample"; None is the run's own.
      by: "mean" over all positions, of each position, or over some positions of `texts`, as `pairs.positions(role)`
        gives them; padding and position 0 are left out of the first.
      seed: Of "resample".
      draws: Of "resample", in a sweep: the mean over so many is given, and its spread.
    """
    return _edit(
        "ablate",
        site,
        with_=with_,
        head=head,
        neuron=neuron,
        pos=pos,
        along=along,
        texts=texts.lists() if isinstance(texts, Tokens) else texts,
        by=None if isinstance(by, str) and by == "all" else by,
        seed=seed or None,
        draws=None if draws == 1 else draws,
    )


def project_out(
    site: str | Site,
    direction: "Tensor | Direction | Sequence[Direction | Tensor]",
    *,
    centre: Literal["zero", "mean"] = "zero",
    head: Part = None,
    pos: Where = None,
) -> Edit:
    """Remove what lies along a direction: `x . v`, or `(x - mean) . v`.

    Args:
      site: Any whose last axis is the direction's.
      direction: One, several, or rows [k d]; several need not be orthogonal.
      centre: "mean" takes the mean of the direction's making for zero.
      head: One or several, where the site has heads; None is all, or the one that a direction given is of.
      pos: As in the conventions; None is all.
    Holds:
      Afterwards the projection is zero, or the mean's.
    """
    return _edit("project_out", site, direction=direction, centre=centre, head=head, pos=pos)


def clamp(feature: "Direction | Readable", value: float, *, head: Part = None, pos: Where = None) -> Edit:
    """Give a feature or a direction a value, and leave the rest of the stream as it is.

    Args:
      feature: A direction, whose projection is set; or a dictionary's feature, whose activation is.
      value: In the units of the stream, or of the activation.
      head: One or several, where a direction's site has heads; None is all, or the one that the direction is of.
      pos: As in the conventions; None is all.
    """
    if not isinstance(feature, (Direction, Readable)):
        raise BadEdit(
            f"A {type(feature).__name__} was to be clamped.",
            "Give a direction, or a feature with site, vector and read.",
        )
    return _edit("clamp", feature.site, feature=feature, value=value, head=head, pos=pos)


def knockout(site: str | Site, *, key: int | slice | Sequence[int], query: Where = None, head: Part = None) -> Edit:
    """Keep queries from seeing keys: minus infinity in the scores, before the softmax.

    Args:
      site: `pattern.5` or `scores.5`.
      key: Positions that are not seen, negative ones from each text's own end; a slice is taken of each text.
      query: Positions that do not see them; None is all.
      head: One or several; None is all.
    Holds:
      The rest of the pattern sums to one.
    """
    found = read_site(str(site))
    return _edit(
        "knockout", Site("scores", found.layer) if found.kind == "pattern" else site, key=key, pos=query, head=head
    )


def freeze(
    sites: str | Site | Iterable[str | Site],
    run: "Recorded",
    *,
    head: Part = None,
    neuron: Part = None,
    pos: Where = None,
) -> Edit:
    """Hold sites at a run's values, whatever is edited before them.

    Args:
      sites: Sites, or kinds: all their layers.
      run: Of as many texts; its own run too: that is how direct effects are told from total ones.
      head: One or several, where all these sites have heads; None is all.
      neuron: The same for hidden entries of the MLP.
      pos: As in the conventions; None is all.
    """
    if not isinstance(sites, Iterable) and not isinstance(sites, Site):
        raise BadEdit(f"{sites!r} was to be frozen.", 'Give sites or kinds, as ["attn_out", "mlp_out.3"].')
    names = [sites] if isinstance(sites, (str, Site)) else list(sites)
    given = {"run": run, "head": head, "neuron": neuron, "pos": pos}
    return Edit("freeze", tuple(map(str, names)), {key: value for key, value in given.items() if value is not None})


def apply(site: str | Site, function: Function) -> Edit:
    """Change a site by a plain function of its whole value. It runs, sweeps and differentiates, but is not data.

    Args:
      site: Any editable one.
      function: Takes the value with the site's axes, gives one of that shape; it may look at all texts and positions.
        Padded positions (of attention, queries) read NaN, and what it gives there is dropped.
    """
    return _edit("apply", site, function=function)
