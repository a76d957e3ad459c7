"""A site names one activation of a model: `Site("resid_pre", 5)`, written `resid_pre.5`."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from residscope.errors import UnknownSite


@dataclass(frozen=True)
class Kind:
    """What all sites of one name have in common.

    Attributes:
      axes: Names of the axes of what is read there.
      meaning: One line for the table in the docs.
      transformer_lens: The name TransformerLens gives it, `{layer}` in it where it has one.
      layered: Whether every layer has one.
      editable: Whether edits may change it.
      kept: Whether "all" keeps it; what is not is computed when asked for.
      same_as: The kind whose value this one names by another word.
    """

    axes: tuple[str, ...]
    meaning: str
    transformer_lens: str | None = None
    layered: bool = True
    editable: bool = True
    kept: bool = True
    same_as: str | None = None


STREAM = ("batch", "pos", "d_model")
_WIDTHS = ("d_model", "d_head", "d_mlp")
_SCALE = ("batch", "pos")
_QUERY, _KEY = ("batch", "pos", "head", "d_head"), ("batch", "pos", "kv_head", "d_head")
_SCORES = ("batch", "head", "query", "key")
_HIDDEN = ("batch", "pos", "d_mlp")

# In the order in which a layer computes them.
KINDS: dict[str, Kind] = {
    "embed": Kind(STREAM, "token embedding, after any scaling, before positions", "hook_embed", layered=False),
    "pos_embed": Kind(STREAM, "embedding of the position, where it is learned", "hook_pos_embed", layered=False),
    "resid_pre": Kind(STREAM, "residual stream before the layer", "blocks.{layer}.hook_resid_pre"),
    "ln1_scale": Kind(_SCALE, "what the norm before attention divides by", "blocks.{layer}.ln1.hook_scale"),
    "ln1": Kind(STREAM, "what attention reads: the stream normed, weight and bias applied"),
    "k_norm_scale": Kind(_KEY[:3], "what the norm of the keys divides by", "blocks.{layer}.attn.k_norm.hook_scale"),
    "k": Kind(_KEY, "keys, after any norm of theirs, before they are turned", "blocks.{layer}.attn.hook_k"),
    "k_norm": Kind(_KEY, "output of the norm of the keys", same_as="k"),
    "k_rot": Kind(_KEY, "keys, turned by their position", "blocks.{layer}.attn.hook_rot_k"),
    "v": Kind(_KEY, "values", "blocks.{layer}.attn.hook_v"),
    "q_norm_scale": Kind(
        _QUERY[:3], "what the norm of the queries divides by", "blocks.{layer}.attn.q_norm.hook_scale"
    ),
    "q": Kind(_QUERY, "queries, after any norm of theirs, before they are turned", "blocks.{layer}.attn.hook_q"),
    "q_norm": Kind(_QUERY, "output of the norm of the queries", same_as="q"),
    "q_rot": Kind(_QUERY, "queries, turned by their position", "blocks.{layer}.attn.hook_rot_q"),
    "scores": Kind(
        _SCORES, "attention scores, after scale, cap and mask (minus infinity)", "blocks.{layer}.attn.hook_attn_scores"
    ),
    "pattern": Kind(_SCORES, "attention weights, after the softmax", "blocks.{layer}.attn.hook_pattern"),
    "z": Kind(_QUERY, "values mixed by each head's pattern", "blocks.{layer}.attn.hook_z"),
    "head_out": Kind(
        ("batch", "pos", "head", "d_model"),
        "what each head adds to the stream, before any norm and without the bias of all",
        "blocks.{layer}.attn.hook_result",
        kept=False,
    ),
    "attn_raw": Kind(STREAM, "output of attention before the norm that follows it"),
    "attn_norm_post_scale": Kind(
        _SCALE, "what the norm after attention divides by", "blocks.{layer}.ln1_post.hook_scale"
    ),
    "attn_norm_post": Kind(STREAM, "output of the norm after attention", same_as="attn_out"),
    "attn_out": Kind(STREAM, "what attention adds to the stream", "blocks.{layer}.hook_attn_out"),
    "resid_mid": Kind(STREAM, "residual stream between the layer's attention and MLP", "blocks.{layer}.hook_resid_mid"),
    "ln2_scale": Kind(_SCALE, "what the norm before the MLP divides by", "blocks.{layer}.ln2.hook_scale"),
    "ln2": Kind(STREAM, "what the MLP reads: the stream normed, weight and bias applied"),
    "mlp_pre": Kind(
        _HIDDEN, "input of the MLP's activation; of a gated one, the gate's", "blocks.{layer}.mlp.hook_pre"
    ),
    "mlp_up": Kind(_HIDDEN, "what a gated MLP multiplies its activation by", "blocks.{layer}.mlp.hook_pre_linear"),
    "mlp_act": Kind(_HIDDEN, "what the MLP's last matrix reads: the neurons", "blocks.{layer}.mlp.hook_post"),
    "mlp_raw": Kind(STREAM, "output of the MLP before the norm that follows it"),
    "mlp_norm_post_scale": Kind(_SCALE, "what the norm after the MLP divides by", "blocks.{layer}.ln2_post.hook_scale"),
    "mlp_norm_post": Kind(STREAM, "output of the norm after the MLP", same_as="mlp_out"),
    "mlp_out": Kind(STREAM, "what the MLP adds to the stream", "blocks.{layer}.hook_mlp_out"),
    "resid_post": Kind(STREAM, "residual stream after the layer", "blocks.{layer}.hook_resid_post"),
    "ln_final_scale": Kind(_SCALE, "what the final norm divides by", "ln_final.hook_scale", layered=False),
    "ln_final": Kind(STREAM, "output of the final norm, weight and bias applied", layered=False),
    "logits": Kind(
        ("batch", "pos", "d_vocab"), "scores of the next token, after any cap", layered=False, editable=False
    ),
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

    @property
    def head_axis(self) -> str | None:
        """The axis of its heads; None where it has none."""
        return next((axis for axis in self.axes if axis in ("head", "kv_head")), None)

    @property
    def vector_axis(self) -> str | None:
        """The axis of the vector that it holds at each position, or for each head there; None where it holds none."""
        return self.axes[-1] if self.axes[-1] in _WIDTHS else None


def name_place(site: str | Site, head: int | None) -> str:
    """A site, and which head of it, for people: `z.3 head 1`."""
    return str(site) if head is None else f"{site} head {head}"


class Place(NamedTuple):
    """Where a direction lives: a site, and the head where it has heads. Written `resid_pre.3`, and `z.3:1`."""

    site: Site
    head: int | None = None

    def __str__(self) -> str:
        return str(self.site) if self.head is None else f"{self.site}:{self.head}"


def read_site(name: str) -> Site:
    """The site that `name` writes, ours or TransformerLens's, whether or not a model has it."""
    layer = re.search(r"(?<=\.)\d+(?=\.|$)", name)
    if layer:
        pattern = name[: layer.start()] + "{layer}" + name[layer.end() :]
        kind = _TRANSFORMER_LENS.get(pattern, pattern.removesuffix(".{layer}"))
        return Site(kind, int(layer.group()))
    return Site(_TRANSFORMER_LENS.get(name, name))


def list_sites(n_layers: int, absent: Collection[str] = ()) -> tuple[Site, ...]:
    """Every site of a model of `n_layers` that lacks the kinds `absent`, in the order in which they are computed."""
    there = {name: kind for name, kind in KINDS.items() if name not in absent}
    first, last = (
        [Site(name) for name, kind in there.items() if not kind.layered and name.endswith("embed") is early]
        for early in (True, False)
    )
    inner = [Site(name, layer) for layer in range(n_layers) for name, kind in there.items() if kind.layered]
    return (*first, *inner, *last)


def find_site(name: str | Site, sites: Sequence[Site]) -> Site:
    """The site of that name among `sites`; TransformerLens's names are read too.

    Raises:
      UnknownSite: No such kind or layer; the message lists those there are, the hint the nearest.
    """
    site = name if isinstance(name, Site) else read_site(str(name))
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
        near = [_TRANSFORMER_LENS.get(n, n) for n in get_close_matches(site.kind, [*kinds, *_TRANSFORMER_LENS], 5)]
        nearest = ", ".join(kind for kind in dict.fromkeys(near) if kind in kinds)
        found = f"the model's sites are {', '.join(kinds)}."
        hint = f"{f'Nearest: {nearest}. ' if nearest else ''}Write kind.layer, as in resid_pre.0."
    raise UnknownSite(f"There is no site {str(name)!r}: {found}", hint)


def find_sites(names: str | Site | Iterable[str | Site], sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites that `names` stand for: a site, a kind (all its layers), or "all" (but `head_out`).

    Raises:
      UnknownSite: The model has none of that name, or it is no name.
    """
    if isinstance(names, (str, Site)):
        names = [names]
    if not isinstance(names, Iterable):
        raise UnknownSite(f"The sites {names!r} were asked for.", 'Give a site, a kind, "all", or a list of them.')
    found: dict[Site, None] = {}
    for name in names:
        if name == "all":
            matches: Sequence[Site] = [s for s in sites if KINDS[s.kind].kept]
        elif isinstance(name, Site):
            matches = [find_site(name, sites)]
        else:
            matches = [s for s in sites if s.kind == name] or [find_site(name, sites)]
        found.update(dict.fromkeys(matches))
    return tuple(found)
