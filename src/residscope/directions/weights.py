"""Directions that stand in the weights: of tokens, positions, heads and neurons. None has a mean."""

from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.direction import Direction
from residscope.directions.vectors import find_vectors, width_of
from residscope.errors import BadArgument
from residscope.running.arguments import read_choice, read_whole
from residscope.running.model import Model
from residscope.sites import Site
from residscope.transformer.circuits import SIDES, decompose, find_furthest, pass_norm, read_tokens
from residscope.transformer.direct_path import pull_back


def token_direction(
    model: Model,
    token: str | int,
    *,
    minus: str | int | None = None,
    read: Literal["unembed", "embed"] = "unembed",
    site: str | Site | None = None,
    head: int | None = None,
) -> Direction:
    """The direction that makes a token likely, or that a token is embedded along; or the difference of two tokens'.

    Args:
      model: Any.
      token: The text of one token, or its id.
      minus: Another, taken off.
      read: "unembed", its column of the unembedding with the final norm's weight folded in, at the last stream; without
        `minus` less the vocabulary's mean, which no probability depends on, unless the model caps its logits. "embed",
        its row of the embedding, at `embed`.
      site: Where else than at the last stream: what a unit of each entry there adds to the logit by matrices and norms
        alone, as through a head's W_O for `z`, and through W_out for `mlp_act`.
      head: Of it, where it has heads.
    Raises:
      UnknownToken: A text is not one token.
      BadDirection: Both tokens are the same.
      BadArgument: There is no such id or reading, the site has no such head or no such way to the logits, or an
        embedding is asked for elsewhere.
      UnknownSite: The model has no such site.
    Holds:
      One unit of it in the last stream changes the difference of the two logits, or the token's logit less the mean, by
      `history["length"]` over the final norm's scale.
    """
    read_choice("read", read, ("unembed", "embed"))
    ids = [_read_token(model, one) for one in (token, minus) if one is not None]
    pieces = [repr(model.tokenizer.piece(one)) for one in ids]
    said = [repr(one if isinstance(one, str) else i) for one, i in zip((token, minus), ids, strict=False)]
    name, asked = f"{' less '.join(pieces)}, {read}ded", ", minus=".join(said) + f", read={read!r}"
    facts: dict[str, Any] = {"token": ids[0], "minus": ids[1] if minus is not None else None, "read": read}
    if read == "embed":
        if site is not None:
            raise BadArgument(f"An embedding was asked for at {site}.", "Leave the site out; direction.at(site) moves.")
        rows = model.weights["W_E"][ids].double()
        return _make(model, _subtract(rows), Site("embed"), name, "token", f"token_direction(model, {asked})", facts)
    found, head = find_vectors(model, site or Site("resid_post", model.config.n_layers - 1), head)
    past = found.kind == "ln_final"
    columns = (model.weights["W_U"] if past else model.weights.folded("W_U", centre=True).weight).double()
    less = None if minus is not None or model.config.logit_cap else "the vocabulary's mean"
    rows = columns[:, ids].T - columns.mean(1) if less else columns[:, ids].T
    back = pull_back(model.weights, model.config, found, head, width_of(model, found), _subtract(rows))
    if back is None:
        raise BadArgument(
            f"From {found} no way leads to the logits by matrices and norms alone.",
            "Ask at the stream, its parts, z, v, mlp_act or ln_final.",
        )
    vector, through = back
    facts |= {"less": less, "through": through}
    name += f", through {through}" if through else ""
    asked += "" if site is None else f", site={str(found)!r}" + ("" if head is None else f", head={head}")
    call = f"token_direction(model, {asked})"
    return replace(_make(model, vector, found, name, "token", call, facts), head=head)


def position_direction(model: Model, pos: int) -> Direction:
    """The embedding of a position, at `pos_embed`.

    Raises:
      BadArgument: There is no such position, or the model has no embedding of positions.
    Holds:
      Along `run["pos_embed"][:, pos]` of every text.
    """
    if "pos_embed" in model.config.absent:
        raise BadArgument(f"{model.name} has no embedding of positions.", "Positions are turned into queries and keys.")
    pos = read_whole("pos", pos, 0, model.config.n_ctx - 1)
    vector = model.weights["W_pos"][pos].double()
    call = f"position_direction(model, {pos})"
    return _make(model, vector, Site("pos_embed"), f"position {pos}", "position", call, {"pos": pos})


def head_direction(
    model: Model,
    *,
    layer: int,
    head: int,
    circuit: Literal["OV", "QK"] = "OV",
    rank: int = 0,
    side: Literal["in", "out", "query", "key"] | None = None,
) -> Direction:
    """A singular vector of a head's circuit, as `rs.singular_vectors` splits it, norms folded.

    Args:
      model: Any.
      layer: Which.
      head: Which.
      circuit: "OV", what it moves; "QK", where it looks, before queries and keys are turned.
      rank: 0 is the one with the largest singular value.
      side: Of OV "out", what it writes, at `attn_out`, or "in", what it reads, at `resid_pre`; of QK "key" or "query",
        both at `resid_pre`. None is the first named.
    Raises:
      BadArgument: There is no such layer, head, circuit, rank or side.
    Holds:
      Equal to the vectors of `rs.singular_vectors`, sign and all.
    """
    config = model.config
    read_choice("circuit", circuit, ("OV", "QK"))
    layer = read_whole("layer", layer, 0, config.n_layers - 1)
    head = read_whole("head", head, 0, config.n_heads - 1)
    names = SIDES[circuit]
    chosen = names[-1] if side is None else side
    if chosen not in names:
        raise BadArgument(f"side={side!r} was asked for.", f"{circuit} has {' and '.join(names)}.")
    scales, sides = decompose(model.weights, config, circuit, layer, head)
    rank = read_whole("rank", rank, 0, len(scales) - 1)
    sign = find_furthest(read_tokens(model.weights, config, names[-1], sides[-1][rank : rank + 1]))
    vector = (sides[names.index(chosen)][rank] * sign[0]).double()
    call = f"head_direction(model, layer={layer}, head={head}, circuit={circuit!r}, rank={rank}, side={chosen!r})"
    facts: dict[str, Any] = {"layer": layer, "head": head, "circuit": circuit, "rank": rank, "side": chosen}
    facts["singular_value"] = float(scales[rank])
    site = Site("attn_out" if chosen == "out" else "resid_pre", layer)
    return _make(model, vector, site, f"{circuit} {rank} of head {layer}.{head} ({chosen})", "head", call, facts)


def neuron_direction(model: Model, *, layer: int, neuron: int, side: Literal["out", "in", "gate"] = "out") -> Direction:
    """What a neuron writes, or what it reads.

    Args:
      model: One with MLPs.
      layer: Which.
      neuron: Which.
      side: "out", its row of W_out, at `mlp_out`; "in", its column of W_in with the norm folded in, at the stream that
        the MLP reads; "gate", the same of W_gate.
    Raises:
      BadArgument: There is no such layer, neuron or side.
    Holds:
      "out" is what one unit more of the neuron adds to the stream, up to its length; a norm behind the MLP is passed,
      without its scale.
    """
    config, weights = model.config, model.weights
    matrices = {"out": "W_out", "in": "W_in", "gate": "W_gate"}
    there = [name for name, matrix in matrices.items() if f"{matrix}.0" in weights]
    if side not in there:
        raise BadArgument(
            f"side={side!r} was asked for.", f"Choose {', '.join(map(repr, there)) or 'a model with MLPs'}."
        )
    layer = read_whole("layer", layer, 0, config.n_layers - 1)
    neuron = read_whole("neuron", neuron, 0, config.d_mlp - 1)
    if side == "out":
        vector = weights[f"W_out.{layer}"][neuron]
        vector = pass_norm(weights, config, f"mlp_norm_post_w.{layer}", vector) if config.post_norm else vector
        site = Site("mlp_out", layer)
    else:
        vector = weights.folded(f"{matrices[side]}.{layer}", centre=True).weight[:, neuron]
        site = Site("resid_pre" if config.parallel else "resid_mid", layer)
    call = f"neuron_direction(model, layer={layer}, neuron={neuron}, side={side!r})"
    facts = {"layer": layer, "neuron": neuron, "side": side}
    return _make(model, vector.double(), site, f"neuron {layer}.{neuron} ({side})", "neuron", call, facts)


def _subtract(rows: Float[Tensor, "token d"]) -> Float[Tensor, " d"]:
    return rows[0] - rows[1] if len(rows) > 1 else rows[0]


def _read_token(model: Model, token: str | int) -> int:
    if isinstance(token, str):
        return model.single_token(token)
    return read_whole("token", token, 0, model.config.d_vocab - 1)


def _make(
    model: Model, vector: Float[Tensor, " d_model"], site: Site, name: str, kind: str, call: str, facts: dict[str, Any]
) -> Direction:
    history = {
        "kind": kind,
        **facts,
        "length": float(torch.linalg.norm(vector)),
        **model.provenance,
    }
    return Direction.of(vector, site, name, history=history, python=(*model.python, f"direction = rs.{call}"))
