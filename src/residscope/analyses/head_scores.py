"""What attention heads do, in numbers: where they look in repeated random tokens, and what they copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadArgument, BadTokenizer
from residscope.results.result import Indices, Result
from residscope.running.model import Model

SCORES = {
    "previous_token": "attention to the token before",
    "duplicate_token": "attention to the same token where it stood first",
    "induction": "attention to the token after the place where the same token stood first",
    "first_token": "attention to the first token of all",
    "entropy": "of the attention, in nats",
    "copying": "sum of the eigenvalues of W_E W_V W_O W_U over the sum of their sizes: 1 copies, -1 forbids",
}


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores(Result):
    """Scores of every head; `scores["induction"]` is one of them, `[layer head]`.

    Attributes:
      values: [score layer head] Means over the sequences.
      errors: [score layer head] Their standard errors; NaN for copying, which is of the weights alone.
      scores: What each is, in the order of `values`.
    """

    values: Float[Tensor, "score layer head"]
    errors: Float[Tensor, "score layer head"]
    scores: Sequence[str]

    axes: ClassVar[tuple[str, ...]] = ("score", "layer", "head")

    def __getitem__(self, score: str) -> Float[Tensor, "layer head"]:
        """One score of every head.

        Raises:
          BadArgument: There is none of that name.
        """
        return self.values[self._number(score)]

    def best(self, score: str) -> tuple[int, int, float]:
        """Layer, head and value of the head that has most of a score.

        Raises:
          BadArgument: There is none of that name.
        """
        found = self[score]
        layer, head = divmod(int(found.argmax()), found.shape[1])
        return layer, head, float(found[layer, head])

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        return {"score": np.array(self.scores)[index]} if axis == "score" else {}

    def to_frame(self) -> pd.DataFrame:
        """One row a score of a head, with its standard error."""
        frame = super().to_frame()
        frame.insert(len(frame.columns) - 1, "error", self.errors.double().numpy().ravel())
        return frame

    def _number(self, score: str) -> int:
        if score not in self.scores:
            raise BadArgument(f"There is no score {score!r}.", f"Choose {', '.join(self.scores)}.")
        return self.scores.index(score)


def head_scores(
    model: Model, *, n_sequences: int = 8, n_tokens: int = 50, seed: int = 0, bos: Literal["auto"] | bool = "auto"
) -> HeadScores:
    """Score every head on random tokens that are said twice, and by its weights.

    Args:
      model: Any.
      n_sequences: Over which mean and standard error are taken.
      n_tokens: Of one sequence, which is then repeated; special tokens are not among them.
      seed: Of the draws.
      bos: Whether a beginning-of-sequence token stands before; "auto" as the tokenizer does. It is no query, and only
        `first_token` and `entropy` count it as a key.
    Returns:
      values, errors  [score layer head]  see `SCORES` for what each means
    Raises:
      BadArgument: Fewer than two sequences, or of so many tokens that they do not fit the context.
      BadTokenizer: `bos=True` and there is no such token.
    Holds:
      Attention scores equal TransformerLens's means of a diagonal of the pattern; copying equals that of all
      eigenvalues of the d_vocab by d_vocab matrix.
    Source: Olsson et al., "In-context Learning and Induction Heads" (2022); for copying Elhage et al., "A Mathematical
      Framework for Transformer Circuits" (2021).
    """
    tokenizer, n_ctx = model.tokenizer, model.config.n_ctx
    with_bos = tokenizer.prepends_bos if bos == "auto" else bos
    if with_bos and tokenizer.bos_id is None:
        raise BadTokenizer("The tokenizer has no beginning-of-sequence token.", "Take bos=False.")
    if n_sequences < 2 or not 2 <= n_tokens <= (n_ctx - with_bos) // 2:
        raise BadArgument(
            f"{n_sequences} sequences of {n_tokens} tokens, twice, were asked for, and the context is {n_ctx}.",
            f"Take two sequences at least, of 2 to {(n_ctx - with_bos) // 2} tokens.",
        )
    run = model.run(draw_repeated(model, n_sequences, n_tokens, seed, with_bos=with_bos), keep="pattern")
    means, errors = [], []
    for layer in range(model.config.n_layers):
        measured = measure_pattern(run[f"pattern.{layer}"], n_tokens, int(with_bos))
        means.append(torch.cat((measured.mean(1), compute_copying(model, layer)[None].to(measured))))
        spread = measured.std(1) / n_sequences**0.5
        errors.append(torch.cat((spread, torch.full_like(spread[:1], torch.nan))))
    asked = f"n_sequences={n_sequences}, n_tokens={n_tokens}, seed={seed}, bos={bos!r}"
    return HeadScores(
        name=f"head scores of {model.name}",
        settings={
            "n_sequences": n_sequences,
            "n_tokens": n_tokens,
            "seed": seed,
            "has_bos": with_bos,
            "meaning": SCORES,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=(
            *model.python,
            f"rs.head_scores(model, {asked})",
        ),
        values=torch.stack(means, dim=1).cpu(),
        errors=torch.stack(errors, dim=1).cpu(),
        scores=list(SCORES),
    )


def draw_repeated(
    model: Model, n_sequences: int, n_tokens: int, seed: int, *, with_bos: bool
) -> Int[Tensor, "batch pos"]:
    """Random tokens, no special ones, each sequence said twice behind the first token or nothing."""
    tokenizer = model.tokenizer
    ordinary = torch.tensor([i for i in range(model.config.d_vocab) if i not in tokenizer.special_ids])
    drawn = torch.randint(len(ordinary), (n_sequences, n_tokens), generator=torch.Generator().manual_seed(seed))
    start = torch.full((n_sequences, int(with_bos)), tokenizer.bos_id or 0)
    return torch.cat((start, ordinary[drawn], ordinary[drawn]), dim=1)


def measure_pattern(
    pattern: Float[Tensor, "batch head query key"], n_tokens: int, start: int
) -> Float[Tensor, "score batch head"]:
    """All scores but copying, of each sequence.

    Args:
      pattern: Of sequences of `n_tokens` tokens, each said twice.
      n_tokens: After how many the sequence begins again.
      start: How many special tokens stand before it.
    """
    inner = pattern[..., start:, start:]

    def look_back(by: int) -> Float[Tensor, "batch head"]:
        return inner.diagonal(-by, dim1=-2, dim2=-1).mean(-1)

    asking = pattern[..., max(start, 1) :, :]  # the first of all sees only itself
    entropy = torch.special.entr(asking).sum(-1).mean(-1)
    found = (look_back(1), look_back(n_tokens), look_back(n_tokens - 1), asking[..., 0].mean(-1), entropy)
    return torch.stack(found)


def compute_copying(model: Model, layer: int) -> Float[Tensor, " head"]:
    """What share of a head's eigenvalues from token to logit is positive, weighed by size; norms folded."""
    weights = model.weights
    values = weights.folded(f"W_V.{layer}", centre=True).weight.double()  # kv_head d_model d_head
    values = values.repeat_interleave(model.config.n_heads // model.config.n_kv_heads, dim=0)
    out = weights[f"W_O.{layer}"].to(values)  # head d_head d_model
    if f"attn_norm_post_w.{layer}" in weights:
        out = out * (model.config.norm_offset + weights[f"attn_norm_post_w.{layer}"].to(values))
    unembed = weights.folded("W_U", centre=True).weight.to(values)
    # The eigenvalues other than zero of a long chain of matrices are those of the chain turned around.
    turned = out @ (unembed @ weights["W_E"].to(values)) @ values  # head d_head d_head
    eigenvalues: Tensor = torch.linalg.eigvals(turned.cpu())
    return eigenvalues.sum(-1).real / eigenvalues.abs().sum(-1)
