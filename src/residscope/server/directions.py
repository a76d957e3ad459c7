"""Directions as requests write them: what each is made of, and how much of it goes into a sum."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt, model_validator

from residscope.direction import Direction
from residscope.directions.contrast import contrast
from residscope.directions.probe import probe
from residscope.directions.weights import head_direction, neuron_direction, position_direction, token_direction
from residscope.errors import BadArgument
from residscope.sites import Place

if TYPE_CHECKING:
    from residscope.server.workbench import Workbench

_DEEPEST = 16  # sums within sums

Whole = Annotated[StrictInt, Field(ge=0)]
Number = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
Texts = Annotated[tuple[str, ...], Field(min_length=1)]


class Made(BaseModel, ABC):
    """How a direction is made.

    Attributes:
      here: Whether it is meant at the site that is asked for, though it lives at another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    here: bool = False

    @abstractmethod
    def make(self, bench: "Workbench", place: Place) -> Direction:
        """The direction, where it lives; `place` is the one that is asked for."""


class Component(Made):
    """A component of the sample texts: of the site that is asked for, or of another."""

    kind: Literal["pca"]
    component: Whole
    site: str | None = None

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return bench.basis(bench.place(self.site) if self.site else place)[self.component]


class Token(Made):
    """`rs.token_direction`."""

    kind: Literal["token"]
    token: str
    minus: str | None = None
    read: Literal["unembed", "embed"] = "unembed"

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return token_direction(bench.model, self.token, minus=self.minus, read=self.read)


class Position(Made):
    """`rs.position_direction`."""

    kind: Literal["position"]
    pos: Whole

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return position_direction(bench.model, self.pos)


class Head(Made):
    """`rs.head_direction`."""

    kind: Literal["head"]
    layer: Whole
    head: Whole
    circuit: Literal["OV", "QK"] = "OV"
    rank: Whole = 0
    side: Literal["in", "out", "query", "key"] | None = None

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return head_direction(
            bench.model, layer=self.layer, head=self.head, circuit=self.circuit, rank=self.rank, side=self.side
        )


class Neuron(Made):
    """`rs.neuron_direction`."""

    kind: Literal["neuron"]
    layer: Whole
    neuron: Whole
    side: Literal["out", "in", "gate"] = "out"

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return neuron_direction(bench.model, layer=self.layer, neuron=self.neuron, side=self.side)


class Feature(Made):
    """A feature of the model's dictionary for a site: of the one that is asked for, or of another."""

    kind: Literal["feature"]
    feature: Whole
    site: str | None = None
    side: Literal["decoder", "encoder"] = "decoder"

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return bench.dictionary(bench.place(self.site) if self.site else place).direction(self.feature, side=self.side)


class Contrast(Made):
    """`rs.contrast` of two sets of texts at the site that is asked for."""

    kind: Literal["contrast"]
    positive: Texts
    negative: Texts

    def make(self, bench: "Workbench", place: Place) -> Direction:
        bench.limits.check_texts(len(self.positive) + len(self.negative))
        return contrast(bench.model, list(self.positive), list(self.negative), site=place.site, head=place.head)


class Probe(Made):
    """`rs.probe` at the site that is asked for, of texts of two kinds."""

    kind: Literal["probe"]
    positive: Texts
    negative: Texts

    def make(self, bench: "Workbench", place: Place) -> Direction:
        bench.limits.check_texts(len(self.positive) + len(self.negative))
        labels = [True] * len(self.positive) + [False] * len(self.negative)
        return probe(bench.model, [*self.positive, *self.negative], labels, site=place.site, head=place.head)


class Kept(Made):
    """A saved direction, as one of its revisions was."""

    kind: Literal["saved"]
    id: Number
    revision: Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return bench.load(self.id, self.revision)


class Sum(Made):
    """A sum of others, at the site that is asked for, as one direction."""

    kind: Literal["sum"]
    terms: "Along"

    def make(self, bench: "Workbench", place: Place) -> Direction:
        return bench.find(place, self.terms)


Of = Annotated[
    Component | Token | Position | Head | Neuron | Feature | Contrast | Probe | Kept | Sum,
    Field(discriminator="kind"),
]


class Term(BaseModel):
    """So much of a direction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: Of
    weight: FiniteFloat = 1.0

    @model_validator(mode="after")
    def check_depth(self) -> "Term":
        """Sums of sums may be nested, but not without end.

        Raises:
          BadArgument: They are.
        """
        deep, here = 0, [self]
        while here := [term for one in here if isinstance(one.of, Sum) for term in one.of.terms]:
            deep += 1
            if deep > _DEEPEST:
                raise BadArgument(f"Sums are nested more than {_DEEPEST} deep.", "Add the directions up in one sum.")
        return self


Along = Annotated[tuple[Term, ...], Field(min_length=1, max_length=64)]
Sum.model_rebuild()
