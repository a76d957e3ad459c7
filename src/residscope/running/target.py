"""Where an edit goes, fitted to a model and texts, and what is given with it as numbers of that place."""

from collections.abc import Mapping, Sequence
from math import prod
from operator import index
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from residscope.direction import Direction
from residscope.errors import BadEdit, UnknownPosition
from residscope.running.changes import Change, tokens_first
from residscope.running.packing import LENGTHS
from residscope.running.positions import PADDED, Positions, gather, resolve
from residscope.running.run import Run
from residscope.sites import KINDS, Site
from residscope.transformer.tokens import Tokens

if TYPE_CHECKING:
    from residscope.running.edits import Edit
    from residscope.running.model import Model


@runtime_checkable
class Editable(Protocol):
    """What an edit has to fit: a model, or a module read by hooks."""

    @property
    def sites(self) -> tuple[Site, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def devices(self) -> tuple[torch.device, ...]: ...
    def find(self, name: str | Site) -> Site: ...
    def place(self, site: Site) -> Site: ...
    def device_of(self, place: Site) -> torch.device: ...
    def axis_size(self, axis: str, n_positions: int) -> int: ...
    @property
    def whole(self) -> "Model | None": ...


class Target:
    """Where an edit goes: one place, some positions, some heads or neurons, of one batch of texts.

    Attributes:
      place: Where the value is computed.
      positions: [batch n]
      part: Heads or neurons; None is all.
      rest: Sizes of the site's axes after the position, the first of them as many as `part` has.
    """

    def __init__(self, edit: "Edit", name: str, model: Editable, tokens: Tokens) -> None:
        self.edit, self.model, self.tokens = edit, model, tokens
        self.site = model.find(name)
        if not KINDS[self.site.kind].editable:
            raise BadEdit(f"{self.site} cannot be edited.", "Edit what it is made from: ln_final, or the stream.")
        self.place = model.place(self.site)
        self.device = model.device_of(self.place)
        self.positions = resolve_steps(edit.arguments.get("pos"), tokens)
        self._refuse_twice()
        self._refuse_foreign()
        sizes = [model.axis_size(axis, tokens.ids.shape[1]) for axis in rest_axes(self.site)]
        self.part, self.single = self._read_part(rest_axes(self.site), sizes)
        self.rest = sizes if self.part is None else [len(self.part), *sizes[1:]]

    def _refuse_twice(self) -> None:
        pos = self.edit.arguments.get("pos")
        if pos is None or isinstance(pos, slice):
            if not bool((self.positions != PADDED).any()):
                raise UnknownPosition(f"The positions {pos!r} were asked for, and no text has one.", "Name others.")
        else:
            found = self.positions.sort(-1).values
            twice = found[:, 1:][found.diff() == 0]
            if len(twice):
                raise BadEdit(f"Position {int(twice[0])} of a text is named twice.", "Name each once.")

    def _refuse_foreign(self) -> None:
        """Refuse a direction of another site, as long as nobody says that it means something here."""
        for one in self._list_directions():
            known = one.site in self.model.sites
            if one.site != self.site and not (known and self.model.place(one.site) == self.place):
                head = "" if self.site.head_axis is None else ", head=..."
                raise BadEdit(
                    f"{one.name} lives at {one.place}, and rs.{self.edit.name} was asked for at {self.site}.",
                    f"Say that it means something there: direction.at({str(self.site)!r}{head}), which has no mean.",
                )

    def _list_directions(self) -> list[Direction]:
        values = self.edit.arguments.values()
        given = [one for value in values for one in (value if _is_several(value) else [value])]
        return [one for one in given if isinstance(one, Direction)]

    def _read_part(self, axes: Sequence[str], sizes: Sequence[int]) -> tuple[tuple[int, ...] | None, bool]:
        for name, there in (("head", ("head", "kv_head")), ("neuron", ("d_mlp",))):
            asked = self._read_head() if name == "head" else self.edit.arguments.get(name)
            if asked is None:
                continue
            if not axes or axes[0] not in there:
                raise BadEdit(
                    f"{self.site} has no axis of {name}s, and {name}={asked!r} was asked for.",
                    f"Its axes are {', '.join(self.site.axes)}.",
                )
            single = not np.ndim(asked)
            try:
                part = tuple(index(i) for i in ([asked] if single else asked))
            except TypeError:
                part = ()
            if not part or len({*part}) < len(part) or not all(0 <= i < sizes[0] for i in part):
                raise BadEdit(
                    f"{name}={asked!r} was asked for, and {self.site} has {sizes[0]} along {axes[0]}.",
                    f"Choose of 0 to {sizes[0] - 1}, each once.",
                )
            return part, single
        return None, False

    def _read_head(self) -> Any:
        """The heads that were asked for, or the one that the edit's directions are of."""
        asked, axis = self.edit.arguments.get("head"), self.site.head_axis
        if axis is None:
            return asked
        own = [one for one in self._list_directions() if one.head is not None]
        if not own:
            return asked
        for one in own:
            if one.head != own[0].head or (asked is not None and (np.ndim(asked) or one.head != asked)):
                other = (
                    f"head={asked!r} was asked for" if one.head == own[0].head else f"{own[0].name} of {own[0].place}"
                )
                raise BadEdit(
                    f"{one.name} is of {one.place}, and {other}.", "An edit along directions of a head is of that head."
                )
        return own[0].head

    @property
    def whole_model(self) -> "Model":
        """For what takes more than the site's own value.

        Raises:
          BadEdit: A module read by hooks has no more.
        """
        if self.model.whole is None:
            raise BadEdit(f"{self.edit!r} asks for more than a wrapped module has.", "Compute it, and use replace.")
        return self.model.whole

    @property
    def shapes(self) -> bool:
        """Whether the model has shapes and no numbers, so that nothing can be looked at."""
        return self.device.type == "meta"

    def change(self, **facts: Any) -> Change:
        """A change here.

        Raises:
          BadEdit: It would make what a norm divides by zero.
        """
        change = Change(self.place, self.positions, self.part, **facts)
        divides = self.site.kind.endswith("_scale") and change.factor == 0 and not self.shapes
        if divides and (change.shift is None or bool((change.shift == 0).any())):
            raise BadEdit(f"{self.site} would be zero, and a norm divides by it.", "Give another number.")
        return change

    def shift(self, value: Any, what: str) -> Tensor:
        """Numbers, a direction or a run as `[batch n part ...]`, axes of one where it is the same for all.

        Args:
          value: A direction of all heads may have their entries side by side, as a dictionary writes them.
          what: How an error names it.
        Raises:
          BadEdit: Of another shape, dtype or device, or not finite.
        """
        if isinstance(value, (Run, Mapping)):
            return self._recorded(value)
        tensor = self.tensor(value, what)
        inner = self.rest[1:] if self.single else self.rest
        if tensor.ndim == 0:
            return tensor.expand(1, 1, *self.rest)
        n_batch, n_slots = self.positions.shape
        for lead in ([], [n_batch], [n_batch, n_slots]):
            if list(tensor.shape) == [*lead, *inner]:
                shaped = tensor.reshape([*lead, *[1] * (2 - len(lead)), *inner])
                return shaped.unsqueeze(2).expand(*shaped.shape[:2], *self.rest) if self.single else shaped
        if self._is_flat(value):
            return tensor.reshape(1, 1, *self.rest)
        raise BadEdit(
            f"{what} has the shape {list(tensor.shape)}, and {self._where()} asks for {inner}.",
            f"Give that, [{n_batch}, ...] for each text, or [{n_batch}, {n_slots}, ...] for each position too.",
        )

    def tensor(self, value: Any, what: str) -> Tensor:
        """Finite numbers of the model's dtype, where the site is.

        Raises:
          BadEdit: It is a tensor of another dtype, or on another accelerator than the model; or not finite.
        """
        dtype, device = self.model.dtype, self.device
        if isinstance(value, Tensor) and value.ndim:
            self._check_kind(value, what, "Convert it with .to(model.device, model.dtype).")
            tensor = value.to(device)
        else:
            value = value.vector if isinstance(value, Direction) else value
            value = value.detach().cpu() if isinstance(value, Tensor) else value
            try:
                tensor = torch.as_tensor(np.asarray(value, dtype=float)).to(device, dtype)
            except (TypeError, ValueError):
                raise BadEdit(
                    f"{what} is of the type {type(value).__name__}.", "Give numbers, a direction or a run."
                ) from None
        if not self.shapes and not bool(tensor.isfinite().all()):
            raise BadEdit(f"{what} holds NaN or infinity.", "Give finite numbers.")
        return tensor

    def _recorded(self, value: "Run | Mapping[str, Tensor]") -> Tensor:
        if isinstance(value, Run):
            found, n_tokens = value.raw(self.site), value.tokens.n_tokens
        else:
            found, n_tokens = self._named(value), value.get(LENGTHS, self.tokens.n_tokens)
        self._check_kind(found, "The run", "Take a run of a model of the same dtype and device.")
        found = found.to(self.device)
        alike = found.ndim == len(self.site.axes) and len(found) == len(n_tokens) == len(self.positions)
        if alike:
            found = tokens_first(self.site.kind, found)
            positions = resolve(self.edit.arguments.get("pos"), n_tokens)
            alike = torch.equal(positions == PADDED, self.positions == PADDED)
            alike = alike and int(positions.max()) < found.shape[1]
        if not alike:
            raise BadEdit(
                f"Texts of {self.tokens.n_tokens.tolist()} tokens are edited with a run of other texts or lengths.",
                "Name positions that both have, or take texts of the same lengths.",
            )
        found = gather(found, positions, 1)
        found = found if self.part is None else found[:, :, list(self.part)]
        if list(found.shape[2:]) != self.rest:
            raise BadEdit(
                f"The run has {list(found.shape[2:])} at {self.site}, and {self._where()} asks for {self.rest}.",
                "Take a run of a model of the same shape, and texts of the same lengths.",
            )
        if not self.shapes and bool(found[self.positions != PADDED].isnan().any()):
            raise BadEdit(f"The run holds NaN at {self.site}.", "Take another run, or positions that its texts have.")
        return found

    def _check_kind(self, value: Tensor, what: str, hint: str) -> None:
        model = self.model
        if value.dtype != model.dtype or value.device not in (*model.devices, torch.device("cpu")):
            where = ", ".join(map(str, model.devices))
            raise BadEdit(f"{what} is {value.dtype} on {value.device}, and the model {model.dtype} on {where}.", hint)

    def _named(self, values: Mapping[str, Tensor]) -> Tensor:
        sites = [name for name in values if name != LENGTHS]
        found = next((values[name] for name in sites if self.model.find(name) == self.site), None)
        if not isinstance(found, Tensor):
            raise BadEdit(f"{self.site} was not recorded.", f"There are {', '.join(map(str, sites))}.")
        return found

    def _is_flat(self, value: Any) -> bool:
        """Whether it is a direction of this kind of site with the entries of all heads side by side."""
        alike = isinstance(value, Direction) and value.site.kind == self.site.kind
        return alike and self.part is None and len(self.rest) == 2 and list(value.vector.shape) == [prod(self.rest)]

    def directions(self, value: Any, *, flat: bool = False) -> tuple[Tensor, Tensor]:
        """Orthonormal rows [k d] that span what is given, and the rows as given; with `flat`, maybe of all heads."""
        several = value if isinstance(value, (list, tuple)) else [value]
        if not len(several):
            raise BadEdit("No direction was given.", "Give one.")
        axes = rest_axes(self.site)
        if not axes or not axes[-1].startswith("d_"):
            raise BadEdit(f"{self.site} has the axes {self.site.axes}, and no directions.", "Choose another site.")
        if self.part is not None and len(axes) == 1:
            raise BadEdit(f"Directions of {self.site} take all of its {axes[0]}, and some were chosen.", "Choose one.")
        widths = [self._width(one, flat) for one in several]
        if len({*widths}) > 1:
            raise BadEdit(f"Directions of different widths were given: {widths}.", "Give all of a head, or of all.")
        rows = torch.cat([self.tensor(one, "The direction").reshape(-1, widths[0]) for one in several])
        if self.shapes:
            return rows, rows
        basis, triangle = torch.linalg.qr(rows.double().T)
        if len(rows) > rows.shape[1] or bool((triangle.diagonal().abs() <= 1e-9 * rows.double().norm(dim=-1)).any()):
            raise BadEdit("The directions are zero, or not independent.", "Leave out those that others span.")
        return basis.T.to(rows.dtype), rows

    def _width(self, one: Any, flat: bool) -> int:
        axis, vector = rest_axes(self.site)[-1], one.vector if isinstance(one, Direction) else one
        width = self.model.axis_size(axis, 0)
        shape = list(vector.shape if isinstance(vector, Tensor) else np.shape(vector))
        if flat and self._is_flat(one):
            return prod(self.rest)
        if len(shape) not in (1, 2) or shape[-1] != width:
            raise BadEdit(
                f"The direction has the shape {shape}, and {self.site} {width} entries along {axis}.",
                f"Take one of this model: [{axis}], or rows [k {axis}].",
            )
        return width

    def point(self, rows: Tensor, aims: Sequence[float]) -> Tensor:
        """The shortest vector whose projections on the rows are `aims`, as a shift."""
        wide = torch.tensor(aims, dtype=torch.float64, device=rows.device)
        found: Tensor = torch.linalg.pinv(rows.double()) @ wide
        return found.to(rows.dtype).reshape(-1, self.rest[-1]).expand(1, 1, *self.rest)

    def aim(self, basis: Tensor, shift: Tensor | None = None) -> Change:
        """Give what lies in the space of the basis the shift's part in it, or none; with rows of all heads too."""
        if basis.shape[1] == self.rest[-1]:
            return self.change(factor=0.0, shift=shift, along=basis)
        aim = torch.zeros(1, *self.rest).to(basis) if shift is None else shift[0]
        return self.change(tokenwise=lambda x: x + ((aim - x).flatten(1) @ basis.T @ basis).reshape(x.shape))

    def _where(self) -> str:
        part = "" if self.part is None else f", {len(self.part)} of {rest_axes(self.site)[0]}"
        return f"{self.site}{part}"


def _is_several(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def resolve_steps(pos: Positions | str, tokens: Tokens) -> Int[Tensor, "batch n"]:
    """As `resolve`, once for each position of the same texts; "new" is for writing only."""
    if isinstance(pos, str):
        raise BadEdit(f"pos={pos!r} was asked for.", '"new" is for `model.generate`; elsewhere give positions.')
    if not isinstance(pos, (int, NoneType)):
        return resolve(pos, tokens.n_tokens)
    if pos not in tokens.resolved:
        tokens.resolved[pos] = resolve(pos, tokens.n_tokens)
    return tokens.resolved[pos]


def rest_axes(site: Site) -> tuple[str, ...]:
    return tuple(axis for axis in site.axes if axis not in ("batch", "pos", "query"))
