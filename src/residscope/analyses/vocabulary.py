"""A vector over the vocabulary as a table: what a model expects next, what a direction promotes, a bias."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from residscope.direction import Direction, write_once
from residscope.errors import BadArgument, BadTokenizer, UnknownPosition, UnknownToken, count
from residscope.results.result import Result
from residscope.running.arguments import read_whole
from residscope.running.metrics import Answer
from residscope.running.model import Model, check_model
from residscope.running.packing import source_of, write_lines
from residscope.running.positions import is_single
from residscope.running.run import Run

Vector = Run | Direction | Tensor | NDArray[Any]

_STREAMS = ("embed", "pos_embed", "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary(Result):
    """Some tokens of one vector over the vocabulary for each text, or all.

    Attributes:
      token_ids: [batch top] Best first, or as they were chosen.
      logits: [batch top] The vector there.
      log_probs: [batch top] Of its softmax over the whole vocabulary, in nats.
      ranks: [batch top] How many of all tokens have a larger logit.
      changes: [batch top] The logit less that of the other vector; None without one.
      texts: The tokens, as people read them.
    """

    token_ids: Int[Tensor, "batch top"]
    logits: Float[Tensor, "batch top"]
    log_probs: Float[Tensor, "batch top"]
    ranks: Int[Tensor, "batch top"]
    changes: Float[Tensor, "batch top"] | None
    texts: Sequence[Sequence[str]]

    axes: ClassVar[tuple[str, ...]] = ("batch", "top")
    view: ClassVar[str | None] = "vocabulary"

    @property
    def values(self) -> Tensor:
        return self.logits

    def to_frame(self) -> pd.DataFrame:
        """One row a token: batch, rank (from 0), token_id, text, logit, log_prob (nats), prob, and any change."""
        log_probs = self.log_probs.flatten().numpy()
        columns = {
            "batch": np.arange(len(self.logits)).repeat(self.logits.shape[1]),
            "rank": self.ranks.flatten().numpy(),
            "token_id": self.token_ids.flatten().numpy(),
            "text": [text for row in self.texts for text in row],
            "logit": self.logits.flatten().numpy(),
            "log_prob": log_probs,
            "prob": np.exp(log_probs),
        }
        return pd.DataFrame(columns if self.changes is None else {**columns, "change": self.changes.flatten().numpy()})


@torch.no_grad()
def vocabulary(
    source: Vector,
    *,
    pos: int = -1,
    top: int | None = 10,
    bottom: int = 0,
    tokens: Answer | Sequence[Answer] | None = None,
    minus: Vector | None = None,
    model: Model | None = None,
) -> Vocabulary:
    """The tokens that a vector over the vocabulary has most and least of: logits, a direction's, a bias.

    Args:
      source: A run, whose logits are computed at `pos` only; a direction of the stream, read through the final norm's
        weight and the unembedding; or a vector, [d_vocab] or [batch d_vocab].
      pos: Of a run: from 0, negative from each text's own end.
      top: How many of the best; None is all of the vocabulary.
      bottom: How many of the worst, which follow them.
      tokens: One or several instead, as texts of one token or ids.
      minus: Another, for `changes`; one for all texts or one for each.
      model: Whose vocabulary it is; a run has its own.
    Returns:
      token_ids, logits, log_probs, ranks, changes  [batch top]
    Raises:
      UnknownPosition: A text has no such position.
      UnknownToken: A text that was chosen is not one token.
      BadArgument: No or too many tokens are asked for; the vector does not fit the vocabulary, or is not finite.
    Holds:
      Logits of a run equal `run.logits` there; probabilities of all tokens sum to one.
      A direction's are what adding it once to the last stream does to the logits, directly and times the final norm's
      scale, less their mean; under a soft cap, before it and with their mean.
    """
    if not is_single(pos):
        raise UnknownPosition(f"The positions {pos!r} were asked for.", "Give one whole number.")
    model = _find_model(source, model)
    d_vocab = model.config.d_vocab
    hint = f"The vocabulary has {d_vocab} tokens; top=None is all."
    n_top = d_vocab if top is None else read_whole("top", top, 0, d_vocab, hint)
    n_bottom = read_whole("bottom", bottom, 0, d_vocab - n_top, hint)
    chosen = None if tokens is None else [read_token(token, model) for token in _list_answers(tokens)]
    if not (n_top + n_bottom if chosen is None else chosen):
        raise BadArgument("No token was asked for.", hint)
    logits = _read_vectors(source, model, pos)
    other = None if minus is None else _read_vectors(minus, model, pos)
    if other is not None and len(other) not in (1, len(logits)):
        raise BadArgument(
            f"minus has {count(len(other), 'vector')}, and there are {len(logits)}.", "Give one, or as many."
        )
    if chosen is None:
        worst = logits.topk(n_bottom, largest=False).indices.flip(-1)
        ids = torch.cat((logits.topk(n_top).indices, worst), dim=1)
    else:
        ids = torch.tensor([chosen]).expand(len(logits), -1)
    kept = logits.gather(-1, ids)
    ordered = torch.from_numpy(np.sort(logits.numpy()))  # many times faster than torch's
    given = {"source": source} if minus is None else {"source": source, "minus": minus}
    names = [_describe(one, model, pos) for one in given.values()]
    asked = f"tokens={[name_token(i, model) for i in chosen]!r}" if chosen else f"top={top}, bottom={bottom}"
    return Vocabulary(
        name=f"{' less '.join(names)} of {model.name}",
        settings={
            **{
                word: f"{name} of {one!r}" if isinstance(one, Run) else name
                for (word, one), name in zip(given.items(), names, strict=True)
            },
            "asked": asked,
            **(source.settings if isinstance(source, Run) else {"dtype": str(model.dtype).removeprefix("torch.")}),
        },
        python=_write_call(given, model, f"pos={pos}, {asked}"),
        token_ids=ids,
        logits=kept,
        log_probs=logits.log_softmax(-1).gather(-1, ids),
        ranks=d_vocab - torch.searchsorted(ordered, kept, right=True),
        changes=None if other is None else kept - other.expand(len(ids), -1).gather(-1, ids),
        texts=[[model.tokenizer.piece(i) for i in row] for row in ids.tolist()],
    )


def read_token(token: object, model: Model) -> int:
    """The id of a token that was given as its text or as that id.

    Raises:
      UnknownToken, BadArgument: The vocabulary has none such.
    """
    if isinstance(token, str):
        return model.single_token(token)
    last = model.config.d_vocab - 1
    return read_whole("token", token, 0, last, f"Give the text of one token, or an id from 0 to {last}.")


def name_token(token_id: int, model: Model) -> Answer:
    """A token as people write it: its text where that is this one token, else its id."""
    text = model.tokenizer.piece(token_id)
    try:
        return text if model.single_token(text) == token_id else token_id
    except (UnknownToken, BadTokenizer):
        return token_id


def read_answers(answers: Answer | Sequence[Answer], n_batch: int) -> list[Answer]:
    """One answer for each text, where one may be given for all.

    Raises:
      BadArgument: There are more or fewer than texts.
    """
    several = _list_answers(answers)
    if len(several) == 1 and several[0] is answers:
        return several * n_batch
    if len(several) != n_batch:
        raise BadArgument(
            f"{count(len(several), 'token')} {'was' if len(several) == 1 else 'were'} given for "
            f"{count(n_batch, 'text')}.",
            "Give one, or one for each text.",
        )
    return several


def _list_answers(answers: Any) -> list[Any]:
    """One, or several, as a list."""
    try:
        return [answers] if isinstance(answers, str) else list(answers)
    except TypeError:
        return [answers]


def _find_model(source: Vector, model: Model | None) -> Model:
    own = source.model if isinstance(source, Run) else model
    if own is None:
        raise BadArgument(f"A {type(source).__name__} was given, and no model.", "Say whose vocabulary: model=...")
    if model not in (None, own):
        raise BadArgument("A run was given, and another model.", "Leave the model out: a run has its own.")
    check_model(own)
    return own


def _read_vectors(source: object, model: Model, pos: int) -> Float[Tensor, "batch d_vocab"]:
    """One vector or one for each text, on the CPU, in float32 at least."""
    if isinstance(source, Run):
        found = source.at("logits", pos)
    elif isinstance(source, Direction):
        found = _promote(source, model)
    elif isinstance(source, (Tensor, np.ndarray)):
        found = _read_array(source)
    else:
        raise BadArgument(f"A {type(source).__name__} was given.", "Give a run, a direction, or a vector.")
    if found.ndim not in (1, 2) or not found.numel() or found.shape[-1] != model.config.d_vocab:
        raise BadArgument(
            f"An array of shape {list(found.shape)} was given, and the vocabulary has {model.config.d_vocab} tokens.",
            "Give [d_vocab] or [batch d_vocab]; a vector of the stream as an rs.Direction.",
        )
    found = found.reshape(-1, model.config.d_vocab).to("cpu", torch.promote_types(found.dtype, torch.float32))
    wrong = (~found.isfinite()).nonzero()
    if len(wrong):
        row, token = wrong[0].tolist()
        raise BadArgument(
            f"What was given is {float(found[row, token])} at token {token}.", "That has no share: mend what made it."
        )
    return found


def _read_array(source: Tensor | NDArray[Any]) -> Tensor:
    try:
        found = torch.as_tensor(source).detach()
    except TypeError:
        found = None
    if found is None or found.is_complex():
        raise BadArgument(f"An array of {source.dtype} was given.", "Give real numbers.")
    return found


def _promote(direction: Direction, model: Model) -> Float[Tensor, " d_vocab"]:
    """What one unit of a direction in the last stream adds to the logits, directly, at a final norm's scale of one."""
    config, transformer = model.config, model.transformer
    if direction.site.kind not in _STREAMS or len(direction.vector) != config.d_model:
        raise BadArgument(
            f"A direction of {direction.site} with {len(direction.vector)} entries was given.",
            f"Give one of the stream, of {config.d_model}: at {', '.join(_STREAMS)}.",
        )
    weight = transformer.unembedding.weight
    vector = direction.vector.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
    norm = transformer.ln_final
    if norm is not None:
        vector = norm.centre(vector)
        vector = vector if norm.weight is None else vector * (norm.offset + norm.weight.to(vector))
    promoted = weight.to(vector) @ vector
    return promoted if config.logit_cap else promoted - promoted.mean()


def _describe(source: Vector, model: Model, pos: int) -> str:
    """What a vector is, with its convention."""
    if isinstance(source, Run):
        return f"logits at position {pos}{', edited' if source.edits else ''}"
    if not isinstance(source, Direction):
        return "a vector that was given"
    centred = "before the cap" if model.config.logit_cap else "centred over the vocabulary"
    return f"logits from {source.name}, direct path only, times the final norm's scale, {centred}"


def _write_call(given: Mapping[str, Vector], model: Model, asked: str) -> list[str]:
    blocks: list[Sequence[str]] = [model.python]
    for name, one in given.items():
        made = one.lines() if isinstance(one, Direction) else []
        blocks.append([*made, f"{name} = {'direction' if made else source_of(one)}"])
    minus = ", minus=minus" if "minus" in given else ""
    own = "" if isinstance(given["source"], Run) else ", model=model"
    call = f"rs.vocabulary(source, {asked}{minus}{own})"
    return write_lines([], write_once([*blocks, model.python, [call]]))
