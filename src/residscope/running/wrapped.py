"""Any other module, read and edited by hooks at sites that its user names, always by full runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from threading import RLock
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from residscope.errors import BadArgument, BadEdit, BadMetric, NotKept, UnknownSite
from residscope.running.changes import Change, apply_changes
from residscope.running.edits import Edit, as_edits
from residscope.running.metrics import Metric
from residscope.running.packing import LENGTHS
from residscope.running.progress import report
from residscope.running.sweep import draw_sets
from residscope.sites import KINDS, Site, find_site, find_sites, read_site
from residscope.transformer.tokens import Tokens, Untokenized

Side = Literal["input", "output"]
Where = str | tuple[str, Side]

_LOCKS: WeakKeyDictionary[nn.Module, RLock] = WeakKeyDictionary()  # held while hooks are on a module


def wrap(module: nn.Module, sites: Mapping[str, Where]) -> "Wrapped":
    """Read and edit any module, where no family fits.

    Args:
      module: Takes whatever `run` is given; it stays as it is.
      sites: For each site the name of a submodule, as `named_modules` has it, or the name with "input" or "output". A
        name alone stands for the first input where the site is `resid_pre`, else for the output; of a tuple it is the
        first. The value has the axes that the kind of site names.
    Raises:
      BadArgument: There is no such kind of site or submodule.
    Holds:
      Threads may run it at once, also by several wraps: one call waits for the other.
    """
    return Wrapped(module, sites)


class Wrapped:
    """A module whose sites lie at the inputs and outputs of submodules. Every reading is a full run, every edit too.

    Attributes:
      module: What is run.
      sites: Those that were named, in the order given.
    """

    def __init__(self, module: nn.Module, sites: Mapping[str, Where]) -> None:
        self.module = module
        self.places: dict[Site, tuple[str, Side]] = {}
        names = {name for name, _ in module.named_modules()}
        if not isinstance(sites, Mapping):
            raise BadArgument(
                f"A {type(sites).__name__} was given as sites.", 'Give a dict, as {"resid_pre.0": "transformer.h.0"}.'
            )
        known = [(name, side) for name in names for side in ("input", "output")]
        for name, where in sites.items():
            site = read_site(str(name))
            if site.kind not in KINDS or (site.layer is None) is KINDS[site.kind].layered:
                raise BadArgument(f"There is no site {name!r}.", "Write kind.layer of a known kind, as in resid_pre.0.")
            place = (where, _side(site)) if isinstance(where, str) else where
            if place not in known:
                raise BadArgument(
                    f"{name} is to be {where!r}, and the module has no such submodule or side.",
                    f"Its parts are {', '.join(sorted(names - {''})[:8])} ...; the sides are 'input' and 'output'.",
                )
            self.places[site] = place
        self.sites = tuple(self.places)

    def run(
        self,
        *inputs: Any,
        keep: str | Site | Iterable[str | Site] = (),
        edits: Edit | Sequence[Edit] = (),
        **named: Any,
    ) -> "WrappedRun":
        """Call the module, without gradients, and keep what was asked for.

        Args:
          inputs: Given to the module as they are.
          keep: Sites; a kind is all its layers, "all" every site.
          edits: As for a model. What needs more than the site's own value is refused: means, resampling, constants.
            With edits the module is run once more before, without them, to see the sizes of the edited sites.
          named: Given to the module as they are; `attention_mask` also says which positions are text.
        Raises:
          UnknownSite, BadEdit, UnknownPosition: As for a model.
          BadArgument: A site's value is no tensor with the axes of its kind, or its submodule was not called just once.
        """
        members = as_edits(edits)
        wanted, changes = find_sites(keep, self.sites), self._prepare(inputs, named, [members])[0]
        output, found = self._call(inputs, named, wanted, changes)
        return WrappedRun(self, output, found, members, named.get("attention_mask"))

    def sweep(
        self,
        *inputs: Any,
        edits: Sequence[Edit | Sequence[Edit]],
        metric: Callable[["WrappedRun"], Tensor],
        **named: Any,
    ) -> Tensor:
        """`[edit ...]`: a function of each edited run, by as many full runs.

        Args:
          inputs: As for `run`.
          edits: An item is one edit, or several made together.
          metric: Takes a run that kept every site; gives a tensor, of one shape for all.
          named: As for `run`.
        Raises:
          UnknownSite, BadEdit, UnknownPosition, BadArgument: As for `run`, before any edited run.
          BadMetric: The metric is a model's, or gives something else.
          Cancelled: Somebody cancelled; the module is as it was.
        """
        sets = draw_sets(edits)[0]
        if not sets:
            raise BadEdit("A sweep was given no set of edits.", "Give one at least; [] is one that changes nothing.")
        function: Any = metric
        if isinstance(function, Metric) or not callable(function):
            given = repr(function) if isinstance(function, Metric) else f"A {type(metric).__name__}"
            raise BadMetric(f"{given} was given as a metric.", "Give a function that takes a run and gives a tensor.")
        values: list[Tensor] = []
        mask = named.get("attention_mask")
        for number, (members, changes) in enumerate(zip(sets, self._prepare(inputs, named, sets), strict=True)):
            report(number, len(sets), "running in full")
            output, found = self._call(inputs, named, self.sites, changes)
            value = function(WrappedRun(self, output, found, members, mask))
            if not isinstance(value, Tensor) or (values and value.shape != values[0].shape):
                gave = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise BadMetric(f"The metric gave {gave}.", "It has to give a tensor, of one shape for every run.")
            values.append(value)
        report(len(sets), len(sets), "running in full")
        return torch.stack(values)

    def _prepare(
        self, inputs: Sequence[Any], named: Mapping[str, Any], sets: Sequence[Sequence[Edit]]
    ) -> list[list[Change]]:
        """What each set changes; one plain run shows the sizes of what is edited."""
        edited = find_sites([name for one in sets for edit in one for name in edit.sites], self.sites)
        if not edited:
            return [[] for _ in sets]
        plain = self._call(inputs, named, edited, ())[1]
        seen, tokens = _Seen(self, plain), _tokens(plain, named.get("attention_mask"))
        return [[change for edit in one for change in edit.prepare(seen, tokens)] for one in sets]

    def place(self, site: Site) -> Site:
        """Where a site is read: the stream before a layer is the stream after the one before it, if both are named."""
        before = Site("resid_post", site.layer - 1) if site.kind == "resid_pre" and site.layer else site
        return before if before in self.places else site

    @torch.no_grad()
    def _call(
        self, inputs: Sequence[Any], named: Mapping[str, Any], wanted: Sequence[Site], changes: Sequence[Change]
    ) -> tuple[Any, dict[Site, Tensor]]:
        found: dict[Site, Tensor] = {}
        touched = dict.fromkeys([*map(self.place, wanted), *(change.place for change in changes)])

        def visit(site: Site, value: Any) -> Any:
            rest = value[1:] if isinstance(value, tuple) else None
            tensor = value[0] if rest is not None and value else value
            if not isinstance(tensor, Tensor) or tensor.ndim != len(site.axes) or site in found:
                shape = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
                raise BadArgument(
                    f"{site} is {self.places[site]}, which held {shape}{' a second time' if site in found else ''}.",
                    f"It has to hold a tensor [{' '.join(site.axes)}], once in a run.",
                )
            changed = apply_changes((change for change in changes if change.place == site), tensor, 0)
            found[site] = changed.clone()  # what comes after may write into it
            if changed is tensor:
                return value
            return changed if rest is None else (changed, *rest)

        with _LOCKS.setdefault(self.module, RLock()), ExitStack() as hooks:
            for site in touched:
                name, side = self.places[site]
                part = self.module.get_submodule(name)
                if side == "input":
                    hook = part.register_forward_pre_hook(_before(site, visit), with_kwargs=True)
                else:
                    hook = part.register_forward_hook(lambda part, given, out, site=site: visit(site, out))
                hooks.callback(hook.remove)
            output = self.module(*inputs, **named)
        missing = [f"{site} ({self.places[site][0]})" for site in touched if site not in found]
        if missing:
            raise BadArgument(f"The module did not call {', '.join(missing)}.", "Name submodules that it runs.")
        return output, {site: found[self.place(site)] for site in {*wanted, *touched}}

    def __repr__(self) -> str:
        return f"Wrapped({type(self.module).__name__}, {len(self.sites)} sites, full runs)"


class WrappedRun(Mapping[str, Tensor]):
    """What one call of a wrapped module gave: values by their site's name, and the lengths of the texts. Edits take it.

    Attributes:
      wrapped: Whose.
      output: Whatever the module gave.
      edits: What was changed.
    """

    def __init__(
        self, wrapped: Wrapped, output: Any, kept: Mapping[Site, Tensor], edits: Sequence[Edit], mask: Any
    ) -> None:
        self.wrapped, self.output, self.edits = wrapped, output, tuple(edits)
        self._kept, self._mask = dict(kept), mask

    @property
    def kept(self) -> tuple[Site, ...]:
        """The sites held in memory."""
        return tuple(site for site in self.wrapped.sites if site in self._kept)

    def __getitem__(self, site: str | Site) -> Tensor:
        """The value at a site, after any edit of it.

        Raises:
          UnknownSite: None of that name was given to `wrap`.
          NotKept: The run did not keep it; of the lengths, any.
        """
        if site == LENGTHS:
            if not self._kept:
                raise NotKept(f"{LENGTHS} was not kept.", "Run again, and keep any site.")
            return _tokens(self._kept, self._mask).n_tokens
        found = find_site(site, self.wrapped.sites)
        if found not in self._kept:
            raise NotKept(f"{found} was not kept.", f"Run again with keep=[{str(found)!r}, ...].")
        return self._kept[found]

    def __contains__(self, site: object) -> bool:
        return self.get(site) is not None

    def get(self, site: Any, default: Any = None) -> Any:
        """The value at a site; `default` where there is none, or it was not kept."""
        try:
            return self[site]
        except (UnknownSite, NotKept):
            return default

    def __iter__(self) -> Iterator[str]:
        return iter([*map(str, self.kept), LENGTHS] if self._kept else [])

    def __len__(self) -> int:
        return len(self.kept) + bool(self._kept)

    def __repr__(self) -> str:
        return f"WrappedRun({', '.join(map(str, self.kept))})"


class _Seen:
    """What preparing an edit asks of a model, as a plain run showed it."""

    def __init__(self, wrapped: Wrapped, values: Mapping[Site, Tensor]) -> None:
        self.sites, self.place = wrapped.sites, wrapped.place
        self._values = values
        first = next(iter(values.values()))
        self.dtype, self.device = first.dtype, first.device

    @property
    def devices(self) -> tuple[torch.device, ...]:
        return (self.device,)

    @property
    def whole(self) -> None:
        return None

    def device_of(self, place: Site) -> torch.device:
        return self.device

    def find(self, name: str | Site) -> Site:
        return find_site(name, self.sites)

    def axis_size(self, axis: str, n_positions: int) -> int:
        sizes = (x.shape[site.axes.index(axis)] for site, x in self._values.items() if axis in site.axes)
        found = next(sizes, None)
        if found is None:
            raise BadEdit(f"An axis {axis} was asked for, and no edited site has one.", "Edit a site that has it.")
        return found


def _side(site: Site) -> Side:
    return "input" if site.kind == "resid_pre" else "output"


def _before(site: Site, visit: Callable[[Site, Any], Any]) -> Callable[..., Any]:
    # The first input may have been given by name.
    def hook(part: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if given:
            return (visit(site, given[0]), *given[1:]), named
        name = next(iter(named), "")
        return given, {**named, name: visit(site, named.get(name))}

    return hook


def _tokens(values: Mapping[Site, Tensor], mask: Any) -> Tokens:
    site, value = next(iter(values.items()))
    n_positions = value.shape[max(i for i, axis in enumerate(site.axes) if axis in ("pos", "query"))]
    there = mask.bool().cpu() if isinstance(mask, Tensor) else torch.ones(len(value), n_positions, dtype=torch.bool)
    if there.ndim != 2 or bool((there.int().diff(dim=-1) > 0).any()):
        raise BadArgument("The attention_mask is no [batch pos] with padding on the right.", "Pad on the right.")
    return Tokens(torch.zeros(there.shape, dtype=torch.long), there, Untokenized(1))
