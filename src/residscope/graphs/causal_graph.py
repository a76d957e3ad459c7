"""The exact graph of a prompt: every active feature is ablated alone, and every later feature's change measured."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.attribution import Attribution, compare
from residscope.graphs.edges import Edges, Rule
from residscope.graphs.elsewhere import measure_elsewhere
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
    list_steps,
    read_prompt,
)
from residscope.graphs.split import name_parts
from residscope.graphs.tracer import Tracer
from residscope.running.arguments import read_seed, read_whole
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
    method: Literal["exact", "attribution"] = "exact",
    integrated_gradients: int = 0,
    n_sample: int = 20,
    seed: int = 0,
    memory_bytes: int | None = None,
) -> Graph:
    """Ablate every active feature of a prompt alone, and measure what every feature of the next dictionary does.

    What is taken off is what the feature writes; what its dictionary leaves unexplained stays where it is. What comes
    to these positions from others has no edge; `settings["from_elsewhere"]` says which share of the stream's change
    from the first dictionary to the last that is.

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
      method: "attribution" estimates edges and effects: what a source writes, times the gradient there, to what is
        active in the prompt. Its error on a sample is in `settings["error"]`.
      integrated_gradients: For that: the mean of the gradient at so many points on the way from none of a layer's
        sources to all; 0 is in the prompt.
      n_sample: For that: of how many sources edges are measured too, half the strongest, half at random.
      seed: For that: of the random half.
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
    budget = find_budget(model, memory_bytes)
    run = read_prompt(model, prompt, levels, budget // 16)
    names = name_parts(model, levels) if split else []
    tracer = Tracer(run, levels, choose_positions(run, positions), names, competition, budget)
    sources = tracer.find_sources(errors, tokens)
    if method not in ("exact", "attribution") or (split and method != "exact"):
        raise BadArgument(
            f"method={method!r} and split={split} were asked for.", 'Choose "exact", or "attribution" whole.'
        )
    estimate = method == "attribution"
    how = Attribution(tracer, read_whole("integrated_gradients", integrated_gradients)) if estimate else tracer
    steps = dict(list_steps(model, levels, later))
    steps[TOKEN] = list(range(len(levels))) if later else [0]
    found, effects = _trace(tracer, how, sources, steps, rule, outputs)
    edges = rule.finish(found)
    error = None
    if isinstance(how, Attribution):
        error = _sample(how, sources, steps, read_whole("n_sample", n_sample, 2), read_seed(seed))
    said: dict[str, Any] = {"top": rule.top, "threshold": rule.threshold, "share": rule.share}
    said = {name: value for name, value in said.items() if value is not None}
    flags = {"later": later, "errors": errors, "tokens": tokens, "split": split}
    flags["competition"] = competition
    given = {"positions": positions, **said, "paths": paths, **flags}
    given |= {"method": method, "integrated_gradients": integrated_gradients} if estimate else {}
    graph = make_graph(
        tracer,
        sources,
        edges,
        effects,
        outputs,
        name=f"causal graph of {run.tokens.texts[0]!r} by {model.name}",
        settings={
            "method": method,
            **({"integrated_gradients": integrated_gradients, "error": error} if estimate else {}),
            "positions": tracer.positions.tolist(),
            "kept": said,
            "paths": paths,
            **flags,
            "meaning": _MEANING,
            "skipped": list_skipped(levels),
            "n_active": [len(one) for level, one in sources if level != TOKEN],
            "n_measured": tracer.n_measured,
            "from_elsewhere": measure_elsewhere(tracer),
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


def _trace(
    tracer: Tracer,
    how: Tracer | Attribution,
    sources: Sequence[tuple[int, Sources]],
    steps: Mapping[int, Sequence[int]],
    rule: Rule,
    outputs: Sequence[Metric],
) -> tuple[Edges, list[Tensor]]:
    """Edges that the rule may keep, and for each place the effects of its sources on the outputs."""
    tracer.begin(sum(len(one) * ((number in steps) + len(outputs)) for number, one in sources))
    parts, effects, before = [tracer.nothing], [], 0
    for number, one in sources:
        parts += how.step(one, steps.get(number, []), before, rule)
        effects.append(how.measure(one, outputs))
        before += len(one)
    return Edges.join(parts), effects


def _sample(
    how: Attribution, sources: Sequence[tuple[int, Sources]], steps: Mapping[int, Sequence[int]], n: int, seed: int
) -> dict[str, Any]:
    """The error of estimates on a sample of sources: half the strongest of their level, half others at random."""
    everything, first = Rule(share=1.0), how.tracer
    tracer = Tracer(first.run, first.levels, first.positions, [], first.competition, first.budget)
    how = Attribution(tracer, how.n_steps)
    generator = torch.Generator().manual_seed(seed)
    usable = [(number, one) for number, one in sources if number in steps and len(one)]
    sizes = [min(len(one), max(2, n // len(usable))) for _, one in usable]
    tracer.begin(2 * sum(sizes))
    estimated, exact, n_sampled = [tracer.nothing], [tracer.nothing], 0
    for (number, one), n_here in zip(usable, sizes, strict=True):
        order = one.vectors.norm(dim=-1).argsort(descending=True).cpu()
        strong, others = order[: n_here // 2], order[n_here // 2 :]
        chosen = torch.cat((strong, others[torch.randperm(len(others), generator=generator)[: n_here - len(strong)]]))
        some = one.take(chosen.to(one.slots.device))
        for method, found in ((how, estimated), (tracer, exact)):
            found += method.step(some, steps[number], n_sampled, everything)
        n_sampled += len(some)
    return {"n_sources": n_sampled, **compare(Edges.join(estimated), Edges.join(exact))}


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
