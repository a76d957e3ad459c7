"""What a direction is about: tokens it promotes, places where it is strong, how its values spread, what is near."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder
from residscope.direction import Direction
from residscope.directions.projection import read_along
from residscope.directions.vectors import check_direction, pick_head
from residscope.errors import BadArgument, TooFewTokens
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_whole
from residscope.running.model import Model
from residscope.running.packing import write_lines
from residscope.running.progress import report
from residscope.running.texts import BATCH_TOKENS, Texts, describe_texts
from residscope.sites import Site
from residscope.summaries.contexts import Context, TopContexts
from residscope.summaries.histogram import Histogram
from residscope.summaries.moments import Moments
from residscope.transformer.circuits import read_ov, read_tokens
from residscope.transformer.direct_path import STREAM_PARTS, DirectPath, find_direct_path
from residscope.transformer.tokens import stack

SIDES = ("promoted", "suppressed")
_N_NEXT = 3
_N_NEAR = 5


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Result):
    """What is known of a direction on some texts.

    Attributes:
      values: [side top] What one unit of it adds to the logits of tokens, directly, at the median scale on these texts
        of the final norm and of one behind its sub-block, less the vocabulary's mean; or as z-scores over the
        vocabulary. No tokens where more than matrices and norms lies on the way there: `settings["unit"]` says so.
      token_ids: [side top] Which tokens, strongest first.
      texts: The same, as people read them.
      contexts: Of `top` and `bottom`: the places where its value is largest and smallest, one of a text, each a mapping
        with `value`, `text`, `pos`, `pieces`, `at` (which of these it is), `next` (what the model expects after it) and
        `loss_nats` (of the token itself).
      counts: [bin] How many tokens have values in each bin.
      edges: [edge] Where bins begin and end.
      variance_share: Of the site's variance, on these texts.
      deviation: Along it, on these texts.
      writers, readers: Heads whose output, or whose values, lie along it most: `layer`, `head` and `times`, how much
        more than along a random direction. Of a site that is no part of the stream, only readers of what it adds there.
      near: Directions and features nearest by the size of their cosine: `name` and `cosine`.
    """

    values: Float[Tensor, "side top"]
    token_ids: Int[Tensor, "side top"]
    texts: Sequence[Sequence[str]]
    contexts: Mapping[str, Sequence[Mapping[str, Any]]]
    counts: Int[Tensor, " bin"]
    edges: Float[Tensor, " edge"]
    variance_share: float
    deviation: float
    writers: Sequence[Mapping[str, Any]]
    readers: Sequence[Mapping[str, Any]]
    near: Sequence[Mapping[str, Any]]

    axes: ClassVar[tuple[str, ...]] = ("side", "top")
    view: ClassVar[str | None] = "explanation"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "side":
            return {"side": np.array(SIDES, dtype=object)[index]}
        cell = places["side"], index
        return {
            "top": index,
            "token_id": self.token_ids.numpy()[cell],
            "text": np.array(self.texts, dtype=object)[cell],
        }


@torch.no_grad()
def explain(
    model: Model,
    direction: Direction,
    texts: Texts,
    *,
    top: int = 10,
    n_contexts: int = 5,
    around: int = 8,
    n_bins: int = 40,
    near: Iterable[Direction | SparseAutoencoder] = (),
    z_scores: bool = False,
) -> Explanation:
    """Say what a direction promotes, where it is strong, how its values spread, and what lies near it.

    Args:
      model: Any.
      direction: Of a site that the model has. Tokens are told where it reaches the logits by matrices and norms alone:
        of the stream and its parts, `ln_final`, `mlp_act` through W_out, `head_out`, and `z` and `v` through the head's
        W_O.
      texts: Each is cut at the context.
      top: Tokens of each side.
      n_contexts: Places of each side.
      around: Tokens shown before and after each.
      n_bins: Of the histogram.
      near: Other directions, and dictionaries, whose features are looked through.
      z_scores: Tokens by z-scores over the vocabulary: by plain logits rare tokens of odd norm may win.
    Raises:
      UnknownSite: The model has no such site, or it holds no vectors.
      BadArgument: A number is none, what is near is of another width, or the site has heads and the direction is of
        none of them.
      BadDirection: The direction has another width than the site.
      TooFewTokens: Under two tokens count: position 0, and what the direction's making left out, do not.
    Holds:
      Promoted tokens are those of `rs.vocabulary(direction)`, over the median scale; contexts have the values of
      `rs.project`; counts sum to the tokens that count.
    """
    site = check_direction(model, direction)
    d_vocab = model.config.d_vocab
    top = read_whole("top", top, 1, d_vocab)
    n_contexts, around = read_whole("n_contexts", n_contexts, 0, 1000), read_whole("around", around, 0, 1000)
    lists = model.corpus(texts).lists
    vector = direction.vector.to(model.device, torch.promote_types(model.dtype, torch.float32))
    path = find_direct_path(model.weights, model.config, site, direction.head, vector)
    seen = _read(model, direction, lists, path.scales if path else [], n_contexts, around)
    values, moments = seen.values, seen.moments
    if moments.n < 2:
        raise TooFewTokens(f"The texts have {moments.n} tokens that count.", "Give more text.")
    strengths, ids = _find_tokens(model, path, seen.scale, top, z_scores)
    deviation, total = float(values.std()), float(moments.covariance.trace())
    ends = float(values.min()), float(values.max())
    spread = Histogram.of(values, *ends, read_whole("n_bins", n_bins, 1, 10_000))
    said = f"top={top}, n_contexts={n_contexts}, around={around}, n_bins={n_bins}, z_scores={z_scores}"
    return Explanation(
        name=f"what {direction.name} is about",
        settings={
            "site": direction.place,
            "unit": _name_unit(direction, path, z_scores),
            "scale": seen.scale,
            "norm": "the final norm's weight folded in" if path and path.side == "out" else "none",
            "n_tokens": moments.n,
            "left_out": sorted({0, *direction.left_out}),
            "model": model.name,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=write_lines(
            direction.lines(model.python), [f"rs.explain(model, direction, {describe_texts(texts)}, {said})"]
        ),
        values=strengths,
        token_ids=ids,
        texts=[[model.tokenizer.piece(i) for i in row] for row in ids.tolist()],
        contexts={
            name: [_tell(model, one, sign, lists[one.text]) for one in contexts.found]
            for name, sign, contexts in (("top", 1, seen.top), ("bottom", -1, seen.bottom))
        },
        counts=spread.counts,
        edges=spread.edges,
        variance_share=deviation**2 / total if total else 0.0,
        deviation=deviation,
        **_find_heads(model, site, path),
        near=find_near(direction, near),
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """What texts tell of a direction.

    Attributes:
      values: All that count.
      moments: Of the site.
      scale: The product of the medians of the norms' scales.
      top, bottom: Contexts of the largest values, and of the largest with the sign changed.
    """

    values: Float[Tensor, " token"]
    moments: Moments
    scale: float
    top: TopContexts
    bottom: TopContexts


def _read(
    model: Model, direction: Direction, lists: Sequence[list[int]], scaled: Sequence[Site], n: int, around: int
) -> _Seen:
    left_out = [0, *direction.left_out]
    values = []
    scales: dict[Site, list[Tensor]] = {site: [] for site in scaled}
    moments, contexts = Moments.empty(len(direction.vector)), {1: TopContexts(n), -1: TopContexts(n)}
    size = max(1, BATCH_TOKENS // max(map(len, lists)))
    for start in range(0, len(lists), size):
        report(start, len(lists), f"reading {direction.site}")
        tokens = stack(lists[start : start + size], model.tokenizer)
        run = model.run(tokens, keep=[direction.site, *scaled])
        counted = tokens.mask.clone()
        counted[:, [pos for pos in left_out if pos < counted.shape[1]]] = False
        along = read_along(run, direction.site, direction.vector[None], direction.mean, direction.head)[..., 0]
        along = along.masked_fill(~counted, torch.nan)
        values.append(along[counted])
        if counted.any():
            moments = moments.merge(Moments.of(pick_head(run[direction.site][counted], direction.head)))
        for site in scaled:
            scales[site].append(run[site].cpu()[counted])
        for number, (row, pieces) in enumerate(zip(along.tolist(), tokens.pieces, strict=True)):
            for sign in contexts:
                one = TopContexts.of(n, start + number, [sign * value for value in row], pieces, around)
                contexts[sign] = contexts[sign].merge(one)
    report(len(lists), len(lists), f"reading {direction.site}")
    scale = math.prod((float(torch.cat(found).median()) for found in scales.values()), start=1.0)
    return _Seen(torch.cat(values), moments, scale, contexts[1], contexts[-1])


def _find_tokens(
    model: Model, path: DirectPath | None, scale: float, top: int, z_scores: bool
) -> tuple[Float[Tensor, "side top"], Int[Tensor, "side top"]]:
    """The tokens that are promoted and suppressed most, and by how much; none where no path leads to them."""
    if path is None:
        return torch.zeros(len(SIDES), 0), torch.zeros(len(SIDES), 0, dtype=torch.long)
    promoted = read_tokens(model.weights, model.config, path.side, path.vector[None])[0].cpu()
    promoted = (promoted - promoted.mean()) / promoted.std() if z_scores else promoted / scale
    best, worst = promoted.topk(top), (-promoted).topk(top)
    return torch.stack([best.values, -worst.values]), torch.stack([best.indices, worst.indices])


def _name_unit(direction: Direction, path: DirectPath | None, z_scores: bool) -> str:
    """What the numbers beside tokens are, or why there are none."""
    if path is None:
        return f"no tokens: what {direction.place} does to the logits depends on the text"
    through = f", through {path.through}" if path.through else ""
    return f"{'z-scores over the vocabulary' if z_scores else 'logits per unit, direct path only'}{through}"


def _tell(model: Model, one: Context, sign: int, ids: list[int]) -> dict[str, Any]:
    """A context with its value, what the model expects after it, and the loss of its token."""
    log_probs = model.run(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    following = log_probs[one.pos].topk(min(_N_NEXT, log_probs.shape[-1])).indices.tolist()
    told = asdict(one) | {"value": sign * one.value, "pieces": list(one.pieces)}
    told["next"] = [model.tokenizer.piece(i) for i in following]
    return told | {"loss_nats": -float(log_probs[one.pos - 1, ids[one.pos]]) if one.pos else None}


def _find_heads(model: Model, site: Site, path: DirectPath | None) -> dict[str, list[dict[str, Any]]]:
    """Heads of layers before a part of the stream that write along it, and heads of later ones that read it."""
    found: dict[str, list[dict[str, Any]]] = {"writers": [], "readers": []}
    if path is None or path.side == "normed":
        return found
    vector = torch.nn.functional.normalize(path.vector.double().cpu(), dim=0)
    first = 0 if site.layer is None else site.layer + (site.kind != "resid_pre")
    for layer in range(0 if site.kind in STREAM_PARTS else first, model.config.n_layers):
        values, out = (each.double().cpu() for each in read_ov(model.weights, model.config, layer))
        matrices = out.mT if layer < first else values  # head d_model d_head
        strengths = (vector @ matrices).norm(dim=-1) / matrices.flatten(1).norm(dim=-1) * len(vector) ** 0.5
        told = [{"layer": layer, "head": head, "times": times} for head, times in enumerate(strengths.tolist())]
        found["writers" if layer < first else "readers"] += told
    return {name: sorted(heads, key=lambda one: -one["times"])[:_N_NEAR] for name, heads in found.items()}


def find_near(direction: Direction, others: Iterable[Direction | SparseAutoencoder]) -> list[dict[str, Any]]:
    """Features and other directions with the largest cosines, whatever their sign; so many of either."""
    others = list(others)
    kinds = [[one for one in others if isinstance(one, kind)] for kind in (SparseAutoencoder, Direction)]
    found = [sorted(chain.from_iterable(_compare(direction, one) for one in kind), key=_size) for kind in kinds]
    return sorted(chain.from_iterable(near[:_N_NEAR] for near in found), key=_size)


def _size(near: dict[str, Any]) -> float:
    return -abs(float(near["cosine"]))


def _compare(direction: Direction, other: Direction | SparseAutoencoder) -> list[dict[str, Any]]:
    if isinstance(other, Direction):
        return [{"name": other.name, "cosine": direction.cosine(other)}]
    rows = other.decoder.double().cpu()
    if rows.shape[-1] != len(direction.vector):
        raise BadArgument(f"{other.name} writes {rows.shape[-1]} entries.", f"Give one of {len(direction.vector)}.")
    cosines = torch.nan_to_num(rows @ direction.vector / rows.norm(dim=-1))
    nearest = cosines.abs().topk(min(_N_NEAR, len(cosines))).indices.tolist()
    return [{"name": f"feature {i} of {other.name}", "cosine": float(cosines[i])} for i in nearest]
