"""What a model expects next: a vector over the vocabulary as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadArgument
from residscope.results.result import Result
from residscope.running.run import Run
from residscope.running.texts import describe_texts


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary(Result):
    """The best next tokens at one position of each text.

    Attributes:
      token_ids: [batch top] Best first.
      logits: [batch top] As the model gives them.
      log_probs: [batch top] Nats.
      texts: The tokens, as people read them.
    """

    token_ids: Int[Tensor, "batch top"]
    logits: Float[Tensor, "batch top"]
    log_probs: Float[Tensor, "batch top"]
    texts: Sequence[Sequence[str]]

    axes: ClassVar[tuple[str, ...]] = ("batch", "top")

    @property
    def values(self) -> Tensor:
        return self.logits

    def to_frame(self) -> pd.DataFrame:
        """One row a token: batch, rank (from 0), token_id, text, logit, log_prob (nats), prob."""
        n_batch, n_top = self.logits.shape
        return pd.DataFrame(
            {
                "batch": [b for b in range(n_batch) for _ in range(n_top)],
                "rank": [*range(n_top)] * n_batch,
                "token_id": self.token_ids.flatten().numpy(),
                "text": [text for row in self.texts for text in row],
                "logit": self.logits.flatten().float().numpy(),
                "log_prob": self.log_probs.flatten().float().numpy(),
                "prob": self.log_probs.flatten().float().exp().numpy(),
            }
        )


def vocabulary(run: Run, *, pos: int = -1, top: int = 10) -> Vocabulary:
    """The most probable next tokens after one position of each text.

    Args:
      run: Any run; logits are computed at that position only.
      pos: From 0, negative from each text's own end.
      top: Tokens to keep, 1 to d_vocab.
    Returns:
      token_ids, logits, log_probs  [batch top], best first
    Raises:
      UnknownPosition: A text has no such position.
      BadArgument: `top` is outside the vocabulary.
    Holds:
      Logits equal `run.logits` there; probabilities of all tokens sum to one.
    """
    d_vocab = run.model.config.d_vocab
    if not 1 <= top <= d_vocab:
        raise BadArgument(f"top={top} was asked for, and the vocabulary has {d_vocab} tokens.", "Ask for 1 at least.")
    logits = run.at("logits", pos).float()
    best = logits.topk(top, dim=-1)
    return Vocabulary(
        name=f"next tokens of {run.model.name}",
        settings={"pos": pos, "has_bos": run.tokens.has_bos, "dtype": str(run.model.dtype).removeprefix("torch.")},
        python=(
            *run.model.python,
            f"run = model.run({describe_texts(run.source)})",
            f"rs.vocabulary(run, pos={pos}, top={top})",
        ),
        token_ids=best.indices.cpu(),
        logits=best.values.cpu(),
        log_probs=logits.log_softmax(-1).gather(-1, best.indices).cpu(),
        texts=[[run.model.tokenizer.piece(i) for i in row] for row in best.indices.tolist()],
    )
