"""Texts as tokens, and tokens as the pieces of text that people read."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import tokenizers
import torch
from jaxtyping import Bool, Int
from tokenizers import decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from residscope.errors import BadArgument, BadTexts, BadTokenizer, EmptyPrompt, PromptTooLong, UnknownToken, count


@dataclass(frozen=True, eq=False)
class Tokens:
    """Several texts as token ids, padded on the right.

    Attributes:
      ids: [batch pos]; 0 where padded.
      mask: [batch pos]; false where padded.
      tokenizer: Who made them.
      roles: Of a chat: the role that each token belongs to, for each text; None where it is no message's.
      in_template: [batch pos] Of a chat: where a token is the template's and not a message's own text; false where
        padded.
    """

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    tokenizer: "Tokenizer" = field(repr=False)
    roles: list[list[str | None]] | None = None
    in_template: Bool[Tensor, "batch pos"] | None = None

    @cached_property
    def n_tokens(self) -> Int[Tensor, " batch"]:
        """Length of each text."""
        return self.mask.sum(-1)

    @cached_property
    def resolved(self) -> dict[int | None, Int[Tensor, "batch n"]]:
        """Positions that were asked for before, by how they were written."""
        return {}

    @cached_property
    def worked_out(self) -> dict[tuple[object, ...], Any]:
        """What edits of these texts take from others: means and runs, by the model, the site and those texts."""
        return {}

    @cached_property
    def pieces(self) -> list[list[str]]:
        """Each text's tokens as the text they are; a character split over tokens is shown as its bytes."""
        return [[self.tokenizer.piece(i) for i in ids] for ids in self.lists()]

    @cached_property
    def special(self) -> Bool[Tensor, "batch pos"]:
        """Where a token is no text but a mark, as the beginning of a sequence."""
        return torch.isin(self.ids, torch.tensor(sorted(self.tokenizer.special_ids), dtype=torch.long)) & self.mask

    @cached_property
    def has_bos(self) -> bool:
        """Whether every text begins with the beginning-of-sequence token."""
        return bool((self.ids[:, 0] == self.tokenizer.bos_id).all()) if self.tokenizer.bos_id is not None else False

    @cached_property
    def texts(self) -> list[str]:
        """Each text as it reads, special tokens left out."""
        return [self.tokenizer.decode(ids) for ids in self.lists()]

    def lists(self) -> list[list[int]]:
        """The ids of each text, without padding."""
        return [ids[:n] for ids, n in zip(self.ids.tolist(), self.n_tokens.tolist(), strict=True)]

    def of_role(self, role: str, *, template: bool = False) -> Bool[Tensor, "batch pos"]:
        """Where the own text of a role's messages stands in a chat.

        Args:
          role: "user", "assistant", or what else the messages name.
          template: Whether what the template writes around that text counts too.
        Raises:
          BadArgument: These are no chat's, or no message has that role.
        """
        if self.roles is None or self.in_template is None:
            raise BadArgument("Roles were asked for, and these tokens are of no chat.", "Make them with model.chat.")
        known = sorted({one for roles in self.roles for one in roles if one is not None})
        if role not in known:
            raise BadArgument(f"There is no role {role!r} in this chat.", f"Choose {', '.join(map(repr, known))}.")
        found = torch.zeros_like(self.mask)
        for row, roles in enumerate(self.roles):
            found[row, : len(roles)] = torch.tensor([one == role for one in roles])
        return found if template else found & ~self.in_template

    def write_on(self, lists: Sequence[Sequence[int]]) -> "Tokens":
        """The same texts with more behind each, which in a chat is the assistant's; special tokens are markup.

        Args:
          lists: Ids of each text, old and new.
        """
        longer = stack(lists, self.tokenizer)
        if self.roles is None or self.in_template is None:
            return longer
        roles = [[*old, *["assistant"] * (len(ids) - len(old))] for old, ids in zip(self.roles, lists, strict=True)]
        in_template = longer.special.clone()
        for row, n in enumerate(self.n_tokens.tolist()):
            in_template[row, :n] = self.in_template[row, :n]
        return replace(longer, roles=roles, in_template=in_template)

    def find(self, piece: str, occurrence: int = 1) -> Int[Tensor, "batch 1"]:
        """Where `piece` stands in each text, matched against the pieces as shown.

        Args:
          piece: A whole token's text, its leading space included.
          occurrence: 1 for the first.
        Raises:
          UnknownToken: A text has fewer; the message shows how it splits.
        """
        found = []
        for pieces in self.pieces:
            places = [i for i, shown in enumerate(pieces) if shown == piece]
            if not 1 <= occurrence <= len(places):
                raise UnknownToken(
                    f"Occurrence {occurrence} of {piece!r} was asked for, and the text has {len(places)}: "
                    f"{'|'.join(pieces)}.",
                    "Give one of these pieces as it stands, with its leading space.",
                )
            found.append([places[occurrence - 1]])
        return torch.tensor(found)

    def __repr__(self) -> str:
        return f"Tokens({self.ids.shape[0]} texts, {int(self.n_tokens.sum())} tokens, has_bos={self.has_bos})"


def stack(lists: Sequence[Sequence[int]], tokenizer: "Tokenizer") -> Tokens:
    """Pad lists of ids on the right."""
    longest = max(map(len, lists))
    ids = torch.zeros(len(lists), longest, dtype=torch.long)
    mask = torch.zeros(len(lists), longest, dtype=torch.bool)
    for row, one in enumerate(lists):
        ids[row, : len(one)] = torch.tensor(one, dtype=torch.long)
        mask[row, : len(one)] = True
    return Tokens(ids, mask, tokenizer)


class Tokenizer:
    """A model's tokenizer.

    Args:
      backend: From the `tokenizers` library.
      d_vocab: The model's.
      bos_id: Its beginning-of-sequence token.
      eos_ids: Tokens that end a text.
    Raises:
      BadTokenizer: It has tokens that the model has not.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        d_vocab: int,
        *,
        bos_id: int | None,
        eos_ids: frozenset[int],
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        size = backend.get_vocab_size(with_added_tokens=False)
        if size > d_vocab:
            raise BadTokenizer(
                f"The tokenizer has {size} tokens and the model's vocabulary {d_vocab}.",
                "They are of different models; put the right tokenizer files beside the config.",
            )
        self._backend = backend
        self.d_vocab = d_vocab
        self.bos_id = bos_id
        self.eos_ids = eos_ids
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        self._added = {i: token.content for i, token in added.items()}
        self._byte_level = "ByteLevel" in _decoder_types(json.loads(backend.to_str()))
        self.prepends_bos = bos_id is not None and backend.encode("").ids[:1] == [bos_id]
        self._pieces: dict[int, str] = {}

    @cached_property
    def fingerprint(self) -> str:
        """The whole tokenizer as text."""
        return f"{self._backend.to_str()} {self.bos_id}"

    def encode(self, text: str, bos: bool | None = None) -> list[int]:
        """A text's ids; `bos` None does what the tokenizer does.

        Raises:
          BadTokenizer: `bos=True` and it has no such token.
          BadTexts: The text is no Unicode.
        """
        if bos and self.bos_id is None:
            raise BadTokenizer("The tokenizer has no beginning-of-sequence token.", "Leave bos out.")
        ids: list[int] = self._encode(text, add_special_tokens=True).ids
        ids = ids[1:] if self.prepends_bos else ids
        if bos or (bos is None and self.prepends_bos):
            ids = [cast(int, self.bos_id), *ids]
        return ids

    def encode_as_written(self, text: str, n_ctx: int) -> tokenizers.Encoding:
        """A text that has its special tokens written out: they are read, and no other is added.

        Raises:
          PromptTooLong: It cannot fit in `n_ctx` tokens.
          BadTexts: The text is no Unicode.
        """
        self._refuse_far_too_long(text, n_ctx)
        return self._encode(text, add_special_tokens=False)

    def tokenize(self, texts: Sequence[str], *, n_ctx: int, bos: bool | None = None) -> Tokens:
        """Texts as one padded batch.

        Raises:
          EmptyPrompt: A text has no tokens.
          PromptTooLong: A text has more than `n_ctx`.
        """
        for text in texts:
            self._refuse_far_too_long(text, n_ctx)
        lists = [self.encode(text, bos) if text else [] for text in texts]
        return self.check(lists, n_ctx)

    def check(self, lists: Sequence[Sequence[int]], n_ctx: int) -> Tokens:
        """Ids as one padded batch.

        Raises:
          EmptyPrompt, PromptTooLong: As for texts.
          BadTexts: An id is outside the vocabulary.
        """
        if not lists:
            raise EmptyPrompt("No text was given.", "Give one at least.")
        for number, ids in enumerate(lists):
            which = f"Text {number}" if len(lists) > 1 else "The prompt"
            if not ids:
                raise EmptyPrompt(f"{which} is empty.", "Type some text.")
            if len(ids) > n_ctx:
                raise PromptTooLong(
                    f"{which} has {len(ids)} tokens, and the model's context is {n_ctx}.",
                    f"Shorten it by {len(ids) - n_ctx} tokens.",
                )
            outside = [i for i in ids if not 0 <= i < self.d_vocab]
            if outside:
                raise BadTexts(
                    f"{which} has the token id {outside[0]}, and the model's vocabulary ends at {self.d_vocab - 1}.",
                    "Use this model's own tokenizer.",
                )
        return stack(lists, self)

    def piece(self, token_id: int) -> str:
        """The token as the text it is: a space is a space, bytes that are no whole character are `\\xe6`."""
        if token_id not in self._pieces:
            self._pieces[token_id] = self._read_piece(token_id)
        return self._pieces[token_id]

    def single_token(self, text: str) -> int:
        """The id of the one token that `text` is.

        Raises:
          UnknownToken: It is none or several; the message shows the pieces.
        """
        ids = self.encode_after(text)
        pieces = [self.piece(i) for i in ids]
        if pieces == [text] and ids[0] < self.d_vocab:
            return ids[0]
        split = f"{count(len(pieces), 'token')}: {'|'.join(pieces)}" if pieces else "no token"
        raise UnknownToken(f"{text!r} is {split}.", "Choose one that is a single token.")

    def encode_after(self, text: str) -> list[int]:
        """The ids of a text that goes on another; one where a token is that very text.

        Raises:
          BadTexts: The text is no Unicode.
        """
        matches = [i for i in self._ids_of_piece.get(text, ()) if i < self.d_vocab]
        if matches:
            return matches[:1]
        # Behind a line break: some tokenizers put a space before what begins a text.
        before, whole = (self._encode(one, add_special_tokens=False).ids for one in ("\n", f"\n{text}"))
        return (
            whole[len(before) :] if whole[: len(before)] == before else self._encode(text, add_special_tokens=False).ids
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as one text, special tokens left out."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=True)
        return text

    def _encode(self, text: str, *, add_special_tokens: bool) -> tokenizers.Encoding:
        try:
            return self._backend.encode(text, add_special_tokens=add_special_tokens)
        except (TypeError, UnicodeError):
            raise BadTexts(f"{text!r} is no text in Unicode.", "Remove its lone surrogates.") from None

    def _refuse_far_too_long(self, text: str, n_ctx: int) -> None:
        # Without splitting it: megabytes would hold up everything else.
        most = n_ctx * self._longest_piece
        if len(text) > most:
            raise PromptTooLong(
                f"A text has {len(text):,} characters, and no more than {most:,} can fit the model's context of "
                f"{n_ctx} tokens.",
                "Shorten it.",
            )

    @cached_property
    def _longest_piece(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self._backend.get_vocab(with_added_tokens=True)), default=1)

    @cached_property
    def _ids_of_piece(self) -> dict[str, list[int]]:
        # A letter that stands as itself goes before the byte that spells it when nothing else does.
        found: dict[str, list[int]] = {}
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        for token in sorted(vocabulary, key=lambda token: (_is_byte(token), vocabulary[token])):
            found.setdefault(self.piece(vocabulary[token]), []).append(vocabulary[token])
        return found

    def _read_piece(self, token_id: int) -> str:
        if token_id in self._added:
            return self._added[token_id]
        token = self._backend.id_to_token(token_id)
        if token is None:  # a row of the embedding that the tokenizer never gives
            return f"<{token_id}>"
        if self._byte_level:
            raw = b"".join(_BYTE_OF.get(c, c.encode()) for c in token)
        elif _is_byte(token):
            raw = bytes([int(token[3:5], 16)])
        else:
            raw = token.replace("▁", " ").encode()
        return raw.decode("utf-8", errors="backslashreplace")


class Untokenized(Tokenizer):
    """What stands for the tokenizer of a model that has none: it takes token ids, and shows them as numbers.

    Args:
      d_vocab: The model's.
    """

    def __init__(self, d_vocab: int) -> None:
        super().__init__(tokenizers.Tokenizer(BPE()), d_vocab, bos_id=None, eos_ids=frozenset())

    def single_token(self, text: str) -> int:
        """Refused, as every text is.

        Raises:
          BadTokenizer: Always.
        """
        raise self._refusal(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as their numbers."""
        return "".join(map(self.piece, ids))

    def _encode(self, text: str, *, add_special_tokens: bool) -> tokenizers.Encoding:
        raise self._refusal(text)

    def _refuse_far_too_long(self, text: str, n_ctx: int) -> None:
        raise self._refusal(text)

    def _refusal(self, text: str) -> BadTokenizer:
        return BadTokenizer(
            f"The model was loaded without a tokenizer, and the text {text[:40]!r} was given.",
            "Give token ids, or load it with tokenizer=...",
        )


def read_tokenizer(directory: Path, config: Mapping[str, Any], d_vocab: int) -> Tokenizer:
    """The tokenizer of a model's directory; older formats are converted by transformers.

    Raises:
      BadTokenizer: There is none, or it cannot be read.
    """
    settings = read_settings(directory)
    try:
        if (directory / "tokenizer.json").is_file():
            backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        else:
            backend = _read_older(directory, settings, config)
    except BadTokenizer:
        raise
    except Exception as error:  # tokenizers and its converters raise bare exceptions
        raise BadTokenizer(
            f"The tokenizer in {directory} cannot be read ({str(error).splitlines()[0]}).", "Download it again."
        ) from None
    bos = read_content(settings.get("bos_token"))
    named = backend.token_to_id(bos) if bos else None
    return Tokenizer(backend, d_vocab, bos_id=_bos_id(named, config), eos_ids=_eos_ids(config))


def wrap_tokenizer(tokenizer: Any, config: Mapping[str, Any], d_vocab: int) -> Tokenizer:
    """A fast tokenizer of transformers, or of tokenizers, as ours.

    Raises:
      BadTokenizer: There is none, or it is a slow one.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, tokenizers.Tokenizer):
        raise BadTokenizer(
            f"A model in memory needs its fast tokenizer, and tokenizer={type(tokenizer).__name__} was given.",
            "Pass tokenizer=AutoTokenizer.from_pretrained(...).",
        )
    copy = tokenizers.Tokenizer.from_str(backend.to_str())  # ours sets no padding; theirs stays as it is
    return Tokenizer(
        copy, d_vocab, bos_id=_bos_id(getattr(tokenizer, "bos_token_id", None), config), eos_ids=_eos_ids(config)
    )


def _bos_id(named: int | None, config: Mapping[str, Any]) -> int | None:
    return config.get("bos_token_id") if named is None else named


def _is_byte(token: str) -> bool:
    # How SentencePiece writes a byte of a character that it has no piece for.
    return re.fullmatch("<0x[0-9A-F]{2}>", token) is not None


def _eos_ids(config: Mapping[str, Any]) -> frozenset[int]:
    eos = config.get("eos_token_id")
    return frozenset(i for i in (eos if isinstance(eos, list) else [eos]) if isinstance(i, int))


def read_content(token: Any) -> str | None:
    """A special token's text, from a string or from a dictionary with its content."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _read_older(directory: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    if (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
        model = BPE.from_file(str(directory / "vocab.json"), str(directory / "merges.txt"))
        backend = tokenizers.Tokenizer(model)
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
        backend.decoder = decoders.ByteLevel()
        named = {i for i in (*_eos_ids(config), config.get("bos_token_id")) if i is not None}
        special = [backend.id_to_token(i) for i in sorted(named)]
        special += [read_content(settings.get(f"{name}_token")) for name in ("bos", "eos", "unk", "pad")]
        backend.add_special_tokens([token for token in dict.fromkeys(special) if token])
        bos = read_content(settings.get("bos_token"))
        if settings.get("add_bos_token") and bos:
            template = [(bos, backend.token_to_id(bos))]
            backend.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=template)
        return backend
    if (directory / "tokenizer.model").is_file():
        from transformers import AutoTokenizer  # seconds, and only for old files

        converted: tokenizers.Tokenizer = AutoTokenizer.from_pretrained(
            directory, local_files_only=True
        ).backend_tokenizer
        return converted
    raise BadTokenizer(
        f"{directory} has no tokenizer.", "Put tokenizer.json there, or vocab.json with merges.txt, or tokenizer.model."
    )


def read_settings(directory: Path) -> dict[str, Any]:
    """What the files beside a tokenizer say of it.

    Raises:
      BadTokenizer: They cannot be read.
    """
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            try:
                settings |= json.loads((directory / name).read_text(encoding="utf-8"))
            except (ValueError, TypeError) as error:
                raise BadTokenizer(f"{directory / name} cannot be read ({error}).", "Download it again.") from None
    return settings


def _decoder_types(tokenizer: dict[str, Any]) -> set[str]:
    parts = [tokenizer.get(name) or {} for name in ("decoder", "pre_tokenizer")]
    parts += [inner for part in parts for inner in part.get("decoders", part.get("pretokenizers", []))]
    return {part.get("type", "") for part in parts}


def _make_byte_table() -> dict[str, int]:
    # GPT-2's: printable bytes stand for themselves, the others for the characters from 256 on.
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = {character: bytes([byte]) for character, byte in _make_byte_table().items()}
