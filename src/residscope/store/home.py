"""The model whose directions a library keeps."""

from collections.abc import Mapping
from dataclasses import dataclass

from residscope.direction import Direction
from residscope.errors import BadDirection
from residscope.running.model import Model
from residscope.sites import find_site, read_site

_WIDE = {"d_model", "d_head", "d_mlp", "d_vocab"}


@dataclass(frozen=True)
class Home:
    """A model, as far as its directions need it.

    Attributes:
      name: For people.
      fingerprint: Of its config, tokenizer and weights: that of another model differs.
      widths: How many entries a direction may have, by the site's name.
    """

    name: str
    fingerprint: str
    widths: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: Model) -> "Home":
        """What a model says of itself."""
        widths: dict[str, tuple[int, ...]] = {}
        for site in model.sites:
            if site.axes[-1] in _WIDE:
                width = model.axis_size(site.axes[-1], 0)
                heads = [model.axis_size(axis, 0) for axis in site.axes if axis in ("head", "kv_head")]
                widths[str(site)] = (width, *(width * n for n in heads))  # of one head, or of all side by side
        return cls(model.name, model.fingerprint, widths)

    def check(self, direction: Direction) -> None:
        """Refuse what cannot be this model's.

        Raises:
          UnknownSite: The model has no such site, or no directions live there.
          BadDirection: The vector is longer or shorter than the site's.
        """
        site = str(find_site(direction.site, [read_site(name) for name in self.widths]))
        if (found := len(direction.vector)) not in self.widths[site]:
            widths = " or ".join(map(str, self.widths[site]))
            raise BadDirection(
                f"{direction.name} has {found} entries, and {site} of {self.name} has {widths}.",
                "Take a direction of this model.",
            )
