"""The exact graph of a prompt: every active feature is ablated alone, and every later feature's change measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.assembly import make_graph, write_call
from residscope.graphs.attribution import Attribution, compare
from residscope.graphs.edges import Edges, Rule
from residscope.graphs.graph import Graph, Paths, find_paths
from residscope.graphs.levels import (
    Dictionaries,
    Node,
    Sources,
    Where,
    arrange,
    check_node,
    choose_positions,
    find_nodes,
    list_steps,
    list_ways,
    read_prompt,
)
from residscope.graphs.shards import Shards
from residscope.graphs.split import Parts
from residscope.graphs.tracer import Tracer
from residscope.running.arguments import read_choice, read_seed, read_share, read_size, read_whole
from residscope.running.metrics import Metric
from residscope.running.model import Model
from residscope.running.run import check_metrics
from residscope.running.sweep import find_budget
from residscope.running.texts import Texts

_TOP = 10


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
    pinned: Sequence[Node] = (),
    method: Literal["exact", "attribution"] = "exact",
    integrated_gradients: int = 0,
    n_sample: int = 20,
    seed: int = 0,
    memory_bytes: int | None = None,
    out: str | Path | None = None,
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
        what attention fed it; between dictionaries of the stream. Where an edge leads through several layers, each
        layer has heads and an MLP of its own.
      competition: Whether features of a top-k dictionary make room for others. Without, each holds against what it had
        to reach in the prompt.
      pinned: Layer, feature and position of nodes that stay, with the edges between them, whatever else is kept; where
        a layer has several dictionaries, the site in place of the layer.
      method: "attribution" estimates edges and effects: what a source writes, times the gradient there, to what is
        active in the prompt. Its error on a sample is in `settings["error"]`.
      integrated_gradients: For that: the mean of the gradient at so many points on the way from none of a layer's
        sources to all; 0 is in the prompt.
      n_sample: For that: of how many sources edges are measured too, half those of the largest estimates, half at
        random; of fewer than all, what is said of all is an estimate itself.
      seed: For that: of the random half.
      memory_bytes: As in `model.sweep`.
      out: A folder where each level is kept once it is traced; a call that was cancelled or killed goes on from there
        when it is made again. A function among the outputs is told by its code, and by
        the numbers, texts, arrays and functions that it uses.
    Raises:
      BadArgument: An option is none, there is not one prompt, no feature is active, or the folder is of another call.
      BadMetric: An output is no metric, or gives no single finite number.
      BadDictionary: A dictionary does not fit the model, or makes NaN.
      BadCheckpoint: The model makes NaN.
      UnknownPosition: The prompt has no such position.
      Cancelled: Somebody cancelled.
    Warns:
      DictionaryMisfit: A dictionary has no active feature, or by the last tokens of the prompt explains little of what
        it reads, or much more of what is a layer earlier or later; `settings["misfits"]` has it too. Few tokens, and a
        prompt of fewer than six, tell little: `dictionary.check` takes many.
    Holds:
      Every weight equals that of a full run with the ablation, to 1e-10 in float64, and parts sum to `before`; on
      transformers whose wiring is known, exactly the known edges are found.
    Source: "Causal Graphs of GPT-2-Small's Residual Stream" (2024), with the change measured at every feature.
    """
    outputs, rule = check_metrics("outputs", outputs), _read_rule(top, threshold, share)
    levels = arrange(model, dictionaries)
    budget = find_budget(model, memory_bytes)
    run = read_prompt(model, prompt, levels, budget // 16)
    steps = list_steps(model, levels, later, tokens)
    parts = Parts.list(model, levels, list_ways(levels, steps)) if split else None
    tracer = Tracer(run, levels, choose_positions(run, positions), parts, competition, budget)
    sources = tracer.find_sources(errors, tokens)
    pins = find_nodes(levels, run, tracer.positions, pinned, errors=errors, tokens=tokens)
    tracer.pins = tracer.key_of(*pins.T)
    estimate = read_choice("method", method, ("exact", "attribution")) == "attribution"
    if split and estimate:
        raise BadArgument("Estimated edges were to be split.", 'Choose method="exact", or leave split out.')
    if integrated_gradients and not estimate:
        raise BadArgument(
            f"integrated_gradients={integrated_gradients!r} was asked for, and nothing is estimated.",
            'Choose method="attribution", or leave it out.',
        )
    how = Attribution(tracer, read_whole("integrated_gradients", integrated_gradients)) if estimate else tracer
    shards = None
    if out is not None:
        call: dict[str, Any] = {"method": method, "integrated_gradients": integrated_gradients, **asdict(rule)}
        call |= {"later": later, "errors": errors, "tokens": tokens, "split": split, "pinned": pins.tolist()}
        shards = Shards(out, {**call, "outputs": [metric.told for metric in outputs], **tracer.describe()})
    found, effects = _trace(tracer, how, sources, steps, rule, outputs, shards)
    edges = rule.finish(found, tracer.find_held(found))
    error = None
    if isinstance(how, Attribution):
        error = _sample(how, sources, steps, read_whole("n_sample", n_sample, 2), read_seed(seed))
    said: dict[str, Any] = {"top": rule.top, "threshold": rule.threshold, "share": rule.share}
    said = {name: value for name, value in said.items() if value is not None}
    flags = {"later": later, "errors": errors, "tokens": tokens, "split": split}
    flags["competition"] = competition
    given = {"positions": positions, **said, "paths": paths, **flags, **({"pinned": list(pinned)} if pinned else {})}
    given |= {"method": method, "integrated_gradients": integrated_gradients} if estimate else {}
    graph = make_graph(
        tracer,
        sources,
        edges,
        effects,
        outputs,
        pins,
        settings={
            "method": method,
            **({"integrated_gradients": integrated_gradients, "error": error} if estimate else {}),
            "kept": said,
            "paths": paths,
            **flags,
        },
        python=write_call("causal_graph", run, levels, given, outputs),
    )
    held = torch.zeros(len(graph.levels), dtype=torch.bool)
    held[[graph.find(*check_node(node)) for node in pinned]] = True
    keep = torch.ones(len(graph.values), dtype=torch.bool)
    if len(levels) > 2:
        keep = find_paths(graph.sources, graph.targets, keep, len(graph.levels), paths, None)
    return graph.take(keep | (held[graph.sources] & held[graph.targets]), held.nonzero()[:, 0].tolist())


def _trace(
    tracer: Tracer,
    how: Tracer | Attribution,
    sources: Sequence[tuple[int, Sources]],
    steps: Mapping[int, Sequence[int]],
    rule: Rule,
    outputs: Sequence[Metric],
    shards: Shards | None,
) -> tuple[Edges, list[Tensor]]:
    """Edges that the rule may keep, and for each place the effects of its sources on the outputs."""
    tracer.begin(sum(len(one) * ((number in steps) + len(outputs)) for number, one in sources))
    parts, effects, before = [tracer.nothing], [], 0
    for number, one in sources:
        numbers = torch.arange(before, before + len(one))
        traced = shards.read(number) if shards else None
        if traced:
            tracer.remember(traced, len(one) * ((number in steps) + len(outputs)))
        else:
            n_sizes, n_measured = len(tracer.sizes), tracer.n_measured
            found = Edges.join([tracer.nothing, *how.step(one, steps.get(number, []), numbers, rule)])
            caused = how.measure(one, outputs)
            traced = tracer.tell(found, caused, n_sizes, n_measured)
            if shards:
                shards.write(number, traced)
        parts.append(traced.edges)
        effects.append(traced.effects)
        before += len(one)
    return Edges.join(parts), effects


def _sample(
    how: Attribution, sources: Sequence[tuple[int, Sources]], steps: Mapping[int, Sequence[int]], n: int, seed: int
) -> dict[str, Any]:
    """The error of estimates on a sample of sources: half those of the largest estimates of their level, half others at
    random, each of which stands for as many as were not drawn.
    """
    everything, first = Rule(share=1.0), how.tracer
    tracer = Tracer(first.run, first.levels, first.positions, None, first.competition, first.budget)
    how = Attribution(tracer, how.n_steps)
    generator = torch.Generator().manual_seed(seed)
    totals = torch.zeros(sum(len(one) for _, one in sources), dtype=torch.float64)
    for numbers, sizes in first.sizes:
        totals[numbers] += sizes
    of_each = torch.split(totals, [len(one) for _, one in sources])
    usable = [(number, one, size) for (number, one), size in zip(sources, of_each, strict=True) if number in steps]
    usable = [some for some in usable if len(some[1])]
    n_of = [min(len(one), max(2, n // len(usable))) for _, one, _ in usable]
    tracer.begin(2 * sum(n_of))
    estimated, exact, n_sampled, stands_for = [tracer.nothing], [tracer.nothing], 0, [totals[:0]]
    for (number, one, size), n_here in zip(usable, n_of, strict=True):
        order = size.argsort(descending=True, stable=True)
        strong, others = order[: n_here // 2], order[n_here // 2 :]
        drawn = others[torch.randperm(len(others), generator=generator)[: n_here - len(strong)]]
        chosen = torch.cat((strong, drawn))
        stands_for += [torch.ones(len(strong)), torch.full((len(drawn),), len(others) / max(1, len(drawn)))]
        some = one.take(chosen.to(one.slots.device))
        for method, found in ((how, estimated), (tracer, exact)):
            found += method.step(some, steps[number], torch.arange(n_sampled, n_sampled + len(some)), everything)
        n_sampled += len(some)
    return {"n_sources": n_sampled, **compare(Edges.join(estimated), Edges.join(exact), torch.cat(stands_for))}


def _read_rule(top: int | None, threshold: float | None, share: float | None) -> Rule:
    given = [value for value in (top, threshold, share) if value is not None]
    if len(given) > 1:
        raise BadArgument("Several rules were given for which edges are kept.", "Give top, threshold or share.")
    if top is not None:
        top = read_whole("top", top, 1)
    if threshold is not None:
        threshold = read_size("threshold", threshold)
    if share is not None:
        share = read_share("share", share)
    return Rule(top if given else _TOP, threshold, share)
