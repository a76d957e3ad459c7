"""The model whose directions a library keeps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from residscope.direction import Direction
from residscope.directions.file import Fingerprinted, check_dictionaries, check_weights
from residscope.directions.vectors import list_vector_sites, width_of
from residscope.errors import BadDirection
from residscope.running.model import Model
from residscope.sites import Place, find_site, read_site


@dataclass(frozen=True)
class Home:
    """A model, as far as its directions need it.

    Attributes:
      name: For people.
      fingerprint: Of its config, tokenizer and weights: that of another model differs.
      widths: How many entries a direction has, by where it lives: "resid_pre.3", "z.3:1", "z.3" of all heads.
      dictionaries: In use with it.
      weights_hash: What directions have of it; see `Model.weights_hash`.
    """

    name: str
    fingerprint: str
    widths: Mapping[str, int]
    dictionaries: Sequence[Fingerprinted] = ()
    weights_hash: str | None = None

    @classmethod
    def of(cls, model: Model, dictionaries: Iterable[Fingerprinted] = ()) -> "Home":
        """What a model says of itself, and the dictionaries that are in use with it."""
        widths = {}
        for site, n_heads in list_vector_sites(model).items():
            width = width_of(model, site)
            widths[str(site)] = width * (n_heads or 1)
            widths |= {str(Place(site, head)): width for head in range(n_heads or 0)}
        return cls(model.name, model.fingerprint, widths, tuple(dictionaries), model.weights_hash)

    def check(self, direction: Direction) -> str:
        """Where a direction lives, if it can be this model's.

        Raises:
          UnknownSite: The model has no such site, or no directions live there.
          BadDirection: The site has no such head, the vector is longer or shorter than the site's, another model's,
            or a feature of another dictionary than the one of that name here.
        """
        find_site(direction.site, [read_site(name) for name in self.widths if ":" not in name])
        place = str(Place(direction.site, direction.head))
        if place not in self.widths:
            raise BadDirection(f"{direction.name} is of {direction.place}, which {self.name} has not.", _HINT)
        if (found := len(direction.vector)) != (width := self.widths[place]):
            raise BadDirection(
                f"{direction.name} has {found} entries, and {direction.place} of {self.name} has {width}.", _HINT
            )
        check_weights(direction, self.name, self.weights_hash)
        check_dictionaries(direction, self.dictionaries)
        return place


_HINT = "Take a direction of this model."
