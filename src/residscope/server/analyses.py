"""What the pages Lens, Patch, Heads and Graph ask for: a request is one call of an analysis, its answer the result."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from residscope.analyses.attention import attention
from residscope.analyses.head_scores import head_scores
from residscope.analyses.lens_vocabulary import lens_vocabulary
from residscope.analyses.logit_lens import logit_lens
from residscope.analyses.patching import patch
from residscope.analyses.singular import singular_vectors
from residscope.cards.direction import explain
from residscope.cards.feature import explain_feature
from residscope.demo.tasks import pairs as task_pairs
from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.direction import Direction
from residscope.directions.causal_check import causal_check
from residscope.directions.steering import steer
from residscope.errors import BadArgument
from residscope.graphs.causal_graph import causal_graph
from residscope.graphs.feature_life import feature_life
from residscope.graphs.graph import Graph
from residscope.graphs.growth import grow_graph
from residscope.graphs.intervention import intervene
from residscope.results.result import Result
from residscope.running.metrics import Metric, logit, logit_difference
from residscope.running.pairs import Pairs
from residscope.running.pairs import pairs as make_pairs
from residscope.server.directions import Along, Number, Texts, Whole
from residscope.server.workbench import Workbench


def _read_where(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Positions; one sentence says what they may be, not one for words and another for numbers."""
    try:
        return read(value)
    except ValidationError:
        raise PydanticCustomError("positions", "are none") from None


Where = Annotated[
    Literal["last", "all"] | Annotated[tuple[StrictInt, ...], Field(max_length=1000)], WrapValidator(_read_where)
]


class Analysis(BaseModel, ABC):
    """A request. Two of the same words are one.

    Attributes:
      kept: Whether it is long by nature, and kept as a run of who asks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kept: ClassVar[bool] = False

    @abstractmethod
    def compute(self, bench: Workbench) -> Result:
        """The result, of the workbench's model."""


class Lens(Analysis):
    """`rs.logit_lens` of one text; `chosen` is the token that values are of, in place of `target`."""

    text: str
    norm: Literal["own", "final"] = "own"
    value: Literal["prob", "logit", "rank", "entropy", "kl"] = "prob"
    target: Literal["own", "final", "next"] = "own"
    chosen: str | None = None
    sub_blocks: bool = False
    top: Annotated[StrictInt, Field(ge=1, le=100)] = 10

    def compute(self, bench: Workbench) -> Result:
        target = self.target if self.chosen is None else bench.model.single_token(self.chosen)
        return logit_lens(
            bench.run([self.text]),
            norm=self.norm,
            value=self.value,
            target=target,
            sub_blocks=self.sub_blocks,
            top=min(self.top, bench.model.config.d_vocab),
        )


class Role(BaseModel):
    """A name, and a position or a word in the clean prompt, and in the corrupted one where it is another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    clean: StrictInt | str
    corrupted: StrictInt | str | None = None


class Patch(Analysis):
    """`rs.patch` of one pair of prompts with its answers and roles, or of so many of a task of the bundled model."""

    kept = True

    clean: str = ""
    corrupted: str = ""
    correct: str = ""
    wrong: str = ""
    roles: Annotated[tuple[Role, ...], Field(max_length=64)] = ()
    task: str | None = None
    n: Annotated[StrictInt, Field(ge=1, le=1000)] = 20
    site: str = "resid_pre"
    direction: Literal["denoise", "noise"] = "denoise"

    def compute(self, bench: Workbench) -> Result:
        pairs = self._pairs()
        if self.task is None:
            bench.tokenize([self.clean, self.corrupted])
        return patch(bench.model, pairs, site=self.site, pos=[*pairs.roles] or None, direction=self.direction)

    def _pairs(self) -> Pairs:
        if self.task is not None:
            return task_pairs(self.task, self.n)
        roles = {role.name: (role.clean, role.corrupted) for role in self.roles}
        return make_pairs([{**roles, **self.model_dump(include={"clean", "corrupted", "correct", "wrong"})}])


class Heads(Analysis):
    """`rs.head_scores`."""

    kept = True

    n_sequences: Annotated[StrictInt, Field(ge=1, le=64)] = 8
    n_tokens: Annotated[StrictInt, Field(ge=2, le=512)] = 50
    seed: Whole = 0
    read: Literal["embed", "layer0"] = "embed"

    def compute(self, bench: Workbench) -> Result:
        return head_scores(
            bench.model, n_sequences=self.n_sequences, n_tokens=self.n_tokens, seed=self.seed, read=self.read
        )


class Cell(BaseModel):
    """A place in the logit lens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: str
    pos: Whole


class LensVocabulary(Analysis):
    """`rs.lens_vocabulary`: the whole vocabulary of a cell of the logit lens, and its change from another."""

    text: str
    cell: Cell
    minus: Cell | None = None
    norm: Literal["own", "final"] = "own"

    def compute(self, bench: Workbench) -> Result:
        minus = None if self.minus is None else (self.minus.site, self.minus.pos)
        run = bench.run([self.text])
        return lens_vocabulary(run, self.cell.site, self.cell.pos, norm=self.norm, minus=minus)


class Attention(Analysis):
    """`rs.attention` of one text: some heads, each its layer and number, or a layer's, or all."""

    text: str
    layer: Whole | None = None
    heads: Annotated[tuple[tuple[Whole, Whole], ...], Field(min_length=1, max_length=1000)] | None = None
    value_weighted: bool = False

    def compute(self, bench: Workbench) -> Result:
        run = bench.run([self.text])
        return attention(run, layer=self.layer, heads=self.heads, value_weighted=self.value_weighted)


class SingularVectors(Analysis):
    """`rs.singular_vectors` of a matrix of a layer, or of a head."""

    matrix: Literal["OV", "QK", "W_in", "W_gate", "W_out"] = "OV"
    layer: Whole
    head: Whole | None = None
    n: Annotated[StrictInt, Field(ge=1, le=100)] = 5
    top: Annotated[StrictInt, Field(ge=1, le=100)] = 10

    def compute(self, bench: Workbench) -> Result:
        return singular_vectors(bench.model, self.matrix, layer=self.layer, head=self.head, n=self.n, top=self.top)


class Explain(Analysis):
    """`rs.explain` of a direction, on the sample texts."""

    site: str
    along: Along
    top: Annotated[StrictInt, Field(ge=1, le=100)] = 10
    n_contexts: Annotated[StrictInt, Field(ge=0, le=100)] = 5

    def compute(self, bench: Workbench) -> Result:
        place = bench.place(self.site)
        near = bench.list_near(place, self.along, self.top)
        direction = bench.find(place, self.along)
        return explain(bench.model, direction, bench.path, top=self.top, n_contexts=self.n_contexts, near=near)


class Check(Analysis):
    """`rs.causal_check` of a direction, on these texts, or on so many of the sample texts."""

    kept = True

    site: str
    along: Along
    texts: Annotated[Texts, Field(max_length=100)] | None = None
    n_texts: Annotated[StrictInt, Field(ge=1, le=100)] = 5
    strength: Annotated[float, Field(gt=0, le=1000)] = 2.0
    n_draws: Annotated[StrictInt, Field(ge=1, le=100)] = 20

    def compute(self, bench: Workbench) -> Result:
        direction = bench.find(bench.place(self.site), self.along)
        if self.texts is not None:
            bench.tokenize(self.texts)
        texts = bench.texts[: self.n_texts] if self.texts is None else list(self.texts)
        return causal_check(bench.model, direction, texts, strength=self.strength, n_draws=self.n_draws)


class Steer(Analysis):
    """`rs.steer` with a direction."""

    kept = True

    site: str
    along: Along
    prompt: str
    strength: FiniteFloat = 4.0
    unit: Literal["stream", "sd", "norm"] = "sd"
    on: Literal["prompt", "new", "both"] = "both"
    first: bool = False
    n_tokens: Annotated[StrictInt, Field(ge=1, le=1000)] = 40
    temperature: Annotated[FiniteFloat, Field(ge=0, le=100)] = 0.0
    seed: Whole = 0

    def compute(self, bench: Workbench) -> Result:
        direction = bench.find(bench.place(self.site), self.along)
        bench.tokenize([self.prompt])
        asked = self.model_dump(exclude={"site", "along", "prompt"})
        return steer(bench.model, direction, self.prompt, **asked)


class GraphLook(BaseModel):
    """How a graph's picture stands, as `Graph.mark` takes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    across: Literal["rows", "columns"] | None = None
    sign: Literal["source", "ablation"] | None = None
    paths: Literal["any", "long"] | None = None
    output: Whole | None = None
    picked: str | None = None
    limit: Annotated[FiniteFloat, Field(gt=0)] | None = None


class Marks(BaseModel):
    """What is put on a graph, as `Graph.mark` takes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep: FiniteFloat | None = None
    pinned: tuple[str, ...] | None = None
    names: dict[str, str] | None = None
    notes: dict[str, str] | None = None
    groups: dict[str, tuple[str, ...]] | None = None
    folded: tuple[StrictInt, ...] | None = None
    look: GraphLook | None = None


class ExplainFeature(Analysis):
    """`rs.explain_feature` of a feature of the dictionary of a site, on the sample texts."""

    site: str
    feature: Whole
    top: Annotated[StrictInt, Field(ge=1, le=100)] = 10
    n_contexts: Annotated[StrictInt, Field(ge=0, le=100)] = 8

    def compute(self, bench: Workbench) -> Result:
        [dictionary] = bench.list_dictionaries([self.site])
        saved = bench.list_saved_near(dictionary.direction(self.feature), self.top)
        near: list[Direction | SparseAutoencoder] = [dictionary, *saved]
        seen = bench.activations(self.site)
        asked = self.model_dump(include={"top", "n_contexts"})
        return explain_feature(bench.model, dictionary, self.feature, seen, near=near, **asked)


class Life(Analysis):
    """`rs.feature_life` of a feature of the dictionary of a site, in one text."""

    text: str
    site: str
    feature: Whole
    pos: StrictInt = -1

    def compute(self, bench: Workbench) -> Result:
        [dictionary] = bench.list_dictionaries([self.site])
        return feature_life(bench.run([self.text]), dictionary[self.feature], pos=self.pos)


_RULES = ("top", "threshold", "share", "influence")


class CausalGraph(Analysis):
    """`rs.causal_graph` of one text by the dictionaries of some sites, or of all that there are.

    Attributes:
      influence: In place of other rules: of all edges the share of influence on the output that is kept.
    """

    kept = True

    text: str
    sites: Annotated[tuple[str, ...], Field(max_length=1000)] | None = None
    positions: Where = "last"
    top: Number | None = None
    threshold: FiniteFloat | None = None
    share: FiniteFloat | None = None
    influence: FiniteFloat | None = None
    paths: Literal["any", "long"] = "long"
    later: bool = False
    errors: bool = False
    tokens: bool = False
    split: bool = False
    method: Literal["exact", "attribution"] = "exact"
    correct: str | None = None
    wrong: str | None = None
    marks: Marks = Marks()

    @model_validator(mode="after")
    def check_rule(self) -> "CausalGraph":
        """A rule that is named alone has a number; as a run is kept, all are named.

        Raises:
          BadArgument: It has none.
        """
        named = [name for name in _RULES if name in self.model_fields_set]
        if 0 < len(named) < len(_RULES) and all(getattr(self, name) is None for name in named):
            raise BadArgument(f"{named[0]}=None was asked for.", "Give a number, or leave it out.")
        return self

    def compute(self, bench: Workbench) -> Result:
        bench.tokenize([self.text])
        asked = self.model_dump(
            include={"top", "threshold", "share", "paths", "later", "errors", "tokens", "split", "method"}
        )
        positions = self.positions if isinstance(self.positions, str) else list(self.positions)
        found, outputs = bench.list_dictionaries(self.sites), _make_outputs(self.correct, self.wrong)
        if self.influence is not None:
            asked |= {"share": 1.0, "paths": "any"}
        graph = causal_graph(bench.model, self.text, found, positions, outputs=outputs, **asked)
        graph = graph if self.influence is None else graph.prune(self.influence, by="influence")
        return graph.mark(**self.marks.model_dump(exclude_none=True))


class EvaluateGraph(CausalGraph):
    """`Graph.evaluate` of that graph, of what its marks keep, over an output that is asked for.

    Attributes:
      shown: Which of the edges that are kept count, as `Graph.prune` takes it.
      with_: What ablated features become: "mean" is over the sample texts.
    """

    shown: Literal["any", "long"] = "any"
    with_: Literal["zero", "mean"] = "zero"

    def compute(self, bench: Workbench) -> Result:
        graph = super().compute(bench)
        assert isinstance(graph, Graph)
        outputs = _make_outputs(self.correct, self.wrong)
        return graph.prune(self.marks.keep or 1.0, paths=self.shown).evaluate(
            bench.model,
            bench.list_dictionaries(self.sites),
            metric=outputs[0] if outputs else None,
            with_=self.with_,
            over=bench.path if self.with_ == "mean" else None,
        )


class GrowGraph(Analysis):
    """`rs.grow_graph` from a node: layer, or the site that a dictionary reads; feature, position."""

    kept = True

    text: str
    node: tuple[StrictInt | str, StrictInt, StrictInt]
    sites: Annotated[tuple[str, ...], Field(max_length=1000)] | None = None
    positions: Where = "last"
    ways: Literal["both", "causes", "effects"] = "both"
    n_steps: Number | None = None
    top: Number = 5
    errors: bool = False
    tokens: bool = False
    correct: str | None = None
    wrong: str | None = None
    marks: Marks = Marks()

    def compute(self, bench: Workbench) -> Result:
        asked = self.model_dump(include={"ways", "n_steps", "top", "errors", "tokens"})
        positions = self.positions if isinstance(self.positions, str) else list(self.positions)
        bench.tokenize([self.text])
        found, outputs = bench.list_dictionaries(self.sites), _make_outputs(self.correct, self.wrong)
        graph = grow_graph(bench.model, self.text, found, self.node, positions, outputs=outputs, **asked)
        return graph.mark(**self.marks.model_dump(exclude_none=True))


class Intervene(Analysis):
    """`rs.intervene` on nodes of a graph of one text, by one of `scale` and `add`; `add` takes the place of `scale`."""

    text: str
    sites: Annotated[tuple[str, ...], Field(max_length=1000)] | None = None
    nodes: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    scale: FiniteFloat | None = None
    add: FiniteFloat | None = None
    correct: str | None = None
    wrong: str | None = None

    @model_validator(mode="after")
    def check_change(self) -> "Intervene":
        """What has no number does not ablate.

        Raises:
          BadArgument: Neither has one.
        """
        if self.scale is None and self.add is None:
            raise BadArgument("Neither scale nor add is a number.", "Give one; scale=0 ablates.")
        return self

    def compute(self, bench: Workbench) -> Result:
        bench.tokenize([self.text])
        return intervene(
            bench.model,
            self.text,
            bench.list_dictionaries(self.sites),
            self.nodes,
            scale=self.scale or 0.0,
            add=self.add,
            outputs=_make_outputs(self.correct, self.wrong),
        )


def _make_outputs(correct: str | None, wrong: str | None) -> list[Metric]:
    if correct is None:
        return []
    return [logit(correct) if wrong is None else logit_difference(correct, wrong)]


ANALYSES: dict[str, type[Analysis]] = {
    "lens": Lens,
    "lens_vocabulary": LensVocabulary,
    "patch": Patch,
    "heads": Heads,
    "graph": CausalGraph,
    "grow": GrowGraph,
    "evaluate": EvaluateGraph,
    "intervene": Intervene,
    "feature": ExplainFeature,
    "feature_life": Life,
    "attention": Attention,
    "singular_vectors": SingularVectors,
    "explain": Explain,
    "causal_check": Check,
    "steer": Steer,
}
