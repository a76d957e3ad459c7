"""What a user gives as texts: one, a list, a file of them, or token ids; and a corpus, cut into batches."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from residscope.errors import BadTexts
from residscope.running.progress import report
from residscope.transformer.tokens import Tokenizer, Tokens, stack

_Array = Tensor | NDArray[Any]
Texts = str | Path | Sequence[str] | Sequence[Sequence[int]] | Sequence[_Array] | _Array | Tokens

SEPARATOR = "<|endoftext|>"
BATCH_TOKENS = 4096

_PACKAGE = Path(__file__).parents[1]


def read_texts(path: Path) -> list[str]:
    """The texts of a file.

    Args:
      path: `.jsonl` with a "text" in each line; `.json` with a list of strings; any other is plain text, separated by
        lines of `<|endoftext|>` where it has them, by empty lines otherwise.
    Raises:
      BadTexts: The file cannot be read, or holds none.
    """
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            texts: list[Any] = [json.loads(line)["text"] for line in content.splitlines() if line.strip()]
        elif path.suffix == ".json":
            texts = list(json.loads(content))
        else:
            texts = content.split(SEPARATOR if SEPARATOR in content else "\n\n")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadTexts(
            f"{path} cannot be read as texts ({type(error).__name__}: {error}).",
            'Give plain text in UTF-8, .json with a list of strings, or .jsonl with a "text" in each line.',
        ) from None
    if not all(isinstance(text, str) for text in texts):
        raise BadTexts(f"{path} is no list of strings.", 'Give ["a text", "another"].')
    texts = [text.strip("\n") for text in texts if text.strip()]
    if not texts:
        raise BadTexts(f"{path} holds no text.", "Give one at least.")
    return texts


def tokenize(texts: Texts, tokenizer: Tokenizer, *, n_ctx: int, bos: bool | None = None) -> Tokens:
    """Texts of any kind as one padded batch.

    Raises:
      EmptyPrompt, PromptTooLong, BadTexts: As the text is.
    """
    if isinstance(texts, Tokens) and texts.tokenizer is tokenizer:
        return texts
    ids = _as_ids(texts)
    return tokenizer.tokenize(_as_strings(texts), n_ctx=n_ctx, bos=bos) if ids is None else tokenizer.check(ids, n_ctx)


@dataclass(frozen=True)
class Corpus:
    """Much text as batches of similar length.

    Attributes:
      lists: Ids of each text, cut at the context.
      n_cut: Texts that were cut.
    """

    lists: list[list[int]]
    n_cut: int
    tokenizer: Tokenizer

    def batches(self, what: str) -> Iterator[Tokens]:
        """The texts, longest first so that what does not fit shows at once; reports progress as `what`."""
        pending = sorted(self.lists, key=len, reverse=True)
        batches: list[list[list[int]]] = []
        for ids in pending:
            if not batches or (len(batches[-1]) + 1) * len(batches[-1][0]) > BATCH_TOKENS:
                batches.append([])
            batches[-1].append(ids)
        for number, batch in enumerate(batches):
            report(number, len(batches), what)
            yield stack(batch, self.tokenizer)
        report(len(batches), len(batches), what)


def read_corpus(texts: Texts, tokenizer: Tokenizer, n_ctx: int) -> Corpus:
    """Texts of any kind, cut at the context.

    Raises:
      BadTexts, EmptyPrompt: There is no text.
    """
    ids = _as_ids(texts)
    lists = [tokenizer.encode(text) for text in _as_strings(texts)] if ids is None else ids
    return Corpus(
        tokenizer.check([one[:n_ctx] for one in lists], n_ctx).lists(),
        sum(len(one) > n_ctx for one in lists),
        tokenizer,
    )


def describe_texts(texts: Texts) -> str:
    """The Python that gives the same texts again."""
    ids = _as_ids(texts)
    if ids is not None:
        return repr(ids)
    if isinstance(texts, Path):
        ours = texts.is_relative_to(_PACKAGE)
        return f"Path(rs.__file__).parent / {str(texts.relative_to(_PACKAGE))!r}" if ours else f"Path({str(texts)!r})"
    return repr(texts if isinstance(texts, str) else _as_strings(texts))


def token_facts(tokens: Tokens) -> dict[str, Any]:
    """What every result on tokens says of them."""
    special = zip(tokens.special.tolist(), tokens.n_tokens.tolist(), strict=True)
    return {"pieces": tokens.pieces, "special": [row[:n] for row, n in special]}


def _as_ids(texts: Texts) -> list[list[int]] | None:
    """Token ids of each text, where ids were given."""
    if isinstance(texts, Tokens):
        return texts.lists()
    if isinstance(texts, (Tensor, np.ndarray)):
        if texts.ndim != 2:
            raise BadTexts(
                f"Token ids of shape {list(texts.shape)} and type {texts.dtype} were given.",
                "Give [batch pos] of whole numbers.",
            )
        return [_as_whole(row) for row in texts.tolist()]
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        return None
    rows = [text.tolist() if isinstance(text, (Tensor, np.ndarray)) else text for text in texts]
    return [_as_whole(row) for row in rows] if all(isinstance(row, (list, tuple)) for row in rows) else None


def _as_whole(ids: Sequence[object]) -> list[int]:
    """The ids of one text."""
    try:
        if not any(isinstance(i, bool) for i in ids):
            return [index(i) for i in ids]  # type: ignore[arg-type]  # which is what is asked
    except TypeError:
        pass
    wrong = next(i for i in ids if type(i) is not int)
    raise BadTexts(f"A token id was asked for, and {wrong!r} was given.", "Give whole numbers, a list for each text.")


def _as_strings(texts: Texts) -> list[str]:
    if isinstance(texts, Path):
        return read_texts(texts)
    if isinstance(texts, str):
        return [texts]
    several: Sequence[Any] = texts if isinstance(texts, Sequence) and not isinstance(texts, bytes) else [texts]
    wrong = [text for text in several if not isinstance(text, str)]
    if wrong:
        raise BadTexts(
            f"A text was asked for, and {type(wrong[0]).__name__} was given.",
            "Give a string, a list of strings, a Path to a file of texts, or token ids, a list for each text.",
        )
    return list(several)
