"""The library: all that people keep of one model."""

from functools import cached_property
from pathlib import Path

from residscope.store.artefacts import Artefacts
from residscope.store.database import Database, place_database
from residscope.store.directions import Comments, Descriptions, Directions
from residscope.store.exchange import Exchange
from residscope.store.home import Home
from residscope.store.limits import Limits
from residscope.store.lists import Lists
from residscope.store.people import People
from residscope.store.runs import Runs
from residscope.store.texts import Texts


class Library:
    """Directions with what is said of them, lists, texts and runs, and the people whose they are.

    Every change is made as somebody, and refused where it is another's. A deleted thing can be restored.

    Args:
      folder: The data folder: vectors and results are files in it, as is the database where no other is named.
      home: The model.
      url: Of the database, as `Database` takes it.
      limits: How much is kept.
    Raises:
      BadDatabase: The database cannot be opened, or a newer version made it.
      BadArgument: The folder cannot be written.
    Holds:
      A change is there whole or not at all, though the process be killed; what several do at once is all there.
    """

    def __init__(self, folder: Path, home: Home, *, url: str | None = None, limits: Limits | None = None) -> None:
        self.home, self.limits = home, limits or Limits()
        self._artefacts = Artefacts(folder / "artefacts")
        self._database = Database(url or place_database(folder))
        self._parts = (self._database, self._artefacts, self.home, self.limits)

    @cached_property
    def people(self) -> People:
        """Who is who."""
        return People(self._database, self.limits)

    @cached_property
    def directions(self) -> Directions:
        """Saved directions."""
        return Directions(*self._parts)

    @cached_property
    def descriptions(self) -> Descriptions:
        """What directions mean, and votes for it."""
        return Descriptions(*self._parts)

    @cached_property
    def comments(self) -> Comments:
        """Remarks on directions."""
        return Comments(*self._parts)

    @cached_property
    def lists(self) -> Lists:
        """Directions in an order."""
        return Lists(*self._parts)

    @cached_property
    def texts(self) -> Texts:
        """Texts of one's own."""
        return Texts(*self._parts)

    @cached_property
    def runs(self) -> Runs:
        """Analyses and their results."""
        return Runs(*self._parts)

    @cached_property
    def exchange(self) -> Exchange:
        """All of it as one file, out and in."""
        return Exchange(*self._parts)

    def close(self) -> None:
        """Give the database's connections back."""
        self._database.close()
