"""What was traced, as a graph."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from residscope.graphs.edges import Edges
from residscope.graphs.elsewhere import measure_elsewhere
from residscope.graphs.graph import Graph
from residscope.graphs.levels import TOKEN, Level, Sources, list_skipped
from residscope.graphs.tracer import Tracer
from residscope.running.metrics import Metric
from residscope.running.packing import source_of, write_lines
from residscope.running.run import Run
from residscope.running.texts import describe_texts

_MEANING = {
    "weight": "activation of the target less the same with the source ablated, its dictionary's error in place",
    "before": "the same before the target's threshold or competition",
}


def write_call(
    function: str, run: Run, levels: Sequence[Level], given: dict[str, Any], outputs: Sequence[Metric]
) -> list[str]:
    """The Python that makes a graph again."""
    loaded = ", ".join(level.dictionary.call for level in levels)
    said = "".join(f", {name}={source_of(value)}" for name, value in given.items())
    said += f", outputs={list(outputs)!r}" if outputs else ""
    lines = [
        f"dictionaries = [{loaded}]",
        f"graph = rs.{function}(model, {describe_texts(run.source)}, dictionaries{said})",
    ]
    return write_lines(run.model.python, lines)


def make_graph(
    tracer: Tracer,
    sources: Sequence[tuple[int, Sources]],
    edges: Edges,
    effects: Sequence[Tensor],
    outputs: Sequence[Metric],
    beside: Int[Tensor, "node 3"],
    *,
    settings: dict[str, Any],
    python: Sequence[str],
) -> Graph:
    """Number the nodes: sources, what they change that is not active, and what is there beside.

    Args:
      tracer: That found all this.
      sources: Of each level all, in the order in which edges count them.
      edges: That are kept.
      effects: Of each level's sources, on the outputs.
      outputs: Metrics.
      beside: Level, slot and feature of nodes that are there without an edge, too.
      settings: Beside what every graph says.
      python: Of the result.
    """
    run = tracer.run
    given = {name: torch.cat([getattr(one, name) for _, one in sources]).cpu() for name in ("features", "slots")}
    levels = torch.cat([torch.full((len(one),), number) for number, one in sources])
    activations = torch.cat([one.activations.to(edges.weights) for _, one in sources])
    n_sources = len(levels)
    keys = torch.stack((levels, given["slots"], given["features"]), dim=1)
    ends = torch.stack((edges.levels, edges.slots, edges.features), dim=1)
    everything = torch.cat((keys, ends, beside))
    distinct, number = torch.unique(tracer.key_of(*everything.T), return_inverse=True)
    nodes = everything.new_empty(len(distinct), 3).index_copy_(0, number, everything)
    own = torch.zeros(len(nodes)).to(edges.weights)
    own[number[:n_sources]] = activations
    caused = torch.zeros(len(nodes), len(outputs)).to(edges.weights)
    caused[number[:n_sources]] = torch.cat([one.to(edges.weights) for one in effects])
    positions = tracer.positions.tolist()
    measured = {
        f"{level}.{feature}@{positions[slot]}": size
        for numbers, sizes in tracer.sizes
        for (level, slot, feature), size in zip(keys[numbers].tolist(), sizes.tolist(), strict=True)
    }
    return Graph(
        name=f"causal graph of {run.tokens.texts[0]!r} by {run.model.name}",
        settings={
            "model": run.model.name,
            **settings,
            "positions": positions,
            "meaning": _MEANING,
            "skipped": list_skipped(tracer.levels),
            "n_active": [len(one) for level, one in sources if level != TOKEN],
            "n_measured": tracer.n_measured,
            "from_elsewhere": measure_elsewhere(tracer),
            "noise_floor": tracer.noise_floor,
            "misfits": tracer.misfits,
            "has_bos": run.tokens.has_bos,
            "dtype": str(run.model.dtype).removeprefix("torch."),
        },
        python=python,
        values=edges.weights,
        before=edges.before,
        sources=number[:n_sources][edges.sources],
        targets=number[n_sources : n_sources + len(edges)],
        levels=nodes[:, 0],
        features=nodes[:, 2],
        pos=tracer.positions[nodes[:, 1]],
        activations=own,
        effects=caused,
        parts=edges.parts,
        dictionaries=[level.describe() for level in tracer.levels],
        outputs=[repr(metric) for metric in outputs],
        part_names=[*tracer.parts.names] if tracer.parts else [],
        pieces=run.tokens.pieces[0],
        token_ids=run.tokens.lists()[0],
        positions=positions,
        total=float(sum(measured.values())),
        measured=measured,
    )
