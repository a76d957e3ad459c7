"""A graph grown from one node: back to its causes, and forward to what it causes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.assembly import make_graph, write_call
from residscope.graphs.edges import Edges, Rule, rank_within
from residscope.graphs.graph import Graph
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
from residscope.graphs.split import Parts
from residscope.graphs.tracer import Tracer
from residscope.running.arguments import read_choice, read_whole
from residscope.running.metrics import Metric
from residscope.running.model import Model
from residscope.running.run import check_metrics
from residscope.running.sweep import find_budget
from residscope.running.texts import Texts

Ways = Literal["both", "causes", "effects"]


@torch.no_grad()
def grow_graph(
    model: Model,
    prompt: Texts,
    dictionaries: Dictionaries,
    node: Node,
    positions: Where = "last",
    *,
    ways: Ways = "both",
    n_steps: int | None = None,
    top: int = 5,
    errors: bool = False,
    tokens: bool = False,
    outputs: Sequence[Metric] = (),
    split: bool = False,
    competition: bool = True,
    memory_bytes: int | None = None,
) -> Graph:
    """Grow a graph from one node, exactly as `causal_graph` measures, but only where it leads.

    Back, every source of the layer before is ablated alone, and of those that change the node the strongest become
    nodes whose causes are looked for next. Forward, the node is ablated, and what it changes most, where it is active,
    is ablated next.

    Args:
      model: Any.
      prompt: One text.
      dictionaries: Two or more, of any sites; one for each.
      node: Layer, feature and position of where it begins; where a layer has several dictionaries, the site in place
        of the layer.
      positions: "last", "all", or positions: of sources and targets.
      ways: Back to "causes", forward to "effects", or "both".
      n_steps: How many dictionaries back and forward; None is to the first and the last.
      top: How many causes of each node are kept, and how many effects.
      errors: What dictionaries leave unexplained can be a cause too.
      tokens: Each token's embedding can be a cause too.
      outputs: Metrics: the total effect of every node on them is measured.
      split: As in `causal_graph`.
      competition: As in `causal_graph`.
      memory_bytes: As in `model.sweep`.
    Returns:
      The node and what it grew to; `graph.merge(grown)` adds it to another graph of the prompt.
    Raises:
      BadArgument: There is no such node, or it is not active and effects are asked for; else as `causal_graph`.
    Holds:
      Every edge is one that `causal_graph` finds, with its weight; the causes of a node are the strongest of all.
    """
    outputs, ways = check_metrics("outputs", outputs), read_choice("ways", ways, ("both", "causes", "effects"))
    top, n_steps = read_whole("top", top, 1), None if n_steps is None else read_whole("n_steps", n_steps, 1)
    levels, budget = arrange(model, dictionaries), find_budget(model, memory_bytes)
    run = read_prompt(model, prompt, levels, budget // 16)
    steps = list_steps(model, levels, False, tokens)
    parts = Parts.list(model, levels, list_ways(levels, steps)) if split else None
    tracer = Tracer(run, levels, choose_positions(run, positions), parts, competition, budget)
    begin = find_nodes(levels, run, tracer.positions, [node], errors=errors, tokens=tokens)
    sources = tracer.find_sources(errors, tokens)
    to = {number: after[0] for number, after in steps.items()}
    growth = _Growth(tracer, sources, to, top, n_steps or len(levels) + 1)
    tracer.begin(growth.count(int(begin[0, 0]), ways))
    found = [tracer.nothing]
    if ways != "effects":
        found += growth.find_causes(begin[0])
    if ways != "causes":
        found += growth.find_effects(begin[0])
    edges = Edges.join(found)
    effects = growth.measure(edges, begin, outputs)
    flags = {"errors": errors, "tokens": tokens, "split": split, "competition": competition}
    given = {"node": node, "positions": positions, "ways": ways, "n_steps": n_steps, "top": top, **flags}
    graph = make_graph(
        tracer,
        sources,
        edges,
        effects,
        outputs,
        begin,
        settings={
            "method": "exact",
            "kept": {"top": top, "of": "causes and effects of each node"},
            "grown": {"node": [*node], "ways": ways, "n_steps": n_steps},
            "later": False,
            **flags,
        },
        python=write_call("grow_graph", run, levels, given, outputs),
    )
    return graph.take(torch.ones(len(graph.values), dtype=torch.bool), [graph.find(*check_node(node))])


class _Growth:
    """From node to node, a level at a time."""

    def __init__(
        self,
        tracer: Tracer,
        sources: Sequence[tuple[int, Sources]],
        steps: Mapping[int, int],
        top: int,
        n_steps: int,
    ) -> None:
        self.tracer, self.steps, self.top, self.n_steps = tracer, steps, top, n_steps
        self.sources = dict(sources)
        self.first, n = dict[int, int](), 0  # number of each level's first source
        for number, one in sources:
            self.first[number] = n
            n += len(one)

    def count(self, level: int, ways: Ways) -> int:
        """How many sources may be ablated at most."""
        back, forward = self._list_before(level), self._list_after(level)
        chosen = ([] if ways == "effects" else back) + ([] if ways == "causes" else forward)
        return sum(len(self.sources[number]) for number in chosen)

    def _list_before(self, level: int) -> list[int]:
        """Levels from which something leads to this one, the nearest first."""
        reached, found = {level: 0}, list[int]()
        for number in sorted(self.steps, reverse=True):
            far = reached.get(self.steps[number], self.n_steps) + 1
            if far <= self.n_steps:
                reached[number] = far
                found.append(number)
        return found

    def _list_after(self, level: int) -> list[int]:
        """This level and those that something of it leads to, the nearest first."""
        found = list[int]()
        while level in self.steps and len(found) < self.n_steps:
            found.append(level)
            level = self.steps[level]
        return found

    def find_causes(self, begin: Tensor) -> list[Edges]:
        """Edges that lead to the node, and to what has them."""
        wanted: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        wanted[int(begin[0])] = {(int(begin[1]), int(begin[2]))}
        found = list[Edges]()
        for number in self._list_before(int(begin[0])):
            target, sources = self.steps[number], self.sources[number]
            ends = torch.tensor(sorted(wanted[target]), dtype=torch.long).view(-1, 2)
            keys = self.tracer.key_of(torch.full((len(ends),), target), *ends.T)
            numbers = self.first[number] + torch.arange(len(sources))
            parts = [self.tracer.nothing]
            for edges in self.tracer.step(sources, [target], numbers, Rule(share=1.0)) if len(ends) else ():
                own = self.tracer.key_of(edges.levels, edges.slots, edges.features)
                parts.append(edges.take(torch.isin(own, keys)))
            edges = Edges.join(parts)
            own = self.tracer.key_of(edges.levels, edges.slots, edges.features)
            edges = edges.take(rank_within(edges.weights, own) < self.top)
            chosen = torch.unique(edges.sources) - self.first[number]
            if len(ends):
                found.append(edges)
            else:
                self.tracer.advance(len(sources))
            wanted[number] |= {*zip(sources.slots[chosen].tolist(), sources.features[chosen].tolist(), strict=True)}
        return found

    def find_effects(self, begin: Tensor) -> list[Edges]:
        """Edges that lead from the node, and from what they lead to.

        Raises:
          BadArgument: The node is not active, so that it cannot be ablated.
        """
        level, found = int(begin[0]), list[Edges]()
        wanted = {(int(begin[1]), int(begin[2]))}
        for number in self._list_after(level):
            sources = self.sources[number]
            places = [*zip(sources.slots.tolist(), sources.features.tolist(), strict=True)]
            chosen = torch.tensor([i for i, place in enumerate(places) if place in wanted], dtype=torch.long)
            if number == level and not len(chosen):
                raise BadArgument(
                    "The node is not active in the prompt, so that it has no effects.", 'Ask for ways="causes".'
                )
            numbers = self.first[number] + chosen
            parts = [*self.tracer.step(sources.take(chosen), [self.steps[number]], numbers, Rule(top=self.top))]
            self.tracer.advance(len(sources) - len(chosen))
            found += parts
            wanted = {
                place for edges in parts for place in zip(edges.slots.tolist(), edges.features.tolist(), strict=True)
            }
        return found

    def measure(self, edges: Edges, begin: Int[Tensor, "node 3"], outputs: Sequence[Metric]) -> list[Tensor]:
        """What each source that has become a node does to the outputs; of the others 0."""
        nodes = torch.cat((begin, torch.stack((edges.levels, edges.slots, edges.features), dim=1)))
        keys, chosen, effects = self.tracer.key_of(*nodes.T), dict[int, Tensor](), list[Tensor]()
        for number, one in self.sources.items():
            own = self.tracer.key_of(torch.full((len(one),), number), one.slots.cpu(), one.features.cpu())
            numbers = self.first[number] + torch.arange(len(one))
            chosen[number] = torch.isin(own, keys) | torch.isin(numbers, edges.sources)
        self.tracer.begin(len(outputs) * sum(int(some.sum()) for some in chosen.values()))
        for number, one in self.sources.items():
            found = one.activations.new_zeros(len(one), len(outputs))
            found[chosen[number]] = self.tracer.measure(one.take(chosen[number]), outputs)
            effects.append(found)
        return effects
