"""MODEL_CARD.md, from what was measured of every seed."""

from collections import Counter
from collections.abc import Mapping
from itertools import chain, compress
from operator import not_
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from training.corpus import REPEAT, SAMPLED, STORIES, STORY, TASK
from training.evaluate_dictionaries import HEADER, Figures

Evaluation = Mapping[str, Any]

TEMPLATE = Path(__file__).with_name("card.md.jinja")
SOURCES = {  # kind and licence
    STORIES: ("natural", "TinyStories, a sample: CDLA-Sharing-1.0, as far as known"),
    "wikitext2_valid.txt": ("natural", "WikiText-2: CC BY-SA, as far as known"),
    "wikitext2_test.txt": ("natural", "WikiText-2: CC BY-SA, as far as known"),
    "tinyshakespeare.txt": ("natural", "public domain"),
    "frankenstein.txt": ("natural", "public domain"),
    SAMPLED: ("sampled", "from karpathy's tinyllamas stories260K: MIT"),
    STORY: ("templated", "of this project: MIT"),
    TASK: ("templated", "of this project: MIT"),
    REPEAT: ("random", "drawn"),
}


def write_card(seeds: Mapping[int, Evaluation], shipped: int) -> str:
    """The card's text.

    Args:
      seeds: What `python -m training` measured of each.
      shipped: Which of them the package carries.
    """
    ours, others = seeds[shipped], [seed for seed in seeds if seed != shipped]
    kinds: Counter[str] = Counter()
    for source, share in ours["shares"].items():
        kinds[SOURCES[source][0]] += share
    parts = {seed: _split(one) for seed, one in seeds.items()}
    rows = [
        row | {"others": [_beside(row, parts[seed][0][number]) for seed in others]}
        for number, row in enumerate(parts[shipped][0])
    ]
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(TEMPLATE.read_text())
    return template.render(
        ours=ours,
        shipped=shipped,
        seeds=[*seeds],
        evaluations=seeds,
        others=others,
        kinds=kinds,
        sources=SOURCES,
        rows=rows,
        circuits={seed: parts[seed][1] for seed in (shipped, *others)},
        header=HEADER,
        figures=[str(one) for one in _figures(ours)],
        norms=ours["measured"]["norm at position 0 over the median elsewhere"],
        prose=ours["measured"]["prose, nats per byte"]["cells"],
        find=lambda *said: next(row for row in chain(*parts[shipped]) if all(one in row["name"] for one in said)),
        missed={seed: _missed(one) for seed, one in seeds.items()},
        number=lambda row: f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
        cells=lambda cells: "; ".join(f"{name} {value:.3g}" for name, value in cells.items()),
        verdict={True: "met", False: "**missed**", None: ""}.get,
    )


def _split(evaluation: Evaluation) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was measured, and of that apart which heads carry the tasks."""
    rows = [{"name": name, **found} for name, found in evaluation["measured"].items()]
    carries = [" alone restores" in row["name"] for row in rows]
    return [*compress(rows, map(not_, carries))], [*compress(rows, carries)]


def _beside(ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
    """Another seed's value, with its heads where they are others."""
    missed = ", missed" if other["met"] is False else ""
    heads = "" if ours["name"] == other["name"] else f" ({other['name']})"
    return {"text": f"{other['value']:.3f}{missed}{heads}"}


def _figures(evaluation: Evaluation) -> list[Figures]:
    return [
        Figures(**{key: value for key, value in one.items() if key != "missed"}) for one in evaluation["dictionaries"]
    ]


def _missed(evaluation: Evaluation) -> list[str]:
    """The aims that were not reached."""
    names = [name for name, found in evaluation["measured"].items() if found["met"] is False]
    return names + [f"{one.site} {one.architecture}: {aim}" for one in _figures(evaluation) for aim in one.missed]
