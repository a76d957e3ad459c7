"""One cell of the logit lens over the whole vocabulary, and what it has over another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.analyses.logit_lens import NORMS
from residscope.analyses.vocabulary import Vocabulary, vocabulary
from residscope.errors import BadArgument, NoFinalNorm, UnknownPosition, UnknownSite
from residscope.running.packing import write_lines
from residscope.running.run import Run
from residscope.sites import Site

STREAMS = ("resid_pre", "resid_mid", "resid_post")
Cell = tuple[str | Site, int]


@torch.no_grad()
def lens_vocabulary(
    run: Run,
    site: str | Site,
    pos: int = -1,
    *,
    norm: Literal["own", "final"] = "own",
    minus: Cell | None = None,
    top: int | None = None,
) -> Vocabulary:
    """What a stream would predict at one position if the model ended there, token by token.

    Args:
      run: Any run; its edits are in what is read.
      site: A stream: resid_pre, resid_mid or resid_post of a layer.
      pos: From 0, negative from each text's own end.
      norm: As of `rs.logit_lens`.
      minus: Site and position of another cell, for `changes`.
      top: How many of the best; None is all of the vocabulary.
    Returns:
      token_ids, logits, log_probs, ranks, changes  [batch top]
    Raises:
      NoFinalNorm: The model has none; read its streams with `rs.vocabulary`.
      BadArgument: No such norm or number.
      UnknownSite: The model has no such site, or it is no stream.
      UnknownPosition: A text has no such position.
    Holds:
      The best tokens and their logits are those of the same cell of `rs.logit_lens`.
    """
    if norm not in NORMS:
        raise BadArgument(f"norm={norm!r} was asked for.", f"Choose {', '.join(map(repr, NORMS))}.")
    cells: Sequence[Cell] = [(site, pos)] if minus is None else [(site, pos), minus]
    logits = [_read_cell(run, run.model.find(str(one)), at, norm) for one, at in cells]
    names = [f"{run.model.find(str(one))} at {at}" for one, at in cells]
    found = vocabulary(logits[0], top=top, minus=None if minus is None else logits[1], model=run.model)
    also = "" if minus is None else f", minus={(str(minus[0]), minus[1])!r}"
    return replace(
        found,
        name=f"logit lens of {names[0]}{f', less that of {names[1]}' if minus else ''}, of {run.model.name}",
        settings={
            **found.settings,
            **dict(zip(("source", "minus"), names, strict=False)),
            "norm": norm,
            "meaning": {"norm": NORMS[norm]},
            "has_bos": run.tokens.has_bos,
        },
        python=write_lines(
            run.model.python,
            [f"run = {run!r}", f"rs.lens_vocabulary(run, {str(site)!r}, {pos}, norm={norm!r}{also}, top={top})"],
        ),
    )


def _read_cell(run: Run, site: Site, pos: int, norm: str) -> Float[Tensor, "batch d_vocab"]:
    model, ln_final = run.model, run.model.transformer.ln_final
    if ln_final is None:
        raise NoFinalNorm(f"{model.name} has no final norm.", "Read its streams with rs.vocabulary.")
    if site.kind not in STREAMS:
        raise UnknownSite(f"The lens of {site} was asked for.", f"It reads {', '.join(STREAMS)}.")
    if not isinstance(pos, int):
        raise UnknownPosition(f"The positions {pos!r} were asked for.", "Give one whole number.")
    if site == Site("resid_post", model.config.n_layers - 1):
        return run.at("logits", pos)  # as the run has it, edits of the final norm included
    x = run.at(site, pos).to(model.device)
    normed = ln_final.plain(x) if norm == "own" else ln_final.divide(x, run.at("ln_final_scale", pos).to(x)[..., None])
    unembedding = model.transformer.unembedding
    logits = torch.nn.functional.linear(normed, unembedding.weight, unembedding.bias)
    return model.transformer.cap_logits(logits)
