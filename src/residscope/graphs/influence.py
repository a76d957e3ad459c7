"""How much each node has to do with an output, along all paths that lead there; and what of a graph has most."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.edges import find_largest
from residscope.graphs.levels import ERROR, TOKEN

if TYPE_CHECKING:
    from residscope.graphs.graph import Graph


def check_linear(graph: "Graph") -> None:
    """Refuse a graph whose paths do not add up.

    Raises:
      BadArgument: Its edges are measured, taken on the way from a baseline, or total effects.
    """
    said = graph.settings
    why = None
    if said["method"] != "attribution":
        why = "they were measured by ablation"
    elif said["integrated_gradients"]:
        why = "they are integrated along a way, each along its own"
    elif said["later"]:
        why = "edges to later layers hold what goes through those between, too"
    if why:
        raise BadArgument(
            f"Influence multiplies edges along paths, and this graph's cannot be multiplied: {why}.",
            'Make the graph with method="attribution" and later=False, or prune by="weight".',
        )


def weigh_outputs(graph: "Graph", output: str | None) -> Float[Tensor, "node output"]:
    """What leads to the outputs straight: the effects of the last dictionary's nodes, as all others act through them.

    Raises:
      BadArgument: The graph has no such output, or none.
    """
    names = list(graph.outputs)
    if not names or output not in (None, *names):
        asked = "an output" if output is None else repr(output)
        raise BadArgument(
            f"Influence on {asked} was asked for, and the graph's outputs are {names}.",
            "Make the graph with outputs=[...], or give the layer, feature and position of a node as output.",
        )
    last = (graph.levels == len(graph.dictionaries) - 1).to(graph.effects)[:, None]
    return last * (graph.effects if output is None else graph.effects[:, [names.index(output)]])


def start_at(graph: "Graph", target: int | None, output: str | None) -> Float[Tensor, " node"]:
    """Influence that does not go through another node: all of the target, or shares of what leads to the outputs.

    Raises:
      BadArgument: The graph has no such output, or none.
    """
    if target is not None:
        start = torch.zeros(len(graph.levels), dtype=torch.float64)
        start[target] = 1.0
        return start
    straight = weigh_outputs(graph, output).abs().double()
    shares: Tensor = straight / straight.sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return shares.mean(1)


def find_influence(
    graph: "Graph", start: Float[Tensor, " node"], keep: Bool[Tensor, " edge"]
) -> tuple[Float[Tensor, " node"], Float[Tensor, " edge"]]:
    """Influence of nodes, and of edges.

    Each node's incoming weights, without their signs, are shares that sum to one. A path has the product of its edges'
    shares; a node's influence is its own part of the start and the sum over all paths from it.

    Args:
      graph: Whose edges lead from layer to layer, so that paths end.
      start: Where paths lead to.
      keep: Edges that count.
    """
    sizes = graph.values.abs().double() * keep
    incoming = torch.zeros_like(start).index_add_(0, graph.targets, sizes)
    shares = sizes / incoming[graph.targets].clamp(min=torch.finfo(torch.float64).tiny)
    influence, current = start.clone(), start
    while bool(current.any()):
        current = torch.zeros_like(start).index_add_(0, graph.sources, current[graph.targets] * shares)
        influence += current
    return influence, influence[graph.targets] * shares


def find_influential(
    graph: "Graph", nodes: float, edges: float, start: Float[Tensor, " node"], pinned: Bool[Tensor, " node"]
) -> Bool[Tensor, " edge"]:
    """Edges that have most influence, between nodes that have.

    Args:
      graph: Any that is linear.
      nodes: The share of the summed influence of nodes that stays, in the fewest; tokens stay too.
      edges: Then of that of edges between them.
      start: As `start_at` gives it.
      pinned: Nodes that stay whatever theirs is.
    Returns:
      Without edges of nodes that lead nowhere any more, or have lost all that led to them.
    """
    everything = torch.ones(len(graph.values), dtype=torch.bool)
    influence, _ = find_influence(graph, start, everything)
    there = find_largest(influence, nodes) | pinned | (graph.levels == TOKEN)
    keep = there[graph.sources] & there[graph.targets]
    _, flow = find_influence(graph, start, keep)
    keep &= find_largest(flow, edges) if edges < 1 else keep
    ends = pinned | (start > 0)
    fed = (graph.levels != TOKEN) & (graph.features != ERROR)  # of which some come in with no edge at all
    fed &= torch.zeros_like(fed).index_fill_(0, graph.targets, True)
    while True:
        leads, reached = (
            torch.zeros_like(ends).index_fill_(0, side[keep], True) for side in (graph.sources, graph.targets)
        )
        sound = pinned | ((leads | ends) & (reached | ~fed))
        less = keep & sound[graph.sources] & sound[graph.targets]
        if torch.equal(less, keep):
            return keep
        keep = less
