"""The logit lens: what each layer's residual stream would predict if the model ended there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from residscope.analyses.vocabulary import name_token, read_answers, read_token
from residscope.errors import BadArgument, NoFinalNorm
from residscope.results.result import Indices, TokenResult
from residscope.running.arguments import read_choice, read_whole
from residscope.running.metrics import Answer
from residscope.running.model import Model
from residscope.running.packing import write_lines
from residscope.running.positions import PADDED
from residscope.running.progress import report
from residscope.running.run import Run, check_run
from residscope.running.texts import token_facts
from residscope.sites import Site, read_site
from residscope.transformer.transformer import Norm

NORMS = {
    "own": "each stream by its own scale",
    "final": "each stream by the scale of the last one at the same position",
}
VALUES = {
    "prob": "probability of the target",
    "logit": "logit of the target",
    "rank": "how many tokens have a larger logit than the target",
    "entropy": "of the cell's prediction, in nats",
    "kl": "KL(final prediction || the cell's), in nats",
}
TARGETS = {
    "own": "the cell's own best token",
    "final": "the best token of the last row at that position",
    "next": "the token that the text goes on with; none after its last",
}
_BLOCK = 128  # tokens
_AT_ONCE = 13_000_000  # logits: enough for a fast product


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens(TokenResult):
    """Predictions off the stream, before every layer and after the last.

    Attributes:
      values: [batch layer pos] As `settings["value"]` says; here and below NaN where padded, or -1.
      token_ids: [batch layer pos top] Best first.
      logits: [batch layer pos top] Of those tokens, as the model gives them.
      log_probs: [batch layer pos top] Theirs, in nats.
      entropy: [batch layer pos] Of each prediction, in nats.
      targets: [batch pos] The tokens that values are of, where cells do not have their own; None otherwise.
      sites: What each row reads.
      texts: By its id, every token that is named here.
    """

    values: Float[Tensor, "batch layer pos"]
    token_ids: Int[Tensor, "batch layer pos top"]
    logits: Float[Tensor, "batch layer pos top"]
    log_probs: Float[Tensor, "batch layer pos top"]
    entropy: Float[Tensor, "batch layer pos"]
    targets: Int[Tensor, "batch pos"] | None
    sites: Sequence[str]
    texts: Mapping[str, str]

    axes: ClassVar[tuple[str, ...]] = ("batch", "layer", "pos")
    view: ClassVar[str | None] = "logit_lens"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        """Beside `layer` the row's site, the last row being the layer after the last; beside `pos` the prediction."""
        if axis == "layer":
            sites = [read_site(name) for name in self.sites]
            layers = [(site.layer or 0) + (site.kind == "resid_post") for site in sites]
            return {"layer": np.array(layers)[index], "site": np.array(self.sites)[index]}
        found = super().columns(axis, index, places)
        if axis == "pos":
            cell = places["batch"], places["layer"], index
            if self.targets is not None:
                found["target"] = self._read(self.targets[cell[0], index])
            found["best"] = self._read(self.token_ids[*cell, 0])
            found["entropy"] = self.entropy.numpy()[cell]
        return found

    def _read(self, ids: Tensor) -> list[str | None]:
        return [self.texts.get(str(i)) for i in ids.tolist()]


@torch.no_grad()
def logit_lens(
    run: Run,
    *,
    norm: Literal["own", "final"] = "own",
    value: Literal["prob", "logit", "rank", "entropy", "kl"] = "prob",
    target: Literal["own", "final", "next"] | Answer | Sequence[Answer] = "own",
    sub_blocks: bool = False,
    top: int = 5,
    precap: bool = False,
) -> LogitLens:
    """Read next-token predictions off the residual stream before every layer and after the last.

    Args:
      run: Any run; streams it did not keep are computed, and kept. Its edits are in what is read.
      norm: Whose final-norm scale is used: each stream's own, or the full run's; weight and bias are the final norm's.
      value: What `values` has; see `VALUES`.
      target: Whose probability, logit or rank: see `TARGETS`; or one token for all texts or one for each, as its text
        or id ("own", "final" and "next" by their ids).
      sub_blocks: Also read between attention and MLP.
      top: Tokens kept per cell, 1..d_vocab.
      precap: Logits as they are before a soft cap, where the model has one.
    Returns:
      values     [batch layer pos]
      token_ids  [batch layer pos top]  best first; n_layers + 1 rows, with sub-blocks 2 n_layers + 1
      logits     [batch layer pos top]  as the model gives them, capped where it caps
      log_probs  [batch layer pos top]  nats
      entropy    [batch layer pos]      nats
    Raises:
      NoFinalNorm: The model has none; read the streams with `vocabulary` instead.
      UnknownSite: Sub-blocks are asked for, and attention and MLP are parallel or there is no MLP.
      UnknownToken: A target that is a text is not one token.
      BadArgument: A choice that there is not, or that has no meaning beside the others.
    Holds:
      The last row equals `run.logits`. At no time are more logits held than some positions' of all rows.
    Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).
    """
    check_run(run)
    model, tokens = run.model, run.tokens
    _check_choices(norm, value, target)
    top = read_whole("top", top, 1, model.config.d_vocab)
    if model.transformer.ln_final is None:
        raise NoFinalNorm(f"{model.name} has no final norm.", "Read its streams with rs.vocabulary.")
    kinds, layers = ("resid_pre", "resid_mid") if sub_blocks else ("resid_pre",), range(model.config.n_layers)
    sites = [model.find(Site(kind, layer)) for layer in layers for kind in kinds] + [Site("resid_post", layers[-1])]
    targets, said = _read_targets(run, target)
    asked = _Asked(norm, value, targets, said == "final", top, precap)
    cells = _read_streams(run, sites, model.transformer.ln_final, asked)
    values, token_ids, logits, log_probs, entropy = (_lay_out(one, tokens.mask) for one in cells)
    if asked.of_final:
        targets = token_ids[:, -1, :, 0]
    if targets is not None:
        values = values.masked_fill((targets == PADDED)[:, None], torch.nan)
    named = {i for ids in (token_ids, targets) if ids is not None for i in ids.flatten().tolist()} - {PADDED}
    choices = f"value={value!r}, target={said!r}, sub_blocks={sub_blocks}, top={top}, precap={precap}"
    return LogitLens(
        name=f"logit lens of {run.name}",
        settings={
            "norm": norm,
            "value": value,
            "target": said,
            "meaning": {"norm": NORMS[norm], "value": VALUES[value], "target": TARGETS.get(str(said), "chosen")},
            "cap": ("before" if precap else "after") if model.config.logit_cap else None,
            **run.settings,
        },
        python=write_lines(model.python, [f"run = {run!r}", f"rs.logit_lens(run, norm={norm!r}, {choices})"]),
        **token_facts(tokens),
        values=values,
        token_ids=token_ids,
        logits=logits,
        log_probs=log_probs,
        entropy=entropy,
        targets=targets,
        sites=list(map(str, sites)),
        texts={str(i): model.tokenizer.piece(i) for i in sorted(named)},
    )


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is read of every cell.

    Attributes:
      norm, value, top, precap: As `logit_lens` takes them.
      targets: [batch pos] The tokens that values are of, where they do not depend on predictions.
      of_final: Whether they are the last row's best.
    """

    norm: str
    value: str
    targets: Int[Tensor, "batch pos"] | None
    of_final: bool
    top: int
    precap: bool


def _read_streams(run: Run, sites: Sequence[Site], ln_final: Norm, asked: _Asked) -> tuple[Tensor, ...]:
    """What `_read_cells` finds in every row at every token, `[layer token ...]`, some tokens at a time."""
    model, transformer = run.model, run.model.transformer
    streams = [run.raw(model.place(site)).flatten(0, 1) for site in sites]
    last = run.raw(model.last_site).flatten(0, 1)
    scale = run.raw(Site("ln_final_scale")).flatten() if asked.norm == "final" else None
    there = run.tokens.mask.flatten().nonzero()[:, 0]
    parts = torch.split(there, max(1, _AT_ONCE // (len(sites) * model.config.d_vocab)))
    found: list[tuple[Tensor, ...]] = []
    weight, rooms = transformer.unembedding.weight, _make_rooms(model, len(sites) * len(parts[0]))
    bias: Tensor | None = transformer.unembedding.bias
    for number, part in enumerate(parts):
        report(number, len(parts), "logit lens")
        x = torch.stack([stream[part].to(model.device) for stream in streams])  # layer token d_model
        normed = ln_final.plain(x) if scale is None else ln_final.divide(x, scale[part].expand(x.shape[:2])[..., None])
        normed[-1] = last[part]  # as the run has it, edits of the final norm included
        room, room_of_probs = (room[: len(sites) * len(part)] for room in rooms)
        logits = torch.mm(normed.flatten(0, 1), weight.T, out=room).view(len(sites), len(part), -1)
        logits = logits if bias is None else logits.add_(bias)
        logits = logits if asked.precap else transformer.cap_logits(logits)
        targets = None if asked.targets is None else asked.targets.flatten()[part].to(model.device)
        found.append(_read_cells(logits, room_of_probs, asked, targets))
    report(len(parts), len(parts), "logit lens")
    return tuple(torch.cat(part, dim=1).cpu() for part in zip(*found, strict=True))


def _make_rooms(model: Model, n: int) -> tuple[Float[Tensor, "cell d_vocab"], Float[Tensor, "cell d_vocab"]]:
    """For logits and probabilities of some cells, used again: such large arrays would take new pages each time."""
    wide = torch.promote_types(model.dtype, torch.float32)
    logits, probs = (torch.empty(n, model.config.d_vocab, dtype=d, device=model.device) for d in (model.dtype, wide))
    return logits, probs


def _check_choices(norm: str, value: str, target: object) -> None:
    read_choice("norm", norm, NORMS)
    read_choice("value", value, VALUES)
    own = isinstance(target, str) and target == "own"
    if value in ("entropy", "kl") and not own:
        raise BadArgument(
            f"value={value!r} was asked for, and target={target!r}.", "It is of no token: leave that out."
        )
    if value == "rank" and own:
        raise BadArgument(
            "The rank of each cell's own best token was asked for, which is 0.", 'Take target="final" or another.'
        )


def _read_targets(
    run: Run, target: Literal["own", "final", "next"] | Answer | Sequence[Answer]
) -> tuple[Int[Tensor, "batch pos"] | None, str | Answer | list[Answer]]:
    """The tokens that are asked for, where they do not depend on predictions; and the argument that asks for them."""
    ids, mask = run.tokens.ids, run.tokens.mask
    if isinstance(target, str) and target in ("own", "final"):
        return None, target
    if isinstance(target, str) and target == "next":
        following = ids.masked_fill(~mask, PADDED).roll(-1, dims=1)
        following[:, -1] = PADDED
        return following, target
    chosen = [read_token(one, run.model) for one in read_answers(target, len(ids))]
    # A text that is the word for a way to choose is told by its id.
    names = [i if name in TARGETS else name for i, name in ((i, name_token(i, run.model)) for i in chosen)]
    targets = torch.tensor(chosen)[:, None].expand(ids.shape).masked_fill(~mask, PADDED)
    return targets, names[0] if len({*names}) == 1 else names


def _read_cells(
    logits: Float[Tensor, "layer token d_vocab"],
    room: Float[Tensor, "cell d_vocab"],
    asked: _Asked,
    targets: Int[Tensor, " token"] | None,
) -> tuple[Tensor, ...]:
    """Values, best tokens, their logits and log probabilities, and entropy of every cell: `[layer token ...]`.

    Logits are written over; the room is for probabilities.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    best, token_ids = _find_best(logits, asked.top)
    probs = torch.softmax(logits, -1, out=room.view_as(logits))
    if targets is not None:
        ids = targets.clamp(min=0)[None, :, None].expand(len(logits), -1, -1)
    else:
        ids = (token_ids[-1:, :, :1] if asked.of_final else token_ids[:, :, :1]).expand(len(logits), -1, -1)
    chosen = logits.gather(-1, ids)
    values = (logits > chosen).sum(-1).to(logits) if asked.value == "rank" else chosen[..., 0]
    # Log probabilities of all tokens would take longer than all the rest: those of the best say what all are less.
    first = best[..., :1]
    log_probs = best - first + probs.gather(-1, token_ids[..., :1]).log()
    below = logits.sub_(first)
    entropy = -(log_probs[..., 0] + (probs[..., None, :] @ below[..., None])[..., 0, 0])  # vecdot would hold products
    if asked.value == "entropy":
        values = entropy
    elif asked.value == "kl":
        less = log_probs[-1, :, 0] - log_probs[..., 0]
        values = (torch.linalg.vecdot(probs[-1], below[-1] - below) + less).clamp(min=0)  # rounding may go below
    elif asked.value == "prob":
        values = probs.gather(-1, ids)[..., 0]
    return values, token_ids, best, log_probs, entropy


def _find_best(
    logits: Float[Tensor, "layer token d_vocab"], top: int
) -> tuple[Float[Tensor, "layer token top"], Int[Tensor, "layer token top"]]:
    """The largest logits and their tokens, as `topk` gives them: sought only in blocks whose largest are among them."""
    n_blocks = logits.shape[-1] // _BLOCK
    if n_blocks < 2 * top:
        largest = logits.topk(top)
        return largest.values, largest.indices
    size, device = n_blocks * _BLOCK, logits.device
    blocks = logits[..., :size].view(*logits.shape[:-1], n_blocks, _BLOCK).amax(-1).topk(top).indices
    rest = torch.arange(size, logits.shape[-1], device=device).expand(*logits.shape[:-1], -1)
    tokens = torch.cat([(blocks[..., None] * _BLOCK + torch.arange(_BLOCK, device=device)).flatten(-2), rest], dim=-1)
    largest = logits.gather(-1, tokens).topk(top)
    return largest.values, tokens.gather(-1, largest.indices)


def _lay_out(cells: Shaped[Tensor, "layer token *top"], mask: Bool[Tensor, "batch pos"]) -> Tensor:
    """`[batch layer pos ...]`; NaN where padded, and of ids `PADDED`."""
    whole = cells.new_full(
        (*mask.shape, len(cells), *cells.shape[2:]), torch.nan if cells.is_floating_point() else PADDED
    )
    whole[mask] = cells.movedim(0, 1)
    return whole.movedim(2, 1)
