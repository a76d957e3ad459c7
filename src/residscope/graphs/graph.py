"""A causal graph: features of a prompt as nodes, and what ablating each does to later ones as edges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs import file, marks
from residscope.graphs.circuits import Errors, With
from residscope.graphs.edges import find_largest
from residscope.graphs.evaluation import Evaluation, evaluate
from residscope.graphs.influence import check_linear, find_influential, start_at
from residscope.graphs.levels import ERROR, TOKEN, Dictionaries, Node, check_node, find_level
from residscope.graphs.merging import merge
from residscope.results.result import Result, write_file
from residscope.running.arguments import read_choice, read_share
from residscope.running.metrics import Metric
from residscope.running.model import Model
from residscope.running.texts import Texts

Paths = Literal["any", "long"]


@dataclass(frozen=True, eq=False, repr=False)
class Graph(Result):
    """Features of one prompt, and what each changes in later ones.

    Attributes:
      values: [edge] The target's activation less the same with the source ablated.
      before: [edge] The same of what the target's activation is made of, before its threshold or competition.
      sources, targets: [edge] Numbers of nodes.
      levels: [node] Which dictionary; -1 for a token.
      features: [node] -1 for what a dictionary leaves unexplained; of a token its id.
      pos: [node] Positions in the prompt.
      activations: [node] In the prompt; of an error or a token its length.
      effects: [node output] What of each output the node is the cause of: it less the same with the node ablated.
      parts: [edge part] How `before` comes about, where that was asked for.
      dictionaries: Of each level: its layer, sites, name, where it can be loaded, and its pages at Neuronpedia.
      outputs: Names of what `effects` are on.
      part_names: Of the axis `part`.
      pieces: The prompt's tokens, as shown.
      token_ids: The same as numbers.
      positions: Those that were looked at.
      total: Summed size of all weights that were measured, those of edges left out among them.
      measured: The same of each source, by level, feature and position as "3.17@7"; level and feature as in the arrays.
      marks: What people put on it with `mark`, or on the page.
    """

    values: Float[Tensor, " edge"]
    before: Float[Tensor, " edge"]
    sources: Int[Tensor, " edge"]
    targets: Int[Tensor, " edge"]
    levels: Int[Tensor, " node"]
    features: Int[Tensor, " node"]
    pos: Int[Tensor, " node"]
    activations: Float[Tensor, " node"]
    effects: Float[Tensor, "node output"]
    parts: Float[Tensor, "edge part"]
    dictionaries: Sequence[Mapping[str, Any]]
    outputs: Sequence[str]
    part_names: Sequence[str]
    pieces: Sequence[str]
    token_ids: Sequence[int]
    positions: Sequence[int]
    total: float
    measured: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, Any] = field(default_factory=dict)

    axes: ClassVar[tuple[str, ...]] = ("edge",)
    view: ClassVar[str | None] = "graph"

    @property
    def share(self) -> float:
        """Of the summed size of all measured weights, what the edges have."""
        return float(self.values.abs().sum()) / self.total if self.total else 1.0

    @property
    def layers(self) -> Int[Tensor, " node"]:
        """[node] As people count; -1 for a token."""
        layers = torch.tensor([*(one["layer"] for one in self.dictionaries), TOKEN])
        return layers[self.levels]

    @property
    def is_feature(self) -> Bool[Tensor, " node"]:
        """[node] Whether it is neither a token nor an error."""
        return (self.levels != TOKEN) & (self.features != ERROR)

    def describe(self, node: int) -> str:
        """A node as people write it: `5.10603@7`, `5.error@7`, `token 7`.

        Where a layer has several dictionaries, `mlp_out.5.10603@7`.
        """
        if self.levels[node] == TOKEN:
            pos = int(self.pos[node])
            return f"token {pos} {self.pieces[pos]!r}"
        return marks.name_node(self, node)

    def find(self, layer: int | str, feature: int, pos: int) -> int:
        """The number of a node.

        Args:
          layer: Where a layer has several dictionaries, the site that one reads.
          feature: Its number.
          pos: From the end where it is below zero.
        Raises:
          BadArgument: The graph has none such, or a layer has several dictionaries.
        """
        pos = pos + len(self.pieces) if pos < 0 else pos
        found = (self.levels == find_level(self.dictionaries, layer)) & (self.features == feature) & (self.pos == pos)
        if not bool(found.any()):
            raise BadArgument(
                f"The graph has no node {layer}.{feature}@{pos}.", f"It has {len(found)}; see graph.nodes()."
            )
        return int(found.nonzero()[0])

    def nodes(self) -> pd.DataFrame:
        """One row a node: layer, site, feature, pos, kind, token, activation, and the effects on outputs."""
        kind = np.where(self.levels == TOKEN, "token", np.where(self.features == ERROR, "error", "feature"))
        sites = [*(one["site"] for one in self.dictionaries), "embed"]  # the last is of tokens, whose level is -1
        frame = {
            "layer": self.layers.numpy(),
            "site": [sites[level] for level in self.levels.tolist()],
            "feature": self.features.numpy(),
            "pos": self.pos.numpy(),
            "kind": kind,
            "token": [self.pieces[pos] for pos in self.pos.tolist()],
            "activation": self.activations.double().numpy(),
        }
        return pd.DataFrame(frame | dict(zip(self.outputs, self.effects.double().numpy().T, strict=True)))

    def to_frame(self) -> pd.DataFrame:
        """One row an edge: layer, feature, pos, target_layer, target_feature, target_pos, before, parts, value."""
        nodes = self.nodes()
        columns: dict[str, Any] = {}
        for prefix, ends in (("", self.sources), ("target_", self.targets)):
            for name in ("layer", "feature", "pos"):
                columns[prefix + name] = nodes[name].to_numpy()[ends.numpy()]
        columns["before"] = self.before.double().numpy()
        columns |= dict(zip(self.part_names, self.parts.double().numpy().T, strict=True))
        return pd.DataFrame({**columns, "value": self.values.double().numpy()})

    def prune(
        self,
        edges: float = 1.0,
        *,
        by: Literal["weight", "influence"] = "weight",
        nodes: float = 1.0,
        paths: Paths = "any",
        output: Node | str | None = None,
        pinned: Sequence[Node] = (),
    ) -> "Graph":
        """The strongest edges, and of them those on some paths.

        Args:
          edges: The share of the summed size of this graph's weights that stays, of the largest; or of the summed
            influence of edges.
          by: "influence" is what an edge or a node has to do with the output: weights without their signs, as shares of
            all that leads to the same target, multiplied along every path to the output and summed. Only of graphs to
            first order, whose weights multiply.
          nodes: By influence: first the fewest nodes are taken that have this share of its sum; tokens stay.
          paths: "long" keeps edges on paths longer than one edge.
          output: Layer, feature and position of a node: only edges on paths that lead there stay. By influence also the
            name of one of `outputs`; None is all of these, alike.
          pinned: Nodes that stay, with the edges between them, whatever else is asked for; those that are marked as
            pinned do, too.
        Returns:
          With the nodes that have an edge left, the output, and what is pinned.
        Raises:
          BadArgument: No share was given, there is no such node, output or word, or influence is asked of a graph that
            is measured, integrated along a way, or of total effects.
        Holds:
          The edges that stay before paths are looked at are the fewest that have the share; influence is the sum of
          the powers of the matrix of shares.
        Source: Influence: Ameisen et al., "Circuit Tracing" (2025), as circuit-tracer computes it.
        """
        edges, nodes = read_share("edges", edges), read_share("nodes", nodes)
        if read_choice("by", by, ("weight", "influence")) == "weight" and (nodes != 1 or isinstance(output, str)):
            raise BadArgument(
                f"nodes={nodes!r} and output={output!r} were asked for by weight.",
                'Give a node for the output, and no nodes, or by="influence".',
            )
        target = None if output is None or isinstance(output, str) else self.find(*check_node(output))
        marked = {*self.marks.get("pinned", ())}
        held = torch.tensor([name in marked for name in marks.name_nodes(self)], dtype=torch.bool)
        held[[self.find(*check_node(node)) for node in pinned]] = True
        if by == "influence":
            check_linear(self)
            start = start_at(self, target, output if isinstance(output, str) else None)
            keep = find_influential(self, nodes, edges, start, held | (start == 1))
        else:
            keep = find_largest(self.values, edges) if edges < 1 else torch.ones(len(self.values), dtype=torch.bool)
        keep = find_paths(self.sources, self.targets, keep, len(self.levels), paths, target)
        keep |= held[self.sources] & held[self.targets]
        given = {"edges": edges, "by": by, "nodes": nodes, "paths": paths, "output": output, "pinned": list(pinned)}
        defaults = {"by": "weight", "nodes": 1.0, "paths": "any", "output": None, "pinned": []}
        said = ", ".join(f"{name}={value!r}" for name, value in given.items() if value != defaults.get(name))
        left = [*held.nonzero()[:, 0].tolist(), *([] if target is None else [target])]
        return self.take(keep, left, f"graph = graph.prune({said})")

    def take(self, keep: Bool[Tensor, " edge"], nodes: Sequence[int] = (), python: str = "") -> "Graph":
        """Some of the edges, with the nodes that they join."""
        used = torch.zeros(len(self.levels), dtype=torch.bool)
        used[torch.cat((self.sources[keep], self.targets[keep], torch.tensor(nodes, dtype=torch.long)))] = True
        number = used.cumsum(0) - 1
        some = {name: getattr(self, name)[used] for name in ("levels", "features", "pos", "activations", "effects")}
        some |= {name: getattr(self, name)[keep] for name in ("values", "before", "parts")}
        small = replace(
            self,
            sources=number[self.sources[keep]],
            targets=number[self.targets[keep]],
            python=[*self.python, python] if python else self.python,
            **some,
        )
        return replace(small, settings={**small.settings, "n_edges": len(small.values), "share": small.share})

    def merge(self, other: "Graph") -> "Graph":
        """This graph and another of the same prompt as one.

        Args:
          other: Of the same prompt, model, dictionaries and outputs, measured alike; of any positions and edges.
        Returns:
          The nodes and edges of either. `total` counts every source that was measured for either once, so that `share`
          is of all that was measured.
        Raises:
          BadArgument: They are of another kind, or say different weights of an edge that both have.
        Holds:
          A graph cut in two and merged again is the graph; in whichever order two are merged, nodes and edges are the
          same.
        """
        return merge(self, other)

    def mark(
        self,
        *,
        keep: float | None = None,
        pinned: Sequence[str] | None = None,
        names: Mapping[str, str] | None = None,
        notes: Mapping[str, str] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        folded: Sequence[int] | None = None,
        look: Mapping[str, Any] | None = None,
    ) -> "Graph":
        """With marks that its picture shows and its files keep. What is None stays as it is.

        Args:
          keep: The share of the summed size of weights that is shown, as `prune` takes it.
          pinned: Nodes, as `5.10603@7`, `5.error@7` or `token@7`.
          names: What nodes are called besides.
          notes: What is written on them.
          groups: Nodes that are shown as one; a node is in one at most.
          folded: Layers of which all nodes are shown as one.
          look: How its picture stands at first, where that is not as usual: layers `across` "rows" or "columns"; the
            `sign` that is blue, of "source" or "ablation"; `paths` as `prune` takes them; which `output`'s effects mark
            cards, as many as there are for none; what is `picked`, a node, `group:name` or `layer:2`; and the `limit`
            of colours.
        Raises:
          BadArgument: There is no such node, layer or look, or a node is in two groups.
        """
        given = {"keep": keep, "pinned": pinned, "names": names, "notes": notes, "groups": groups, "folded": folded}
        given |= {"look": look}
        return marks.put(self, {name: value for name, value in given.items() if value is not None})

    def evaluate(
        self,
        model: Model,
        dictionaries: Dictionaries,
        *,
        metric: Metric | None = None,
        with_: With = "zero",
        over: Texts | None = None,
        errors: Errors = "node",
        texts: Texts | None = None,
        n_groups: int = 48,
        n_random: int = 5,
        seed: int = 0,
        memory_bytes: int | None = None,
    ) -> Evaluation:
        """Try the graph: ablate sources together, and let the model run on its nodes alone.

        Args:
          model: That the graph was made with.
          dictionaries: The same.
          metric: With one number; None is the log probability of the prompt's most probable next token.
          with_: What ablated features become: "zero", "mean", or with "resample" another prompt's.
          over: The texts of that mean, or that prompt.
          errors: "node": what a dictionary leaves unexplained is a node, removed where a circuit has it not; "remove":
            it is always; "keep": the prompt's own stays, which carries its answer.
          texts: Over which circuits are measured; None is the prompt. Of the graph of a last position, any; else of as
            many tokens.
          n_groups: How many pairs and groups of sources are ablated together, where two stand in one layer.
          n_random: Draws of random nodes of the same layers, positions and about the same activations.
          seed: Of all draws.
          memory_bytes: As in `model.sweep`.
        Raises:
          BadArgument: The graph is of another model or other dictionaries, or the metric does not tell the model from
            nothing.
          BadMetric: The metric gives several numbers.
        Holds:
          Of all nodes, errors among them, faithfulness is 1; circuits equal runs that are edited layer by layer.
        Source: Faithfulness and completeness: Marks et al., "Sparse Feature Circuits" (2024); CPR and CMD: Mueller et
          al., "MIB" (2025).
        """
        return evaluate(
            self,
            model,
            dictionaries,
            metric=metric,
            with_=with_,
            over=over,
            errors=errors,
            texts=texts,
            n_groups=n_groups,
            n_random=n_random,
            seed=seed,
            memory_bytes=memory_bytes,
        )

    def save(self, path: str | Path) -> None:
        """Write the graph to a file that `rs.open` reads: our own JSON where its name ends in .json.

        Raises:
          BadArgument: The name is of a format that other methods or the page write, or the file cannot be written.
        """
        others = {".dot": "to_dot()", ".csv": "to_csv()", ".html": "save_html(path)"}
        others |= dict.fromkeys((".svg", ".png"), "the buttons of its picture")
        if other := others.get(Path(path).suffix):
            raise BadArgument(f"A graph was to be saved as {Path(path).name}.", f"Use {other}; save writes .json.")
        if Path(path).suffix == ".json":
            write_file(path, self.to_file().encode())
        else:
            super().save(path)

    def to_file(self) -> str:
        """Our own JSON, which `rs.open` reads from a file."""
        return file.write(self)

    def to_dot(self) -> str:
        """For Graphviz: blue edges raise their targets, red ones lower them, wide ones are strong."""
        return file.write_dot(self)

    def to_csv(self) -> str:
        """`to_frame` as text."""
        text: str = self.to_frame().to_csv(index=False)
        return text

    def to_attribution_graph(self, slug: str, scan: str) -> dict[str, Any]:
        """As JSON that Neuronpedia and circuit-tracer read.

        Args:
          slug: Its name there: letters, digits, `_`, `.` and `-`.
          scan: The model's name there, as gpt2-small.
        Raises:
          BadArgument: A name has other characters.
        """
        return file.make_attribution_graph(self, slug, scan)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Graph":
        """The graph that `save` wrote as JSON.

        Raises:
          BadResult: It is none, or of a version that is not known.
        """
        return cls(**file.read(data))

    def __repr__(self) -> str:
        skipped = self.settings.get("skipped")
        gap = f", no dictionary of {', '.join(skipped)}" if skipped else ""
        error = self.settings.get("error") or {}
        estimated = f", estimated with an error of {error['error']:.1%}" if error.get("error") is not None else ""
        elsewhere = self.settings.get("from_elsewhere")
        against = ", and the rest works against it" if elsewhere and elsewhere > 1 else ""
        said = f", {elsewhere or 0:.1%} of the stream's change comes from positions not shown{against}"
        unseen = said if elsewhere else ""
        misfits = self.settings.get("misfits")
        wrong = f". DOES NOT FIT: {' '.join(misfits)}" if misfits else ""
        kept = f"with {self.share:.1%} of the whole effect" if self.total else "and nothing was measured"
        counted = f"{len(self.levels)} nodes, {len(self.values)} edges {kept}"
        return f"Graph({self.name}: {counted}{unseen}{gap}{estimated}{wrong})"


def find_paths(
    sources: Int[Tensor, " edge"],
    targets: Int[Tensor, " edge"],
    keep: Bool[Tensor, " edge"],
    n_nodes: int,
    paths: Paths,
    output: int | None,
) -> Bool[Tensor, " edge"]:
    """Edges on paths longer than one edge, and on paths to a node, along edges that are kept.

    Raises:
      BadArgument: Paths of no known word.
    """
    if paths not in ("any", "long"):
        raise BadArgument(f"paths={paths!r} was asked for.", 'Choose "any" or "long".')
    if output is not None:
        leads = torch.zeros(n_nodes, dtype=torch.bool)
        leads[output] = True
        while True:
            more = leads.clone()
            more[sources[keep & leads[targets]]] = True
            if torch.equal(more, leads):
                break
            leads = more
        keep = keep & leads[targets]
    if paths == "long":
        reached, leaving = (torch.zeros(n_nodes, dtype=torch.bool) for _ in range(2))
        reached[targets[keep]] = True
        leaving[sources[keep]] = True
        keep = keep & (reached[sources] | leaving[targets])
    return keep
