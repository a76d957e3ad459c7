"""The exact graph of a prompt: every active feature is ablated alone, and every later feature's change measured."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.edges import Edges, Rule
from residscope.graphs.graph import Graph, Paths, find_paths
from residscope.graphs.levels import (
    TOKEN,
    Dictionaries,
    Level,
    Sources,
    Where,
    arrange,
    choose_positions,
    list_skipped,
    read_prompt,
)
from residscope.graphs.split import name_parts
from residscope.graphs.tracer import Tracer
from residscope.running.arguments import read_whole
from residscope.running.metrics import Metric
from residscope.running.model import Model
from residscope.running.packing import source_of, write_lines
from residscope.running.run import Run
from residscope.running.sweep import find_budget
from residscope.running.texts import Texts, describe_texts

_TOP = 10
_MEANING = {
    "weight": "activation of the target less the same with the source ablated, its dictionary's error in place",
    "before": "the same before the target's threshold or competition",
}


@torch.no_grad()
def causal_graph(
    model: Model,
    prompt: Texts,
    dictionaries: Dictionaries,
    positions: Where = "last",
    *,
    top: int | None = None,
    threshold: float | None = None,
    share: float | None = None,
    paths: Paths = "long",
    later: bool = False,
    errors: bool = False,
    tokens: bool = False,
    outputs: Sequence[Metric] = (),
    split: bool = False,
    competition: bool = True,
    memory_bytes: int | None = None,
) -> Graph:
    """Ablate every active feature of a prompt alone, and measure what every feature of the next dictionary does.

    What is taken off is what the feature writes; what its dictionary leaves unexplained stays where it is.

    Args:
      model: Any.
      prompt: One text.
      dictionaries: Two or more, of any sites; one for each.
      positions: "last", "all", or positions: of sources and targets.
      top: So many edges of each source are kept, the largest; 10 where no other rule is given.
      threshold: Instead: edges of at least this size are kept.
      share: Instead: the fewest edges that have this share of the summed size of all.
      paths: "long" keeps of them those on paths longer than one edge, where there are three dictionaries or more.
      later: Measure features of all later dictionaries, not only of the next: total effects.
      errors: Ablate also what each dictionary leaves unexplained, at each position.
      tokens: Ablate also each token's embedding.
      outputs: Metrics with one number: each node's total effect on them is measured.
      split: Say for each edge what of `before` comes straight, through each head, and through the MLP, which contains
        what attention fed it; between dictionaries of the stream with at most one layer between.
      competition: Whether features of a top-k dictionary make room for others. Without, each holds against what it had
        to reach in the prompt.
      memory_bytes: As in `model.sweep`.
    Raises:
      BadArgument: An option is none, there is not one prompt, or no feature is active.
      BadDictionary: A dictionary does not fit the model, or makes NaN.
      BadCheckpoint: The model makes NaN.
      UnknownPosition: The prompt has no such position.
      Cancelled: Somebody cancelled.
    Warns:
      DictionaryMisfit: A dictionary explains nothing of what it reads.
    Holds:
      Every weight equals that of a full run with the ablation, to 1e-10 in float64, and parts sum to `before`; on
      transformers whose wiring is known, exactly the known edges are found.
    Source: "Causal Graphs of GPT-2-Small's Residual Stream" (2024), with the change measured at every feature.
    """
    rule = _read_rule(top, threshold, share)
    levels = arrange(model, dictionaries)
    run = read_prompt(model, prompt, levels)
    names = name_parts(model, levels) if split else []
    budget = find_budget(model, memory_bytes)
    tracer = Tracer(run, levels, choose_positions(run, positions), names, competition, budget)
    sources = tracer.find_sources(errors, tokens)
    found, effects = tracer.trace(sources, rule, later, outputs)
    edges = rule.finish(found)
    said: dict[str, Any] = {"top": rule.top, "threshold": rule.threshold, "share": rule.share}
    said = {name: value for name, value in said.items() if value is not None}
    flags = {"later": later, "errors": errors, "tokens": tokens, "split": split}
    flags["competition"] = competition
    given = {"positions": positions, **said, "paths": paths, **flags}
    graph = make_graph(
        tracer,
        sources,
        edges,
        effects,
        outputs,
        name=f"causal graph of {run.tokens.texts[0]!r} by {model.name}",
        settings={
            "method": "exact",
            "positions": tracer.positions.tolist(),
            "kept": said,
            "paths": paths,
            **flags,
            "meaning": _MEANING,
            "skipped": list_skipped(levels),
            "n_active": [len(one) for level, one in sources if level != TOKEN],
            "n_measured": tracer.n_measured,
            "noise_floor": tracer.noise_floor,
            "has_bos": run.tokens.has_bos,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=_write_call(run, levels, given, outputs),
    )
    keep = torch.ones(len(graph.values), dtype=torch.bool)
    if len(levels) > 2:
        keep = find_paths(graph.sources, graph.targets, keep, len(graph.levels), paths, None)
    return graph.take(keep)


def _read_rule(top: int | None, threshold: float | None, share: float | None) -> Rule:
    given = [value for value in (top, threshold, share) if value is not None]
    if len(given) > 1:
        raise BadArgument("Several rules were given for which edges are kept.", "Give top, threshold or share.")
    if top is not None:
        top = read_whole("top", top, 1)
    if threshold is not None and not (isfinite(threshold) and threshold > 0):
        raise BadArgument(f"threshold={threshold!r} was asked for.", "Give a number above 0.")
    if share is not None and not 0 < share <= 1:
        raise BadArgument(f"share={share!r} was asked for.", "Give a share above 0, at most 1.")
    return Rule(top if given else _TOP, threshold, share)


def _write_call(run: Run, levels: Sequence[Level], given: dict[str, Any], outputs: Sequence[Metric]) -> list[str]:
    loaded = ", ".join(
        f"rs.load_dictionary({level.dictionary.source!r})" if level.dictionary.source else "..." for level in levels
    )
    said = "".join(f", {name}={source_of(value)}" for name, value in given.items())
    said += f", outputs={list(outputs)!r}" if outputs else ""
    prompt = describe_texts(run.source)
    lines = [f"dictionaries = [{loaded}]", f"graph = rs.causal_graph(model, {prompt}, dictionaries{said})"]
    return write_lines(run.model.python, lines)


def make_graph(
    tracer: Tracer,
    sources: Sequence[tuple[int, Sources]],
    edges: Edges,
    effects: Sequence[Tensor],
    outputs: Sequence[Metric],
    *,
    name: str,
    settings: dict[str, Any],
    python: Sequence[str],
) -> Graph:
    """Number the nodes: first what was ablated, then what is not active and changed."""
    given = {name: torch.cat([getattr(one, name) for _, one in sources]).cpu() for name in ("features", "slots")}
    levels = torch.cat([torch.full((len(one),), number) for number, one in sources])
    activations = torch.cat([one.activations.to(edges.weights) for _, one in sources])
    n_sources = len(levels)
    keys = torch.stack((levels, given["slots"], given["features"]), dim=1)
    ends = torch.stack((edges.levels, edges.slots, edges.features), dim=1)
    nodes, number = torch.unique(torch.cat((keys, ends)), dim=0, return_inverse=True)
    own = torch.zeros(len(nodes)).to(edges.weights)
    own[number[:n_sources]] = activations
    caused = torch.zeros(len(nodes), len(outputs)).to(edges.weights)
    caused[number[:n_sources]] = torch.cat([one.to(edges.weights) for one in effects])
    return Graph(
        name=name,
        settings=settings,
        python=python,
        values=edges.weights,
        before=edges.before,
        sources=number[:n_sources][edges.sources],
        targets=number[n_sources:],
        levels=nodes[:, 0],
        features=nodes[:, 2],
        pos=tracer.positions[nodes[:, 1]],
        activations=own,
        effects=caused,
        parts=edges.parts,
        dictionaries=[level.describe() for level in tracer.levels],
        outputs=[repr(metric) for metric in outputs],
        part_names=tracer.part_names,
        pieces=tracer.run.tokens.pieces[0],
        token_ids=tracer.run.tokens.lists()[0],
        positions=tracer.positions.tolist(),
        total=tracer.total,
    )
