"""How well a model expects an answer: its rank, probability and logit after every token of a prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.analyses.vocabulary import read_answers, read_token
from residscope.errors import UnknownToken
from residscope.results.result import Indices, TokenResult
from residscope.running.metrics import Answer
from residscope.running.packing import write_lines
from residscope.running.positions import PADDED
from residscope.running.run import Run, check_run
from residscope.running.texts import token_facts

N_TOP = 10
_AT_ONCE = 8_000_000  # logits


@dataclass(frozen=True, eq=False, repr=False)
class NextTokens(TokenResult):
    """An answer after every token, and the tokens that are expected most there.

    Attributes:
      values: [batch pos] The answer's probability; here and below NaN where padded, or -1.
      ranks: [batch pos] How many tokens have a larger logit.
      logits: [batch pos] The answer's.
      top_ids: [batch pos top] Best first.
      top_probs: [batch pos top] Theirs.
      answers: [batch] Ids of what was asked for.
      texts: By its id, every token that is named here.
      warning: Where an answer is not what it seems; empty otherwise.
    """

    values: Float[Tensor, "batch pos"]
    ranks: Int[Tensor, "batch pos"]
    logits: Float[Tensor, "batch pos"]
    top_ids: Int[Tensor, "batch pos top"]
    top_probs: Float[Tensor, "batch pos top"]
    answers: Int[Tensor, " batch"]
    texts: Mapping[str, str]
    warning: str

    axes: ClassVar[tuple[str, ...]] = ("batch", "pos")
    view: ClassVar[str | None] = "next_tokens"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "batch":
            return {"answer": [self.texts[str(i)] for i in self.answers[index].tolist()]}
        cell = tuple(places.values())
        top = self.top_ids.numpy()[cell].tolist()
        return {
            **super().columns(axis, index, places),
            "rank": self.ranks.numpy()[cell],
            "logit": self.logits.numpy()[cell],
            "top": [[self.texts.get(str(i)) for i in ids] for ids in top],
        }

    def __repr__(self) -> str:
        return super().__repr__() + (f"\n{self.warning}" if self.warning else "")


@torch.no_grad()
def next_tokens(run: Run, answer: Answer | Sequence[Answer]) -> NextTokens:
    """Rank, probability and logit of an expected answer at every position, and the ten best tokens beside it.

    Args:
      run: Any run.
      answer: What is expected next, one for all texts or one for each: a text or a token id. Of several tokens the
        first is taken, and `warning` says so; it also says where a space in front would make another token.
    Returns:
      values, ranks, logits  [batch pos]  of the answer; top_ids, top_probs  [batch pos top]  best first
    Raises:
      BadArgument: There are not as many answers as texts, or an id is outside the vocabulary.
      UnknownToken: An answer is empty.
      BadTokenizer: An answer is a text, and the model has no tokenizer.
    Holds:
      Equal to the softmax of `run.logits` and its order, however much is computed at a time.
    """
    check_run(run)
    model, tokens = run.model, run.tokens
    n_batch, n_pos = tokens.ids.shape
    asked = [one if isinstance(one, str) else read_token(one, model) for one in read_answers(answer, n_batch)]
    read = [_read_answer(run, one, text) for text, one in enumerate(asked)]
    ids = torch.tensor([number for number, _ in read])
    parts: list[tuple[Tensor, ...]] = []
    step = max(1, _AT_ONCE // (n_batch * model.config.d_vocab))
    for start in range(0, n_pos, step):
        logits = run.at("logits", slice(start, start + step))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # batch pos d_vocab
        own = ids.to(logits.device)[:, None, None].expand(-1, logits.shape[1], 1)
        logit, probs = logits.gather(-1, own), logits.softmax(-1)
        best = probs.topk(min(N_TOP, model.config.d_vocab))
        ranks = (logits > logit).sum(-1).masked_fill(logit[..., 0].isnan(), PADDED)
        parts.append((probs.gather(-1, own)[..., 0], ranks, logit[..., 0], best.indices, best.values))
    values, ranks, logits, top_ids, top_probs = (torch.cat(part, dim=1).cpu() for part in zip(*parts, strict=True))
    top_ids = top_ids.masked_fill(~tokens.mask[..., None], PADDED)
    said = asked[0] if len({*asked}) == 1 else asked
    named = {*ids.tolist(), *top_ids.flatten().tolist()} - {PADDED}
    return NextTokens(
        name=f"next tokens of {run.name}",
        settings={"value": "prob", "answer": said, **run.settings},
        python=write_lines(model.python, [f"run = {run!r}", f"rs.next_tokens(run, answer={said!r})"]),
        **token_facts(tokens),
        values=values,
        ranks=ranks,
        logits=logits,
        top_ids=top_ids,
        top_probs=top_probs,
        answers=ids,
        texts={str(i): model.tokenizer.piece(i) for i in sorted(named)},
        warning=" ".join(dict.fromkeys(said for _, said in read if said)),
    )


def _read_answer(run: Run, answer: Answer, text: int) -> tuple[int, str]:
    """The first token of a text's answer, and what there is to say of it."""
    if not isinstance(answer, str):
        return answer, ""
    tokenizer = run.model.tokenizer
    ids = tokenizer.encode_after(answer)
    if not ids:
        raise UnknownToken(f"The answer {answer!r} has no token.", "Give the text that is expected next.")
    pieces, said = [tokenizer.piece(i) for i in ids], []
    if pieces != [answer]:
        said = [f"{answer!r} is {len(ids)} tokens: {'|'.join(pieces)}. All numbers are of the first, {pieces[0]!r}."]
    if answer[0].isalnum() and not run.tokens.pieces[text][-1][-1:].isspace():
        spaced = tokenizer.piece(tokenizer.encode_after(f" {answer}")[0])
        if spaced.strip():
            said.append(f"{answer!r} has no space in front; with one it is another token, {spaced!r}.")
    return read_token(ids[0], run.model), " ".join(said)
