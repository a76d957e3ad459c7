"""A site names one activation of a model: `Site("resid_pre", 5)`, written `resid_pre.5`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from residscope.errors import UnknownSite


@dataclass(frozen=True)
class Kind:
    """What all sites of one name have in common.

    Attributes:
      axes: Names of the axes of what is read there.
      meaning: One line for the table in the docs.
      transformer_lens: The name TransformerLens gives it, `{layer}` in it where it has one.
      layered: Whether every layer has one.
    """

    axes: tuple[str, ...]
    meaning: str
    transformer_lens: str | None
    layered: bool = True


STREAM = ("batch", "pos", "d_model")

# In the order in which a layer computes them.
KINDS: dict[str, Kind] = {
    "embed": Kind(STREAM, "token embedding, after any scaling, before positions", "hook_embed", layered=False),
    "resid_pre": Kind(STREAM, "residual stream before the layer", "blocks.{layer}.hook_resid_pre"),
    "pattern": Kind(
        ("batch", "head", "query", "key"),
        "attention weights, after the softmax",
        "blocks.{layer}.attn.hook_pattern",
    ),
    "z": Kind(("batch", "pos", "head", "d_head"), "values mixed by each head's pattern", "blocks.{layer}.attn.hook_z"),
    "attn_out": Kind(STREAM, "what attention adds to the stream", "blocks.{layer}.hook_attn_out"),
    "resid_mid": Kind(STREAM, "residual stream between the layer's attention and MLP", "blocks.{layer}.hook_resid_mid"),
    "mlp_out": Kind(STREAM, "what the MLP adds to the stream", "blocks.{layer}.hook_mlp_out"),
    "resid_post": Kind(STREAM, "residual stream after the layer", "blocks.{layer}.hook_resid_post"),
    "ln_final": Kind(STREAM, "output of the final norm, weight and bias applied", None, layered=False),
    "logits": Kind(("batch", "pos", "d_vocab"), "scores of the next token", None, layered=False),
}

_TRANSFORMER_LENS = {kind.transformer_lens: name for name, kind in KINDS.items() if kind.transformer_lens}


@dataclass(frozen=True)
class Site:
    """One activation of one model.

    Attributes:
      kind: A name of `KINDS`.
      layer: From 0; None where the model has one such site.
    """

    kind: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}.{self.layer}"

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of what is read here."""
        return KINDS[self.kind].axes


def read_site(name: str) -> Site:
    """The site that `name` writes, ours or TransformerLens's, whether or not a model has it."""
    layer = re.search(r"(?<=\.)\d+(?=\.|$)", name)
    if layer:
        pattern = name[: layer.start()] + "{layer}" + name[layer.end() :]
        kind = _TRANSFORMER_LENS.get(pattern, pattern.removesuffix(".{layer}"))
        return Site(kind, int(layer.group()))
    return Site(_TRANSFORMER_LENS.get(name, name))


def list_sites(n_layers: int) -> tuple[Site, ...]:
    """Every site of a model of `n_layers`, in the order in which they are computed."""
    inner = [Site(name, layer) for layer in range(n_layers) for name, kind in KINDS.items() if kind.layered]
    return (Site("embed"), *inner, Site("ln_final"), Site("logits"))


def find_site(name: str | Site, sites: Sequence[Site]) -> Site:
    """The site of that name among `sites`; TransformerLens's names are read too.

    Raises:
      UnknownSite: No such kind or layer; the message lists those there are.
    """
    site = name if isinstance(name, Site) else read_site(name)
    if site in sites:
        return site
    layers = [s.layer for s in sites if s.kind == site.kind and s.layer is not None]
    if layers and site.layer is None:
        found, hint = (
            f"every one of {len(layers)} layers has it.",
            f"Name one: {site.kind}.{layers[0]} to {site.kind}.{layers[-1]}.",
        )
    elif layers:
        found, hint = f"{site.kind} has layers {layers[0]} to {layers[-1]}.", "Layers count from 0."
    else:
        kinds = list(dict.fromkeys(s.kind for s in sites))
        found, hint = f"the model's sites are {', '.join(kinds)}.", "Write kind.layer, as in resid_pre.0."
    raise UnknownSite(f"There is no site {str(name)!r}: {found}", hint)


def find_sites(names: str | Site | Iterable[str | Site], sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites that `names` stand for: a site, a kind (all its layers), or "all"."""
    if isinstance(names, (str, Site)):
        names = [names]
    found: dict[Site, None] = {}
    for name in names:
        if name == "all":
            matches: Sequence[Site] = sites
        else:
            matches = [s for s in sites if s.kind == name] or [find_site(name, sites)]
        found.update(dict.fromkeys(matches))
    return tuple(found)
