"""Two runs beside each other: how much every site changed, token by token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.results.result import Indices, TokenResult, find_tokens
from residscope.running.changes import tokens_first
from residscope.running.packing import write_lines
from residscope.running.run import Run, check_run
from residscope.running.texts import token_facts
from residscope.sites import KINDS, Site

MEANING = "|b - a| / |a| of all that a site holds for a token: 0 is unchanged, 1 is a change as large as the value was"

_TOKENS = ("batch", "pos", "query")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(TokenResult):
    """What changed from one run to another; `comparison["z.3"]` is one site, `[batch pos]`.

    Attributes:
      values: [batch site pos] `|b - a| / |a|`; infinite where `a` is zero and `b` is not, NaN where padded.
      sites: The name of each, in the order in which they are computed.
      other_pieces: The tokens of the second run's texts.
    """

    values: Float[Tensor, "batch site pos"]
    sites: Sequence[str]
    other_pieces: Sequence[Sequence[str]]

    axes: ClassVar[tuple[str, ...]] = ("batch", "site", "pos")
    view: ClassVar[str | None] = "comparison"

    def __getitem__(self, site: str | Site) -> Float[Tensor, "batch pos"]:
        """The change at one site.

        Raises:
          BadArgument: It is not among those that were compared.
        """
        if str(site) not in self.sites:
            raise BadArgument(f"{site} was not compared.", f"Choose {', '.join(self.sites)}.")
        return self.values[:, list(self.sites).index(str(site))]

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "site":
            return {"site": np.array(self.sites)[index]}
        found = super().columns(axis, index, places)
        return {**found, "other_token": find_tokens(self.other_pieces, places["batch"], index)} if found else found


@torch.no_grad()
def compare(run_a: Run, run_b: Run) -> Comparison:
    """How much every site changed from one run to another.

    Args:
      run_a: What the change is measured by.
      run_b: Of the same model with edits, of other texts with as many tokens each, or of another model whose sites have
        the same sizes.
    Returns:
      values  [batch site pos]  `|b - a| / |a|` over all axes after the position; of attention, the query's. A site that
        holds the same as another, as the stream after a layer and before the next, is there once; `head_out`, which
        says what `z` does, is left out.
    Raises:
      BadArgument: Texts are not as many or not as long, or the models differ in sites or sizes.
    Holds:
      A run compared with itself is zero everywhere; an edit changes nothing before its site and its position.
    """
    check_run(run_a)
    check_run(run_b)
    _check_alike(run_a, run_b)
    model = run_a.model
    places = list(dict.fromkeys(model.place(site) for site in model.sites if KINDS[site.kind].kept))
    for run in (run_a, run_b):
        run.keep("resid_pre")  # from which each layer is computed, and let go
    changes = []
    for _, layer in groupby(places, key=lambda place: place.layer):
        together = list(layer)
        a, b = run_a.look_up(together), run_b.look_up(together)
        changes += [_measure(tokens_first(at.kind, a[at]), tokens_first(at.kind, b[at])).cpu() for at in together]
    values = torch.stack(changes, dim=1)
    padded = ~run_a.tokens.mask[:, None]
    wrong = (values.isnan() & ~padded).nonzero()
    if len(wrong):
        text, site, pos = wrong[0].tolist()
        raise BadArgument(
            f"{places[site]} of text {text} is NaN at position {pos} in one of the runs.", "Look at edits and weights."
        )
    return Comparison(
        name=f"what changed in {run_b.name}" + (f" from {run_a.name}" if run_a.name != run_b.name else ""),
        settings={
            "value": MEANING,
            **{name: [own, run_b.settings[name]] for name, own in run_a.settings.items()},
        },
        python=write_lines(
            model.python,
            [
                f"run_a = {run_a!r}",
                *(run_b.model.python[-1:] if run_b.model is not model else []),
                f"run_b = {run_b!r}",
                "rs.compare(run_a, run_b)",
            ],
        ),
        values=values.masked_fill(padded, torch.nan),
        sites=[str(place) for place in places],
        other_pieces=run_b.tokens.pieces,
        **token_facts(run_a.tokens),
    )


def _check_alike(run_a: Run, run_b: Run) -> None:
    """Refuse runs whose sites cannot be laid side by side."""
    lengths = [run.tokens.n_tokens.tolist() for run in (run_a, run_b)]
    if lengths[0] != lengths[1]:
        raise BadArgument(
            f"The texts have {lengths[0]} tokens in one run and {lengths[1]} in the other.",
            "Give texts with equally many tokens, in the same order.",
        )
    sizes = [
        {
            str(site): [run.model.axis_size(axis, 1) for axis in site.axes if axis not in _TOKENS]
            for site in run.model.sites
        }
        for run in (run_a, run_b)
    ]
    wrong = next((name for name in {**sizes[0], **sizes[1]} if sizes[0].get(name) != sizes[1].get(name)), None)
    if wrong:
        found = ["missing" if size.get(wrong) is None else f"of size {size[wrong]}" for size in sizes]
        raise BadArgument(
            f"{wrong} is {found[0]} in the first run's model and {found[1]} in the other's.",
            "Give runs of models with the same sites.",
        )


def _measure(a: Float[Tensor, "batch pos ..."], b: Float[Tensor, "batch pos ..."]) -> Float[Tensor, "batch pos"]:
    wide = torch.promote_types(a.dtype, torch.float32)
    a, b = (x.to(a.device, wide).reshape(*x.shape[:2], -1) for x in (a, b))
    change = torch.where(a == b, 0, b - a).norm(dim=-1)  # hidden scores are minus infinity in both
    return torch.where(change == 0, 0, change / a.masked_fill(a.isinf(), 0).norm(dim=-1))
