"""Steering: what a model writes with a direction added to its stream, beside what it writes without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.direction import Direction
from residscope.errors import BadArgument, BadDirection
from residscope.results.result import TokenResult
from residscope.running.arguments import read_choice
from residscope.running.edits import Edit, add
from residscope.running.model import Model
from residscope.running.packing import write_lines
from residscope.running.progress import forming
from residscope.running.texts import Texts, describe_texts, token_facts
from residscope.sites import find_site
from residscope.transformer.config import is_finite
from residscope.transformer.tokens import Tokens, stack

UNITS = ("stream", "sd", "norm")
PLACES = ("prompt", "new", "both")


@dataclass(frozen=True, eq=False, repr=False)
class Steering(TokenResult):
    """Two texts of one prompt: as the model writes on, and as it does with a direction added.

    Attributes:
      values: [batch pos] What the model without the direction gives each token, in log probability (nats); NaN for the
        first, where padded, and before all is written.
      n_prompt: Tokens of the prompt, which both begin with.
    """

    values: Float[Tensor, "batch pos"]
    n_prompt: int

    axes: ClassVar[tuple[str, ...]] = ("batch", "pos")
    view: ClassVar[str | None] = "steering"

    @property
    def texts(self) -> list[str]:
        """What is written without the direction and with it, the prompt left out."""
        return ["".join(pieces[self.n_prompt :]) for pieces in self.pieces]


@torch.no_grad()
def steer(
    model: Model,
    direction: Direction,
    prompt: Texts,
    *,
    strength: float,
    unit: Literal["stream", "sd", "norm"] = "sd",
    on: Literal["prompt", "new", "both"] = "both",
    first: bool = False,
    n_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
) -> Steering:
    """Write on from a prompt, without and with a direction added to the stream.

    Args:
      model: Any.
      direction: Of a site that the model has.
      prompt: One text.
      strength: How much is added, of either sign.
      unit: Of the strength: units of the stream, standard deviations along the direction, or the median norm of what
        the site holds at the prompt's tokens, the first left out where there are others.
      on: Whether it is added at the prompt's tokens, at the new ones, or at both.
      first: Whether at position 0 too, whose norm is huge in most models.
      n_tokens: At most so many new ones.
      temperature: 0 takes the most probable token; above, both texts are drawn with the same seed.
      seed: Of the draws.
    Returns:
      values  [batch pos]  log probabilities without the direction, of the text without it and of the one with it
    Raises:
      BadArgument: A number, unit or place is none, or there is nothing to add at.
      BadDirection: Its deviation is asked for and unknown.
      PromptTooLong: Prompt and new tokens do not fit the context.
    Holds:
      The first text is `model.generate`'s; at strength 0 the second equals it. What is added is strength times the unit
      times `direction.vector`; `settings["added"]` is its length.
    Source: Turner et al., "Activation Addition" (2023).
    """
    if not is_finite(strength):
        raise BadArgument(f"strength={strength!r} was asked for.", "Give a number.")
    for name, value, known in (("unit", unit, UNITS), ("on", on, PLACES)):
        read_choice(name, value, known)
    tokens = model.tokenize(prompt)
    if len(tokens.ids) > 1:
        raise BadArgument(f"{len(tokens.ids)} prompts were given.", "Steer from one at a time.")
    added = strength * _measure(model, direction, tokens, unit)
    if not torch.tensor(added, dtype=torch.float64).to(model.dtype).isfinite():
        raise BadArgument(f"{added:g} units of the stream were to be added, which is no {model.dtype}.", "Give less.")
    edits = _edits(direction, added, tokens, on, first)
    settings = {
        "site": str(direction.site),
        "direction": direction.name,
        "strength": strength,
        "unit": unit,
        "added": added,
        "on": on,
        "first": first,
        "temperature": temperature,
        "seed": seed,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    said = f"strength={strength!r}, unit={unit!r}, on={on!r}, first={first}, n_tokens={n_tokens}"
    call = f"rs.steer(model, direction, {describe_texts(prompt)}, {said}, temperature={temperature!r}, seed={seed})"
    n_prompt = int(tokens.n_tokens[0])

    def show(lists: Sequence[Sequence[int]], values: Tensor | None = None) -> Steering:
        both = stack(lists, model.tokenizer)
        return Steering(
            name=f"{direction.name}, {strength:+g} {'of the norm' if unit == 'norm' else unit}",
            settings=settings,
            python=write_lines(direction.lines(model.python), [call]),
            **token_facts(both),
            values=torch.full(both.ids.shape, torch.nan) if values is None else values,
            n_prompt=n_prompt,
        )

    def write(edits: Sequence[Edit], so_far: Callable[[list[int]], Steering]) -> list[int]:
        with forming(lambda ids: so_far(ids.tolist())):
            found = model.generate(tokens, n_tokens=n_tokens, temperature=temperature, seed=seed, edits=edits)
        return found.lists()[0]

    plain = write([], lambda ids: show([ids, tokens.lists()[0]]))
    lists = [plain, write(edits, lambda ids: show([plain, ids]))]
    return show(lists, _read_probabilities(model, stack(lists, model.tokenizer)))


def _measure(model: Model, direction: Direction, tokens: Tokens, unit: str) -> float:
    """A unit of strength in units of the stream."""
    if unit == "stream":
        return 1.0
    if unit == "sd":
        if direction.deviation is None:
            raise BadDirection(
                f"The deviation along {direction.name} is not known.",
                "Take unit='stream', or measure it on texts: basis.measure(direction).",
            )
        return direction.deviation
    held = model.run(tokens)[find_site(direction.site, model.sites)][0]
    return float(held[min(1, len(held) - 1) :].double().norm(dim=-1).median())


def _edits(direction: Direction, added: float, tokens: Tokens, on: str, first: bool) -> Sequence[Edit]:
    at = list(range(0 if first else 1, int(tokens.n_tokens[0])))
    if on == "prompt" and not at:
        raise BadArgument(
            "The prompt has one token, which is at position 0.", "Write a longer one, or say first=True or on='new'."
        )
    where: list[Any] = [*([at] if on != "new" and at else []), *(["new"] if on != "prompt" else [])]
    return [add(direction.site, direction, scale=added, pos=pos) for pos in where]


def _read_probabilities(model: Model, tokens: Tokens) -> Float[Tensor, "batch pos"]:
    logits = model.run(tokens).logits[:, :-1]
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    given = log_probs.gather(-1, tokens.ids[:, 1:, None].to(log_probs.device))[..., 0].cpu().float()
    given = given.masked_fill(~tokens.mask[:, 1:], torch.nan)
    return torch.cat([torch.full((len(given), 1), torch.nan), given], dim=1)
