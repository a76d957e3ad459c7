"""What the page Stream asks of a place: each request is one call of the workbench, answered at once."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from residscope.server.directions import Along, Of, Texts, Whole
from residscope.server.workbench import Workbench
from residscope.sites import Place

Directions = Annotated[tuple[Of, ...], Field(min_length=1, max_length=64)]
Top = Annotated[StrictInt, Field(ge=1, le=1000)]


class Question(BaseModel, ABC):
    """A request at a place. Two of the same words are one.

    Attributes:
      long: Whether short work may go before it even where the components of the place are there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    long: ClassVar[bool] = False

    site: str

    @abstractmethod
    def answer(self, bench: Workbench, place: Place) -> Any:
        """Arrays as bytes, or JSON values."""


class Projection(Question):
    """Texts along components of a place: from, to (not included)."""

    texts: Texts
    components: tuple[StrictInt, StrictInt]

    def answer(self, bench: Workbench, place: Place) -> bytes:
        return bench.projections(self.texts, place, *self.components)


class Home(Question):
    """Where a direction lives, the place being shown: some kinds live where they are made."""

    direction: Of

    def answer(self, bench: Workbench, place: Place) -> dict[str, Any]:
        return bench.home(place, self.direction)


class Describe(Question):
    """What directions are at a place."""

    directions: Directions

    def answer(self, bench: Workbench, place: Place) -> dict[str, Any]:
        return bench.describe_directions(place, self.directions)


class Values(Question):
    """Texts along directions."""

    texts: Texts
    directions: Directions

    def answer(self, bench: Workbench, place: Place) -> bytes:
        return bench.values(self.texts, place, self.directions)


class ByPosition(Question):
    """What the mean of each position has along directions, less their offset: what centring on it takes off besides."""

    long = True

    directions: Directions

    def answer(self, bench: Workbench, place: Place) -> bytes:
        return bench.by_position(place, self.directions)


class Active(Question):
    """What is most active in a text, at one of its tokens or all."""

    text: str
    pos: Whole | None = None
    top: Top = 10

    def answer(self, bench: Workbench, place: Place) -> dict[str, Any]:
        return bench.find_active(self.text, place, self.pos, self.top)


class Nearest(Question):
    """What lies nearest to a direction, a sum of one or several, along it or against it."""

    along: Along
    top: Top = 10

    def answer(self, bench: Workbench, place: Place) -> dict[str, Any]:
        return bench.find_nearest(place, bench.find(place, self.along), self.top)


class Promoting(Question):
    """What makes a token likely, on the way from the place to the logits by matrices and norms alone."""

    token: str
    top: Top = 10

    def answer(self, bench: Workbench, place: Place) -> dict[str, Any]:
        return bench.find_promoting(place, self.token, self.top)


class Order(Question):
    """Which sample texts excite a direction most."""

    long = True

    along: Along

    def answer(self, bench: Workbench, place: Place) -> dict[str, Any]:
        return {"order": bench.order_texts(place, self.along)}


class River(Question):
    """One text along a direction at every layer."""

    text: str
    along: Along

    def answer(self, bench: Workbench, place: Place) -> bytes:
        return bench.river(self.text, place, self.along)


QUESTIONS: dict[str, type[Question]] = {
    "projection": Projection,
    "home": Home,
    "describe": Describe,
    "values": Values,
    "by_position": ByPosition,
    "active": Active,
    "nearest": Nearest,
    "promoting": Promoting,
    "order": Order,
    "river": River,
}
