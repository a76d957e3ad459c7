"""Edges to first order, for models where ablating each source is too much: what it writes, times the gradient there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.graphs.edges import Edges, Rule
from residscope.graphs.levels import Sources
from residscope.graphs.tracer import Tracer, bind_output
from residscope.running.changes import Change
from residscope.running.metrics import Metric
from residscope.running.run import Differentiating, read_at

_AT_ONCE = 64  # targets whose gradients are taken together, at most


class Attribution:
    """As a tracer, but every edge and effect is estimated.

    Args:
      tracer: Of the prompt.
      n_steps: Of integrated gradients, on the way from none of a level's sources to all; none takes the gradient in the
        prompt.
    """

    def __init__(self, tracer: Tracer, n_steps: int) -> None:
        self.tracer, self.n_steps = tracer, n_steps

    def step(
        self, sources: Sources, targets: Sequence[int], numbers: Int[Tensor, " source"], rule: Rule
    ) -> Iterator[Edges]:
        """Edges to what is active in the prompt."""
        if not len(sources) or not targets:
            return
        found = []
        for target in targets:
            slots, features = (self.tracer.reader(target).features > 0).nonzero(as_tuple=True)
            weights = self._differentiate(sources, target, slots, features)
            source, number = weights.nonzero(as_tuple=True)
            weight = weights[source, number]
            ends = torch.full_like(source, target), slots[number], features[number]
            parts = weight.new_zeros(len(weight), 0)
            found.append(Edges(*(one.cpu() for one in (source, *ends, weight, weight, parts))))
        edges = Edges.join(found)
        self.tracer.count(edges, numbers)
        edges = replace(edges, sources=numbers[edges.sources])
        yield rule.thin(edges, self.tracer.find_held(edges))

    def measure(self, sources: Sources, outputs: Sequence[Metric]) -> Float[Tensor, "source output"]:
        """Estimated effects on outputs."""
        effects = sources.vectors.new_zeros(len(sources), len(outputs))
        for number, metric in enumerate(outputs):
            reading, _ = bind_output(metric, self.tracer.run)
            for changes in self._way(sources):
                gradient = self.tracer.run.differentiate(reading, [sources.place], changes)[sources.place]
                effects[:, number] += self._meet(sources, gradient)[:, 0] / max(1, self.n_steps)
            self.tracer.advance(len(sources))
        return effects

    def _differentiate(self, sources: Sources, target: int, slots: Tensor, features: Tensor) -> Tensor:
        """[source target] What each source writes, times the gradient of each target there."""
        tracer, level = self.tracer, self.tracer.levels[target]
        weights = sources.vectors.new_zeros(len(sources), len(slots))
        if not len(slots):
            return weights
        for changes in self._way(sources):
            with torch.enable_grad():
                recorded = tracer.run.record({sources.place, level.read}, changes, Differentiating)
                read = read_at(recorded[level.read], level.read, tracer.positions[None])[0, 0].flatten(1)
                active = level.dictionary.encode(read)[slots, features]
                for own in torch.split(torch.arange(len(active)), self._n_at_once):
                    gradients = torch.autograd.grad(
                        active,
                        recorded[sources.place],
                        torch.eye(len(active))[own].to(active),
                        is_grads_batched=True,
                        retain_graph=True,
                        allow_unused=True,
                        materialize_grads=True,
                    )[0]
                    weights[:, own] += self._meet(sources, gradients[:, 0]) / max(1, self.n_steps)
        return weights

    @property
    def _n_at_once(self) -> int:
        """How many targets fit into the memory: each has gradients of its own at all positions of a block."""
        config, n_tokens = self.tracer.model.config, self.tracer.run.tokens.ids.shape[1]
        numbers = n_tokens * (4 * config.d_mlp + config.n_heads * n_tokens)
        return max(1, min(_AT_ONCE, self.tracer.budget // 16 // (4 * numbers)))

    def _meet(self, sources: Sources, gradients: Tensor) -> Float[Tensor, "source target"]:
        """What each source writes, times the gradient `[target pos ...]` of each target there."""
        rows = gradients[:, self.tracer.positions].flatten(2).to(sources.vectors)
        met = rows.new_zeros(len(sources), len(rows))
        for slot in set(sources.slots.tolist()):
            own = sources.slots == slot
            met[own] = sources.vectors[own] @ rows[:, slot].T
        return met

    def _way(self, sources: Sources) -> Iterator[list[Change]]:
        """Where gradients are taken: some part of all sources taken off."""
        if not self.n_steps:
            yield []
            return
        positions, value = self.tracer.positions, self.tracer.run.raw(sources.place)
        written = torch.zeros(len(positions), sources.vectors.shape[1]).to(sources.vectors)
        written.index_add_(0, sources.slots, sources.vectors)
        shift = written.to(value).view(1, len(positions), *value.shape[2:])
        for step in range(self.n_steps):
            part = (step + 0.5) / self.n_steps - 1
            yield [Change(sources.place, positions[None], shift=part * shift)]


def compare(estimated: Edges, exact: Edges, stands_for: Float[Tensor, " source"]) -> dict[str, float | None]:
    """How far estimated edges of a sample of sources are off.

    Args:
      estimated: Of some sources.
      exact: Of the same.
      stands_for: How many of all sources each of the sample does, so that what is said is of all.
    Returns:
      rank_correlation: Spearman's, over all edges that either has.
      sign_agreement: Share of the exact edges whose sign is right.
      error: Summed size of the differences, as a share of the summed size of the exact weights.
      Each is None where there are too few edges for it.
    """

    def frame(edges: Edges) -> "pd.Series[float]":
        columns = [edges.sources, edges.levels, edges.slots, edges.features]
        return pd.Series(edges.weights.double().tolist(), pd.MultiIndex.from_arrays([one.numpy() for one in columns]))

    both = pd.DataFrame({"estimated": frame(estimated), "exact": frame(exact)}).fillna(0.0)
    share = stands_for.double().numpy()[both.index.get_level_values(0)]
    sizes, right = both["exact"].abs(), both["estimated"] * both["exact"] > 0
    missed = (both["estimated"] - both["exact"]).abs()
    covariance = np.cov(both.rank(), rowvar=False, aweights=share) if len(both) > 1 else np.zeros((2, 2))
    spread = np.sqrt(covariance[0, 0] * covariance[1, 1])
    n, total = float((sizes > 0) @ share), float(sizes @ share)
    return {
        "rank_correlation": float(covariance[0, 1] / spread) if spread else None,
        "sign_agreement": float(right @ share) / n if n else None,
        "error": float(missed @ share) / total if total else None,
    }
