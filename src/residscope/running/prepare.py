"""From an edit to changes of given tokens: everything that can be wrong with it is found here, before anything runs."""

from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.direction import Direction
from residscope.errors import BadEdit
from residscope.running.changes import Change, tokens_first
from residscope.running.positions import PADDED, gather, resolve
from residscope.running.run import Run
from residscope.running.target import Editable, Target, rest_axes
from residscope.running.texts import describe_texts
from residscope.sites import Site, find_sites
from residscope.transformer.tokens import Tokens
from residscope.transformer.transformer import Attention

if TYPE_CHECKING:
    from residscope.running.edits import Edit


def prepare(edit: "Edit", model: Editable, tokens: Tokens) -> list[Change]:
    """An edit as changes of these tokens.

    Raises:
      BadEdit, UnknownSite, UnknownPosition: It does not fit the model or the texts.
    """
    names = edit.sites
    if edit.name == "freeze":
        names = tuple(str(site) for site in find_sites(names, model.sites))
    return [PREPARE[edit.name](Target(edit, name, model, tokens), **_values(edit)) for name in names]


def _values(edit: "Edit") -> dict[str, Any]:
    return {name: value for name, value in edit.arguments.items() if name not in ("head", "neuron", "pos")}


def _replace(target: Target, value: Any, along: Any = None) -> Change:
    basis = None if along is None else target.directions(along)[0]
    return target.change(factor=0.0, shift=target.shift(value, "The value"), along=basis, source=_source(value))


def _source(value: Any) -> Run | None:
    return value if isinstance(value, Run) else None


def _add(target: Target, vector: Any, scale: float) -> Change:
    return target.change(shift=target.shift(vector, "The vector") * _finite(scale, "The scale"))


def _scale(target: Target, factor: float) -> Change:
    return target.change(factor=_finite(factor, "The factor"))


def _noise(target: Target, sd: float, seed: int, text: int = 0) -> Change:
    sd = _finite(sd, "The standard deviation")
    if sd < 0:
        raise BadEdit(f"The standard deviation is {sd}.", "Give one that is not negative.")
    n_steps, axes = target.tokens.ids.shape[1], rest_axes(target.site)
    drawn = torch.zeros(*target.positions.shape, *[target.model.axis_size(axis, n_steps) for axis in axes]).double()
    for row, positions in enumerate(target.positions.tolist()):
        generator = _generator(seed, text + row)
        for position in range(max(positions) + 1):  # one by one: how many stand behind changes no draw
            sizes = [target.model.axis_size(axis, position + 1) for axis in axes]
            own = torch.randn(sizes, generator=generator, dtype=torch.float64)
            if position in positions:
                slot = drawn[row, positions.index(position)]
                (slot[..., : sizes[-1]] if sizes else slot).copy_(own)
    shift = (sd * drawn).to(target.device, target.model.dtype)
    return target.change(shift=shift if target.part is None else shift[:, :, list(target.part)])


def _ablate(
    target: Target,
    with_: Any = "zero",
    along: Any = None,
    texts: Any = None,
    by: Any = "all",
    seed: int = 0,
    draws: int = 1,
    text: int = 0,
) -> Change:
    basis = None if along is None else target.directions(along)[0]
    _refuse_unused(target, with_ if isinstance(with_, str) else "a run")
    if isinstance(with_, (Run, Mapping)):
        return target.change(factor=0.0, shift=target.shift(with_, "The run"), along=basis, source=_source(with_))
    if not isinstance(with_, str):
        with_ = type(with_).__name__
    if with_ == "zero":
        return target.change(factor=0.0, along=basis)
    if with_ == "constant":
        shift = target.shift(_constant(target), "The constant")
    elif with_ == "mean":
        shift = _mean(target, texts, by)
    elif with_ == "resample":
        shift = _resample(target, texts, seed, text)
    else:
        raise BadEdit(
            f"with_={with_!r} was asked for.", 'Choose "zero", "constant", "mean", "resample", or give a run.'
        )
    return target.change(factor=0.0, shift=shift, along=basis)


def _refuse_unused(target: Target, with_: str) -> None:
    used = {"mean": {"texts", "by"}, "resample": {"texts", "seed", "draws", "text"}}.get(with_, set())
    unused = {"texts", "by", "seed", "draws"} & target.edit.arguments.keys() - used
    if unused:
        raise BadEdit(
            f"An ablation with {with_} was given {', '.join(sorted(unused))}, which it does not use.",
            'Say with_="mean" or with_="resample", or leave it out.',
        )


def _constant(target: Target) -> Tensor:
    """What the site holds whatever attention looks at: of a value its bias, and what the norm's bias gives."""
    model = target.whole_model
    block: Any = model.transformer.blocks[target.place.layer or 0]
    attention: Attention = block.attn
    config, kind = model.config, target.place.kind
    mixed = block.constant_values()
    by_head = attention.o.weight.view(-1, config.n_heads, config.d_head)
    constants: dict[str, Callable[[], Tensor]] = {
        "v": lambda: mixed[:: attention.groups],
        "z": lambda: mixed,
        "head_out": lambda: torch.einsum("mhd,hd->hm", by_head, mixed),
        "attn_raw" if config.post_norm else "attn_out": lambda: attention.o(mixed.flatten()),
    }
    if kind not in constants:
        raise BadEdit(
            f'{target.site} holds nothing that does not depend on the text; with_="constant" was asked for.',
            f"It is defined for {', '.join(constants)}.",
        )
    whole = constants[kind]()
    part = whole if target.part is None else whole[list(target.part)]
    return part[0] if target.single else part


def _mean(target: Target, texts: Any, by: Any) -> Tensor:
    """The site's mean over texts, padding out, and position 0 out where it is over all positions."""
    if isinstance(by, str) and by not in ("all", "pos"):
        raise BadEdit(f"by={by!r} was asked for.", 'Choose "all" or "pos", or give positions.')
    _refuse_keys(target, "mean")
    if target.shapes:
        return torch.zeros(1, 1, *target.rest, dtype=target.model.dtype, device=target.device)
    if not isinstance(by, str):
        run = _run_others(target, texts)
        positions = resolve(by, run.tokens.n_tokens)
        found = gather(tokens_first(target.site.kind, run.raw(target.site)), positions, 1)
        mean = found[positions.to(found.device) != PADDED].double().mean(0)[None, None]
    else:
        totals, counts = _add_up(target, texts)
        if by == "all":
            if not int(counts[1:].sum()):
                raise BadEdit("The texts have no token but their first, which means leave out.", "Give longer texts.")
            mean = (totals[1:].sum(0) / counts[1:].sum())[None, None]
        else:
            last = int(target.positions.max())
            if last >= len(totals):
                raise BadEdit(
                    f"The mean of position {last} was asked for, and the longest text has {len(totals)} tokens.",
                    'Give longer texts, or by="all".',
                )
            means = totals / counts.reshape(-1, *[1] * (totals.ndim - 1))
            mean = means[target.positions.clamp(min=0).to(means.device)]
    mean = mean.to(target.model.dtype)
    return mean if target.part is None else mean[:, :, list(target.part)]


def _add_up(target: Target, texts: Any) -> tuple[Float[Tensor, "pos ..."], Int[Tensor, " pos"]]:
    """The site's sum over texts at each position, and how many texts have it; once for all edits of the same tokens."""
    model, key = target.whole_model, _key_of(target, target.site, texts)
    if key not in target.tokens.worked_out:
        totals: list[Tensor] = []
        counts: list[int] = []
        for batch in model.corpus(target.tokens if texts is None else texts).batches("averaging"):
            values = model.run(batch, keep=[target.site])[target.site].double()
            for position in range(values.shape[1]):
                if position == len(totals):
                    totals.append(torch.zeros_like(values[0, 0]))
                    counts.append(0)
                there = position < batch.n_tokens
                totals[position] += values[there, position].sum(0)
                counts[position] += int(there.sum())
        target.tokens.worked_out[key] = torch.stack(totals), torch.tensor(counts, device=totals[0].device)
    found: tuple[Tensor, Tensor] = target.tokens.worked_out[key]
    return found


def _run_others(target: Target, texts: Any) -> Run:
    """The texts that an ablation takes values from; once for all edits of the same tokens."""
    key = _key_of(target, None, texts)
    if key not in target.tokens.worked_out:
        target.tokens.worked_out[key] = target.whole_model.run(target.tokens if texts is None else texts)
    found: Run = target.tokens.worked_out[key]
    return found


def _key_of(target: Target, site: Site | None, texts: Any) -> tuple[object, ...]:
    return target.whole_model, site, None if texts is None else describe_texts(texts)


def _resample(target: Target, texts: Any, seed: int, first: int) -> Tensor:
    """At each position the value of another text that has it, drawn anew for each text."""
    _refuse_keys(target, "resample")
    if target.shapes:
        return torch.zeros(1, 1, *target.rest, dtype=target.model.dtype, device=target.device)
    run = _run_others(target, texts)
    donors, values = run.tokens, run[target.site]
    rows = []
    for text, positions in enumerate(target.positions.tolist()):
        longest = max(positions)
        able = [d for d, n in enumerate(donors.n_tokens.tolist()) if n > longest and (texts is not None or d != text)]
        if not able:
            raise BadEdit(
                f"Text {text} is to take another's value at position {longest}, and no other has that.",
                "Give `texts` that are long enough, or name positions.",
            )
        donor = able[int(torch.randint(len(able), (1,), generator=_generator(seed, first + text)))]
        rows.append(values[donor][[max(position, 0) for position in positions]])
    shift = torch.stack(rows)
    return shift if target.part is None else shift[:, :, list(target.part)]


def _refuse_keys(target: Target, what: str) -> None:
    if "key" in target.site.axes:
        raise BadEdit(
            f'{target.site} has other keys in every text, and with_="{what}" was asked for.',
            "Give a run of texts of the same lengths, or edit z.",
        )


def _project_out(target: Target, direction: Any, centre: str) -> Change:
    basis, rows = target.directions(direction, flat=True)
    if centre == "zero":
        return target.aim(basis)
    several = direction if isinstance(direction, (list, tuple)) else [direction]
    if centre != "mean" or not all(isinstance(one, Direction) and one.mean is not None for one in several):
        raise BadEdit(
            f"centre={centre!r} was asked for, and the direction knows no mean."
            if centre == "mean"
            else f"centre={centre!r} was asked for.",
            'Choose "zero", or "mean" with a direction that was made from data.',
        )
    return target.aim(basis, target.point(rows, [one.offset for one in several]))


def _clamp(target: Target, feature: Any, value: float) -> Change:
    value = _finite(value, "The value")
    if isinstance(feature, Direction):
        basis, rows = target.directions(feature, flat=True)
        return target.aim(basis, target.point(rows, [value + feature.offset]))
    if target.part is not None:
        raise BadEdit(f"{feature!r} is read from all of {target.site}, and heads were chosen.", "Leave them out.")

    def clamped(x: Tensor) -> Tensor:
        missing: Tensor = (value - feature.read(x))[..., None] * feature.vector.to(x)
        return x + missing.reshape(x.shape)  # a dictionary at z has the heads' entries side by side

    return target.change(tokenwise=clamped)


def _knockout(target: Target, key: int | slice | Sequence[int]) -> Change:
    if target.site.kind != "scores":
        raise BadEdit(f"A knockout was asked for at {target.site}.", "Name pattern or scores, with a layer.")
    keys = resolve(key, target.tokens.n_tokens)
    hidden = (keys[:, :, None] == torch.arange(target.tokens.ids.shape[1])).any(1)  # which no padding is
    window = target.whole_model.config.window(target.place.layer or 0) or hidden.shape[1]
    for text, queries in enumerate(target.positions.tolist()):
        blind = [q for q in queries if q != PADDED and bool(hidden[text, max(0, q + 1 - window) : q + 1].all())]
        if blind:
            raise BadEdit(
                f"Position {blind[0]} of text {text} would see no key at all.", "Leave it one; 0 sees only itself."
            )
    shift = torch.zeros(hidden.shape, dtype=target.model.dtype).masked_fill(hidden, -torch.inf)
    return target.change(shift=shift.to(target.device)[:, None, None].expand(-1, -1, target.rest[0], -1))


def _freeze(target: Target, run: Any) -> Change:
    return target.change(factor=0.0, shift=target.shift(run, "The run"), source=_source(run))


def _apply(target: Target, function: Any) -> Change:
    if not callable(function):
        raise BadEdit(f"A {type(function).__name__} was given as a function.", "Give what takes and gives a tensor.")

    mask, axis = target.tokens.mask, next(i for i, name in enumerate(target.site.axes) if name in ("pos", "query"))

    def changed(value: Tensor) -> Tensor:
        padded = ~mask.to(value.device).reshape([n if i in (0, axis) else 1 for i, n in enumerate(value.shape)])
        new = function(value.masked_fill(padded, torch.nan))  # as it is read
        if not isinstance(new, Tensor) or new.shape != value.shape:
            found = list(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise BadEdit(f"The function of {target.site} gave {found}.", f"It has to give {list(value.shape)}.")
        kept = torch.where(padded, value, new.to(value))
        if bool((kept.isnan() & ~value.isnan()).any()):
            raise BadEdit(
                f"The function of {target.site} gave NaN where a text stands.",
                "Padding reads NaN: leave it out, as torch.nanmean does, or take texts of one length.",
            )
        return kept

    return target.change(function=changed)


def _finite(value: Any, what: str) -> float:
    try:
        number = np.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = np.nan
    if not np.isfinite(number):
        raise BadEdit(f"{what} is {value!r}.", "Give a finite number.")
    return number


def _generator(seed: int, text: int) -> torch.Generator:
    """Draws of one text of a batch, whatever stands beside it."""
    try:
        return torch.Generator().manual_seed((1_000_003 * index(seed) + text) % 2**63)
    except TypeError:
        raise BadEdit(f"The seed is {seed!r}.", "Give a whole number.") from None


PREPARE: dict[str, Callable[..., Change]] = {
    "replace": _replace,
    "add": _add,
    "scale": _scale,
    "noise": _noise,
    "ablate": _ablate,
    "project_out": _project_out,
    "clamp": _clamp,
    "knockout": _knockout,
    "freeze": _freeze,
    "apply": _apply,
}
