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
from residscope.running.arguments import read_choice, read_seed, read_whole
from residscope.running.model import Model, check_model
from residscope.running.progress import report
from residscope.transformer.circuits import read_ov

SCORES = {
    "previous_token": "attention to the token before",
    "duplicate_token": "attention to the same token where it stood first",
    "induction": "attention to the token after the place where the same token stood first",
    "first_token": "attention to the first token of all",
    "entropy": "of the attention, in nats",
    "own_token": "share of the tokens that are among the five which the head writes most of where it reads them",
    "copying": "sum of the eigenvalues of W_V W_O W_U after what stands for each token, over the sum of their sizes: "
    "1 copies, -1 forbids",
}
READS = {
    "embed": "a token's embedding",
    "layer0": "the stream after layer 0 of a token alone, behind the first token where there is one; layer 0 itself "
    "reads the embedding",
}
_TOP = 5
_AT_ONCE = 512  # tokens


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
    view: ClassVar[str | None] = "heads"

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
        return self.scores.index(read_choice("score", score, self.scores))


@dataclass(frozen=True, eq=False, repr=False)
class HeadMosaic(Result):
    """Head scores of several models, side by side.

    Attributes:
      values: [model score layer head] NaN where a model has no such layer or head.
      models: Their names.
      shapes: Layers and heads of each.
      scores: What each is, in the order of `values`.
    """

    values: Float[Tensor, "model score layer head"]
    models: Sequence[str]
    shapes: Sequence[Sequence[int]]
    scores: Sequence[str]

    axes: ClassVar[tuple[str, ...]] = ("model", "score", "layer", "head")
    view: ClassVar[str | None] = "head_mosaic"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        names = {"model": self.models, "score": self.scores}.get(axis)
        return {axis: np.array(names)[index]} if names else {}

    def to_frame(self) -> pd.DataFrame:
        """One row a score of a head that is there."""
        return super().to_frame().dropna(ignore_index=True)


def head_mosaic(scores: Mapping[str, HeadScores]) -> HeadMosaic:
    """Head scores of several models as one result, to be looked at side by side.

    Args:
      scores: By the name of the model, as `rs.head_scores` gives them.
    Returns:
      values  [model score layer head]
    Raises:
      BadArgument: There are none, or they are of several versions with other scores.
    """
    given: Any = scores
    if not isinstance(given, Mapping) or not all(isinstance(one, HeadScores) for one in given.values()):
        raise BadArgument(
            f"{scores!r} was given as scores.",
            "Give a dict: the name of each model, and what rs.head_scores gives of it.",
        )
    kinds = {tuple(one.scores) for one in scores.values()}
    if len(kinds) != 1:
        raise BadArgument(
            f"{len(scores)} models were given, with {len(kinds)} lists of scores.",
            "Give one model at least, and score all of them anew.",
        )
    first = next(iter(scores.values()))
    shapes = [[*one.values.shape[1:]] for one in scores.values()]
    most = [max(sizes) for sizes in zip(*shapes, strict=True)]
    values = first.values.new_full((len(scores), len(first.scores), *most), torch.nan)
    for place, one, (n_layers, n_heads) in zip(values, scores.values(), shapes, strict=True):
        place[:, :n_layers, :n_heads] = one.values
    lines = [*first.python[:-2]]  # imports
    for number, one in enumerate(scores.values()):
        lines += [one.python[-2], f"scores_{number} = {one.python[-1]}"]
    named = ", ".join(f"{name!r}: scores_{number}" for number, name in enumerate(scores))
    return HeadMosaic(
        name=f"heads of {', '.join(scores)}",
        settings=dict(first.settings),
        python=[*lines, f"rs.head_mosaic({{{named}}})"],
        values=values,
        models=[*scores],
        shapes=shapes,
        scores=first.scores,
    )


def head_scores(
    model: Model,
    *,
    n_sequences: int = 8,
    n_tokens: int = 50,
    seed: int = 0,
    bos: Literal["auto"] | bool = "auto",
    read: Literal["embed", "layer0"] = "embed",
) -> HeadScores:
    """Score every head on random tokens that are said twice, and by its weights.

    Args:
      model: Any.
      n_sequences: Over which mean and standard error are taken.
      n_tokens: Of one sequence, which is then repeated; special tokens are not among them.
      seed: Of the draws.
      bos: Whether a beginning-of-sequence token stands before; "auto" as the tokenizer does. It is no query, and only
        `first_token` and `entropy` count it as a key.
      read: What stands for each token where `copying` and `own_token` ask what a head makes of it; see `READS`. Norms
        are folded, and biases left out: what is asked is what depends on the token, on the direct path.
    Returns:
      values, errors  [score layer head]  see `SCORES` for what each means
    Raises:
      BadArgument: Fewer than two sequences, or of so many tokens that they do not fit the context; no such `read`.
      BadTokenizer: `bos=True` and there is no such token.
    Holds:
      Attention scores equal TransformerLens's means of a diagonal of the pattern; copying equals that of all
      eigenvalues of the d_vocab by d_vocab matrix, and `own_token` the ranks in that matrix's rows.
    Source: Olsson et al., "In-context Learning and Induction Heads" (2022); for copying Elhage et al., "A Mathematical
      Framework for Transformer Circuits" (2021); for the own token Wang et al., "Interpretability in the Wild" (2022).
    """
    check_model(model)
    read_choice("read", read, READS)
    if bos != "auto" and not isinstance(bos, bool):
        raise BadArgument(f"bos={bos!r} was asked for.", "Give 'auto', True or False.")
    seed = read_seed(seed)
    tokenizer, n_ctx = model.tokenizer, model.config.n_ctx
    with_bos = tokenizer.prepends_bos if bos == "auto" else bos
    if with_bos and tokenizer.bos_id is None:
        raise BadTokenizer("The tokenizer has no beginning-of-sequence token.", "Take bos=False.")
    n_sequences = read_whole("n_sequences", n_sequences, 2)
    most = (n_ctx - with_bos) // 2
    n_tokens = read_whole(
        "n_tokens", n_tokens, 2, most, f"They are said twice, and the context is {n_ctx}: take 2 to {most}."
    )
    ids = draw_repeated(model, n_sequences, n_tokens, seed, with_bos=with_bos)
    tokens = [model.weights["W_E"]]  # what layer 0 reads, and what later ones do
    tokens += [read_layer0(model, with_bos=with_bos)] if read == "layer0" else tokens
    means, errors = _score_layers(model, ids, n_tokens, tokens)
    asked = f"n_sequences={n_sequences}, n_tokens={n_tokens}, seed={seed}, bos={bos!r}, read={read!r}"
    return HeadScores(
        name=f"head scores of {model.name}",
        settings={
            "n_sequences": n_sequences,
            "n_tokens": n_tokens,
            "seed": seed,
            "has_bos": with_bos,
            "meaning": SCORES,
            "read": READS[read],
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=(
            *model.python,
            f"rs.head_scores(model, {asked})",
        ),
        values=means.cpu(),
        errors=errors.cpu(),
        scores=list(SCORES),
    )


def _score_layers(
    model: Model, ids: Int[Tensor, "batch pos"], n_tokens: int, tokens: Sequence[Float[Tensor, "d_vocab d_model"]]
) -> tuple[Float[Tensor, "score layer head"], Float[Tensor, "score layer head"]]:
    """Means and standard errors of all scores, of sequences of so many tokens that are said twice.

    Args:
      model: Any.
      ids: The sequences, behind the first token or nothing.
      n_tokens: Of each, once.
      tokens: What stands for each token of the vocabulary in layer 0, and in later ones.
    """
    run = model.run(ids, keep="pattern")
    drawn, start = ids[:, -n_tokens:].to(model.device), ids.shape[1] - 2 * n_tokens
    unembed = model.weights.folded("W_U", centre=True).weight
    back = [unembed.double() @ each.double() for each in tokens]
    means, errors = [], []
    for layer in range(model.config.n_layers):
        report(layer, model.config.n_layers, "scoring heads")
        values, out = read_ov(model.weights, model.config, layer)
        own = find_own_token(values, out, unembed, tokens[layer > 0], drawn)
        measured = torch.cat((measure_pattern(run[f"pattern.{layer}"], n_tokens, start), own[None]))
        copying = compute_copying(values, out, back[layer > 0])
        means.append(torch.cat((measured.mean(1), copying[None].to(measured))))
        spread = measured.std(1) / len(ids) ** 0.5
        errors.append(torch.cat((spread, torch.full_like(spread[:1], torch.nan))))
    report(model.config.n_layers, model.config.n_layers, "scoring heads")
    return torch.stack(means, dim=1), torch.stack(errors, dim=1)


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


def read_layer0(model: Model, *, with_bos: bool) -> Float[Tensor, "d_vocab d_model"]:
    """The stream after layer 0 of every token of the vocabulary, alone."""
    start = torch.full((model.config.d_vocab, int(with_bos)), model.tokenizer.bos_id or 0)
    ids = torch.cat((start, torch.arange(model.config.d_vocab)[:, None]), dim=1)
    return torch.cat(
        [model.run(part, keep="resid_post.0").at("resid_post.0", -1) for part in torch.split(ids, _AT_ONCE)]
    )


def find_own_token(
    values: Float[Tensor, "head d_model d_head"],
    out: Float[Tensor, "head d_head d_model"],
    unembed: Float[Tensor, "d_model d_vocab"],
    tokens: Float[Tensor, "d_vocab d_model"],
    ids: Int[Tensor, "batch pos"],
) -> Float[Tensor, "batch head"]:
    """Of how many tokens the token itself is among the five that a head promotes most where it reads them.

    Args:
      values: As `read_ov` gives them.
      out: Likewise.
      unembed: With the norm before it folded.
      tokens: What stands for each token of the vocabulary.
      ids: Which tokens are asked.
    """
    x, own = tokens.to(values)[ids.flatten()], ids.reshape(-1, 1)
    shares = []
    for head_values, head_out in zip(values, out, strict=True):
        logits = (x @ head_values) @ (head_out @ unembed)  # token d_vocab
        above = (logits > logits.gather(1, own)).sum(1)
        shares.append((above < _TOP).view(ids.shape).float().mean(1))
    return torch.stack(shares, dim=1)


def compute_copying(
    values: Float[Tensor, "head d_model d_head"],
    out: Float[Tensor, "head d_head d_model"],
    back: Float[Tensor, "d_model d_model"],
) -> Float[Tensor, " head"]:
    """What share of a head's eigenvalues from token to logit is positive, weighed by size.

    Args:
      values: As `read_ov` gives them.
      out: Likewise.
      back: W_U, its norm folded, times what stands for each token: the way from what a head writes to what it reads.
    """
    # The eigenvalues other than zero of a long chain of matrices are those of the chain turned around.
    turned = out.double() @ back @ values.double()  # head d_head d_head
    eigenvalues: Tensor = torch.linalg.eigvals(turned.cpu())
    return eigenvalues.sum(-1).real / eigenvalues.abs().sum(-1)
