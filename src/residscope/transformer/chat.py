"""Chats as a model's template writes them: whose every token is, and which are markup."""

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any

import tokenizers
import torch

from residscope.errors import BadChatTemplate, BadMessages, EmptyPrompt
from residscope.transformer.chat_template import ChatTemplate, Message, Messages
from residscope.transformer.chat_writer import Writer
from residscope.transformer.tokens import Tokenizer, Tokens

Span = tuple[int, int]

_MARKS = range(0xF0000, 0x110000)  # private use: no text has a meaning for them, and no template strips them


def encode_chats(
    messages: Messages,
    template: ChatTemplate | None,
    tokenizer: Tokenizer,
    *,
    n_ctx: int,
    reply: bool = True,
    variables: Mapping[str, Any] | None = None,
) -> Tokens:
    """Chats as one padded batch of tokens with their roles; `Model.chat` says what holds of it.

    Raises:
      BadChatTemplate, BadMessages, EmptyPrompt, PromptTooLong, BadTexts: As `Model.chat` says.
    """
    if template is None:
        raise BadChatTemplate(
            "The model has no chat template.",
            "Load a model made for chats, or put chat_template.jinja beside its tokenizer.",
        )
    writer = Writer(template, _as_plain(variables or {}, "A variable"))
    chats = [Chat(chat, writer, reply) for chat in read_chats(messages)]
    encodings = [tokenizer.encode_as_written(chat.text, n_ctx) for chat in chats]
    tokens = tokenizer.check([encoding.ids for encoding in encodings], n_ctx)
    marked = [_mark_tokens(chat, found, tokenizer) for chat, found in zip(chats, encodings, strict=True)]
    in_template = torch.zeros_like(tokens.mask)
    for row, (_, markup) in enumerate(marked):
        in_template[row, : len(markup)] = torch.tensor(markup)
    return replace(tokens, roles=[roles for roles, _ in marked], in_template=in_template)


@dataclass(frozen=True)
class Chat:
    """Messages, and the text that a template makes of them."""

    messages: Sequence[Message]
    writer: Writer
    reply: bool

    @cached_property
    def text(self) -> str:
        """What the model reads."""
        return self.writer.write(self.messages, reply=self.reply)

    @cached_property
    def texts(self) -> list[list[Span]]:
        """Where each message's own text stands: nowhere, once, or several times."""
        return [self._find_text(number) for number in range(len(self.messages))]

    @cached_property
    def owners(self) -> list[int]:
        """Each character's message: -1 is none, and one behind the last is the reply."""
        n = len(self.messages)
        spans = sorted((*span, number) for number, found in enumerate(self.texts) for span in found)
        spans.append((len(self.text), len(self.text), n))
        owners = [-1] * min(self._lead, spans[0][0])
        before = -1
        for begin, end, number in spans:
            between = [i for i in range(before + 1, number + 1) if i == number or not self.texts[i]]
            starts = {
                i: start for i in between if (start := self._starts[i]) is not None and len(owners) <= start <= begin
            }
            # Where nothing tells them apart, markup introduces what follows.
            owners += [before if starts else number] * (begin - len(owners))
            for i, start in starts.items():
                owners[start:begin] = [i] * (begin - start)
            owners += [number] * (end - len(owners))
            before = number
        return owners

    def role(self, owner: int) -> str | None:
        """The role behind a number of `owners`."""
        if owner < 0:
            return None
        return "assistant" if owner == len(self.messages) else str(self.messages[owner]["role"])

    @cached_property
    def _starts(self) -> list[int | None]:
        # Where each message begins, and the reply: what is written of the messages before it, if the whole chat begins
        # so too.
        found: list[int | None] = [self._lead]
        for number in range(1, len(self.messages) + 1):
            before = self.writer.try_to_write(self.messages[:number], reply=False)
            found.append(len(before) if before is not None and self.text.startswith(before) else None)
        return found

    @cached_property
    def _lead(self) -> int:
        # What is written whoever speaks: the first message, said again later in a chat, comes without it.
        first, answer = self.messages[0], {"role": "assistant", "content": "a"}
        alone, answered, again = (
            self.writer.try_to_write(chat, reply=False) for chat in ([first], [first, answer], [first, answer, first])
        )
        bos = len(self.writer.bos) if self.text.startswith(self.writer.bos) else 0
        if alone is None or answered is None or again is None or not again.startswith(answered):
            return bos
        turn = again[len(answered) :]
        lead = alone.removesuffix(turn)
        return max(bos, len(lead)) if lead != alone and self.text.startswith(lead) else bos

    def _find_text(self, number: int) -> list[Span]:
        # As it is, trimmed, or, of an answer whose thoughts the template takes out, as much of the end as there is.
        content = self.messages[number]["content"]
        attempt = partial(self._try_text, number)
        stops = dict.fromkeys((len(content), len(content.rstrip())))
        for start, stop in product(dict.fromkeys((0, len(content) - len(content.lstrip()))), stops):
            if (found := attempt(start, stop)) is not None:
                return found
        words = [match.start() for match in re.finditer(r"(?<!\S)\S", content)]
        for stop in stops:
            taken = bisect_left(words, True, key=lambda start: attempt(start, stop) is not None)
            if taken < len(words) and (found := attempt(words[taken], stop)) is not None:
                return found
        return []

    def _try_text(self, number: int, start: int, stop: int) -> list[Span] | None:
        # Write the chat with marks around this part of one message. They tell where it stands if, but for them, the
        # same is written.
        message = self.messages[number]
        content = message["content"]
        if start >= stop:
            return []
        begin, end = self._marks
        marked = content[:start] + begin + content[start:stop] + end + content[stop:]
        messages = [*self.messages[:number], {**message, "content": marked}, *self.messages[number + 1 :]]
        written = self.writer.try_to_write(messages, reply=self.reply)
        if written is None or written.replace(begin, "").replace(end, "") != self.text:
            return None
        parts = re.split(f"[{begin}{end}]", written)
        inside = parts[1::2]
        if re.sub(f"[^{begin}{end}]", "", written) != (begin + end) * len(inside):
            return None
        if any(part != content[start:stop] for part in inside):
            return None
        places = [0]
        for part in parts:
            places.append(places[-1] + len(part))
        return list(zip(places[1:-1:2], places[2::2], strict=True))

    @cached_property
    def _marks(self) -> tuple[str, str]:
        seen = {character for message in self.messages for character in message["content"]} | set(self.text)
        free = (chr(code) for code in _MARKS if chr(code) not in seen)
        return next(free), next(free)


def _mark_tokens(
    chat: Chat, encoding: tokenizers.Encoding, tokenizer: Tokenizer
) -> tuple[list[str | None], list[bool]]:
    """Each token's role, and whether it is markup."""
    own = [False] * len(chat.text)
    for start, stop in (span for found in chat.texts for span in found):
        own[start:stop] = [True] * (stop - start)
    roles, markup, end = list[str | None](), list[bool](), 0
    for token, (begins, ends) in zip(encoding.ids, encoding.offsets, strict=True):
        # Spaces before a token may be left out of its offsets, and the bytes of one character share theirs.
        places, end = range(min(begins, end), ends), ends
        mine = [place for place in places if own[place]]
        if token in tokenizer.special_ids and len(mine) < len(places):
            mine = []  # a mark may swallow spaces beside it
        place = mine[0] if mine else max(ends - 1, 0)
        roles.append(chat.role(chat.owners[place]))
        markup.append(not mine)
    return roles, markup


def read_chats(messages: object) -> list[list[Message]]:
    """Chats as plain values.

    Raises:
      EmptyPrompt: There is no message.
      BadMessages: These are no messages.
    """
    given = _as_plain(messages, "A message")
    chats = given if isinstance(given, list) and given and isinstance(given[0], list) else [given]
    for chat in chats:
        if not isinstance(chat, list) or not all(isinstance(message, dict) for message in chat):
            raise BadMessages(
                f"Messages were asked for, and {json.dumps(given, ensure_ascii=False)[:80]} was given.",
                'Give [{"role": "user", "content": "..."}], or a list of such lists.',
            )
        if not chat:
            raise EmptyPrompt("No message was given.", "Give one at least.")
        for number, message in enumerate(chat):
            for key in ("role", "content"):
                if not isinstance(message.get(key), str):
                    shown = json.dumps(message, ensure_ascii=False)[:80]
                    raise BadMessages(
                        f"Message {number} has no {key} that is a text: {shown}.",
                        'Give it as {"role": "user", "content": "..."}.',
                    )
    return [[{key: value for key, value in message.items() if value is not None} for message in chat] for chat in chats]


def _as_plain(value: Any, what: str) -> Any:
    # Templates come from elsewhere: they get values, no objects with methods.
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadMessages(f"{what} cannot be written as JSON ({error}).", "Give texts, numbers and lists.") from None
