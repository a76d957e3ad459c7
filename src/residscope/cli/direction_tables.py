"""What is printed of directions: tables, and texts coloured along one."""

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from residscope.cards.direction import Explanation
    from residscope.direction import Direction
    from residscope.directions.causal_check import CausalCheck
    from residscope.directions.projection import Projection

# The two ends of the pages' shades in their light theme; each has steps, of which the least leaves the ground.
_POSITIVE, _NEGATIVE, _STEPS = (86, 147, 222), (221, 104, 87), 8


def write_direction(direction: "Direction") -> Table:
    """All that it says of itself, the Python left out."""
    table = Table(box=None, show_header=False)
    centre = "none: it is uncentred" if direction.mean is None else f"mean, at {direction.offset:.4g} along it"
    deviation = "unknown" if direction.deviation is None else f"{direction.deviation:.4g}"
    facts = {"name": direction.name, "lives at": direction.place, "entries": len(direction.vector)}
    facts |= {"centre": centre, "standard deviation": deviation}
    for name, value in [*facts.items(), *direction.history.items()]:
        table.add_row(name, escape(str(value)))
    return table


def write_explanation(result: "Explanation") -> Group:
    """Tokens, places, and what lies near."""
    sides = [
        [(repr(text), f"{value:+.3f}") for text, value in zip(texts, values, strict=True)]
        for texts, values in zip(result.texts, result.values.tolist(), strict=True)
    ]
    tokens = _put_beside({"promoted": sides[0], "suppressed": sides[1]})
    tokens.title, tokens.caption = escape(result.name), escape(result.settings["unit"])
    places = Table("value", "text", title="where it is largest and smallest", box=None)
    places.caption = f"{result.variance_share:.1%} of the variance; standard deviation {result.deviation:.4g}"
    for place in chain.from_iterable(result.contexts.values()):
        pieces = [(piece, "reverse" if i == place["at"] else "") for i, piece in enumerate(place["pieces"])]
        shown = Text.assemble(*((piece.replace("\n", " "), style) for piece, style in pieces), overflow="fold")
        places.add_row(f"{place['value']:+.3f}", shown)
    near = {"near it": [(one["name"], f"{one['cosine']:+.3f}") for one in result.near]}
    for name, heads in (("written by head", result.writers), ("read by head", result.readers)):
        near[name] = [(f"{one['layer']}.{one['head']}", f"x {one['times']:.1f}") for one in heads]
    return Group(tokens, places, _put_beside(near))


def _put_beside(lists: Mapping[str, Sequence[tuple[str, str]]]) -> Table:
    """Lists of names and numbers as one table."""
    table = Table(box=None)
    for heading in lists:
        table.add_column(heading)
        table.add_column(justify="right")
    for row in zip_longest(*lists.values(), fillvalue=("", "")):
        table.add_row(*map(escape, chain.from_iterable(row)))
    return table


def write_check(result: "CausalCheck") -> Table:
    """One row a measure and action."""
    about = f"effects in nats, with what chance gives; {result.verdict}"
    table = Table(title=escape(result.name), caption=escape(about), box=None)
    frame = result.summary()
    kinds = [kind for kind in ("random", "variance", "shuffled") if frame[f"{kind}_low"].notna().any()]
    for column in ("measure", "action", "effect", *kinds, "whole site", "p"):
        table.add_column(column, justify="left" if column in ("measure", "action") else "right")
    for row in frame.to_dict("records"):
        bands = [f"{row[f'{kind}_low']:.4f} to {row[f'{kind}_high']:.4f}" for kind in kinds]
        numbers = [f"{row['effect']:.4f}", *bands, f"{row['whole']:.4f}", f"{row['p']:.2g}"]
        table.add_row(row["measure"], row["action"], *numbers)
    return table


class ColouredText:
    """A text along a direction: blue above zero, red below; a table where there are no colours."""

    def __init__(self, result: "Projection") -> None:
        self._result = result
        self._rows = result.to_frame().to_dict("records")
        counted = [row["value"] for row in self._rows if row["pos"] not in result.left_out]
        self._most = float(np.abs(counted or [row["value"] for row in self._rows]).max())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title = f"{self._result.name}, {'(x - mean) . v' if self._result.centred else 'x . v, uncentred'}"
        if console.color_system is None:
            table = Table(title=escape(title), box=None)
            for column in ("pos", "token", "value"):
                table.add_column(column, justify="left" if column == "token" else "right")
            for row in self._rows:
                table.add_row(str(row["pos"]), escape(repr(row["token"])), f"{row['value']:.4f}")
            yield table
            return
        text = Text()
        for row in self._rows:
            text.append(row["token"], style="dim" if row["pos"] in self._result.left_out else self._shade(row["value"]))
        yield Text(title, style="italic")
        yield text
        yield Text.assemble(
            (f" {self._most:+.4g} ", self._shade(self._most)), " ", (f" {-self._most:+.4g} ", self._shade(-self._most))
        )

    def _shade(self, value: float) -> str:
        share = min(1.0, abs(value) / self._most) if self._most else 0.0
        share = round(share * _STEPS) / _STEPS
        if not share:
            return ""
        end = _POSITIVE if value > 0 else _NEGATIVE
        mixed = ",".join(str(round(255 + (part - 255) * share)) for part in end)
        return f"black on rgb({mixed})"


def _flatten(piece: str) -> str:
    return piece.replace("\n", " ")
