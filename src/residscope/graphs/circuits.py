"""Circuits: what a model says when only some features, and some errors of dictionaries, are left to it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from residscope.errors import BadArgument, count
from residscope.graphs.levels import ERROR, Level, Sources, read_stream
from residscope.graphs.tracer import Tracer
from residscope.running.edits import Edit, apply
from residscope.running.metrics import Metric
from residscope.running.model import Model
from residscope.running.progress import report
from residscope.running.run import Run
from residscope.running.texts import Texts
from residscope.transformer.tokens import Tokens

Errors = Literal["node", "remove", "keep"]
With = Literal["zero", "mean", "resample"]
Fill = Float[Tensor, "pos feature"]

_COPIES = 64  # of a text that are run at once


def choose_fill(
    model: Model, levels: Sequence[Level], tracer: Tracer, with_: With, over: Texts | None
) -> list[Tensor] | None:
    """What stands in the place of features that are ablated, `[pos feature]` of each level; None is zero.

    Args:
      model: Of the graph.
      levels: Its dictionaries.
      tracer: Of its prompt.
      with_: "mean" over all tokens of some texts but their first; "resample" takes another prompt's.
      over: Those texts, or that prompt.
    Raises:
      BadArgument: They are missing, or not needed, or the prompt has not the positions.
    """
    if with_ not in ("zero", "mean", "resample"):
        raise BadArgument(f"with_={with_!r} was asked for.", 'Choose "zero", "mean" or "resample".')
    if (over is None) != (with_ == "zero"):
        raise BadArgument(
            f"with_={with_!r} was asked for, and over={over!r}.", "Give over for mean and resample, and only for them."
        )
    if over is None:
        return None
    if with_ == "resample":
        run = model.run(over)
        at = place_in(tracer, run.tokens)
        return [level.dictionary.encode(read_stream(run, level.read, at)) for level in levels]
    sums = [torch.zeros(level.dictionary.n_features, dtype=torch.float64) for level in levels]
    n_tokens = 0
    for tokens in model.corpus(over).batches("measuring"):
        run = model.run(tokens, keep=[level.read for level in levels])
        counted = tokens.mask.clone()
        counted[:, 0] = False
        n_tokens += int(counted.sum())
        for total, level in zip(sums, levels, strict=True):
            total += level.dictionary.encode(run.raw(level.read)[counted].flatten(1)).double().sum(0).cpu()
    if not n_tokens:
        raise BadArgument("The texts to take means over have no second token.", "Give longer ones.")
    return [(total / n_tokens).to(level.dictionary.decoder)[None] for total, level in zip(sums, levels, strict=True)]


def place_in(tracer: Tracer, tokens: Tokens) -> Int[Tensor, " pos"]:
    """Where the graph's positions are in another text: the last of each where the graph is of the last.

    Raises:
      BadArgument: There is not one text, or it has another number of tokens and the graph is of several positions.
    """
    own, other = int(tracer.run.tokens.n_tokens[0]), int(tokens.n_tokens[0])
    if len(tokens.ids) != 1:
        raise BadArgument(f"{len(tokens.ids)} prompts were given where one stands for another.", "Give one.")
    if tracer.positions.tolist() == [own - 1]:
        return torch.tensor([other - 1])
    if own != other:
        raise BadArgument(
            f"A text has {count(other, 'token')}, and the graph is of positions {tracer.positions.tolist()} of {own}.",
            "Give texts of as many tokens, or a graph of the last position.",
        )
    return tracer.positions


class Circuits:
    """Many circuits of one graph, measured.

    A circuit is what is left of all active nodes. Each layer encodes the stream that is left anew; features that are
    not in the circuit are replaced, and errors are put back where the circuit has them.

    Args:
      tracer: Of the prompt.
      sources: What is active, of each level.
      metric: With one number for each text.
      errors: "node": an error is a node, and removed where the circuit has it not; "remove"; "keep": of the text's own
        run, whatever is ablated.
      fill: What ablated features are; None is zero.
      texts: The mean over these is taken first; None is the prompt.
    """

    def __init__(
        self,
        tracer: Tracer,
        sources: Mapping[int, Sources],
        metric: Metric,
        errors: Errors,
        fill: Sequence[Tensor] | None,
        texts: Texts | None,
    ) -> None:
        self.tracer, self.model, self.metric, self.errors, self.fill = tracer, tracer.model, metric, errors, fill
        nodes, effects, activations = [], [], []
        for level, one in sources.items():
            nodes.append(torch.stack((torch.full_like(one.slots, level), one.slots, one.features), dim=1).cpu())
            effects.append(tracer.measure(one, [metric])[:, 0].cpu())
            activations.append(one.activations.cpu())
        order = torch.cat(activations).argsort(stable=True)
        for column in (1, 0):
            order = order[torch.cat(nodes)[order, column].argsort(stable=True)]
        self.nodes = torch.cat(nodes)[order]  # by level, position and activation
        self.effects = torch.cat(effects)[order]
        given = tracer.run.tokens if texts is None else self.model.tokenize(texts)
        self.texts = [self.model.tokenize([ids]) for ids in given.lists()]
        self._find_ends()

    def _find_ends(self) -> None:
        """The metric of the whole model, of nothing, and the ceiling's; effects then count towards the whole."""
        features = self.nodes[:, 2] != ERROR
        bare = torch.tensor([False, True])  # the ceiling has no errors, even where they are kept
        empty, best = self._mean(torch.stack((features & False, features)), bare, bare).tolist()
        whole = [float(self.metric(self._run(tokens))[0]) for tokens in self.texts]
        self._empty, self._gap = empty, sum(whole) / len(whole) - empty
        if not abs(self._gap) > 1e-6 * max(1.0, abs(empty)):
            raise BadArgument(
                f"{self.metric!r} is {empty:.4g} of nothing of the model, and no other of the whole.",
                "Take a metric that tells them apart.",
            )
        self.ceiling = (best - empty) / self._gap
        self.effects = self.effects if self._gap > 0 else -self.effects

    def measure(self, kept: Bool[Tensor, "circuit node"], rest: Bool[Tensor, " circuit"]) -> Float[Tensor, " circuit"]:
        """Faithfulness of circuits.

        Args:
          kept: Which nodes each has.
          rest: Whether it has what is not active in the prompt, too.
        """
        means = self._mean(kept, rest, torch.zeros_like(rest))
        found: Tensor = (means - self._empty) / self._gap
        return found

    def _mean(self, kept: Tensor, rest: Tensor, bare: Tensor) -> Float[Tensor, " circuit"]:
        """The metric of every circuit, mean over the texts."""
        found = []
        for number, tokens in enumerate(self.texts):
            report(number, len(self.texts), "running circuits")
            found.append(self._measure_text(self._run(tokens), kept, rest, bare))
        report(len(self.texts), len(self.texts), "running circuits")
        mean: Tensor = torch.stack(found).mean(0)
        return mean

    def _run(self, tokens: Tokens) -> Run:
        return self.model.run(tokens, keep=[place for one in self.tracer.levels for place in (one.read, one.written)])

    def _measure_text(self, run: Run, kept: Tensor, rest: Tensor, bare: Tensor) -> Float[Tensor, " circuit"]:
        at, found = place_in(self.tracer, run.tokens), []
        for part in torch.split(torch.arange(len(rest)), self._n_at_once(run)):
            ids = run.tokens.ids.expand(len(part), -1)
            edits = list(self._edit(run, at, kept[part], rest[part], bare[part]))
            found.append(self.metric(self.model.run(ids, edits=edits)).double().cpu())
        return torch.cat(found)

    def _n_at_once(self, run: Run) -> int:
        config, n_wide = self.model.config, max(level.dictionary.n_features for level in self.tracer.levels)
        numbers = (
            run.tokens.ids.shape[1] * (config.d_vocab + 4 * config.d_mlp) + 8 * len(self.tracer.positions) * n_wide
        )
        return max(1, min(_COPIES, self.tracer.budget // (8 * numbers)))

    def _edit(self, run: Run, at: Int[Tensor, " pos"], kept: Tensor, rest: Tensor, bare: Tensor) -> Iterator[Edit]:
        for number, level in enumerate(self.tracer.levels):
            own = self.nodes[:, 0] == number
            of_level = _OfLevel(self, number, run, at, self.nodes[own], kept[:, own], rest, bare)
            if level.read != level.written:
                yield apply(level.read, of_level.see)
            yield apply(level.written, of_level.change)


class _OfLevel:
    """What circuits leave at one dictionary."""

    def __init__(
        self,
        circuits: Circuits,
        number: int,
        run: Run,
        at: Int[Tensor, " pos"],
        nodes: Int[Tensor, "n 3"],
        kept: Bool[Tensor, "circuit n"],
        rest: Bool[Tensor, " circuit"],
        bare: Bool[Tensor, " circuit"],
    ) -> None:
        level = circuits.tracer.levels[number]
        self.dictionary, self.at, self.errors = level.dictionary, at, circuits.errors
        self.seen: Tensor | None = None
        self.fill = None if circuits.fill is None else circuits.fill[number]
        n_circuits, device = len(rest), self.dictionary.decoder.device
        is_error = nodes[:, 2] == ERROR
        features, errors = nodes[~is_error], nodes[is_error]
        stays = rest[:, None, None].repeat(1, len(at), self.dictionary.n_features)
        stays[:, features[:, 1], features[:, 2]] = kept[:, ~is_error]
        puts_back = torch.zeros(n_circuits, len(at), dtype=torch.bool)
        puts_back[:, errors[:, 1]] = kept[:, is_error]
        if self.errors == "keep":
            puts_back = (~bare)[:, None].expand(-1, len(at))
            x, target = (read_stream(run, place, at) for place in (level.read, level.written))
            self.error = target - self.dictionary.reconstruct(x).reshape(target.shape).to(target)
        self.stays, self.puts_back = stays.to(device), puts_back.to(device)

    def see(self, x: Tensor) -> Tensor:
        """What the dictionary reads, where it writes elsewhere."""
        self.seen = x
        return x

    def change(self, x: Tensor) -> Tensor:
        """What the circuits leave of what the dictionary writes."""
        read = (x if self.seen is None else self.seen)[:, self.at].flatten(2)
        features = self.dictionary.encode(read)
        fill: Any = 0.0 if self.fill is None else self.fill
        written = self.dictionary.decode(torch.where(self.stays, features, fill), of=read)
        if self.errors == "keep":
            error = self.error
        else:
            error = x[:, self.at].flatten(2) - self.dictionary.decode(features, of=read)
        written = (written + error * self.puts_back[..., None]).to(x)
        x = x.clone()
        x[:, self.at] = written.reshape(x[:, self.at].shape)
        return x
