"""Writing chats with a model's template, in Jinja as transformers gives it to templates."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from residscope.errors import BadChatTemplate, BadMessages, ResidscopeError
from residscope.transformer.chat_template import ChatTemplate, Message


class Writer:
    """Writes chats with a template.

    Args:
      template: The model's.
      variables: What it may read besides the messages.
    Raises:
      BadChatTemplate: It is no Jinja.
    """

    def __init__(self, template: ChatTemplate, variables: Mapping[str, Any]) -> None:
        self.bos = str(template.special_tokens.get("bos_token", ""))
        now = datetime.now()  # one clock for all that is written of a chat
        self._variables = {
            "tools": None,
            "documents": None,
            "strftime_now": lambda form: now.strftime(form),
            **template.special_tokens,
            **variables,
        }
        try:
            self._template = _environment().from_string(template.source)
        except jinja2.TemplateError as error:
            raise BadChatTemplate(f"The model's chat template is broken ({error}).", "Download it again.") from None

    def write(self, messages: Sequence[Message], *, reply: bool) -> str:
        """The chat as one text.

        Raises:
          BadMessages: The template refuses them.
          BadChatTemplate: The template fails.
        """
        try:
            return self._template.render({**self._variables, "messages": messages, "add_generation_prompt": reply})
        except _Refused as refusal:
            raise BadMessages(
                f"The model's chat template refuses these messages: {refusal}", "Give the roles in the order it knows."
            ) from None
        except Exception as error:  # a template is a program, and fails as it likes
            raise BadChatTemplate(
                f"The model's chat template fails on these messages ({type(error).__name__}: {error}).",
                "Give plain messages of user and assistant in turn, or correct the template.",
            ) from None

    def try_to_write(self, messages: Sequence[Message], *, reply: bool) -> str | None:
        """The chat as one text; None where the template does not take it."""
        try:
            return self.write(messages, reply=reply)
        except ResidscopeError:
            return None


class _Refused(Exception):
    """What `raise_exception` in a template raises."""


class _Generation(Extension):
    """`{% generation %}`, which marks the assistant's words for training, writes what is in it."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    """The Jinja that templates are written for."""

    def raise_exception(message: str) -> NoReturn:
        raise _Refused(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.globals["raise_exception"] = raise_exception
    environment.filters["tojson"] = _to_json  # Jinja's own writes < as an escape
    return environment


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
