"""Metrics: what is read off a run, one number or array for each text, never averaged over texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadMetric, count
from residscope.running.code import hash_code
from residscope.running.positions import PADDED, Positions, is_single, resolve
from residscope.running.run import Run, read_at
from residscope.sites import KINDS, STREAM, Site, read_site
from residscope.transformer.tokens import Tokens

if TYPE_CHECKING:
    from residscope.running.model import Model

Answer = str | int
Answers = Answer | Sequence[Answer | Sequence[Answer]] | set[Answer] | Tensor


@runtime_checkable
class Encoder(Protocol):
    """What turns a site's value into features, as a dictionary does."""

    @property
    def site(self) -> Site: ...
    def encode(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Reading:
    """A metric, bound to a model and texts.

    Attributes:
      places: What is read.
      positions: [batch n] Where, in each text; `PADDED` where a text has fewer.
      compute: From the values at each place, `[set batch n ...]`, to `[set batch ...]`.
      n_wide: Numbers that computing it holds for each value read, as the logits of a vocabulary.
      axes: Names of its values' axes after the batch's.
      weighs: Of a weighted sum of logits at one position: token ids and their weights, each `[batch k]`.
    """

    places: tuple[Site, ...]
    positions: Int[Tensor, "batch n"]
    compute: Callable[[Sequence[Tensor]], Tensor]
    n_wide: int = 0
    axes: tuple[str, ...] = ()
    weighs: tuple[Int[Tensor, "batch k"], Float[Tensor, "batch k"]] | None = None


@dataclass(frozen=True, eq=False)
class Metric:
    """What to read off a run. Made by `rs.logit_difference` and the others; call it with a run, or give it to a sweep.

    Attributes:
      name: As people and results call it.
      unit: Of its values.
      bind: Fits it to a model and texts.
      function: What `rs.metric` was given; of others None.
    """

    name: str
    unit: str
    bind: "Callable[[Model, Tokens], Reading]"
    function: Callable[..., Any] | None = None

    def __call__(self, run: Run) -> Tensor:
        """`[batch]`; of `rs.read`, `[batch ...]` with the site's axes.

        Raises:
          BadMetric: It does not fit the run's texts.
        """
        reading = self.bind(run.model, run.tokens)
        return self.evaluate(reading, run)

    @staticmethod
    @torch.no_grad()
    def evaluate(reading: Reading, run: Run) -> Tensor:
        """The value of a bound metric."""
        return reading.compute(values_of(reading, run))[0]

    @property
    def told(self) -> str:
        """What tells it from other metrics: as it prints, and of a function a hash of its code."""
        return repr(self) if self.function is None else f"{self!r} {hash_code(self.function)}"

    def __repr__(self) -> str:
        return f"rs.{self.name}"


def values_of(reading: Reading, run: Run) -> list[Tensor]:
    """What a metric reads off a run: `[1 batch n ...]` for each place, where the logits are made."""
    device = run.model.device
    return [read_at(run.raw(place), place, reading.positions).to(device) for place in reading.places]


def logit(token: Answers, *, pos: int = -1) -> Metric:
    """A token's logit.

    Args:
      token: One, one for each text, or a set for each text, whose mean is taken; `{" a", " b"}` is one for all.
      pos: Where.
    """
    return _of_tokens(f"logit({token!r}, pos={pos})", pos, token)


def logit_difference(correct: Answers, wrong: Answers, *, pos: int = -1) -> Metric:
    """The logit of the correct answer less that of the wrong one.

    Args:
      correct: A token, one for each text, or a set for each text, whose mean is taken.
      wrong: The same.
      pos: Where they are predicted.
    """
    return _of_tokens(f"logit_difference({correct!r}, {wrong!r}, pos={pos})", pos, correct, wrong)


def log_prob(token: Answers, *, pos: int = -1) -> Metric:
    """The log probability of a token, or of any of a set.

    Args:
      token: One, one for each text, or a set for each text.
      pos: Where it is predicted.
    """

    def bind(model: "Model", tokens: Tokens) -> Reading:
        ids, there = _read_answers(token, model, tokens)

        def compute(logits: Tensor) -> Tensor:
            found = _log_softmax(logits).gather(-1, ids.expand(len(logits), -1, -1))
            return found.masked_fill(~there, -torch.inf).logsumexp(-1)

        return of_logits(model, _one(pos, tokens), lambda logits: compute(logits[:, :, 0]))

    return Metric(f"log_prob({token!r}, pos={pos})", "nats", bind)


def probability_difference(tokens_a: Answers, tokens_b: Answers, *, pos: int = -1) -> Metric:
    """The probability of any of one set of tokens less that of any of another.

    Args:
      tokens_a: A token, one for each text, or a set for each text; one set in a list is for all texts.
      tokens_b: The same.
      pos: Where they are predicted.
    """

    def bind(model: "Model", tokens: Tokens) -> Reading:
        sets = [_read_answers(answers, model, tokens) for answers in (tokens_a, tokens_b)]

        def compute(logits: Tensor) -> Tensor:
            probs = _log_softmax(logits[:, :, 0]).exp()
            a, b = (
                probs.gather(-1, ids.expand(len(probs), -1, -1)).masked_fill(~there, 0).sum(-1) for ids, there in sets
            )
            return a - b

        return of_logits(model, _one(pos, tokens), compute)

    return Metric(f"probability_difference({tokens_a!r}, {tokens_b!r}, pos={pos})", "probability", bind)


def loss(*, pos: Positions | Literal["all"] = "all") -> Metric:
    """The mean over positions of minus the log probability of the text's own tokens.

    Args:
      pos: Of the tokens that are predicted; "all" is every one but the first.
    """

    def bind(model: "Model", tokens: Tokens) -> Reading:
        if isinstance(pos, str) and pos != "all":
            raise BadMetric(f"pos={pos!r} was asked for.", 'Give positions, or "all".')
        which = resolve(slice(1, None) if isinstance(pos, str) else pos, tokens.n_tokens)
        if bool((which == 0).any()) or bool((which == PADDED).all(-1).any()):
            raise BadMetric(
                "The loss of a text's first token was asked for, or of a text that has only that.",
                "Nothing predicts it: name later positions, or give longer texts.",
            )
        ids = tokens.ids.gather(1, which.clamp(min=0)).to(model.device)
        there = (which != PADDED).to(model.device)

        def compute(logits: Tensor) -> Tensor:
            found = _log_softmax(logits).gather(-1, ids[None, :, :, None].expand(len(logits), -1, -1, -1))[..., 0]
            return -found.masked_fill(~there, 0).sum(-1) / there.sum(-1)

        return of_logits(model, torch.where(which == PADDED, PADDED, which - 1), compute)

    return Metric(f"loss(pos={pos!r})", "nats", bind)


def kl(base: Run, *, pos: int = -1) -> Metric:
    """KL(base || this run): how far the prediction went from the base run's.

    Args:
      base: Of the same texts.
      pos: Where.
    """
    if not isinstance(base, Run):
        raise BadMetric(f"A {type(base).__name__} was given as the base run.", "Give what model.run gives.")

    def bind(model: "Model", tokens: Tokens) -> Reading:
        sizes = [(len(base.tokens.ids), base.model.config.d_vocab), (len(tokens.ids), model.config.d_vocab)]
        if sizes[0] != sizes[1]:
            raise BadMetric(
                "The base run has {} texts and {} logits, and this one {} and {}.".format(*sizes[0], *sizes[1]),
                "Give as many.",
            )
        expected = _log_softmax(base.at("logits", _one(pos, base.tokens))[:, 0].to(model.device))

        def compute(logits: Tensor) -> Tensor:
            found = _log_softmax(logits[:, :, 0])
            return (expected.exp() * (expected - found)).sum(-1).clamp(min=0)  # rounding may go below

        return of_logits(model, _one(pos, tokens), compute)

    return Metric(f"kl({base!r}, pos={pos})", "nats", bind)


def read(what: "str | Site | Encoder", *, pos: Positions = -1) -> Metric:
    """A site's value, or the features that a dictionary finds there.

    Args:
      what: A site, or what has one and encodes it.
      pos: As in the conventions.
    """
    if not isinstance(what, (str, Site, Encoder)):
        raise BadMetric(f"A {type(what).__name__} was to be read.", "Give a site, or what has a site and encodes it.")
    encoder = None if isinstance(what, (str, Site)) else what

    def bind(model: "Model", tokens: Tokens) -> Reading:
        site = model.find(what.site if encoder else what)  # type: ignore[union-attr, arg-type]  # one or the other
        ends = tokens.n_tokens.to(model.device)

        def compute(values: Sequence[Tensor]) -> Tensor:
            value = values[0]
            if "key" in site.axes:
                keys = torch.arange(value.shape[-1], device=value.device)
                value = value.masked_fill((keys >= ends[:, None]).view(-1, 1, 1, len(keys)), torch.nan)
            value = value[:, :, 0] if is_single(pos) else value
            return encoder.encode(value) if encoder else value

        rest = ("feature",) if encoder else tuple(axis for axis in site.axes if axis not in ("batch", "pos", "query"))
        axes = rest if is_single(pos) else ("pos", *rest)
        return Reading((model.place(site),), resolve(pos, tokens.n_tokens), compute, axes=axes)

    name = f"read({str(what)!r}, pos={pos})" if encoder is None else f"read({encoder!r}, pos={pos})"
    return Metric(name, _unit_of(what) if isinstance(what, (str, Site)) else "activation", bind)


def _unit_of(site: str | Site) -> str:
    """Of a site's values."""
    kind = (site if isinstance(site, Site) else read_site(site)).kind
    units = {"logits": "logits", "scores": "logits", "pattern": "probability"}
    return units.get(kind, "stream" if kind in KINDS and KINDS[kind].axes == STREAM else "activation")


def metric(function: Callable[..., Any], *, pos: Positions = -1, reads: Sequence[str | Site] | None = None) -> Metric:
    """Any plain function of the logits, or of some sites.

    Args:
      function: Takes the logits `[batch d_vocab]`, or what `reads` names, each `[batch ...]`; gives `[batch ...]`, each
        text's by its own alone: a sweep takes those that a set leaves as they are from the base run.
      pos: Where; a list or slice adds an axis after the batch's.
      reads: Sites, in the order of the function's arguments.
    """

    given: Any = function
    if not callable(given) or isinstance(reads, (str, Site)) or (reads is not None and not reads):
        raise BadMetric(
            f"rs.metric was given {function!r} and reads={reads!r}.", "Give a function, and a list of sites or nothing."
        )

    def bind(model: "Model", tokens: Tokens) -> Reading:
        positions = resolve(pos, tokens.n_tokens)

        def compute(values: Sequence[Tensor]) -> Tensor:
            flat = [value[:, :, 0] if is_single(pos) else value for value in values]
            found = [function(*(value[i] for value in flat)) for i in range(len(flat[0]))]
            wrong = next((x for x in found if not isinstance(x, Tensor) or x.shape[:1] != (len(tokens.ids),)), None)
            if wrong is not None:
                shape = list(wrong.shape) if isinstance(wrong, Tensor) else type(wrong).__name__
                raise BadMetric(f"The function gave {shape}.", f"It has to give [{len(tokens.ids)}, ...]: one a text.")
            stacked = torch.stack(found)
            return stacked if stacked.is_floating_point() else stacked.to(model.dtype)

        if reads is None:
            return of_logits(model, positions, lambda logits: compute([logits]))
        return Reading(tuple(model.place(model.find(name)) for name in reads), positions, compute)

    name = getattr(function, "__name__", "function")
    said = "" if reads is None else f", reads={list(map(str, reads))}"
    return Metric(f"metric({name}, pos={pos}{said})", "", bind, function)


def of_logits(model: "Model", positions: Int[Tensor, "batch n"], compute: Callable[[Tensor], Tensor]) -> Reading:
    """A function of all logits `[set batch n d_vocab]`."""
    transformer = model.transformer

    def unembed(values: Sequence[Tensor]) -> Tensor:
        return compute(transformer.cap_logits(transformer.unembedding(values[0])))

    return Reading((model.last_site,), positions, unembed, n_wide=model.config.d_vocab)


def _of_tokens(name: str, pos: int, *answers: Answers) -> Metric:
    """The mean logit of some tokens, less that of others if given; no other logits are computed."""

    def bind(model: "Model", tokens: Tokens) -> Reading:
        sides = [_read_answers(side, model, tokens) for side in answers]
        transformer = model.transformer
        wide = torch.promote_types(model.dtype, torch.float32)  # rounded logits would drown small differences
        ids = torch.cat([side for side, _ in sides], dim=1)
        means = [there.to(wide) / there.sum(1, keepdim=True) for _, there in sides]
        weights = torch.cat((means[0], *(-mean for mean in means[1:])), dim=1)
        rows = transformer.unembedding.weight
        bias: Tensor | None = transformer.unembedding.bias

        def compute(values: Sequence[Tensor]) -> Tensor:
            x = values[0][:, :, 0].to(wide)
            logits = torch.einsum("sbd,bkd->sbk", x, rows[ids].to(wide))
            logits = transformer.cap_logits(logits if bias is None else logits + bias[ids])
            return (logits * weights).sum(-1)

        return Reading((model.last_site,), _one(pos, tokens), compute, weighs=(ids, weights))

    return Metric(name, "logits", bind)


def _read_answers(answers: Answers, model: "Model", tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Token ids `[batch k]` of a set for each text, and which of them are there."""
    n_batch = len(tokens.ids)
    if isinstance(answers, (Tensor, np.ndarray)):
        answers = answers.tolist()
    if isinstance(answers, (set, frozenset)):
        answers = [sorted(answers, key=str)]
    if not isinstance(answers, (list, tuple)):
        sets: list[Any] = [[answers]] * n_batch
    else:
        sets = [list(one) if isinstance(one, (list, tuple, set, frozenset)) else [one] for one in answers]
        nested = bool(sets) and isinstance(answers[0], (list, tuple, set, frozenset))
        sets = sets * n_batch if nested and len(sets) == 1 else sets
    if len(sets) != n_batch or not all(sets):
        raise BadMetric(
            f"{count(len(sets), 'answer')} {'was' if len(sets) == 1 else 'were'} given for {count(n_batch, 'text')}.",
            "Give one token, one for each text, or a list of tokens for each text; [[...]] is one set for all.",
        )
    try:
        ids = [list({model.single_token(t) if isinstance(t, str) else index(t): None for t in one}) for one in sets]
    except TypeError:
        raise BadMetric(f"{answers!r} was given as answers.", "Give texts of one token, or token ids.") from None
    wrong = next((i for one in ids for i in one if not 0 <= i < model.config.d_vocab), None)
    if wrong is not None:
        raise BadMetric(f"There is no token {wrong}.", f"Ids are 0 to {model.config.d_vocab - 1}.")
    longest = max(map(len, ids))
    padded = torch.tensor([[*one, *[PADDED] * (longest - len(one))] for one in ids], device=model.device)
    return padded.clamp(min=0), padded != PADDED


def _one(pos: Any, tokens: Tokens) -> Int[Tensor, "batch 1"]:
    """One position of each text."""
    positions = resolve(pos, tokens.n_tokens)
    if positions.shape[1] != 1 or pos is None or isinstance(pos, slice):
        raise BadMetric(f"pos={pos!r} was asked for, and this is read at one position.", "Give a whole number.")
    return positions


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
