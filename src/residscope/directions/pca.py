"""Principal components of a site over much text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.direction import Direction
from residscope.directions.vectors import find_vectors, list_vector_sites, pick_head, width_of
from residscope.errors import BadArgument, BadDirection, TooFewTokens, UnknownComponent
from residscope.results.result import Result
from residscope.running.model import Model
from residscope.running.texts import Corpus, Texts, describe_texts
from residscope.sites import Site, name_place, read_site
from residscope.summaries.moments import Moments

_MOMENTS_BYTES = 2**30
_Place = tuple[Site, int | None]


@dataclass(frozen=True, eq=False, repr=False)
class Basis(Result):
    """Principal components, largest variance first; `basis[7]` is one as a direction, `basis[2:5]` some.

    Attributes:
      components: [component d] Unit vectors, float64; of each, the entry of largest size is positive.
      variances: [component] Along each, unbiased.
      mean: [d] Which all are centred on.
      site: Where.
      total_variance: Of all components, the ones not kept included.
      n_tokens, n_texts: What it was made of.
      n_cut: Texts that were cut at the context.
      left_out: Positions of each text that were left out.
      first: Number of the first component, where this is a part of a basis.
      head: Of which head, where the site has heads.
    """

    components: Float[Tensor, "component d"]
    variances: Float[Tensor, " component"]
    mean: Float[Tensor, " d"]
    site: str
    total_variance: float
    n_tokens: int
    n_texts: int
    n_cut: int
    left_out: Sequence[int]
    first: int = 0
    head: int | None = None

    @property
    def axes(self) -> tuple[str, ...]:  # type: ignore[override]  # vectors have the site's last axis
        """Names of the axes of `values`: component, and d_model, d_head or d_mlp."""
        return "component", read_site(self.site).axes[-1]

    @property
    def place(self) -> str:
        """Where, for people: `resid_pre.3`, `z.3 head 1`."""
        return name_place(self.site, self.head)

    @property
    def values(self) -> Tensor:
        return self.components

    @property
    def shares(self) -> Float[Tensor, " component"]:
        """Each component's share of the variance."""
        return self.variances / self.total_variance if self.total_variance else torch.zeros_like(self.variances)

    @property
    def deviations(self) -> Float[Tensor, " component"]:
        """Standard deviation along each, in units of the site."""
        return self.variances.sqrt()

    @property
    def offsets(self) -> Float[Tensor, " component"]:
        """`mean . v` of each."""
        return self.components @ self.mean

    @property
    def warning(self) -> str | None:
        """A sentence where there are too few tokens to trust the smaller components."""
        width = len(self.mean)
        if self.n_tokens >= 10 * width:
            return None
        return (
            f"{self.n_tokens:,} tokens are under ten times {self.axes[-1]} ({10 * width:,}): the smaller components "
            "are noise of this text."
        )

    def __len__(self) -> int:
        return len(self.components)

    @overload
    def __getitem__(self, which: int) -> Direction: ...
    @overload
    def __getitem__(self, which: slice) -> "Basis": ...
    def __getitem__(self, which: int | slice) -> "Direction | Basis":
        """A component as a direction, or a run of components as a basis.

        Raises:
          UnknownComponent: There is none of that number.
        """
        if isinstance(which, slice):
            return self._part(which)
        number = which + len(self) if which < 0 else which
        if not 0 <= number < len(self):
            raise UnknownComponent(
                f"There is no component {which}: the basis of {self.place} has {len(self)}.",
                f"Components count from 0 to {len(self) - 1}.",
            )
        deviation = float(self.deviations[number])
        component = self.first + number
        return Direction(
            name=f"PCA {component} of {self.place}",
            site=read_site(self.site),
            head=self.head,
            vector=self.components[number],
            mean=self.mean,
            deviation=deviation or None,
            left_out=tuple(self.left_out),
            history={
                "kind": "pca",
                "component": component,
                "share": float(self.shares[number]),
                "n_texts": self.n_texts,
                "n_tokens": self.n_tokens,
                "n_cut": self.n_cut,
                **self.settings,
            },
            python=(*self.python, f"direction = basis[{component}]"),
        )

    def __iter__(self) -> Iterator[Direction]:
        return (self[number] for number in range(len(self)))

    def measure(self, direction: Direction) -> Direction:
        """A direction with what it lacks of mean and deviation: those of the texts that this basis was made of.

        Raises:
          BadDirection: It lives at another site.
          UnknownComponent: The basis does not have all components, which the deviation needs.
        Holds:
          What `basis[i]` has, its vector alone gets too.
        """
        if direction.place != self.place or len(direction.vector) != len(self.mean):
            raise BadDirection(
                f"{direction.name} lives at {direction.place}, and the basis at {self.place}.",
                "Say that it means something there: direction.at(site, head=...).",
            )
        if direction.mean is not None and direction.deviation is not None:
            return direction
        if len(self) < len(self.mean):
            raise UnknownComponent(
                f"The basis of {self.place} has {len(self)} of {len(self.mean)} components.", "Make it with n=None."
            )
        deviation = float(((self.components @ direction.vector).square() @ self.variances).sqrt())
        return replace(
            direction,
            mean=self.mean if direction.mean is None else direction.mean,
            deviation=direction.deviation or deviation or None,
            left_out=direction.left_out or tuple(self.left_out),
            history={**direction.history, "measured": {"n_texts": self.n_texts, "n_tokens": self.n_tokens}},
            python=(*direction.lines(self.python), "direction = basis.measure(direction)"),
        )

    def _part(self, which: slice) -> "Basis":
        start, stop, step = which.indices(len(self))
        if step != 1 or start >= stop:
            raise UnknownComponent(
                f"Components {which.start} to {which.stop} were asked for; the basis of {self.place} has {len(self)}.",
                "Ask for at least one, in order.",
            )
        return replace(
            self, components=self.components[which], variances=self.variances[which], first=self.first + start
        )


def pca(
    model: Model,
    texts: Texts,
    site: str | Site,
    n: int | None = None,
    *,
    head: int | None = None,
    left_out: Sequence[int] = (0,),
) -> Basis:
    """Principal components of a site over all tokens of the texts, exact, from a running mean and covariance.

    Args:
      model: Any.
      texts: Much text: a list, a Path to a file, or token ids; each is cut at the context, and the result says so.
      site: One that holds a vector at each position: not scores, patterns, scales or logits.
      n: Components to keep; None for all, as many as the vectors have entries.
      head: Of which head, where the site has heads.
      left_out: Positions of each text that do not count: the first, whose norm is huge in most models.
    Raises:
      UnknownSite: The model has none of that name, or it holds no vectors.
      BadArgument: The site has heads and none was chosen, or has no such head.
      UnknownComponent: More components than entries.
      TooFewTokens: Under two tokens remain.
    Holds:
      Equal to scikit-learn's PCA on the same activations within 1e-6, up to sign; of each component the entry of
      largest size is positive.
    """
    return _compute(model, texts, [find_vectors(model, site, head)], n, left_out)[0]


def pca_of_sites(
    model: Model, texts: Texts, sites: Iterable[Site], n: int | None = None, *, left_out: Sequence[int] = (0,)
) -> dict[Site, Basis]:
    """`pca` of several sites without heads in one pass over the texts; `d ** 2` float64 numbers are held for each."""
    places = [find_vectors(model, site, None) for site in sites]
    return dict(zip((site for site, _ in places), _compute(model, texts, places, n, left_out), strict=True))


def pca_of_heads(
    model: Model, texts: Texts, site: str | Site, n: int | None = None, *, left_out: Sequence[int] = (0,)
) -> list[Basis]:
    """`pca` of every head of a site, in one pass over the texts, or as many as keep what is held under 1 GiB.

    Raises:
      UnknownSite, UnknownComponent, TooFewTokens: As `pca`.
      BadArgument: The site has no heads.
    """
    found = model.find(site)
    n_heads = list_vector_sites(model).get(found)
    if n_heads is None:
        raise BadArgument(f"{found} has no vectors of heads.", "Take pca of it.")
    places: list[_Place] = [(found, head) for head in range(n_heads)]
    size = max(1, _MOMENTS_BYTES // (8 * width_of(model, found) ** 2))
    groups = [places[start : start + size] for start in range(0, n_heads, size)]
    return [basis for group in groups for basis in _compute(model, texts, group, n, left_out)]


def _compute(
    model: Model, texts: Texts, places: Sequence[_Place], n: int | None, left_out: Sequence[int]
) -> list[Basis]:
    """The basis of each place, of one pass over the texts."""
    for site, _ in places:
        width = width_of(model, site)
        if n is not None and not 1 <= n <= width:
            raise UnknownComponent(f"{n} components were asked for.", f"There are 1 to {width}, {site.axes[-1]}.")
    if any(pos < 0 for pos in left_out):
        raise BadArgument(f"left_out={tuple(left_out)} was asked for.", "Positions to leave out count from 0.")
    corpus = model.corpus(texts)
    moments = _measure(model, corpus, places, left_out)
    lines = [
        "from pathlib import Path",
        "",
        *model.python,
    ]
    described = describe_texts(texts)
    settings = {
        "left_out": list(left_out),
        **model.provenance,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    bases = []
    for (site, head), found in zip(places, moments, strict=True):
        said = (
            f"site={str(site)!r}, n={n}" + ("" if head is None else f", head={head}") + f", left_out={tuple(left_out)}"
        )
        bases.append(
            _decompose(
                found,
                n,
                name=f"PCA of {name_place(site, head)}",
                settings=settings,
                python=[*lines, f"basis = rs.pca(model, {described}, {said})"],
                site=str(site),
                n_texts=len(corpus.lists),
                n_cut=corpus.n_cut,
                left_out=list(left_out),
                head=head,
            )
        )
    return bases


def _measure(model: Model, corpus: Corpus, places: Sequence[_Place], left_out: Sequence[int]) -> list[Moments]:
    moments = [Moments.empty(width_of(model, site)) for site, _ in places]
    sites = list(dict.fromkeys(site for site, _ in places))
    for tokens in corpus.batches("components"):
        run = model.run(tokens, keep=sites)
        counted = tokens.mask.clone()
        counted[:, [pos for pos in left_out if pos < counted.shape[1]]] = False
        if counted.any():
            rows = {site: run[site][counted] for site in sites}
            for number, (site, head) in enumerate(places):
                moments[number] = moments[number].merge(Moments.of(pick_head(rows[site], head)))
    return moments


def _decompose(moments: Moments, n: int | None, **facts: Any) -> Basis:
    if moments.n < 2:
        raise TooFewTokens(
            f"The texts have {moments.n} tokens that count, and components need two at least.", "Give more text."
        )
    variances, vectors = torch.linalg.eigh(moments.covariance)
    components = vectors.T.flip(0)[:n]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return Basis(
        components=components * largest.sign(),
        variances=variances.flip(0).clamp(min=0)[:n],
        mean=moments.mean,
        total_variance=float(variances.clamp(min=0).sum()),
        n_tokens=moments.n,
        **facts,
    )
