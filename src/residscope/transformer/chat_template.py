"""A model's chat template, as its files or its tokenizer have it; `chat_writer` writes with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residscope.errors import BadChatTemplate
from residscope.transformer.tokens import read_content, read_settings

Message = Mapping[str, Any]
Messages = Sequence[Message] | Sequence[Sequence[Message]]

CHAT_TEMPLATE_FILE = "chat_template.jinja"

_NAMED_TOKENS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja.

    Attributes:
      source: Its text.
      special_tokens: What it may name, as `bos_token`.
    """

    source: str = field(repr=False)
    special_tokens: Mapping[str, Any]


def read_chat_template(directory: Path) -> ChatTemplate | None:
    """The template in a model's directory: a file of its own goes before the tokenizer's settings.

    Raises:
      BadChatTemplate: The file cannot be read.
      BadTokenizer: The settings cannot be read.
    """
    settings = read_settings(directory)
    found = _choose(settings.get("chat_template"))
    path = directory / CHAT_TEMPLATE_FILE
    if path.is_file():
        try:
            found = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise BadChatTemplate(f"{path} cannot be read ({error}).", "Download it again.") from None
    named = {name: read_content(settings.get(name)) for name in _NAMED_TOKENS}
    return ChatTemplate(found, {name: token for name, token in named.items() if token}) if found else None


def wrap_chat_template(tokenizer: Any) -> ChatTemplate | None:
    """The template of a transformers tokenizer."""
    found = _choose(getattr(tokenizer, "chat_template", None))
    return ChatTemplate(found, dict(tokenizer.special_tokens_map)) if found else None


def _choose(found: Any) -> str | None:
    # Several are a list in files and a dictionary in memory; the others are for tools and documents.
    if isinstance(found, list):
        found = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
    if isinstance(found, dict):
        found = found.get("default")
    return found if isinstance(found, str) else None
