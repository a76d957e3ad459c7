"""What follows when nodes of a graph are ablated, scaled or added to: predictions, outputs and later features."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from residscope.errors import BadArgument
from residscope.graphs.levels import ERROR, TOKEN, Dictionaries, Level, arrange, read_prompt, read_stream
from residscope.graphs.tracer import bind_output
from residscope.results.result import Indices, Result
from residscope.running.arguments import read_whole
from residscope.running.edits import Edit
from residscope.running.edits import add as add_vector
from residscope.running.metrics import Metric
from residscope.running.model import Model
from residscope.running.packing import write_lines
from residscope.running.positions import resolve
from residscope.running.run import Run
from residscope.running.texts import Texts, describe_texts
from residscope.sites import Site

_NODE = re.compile(r"(?:(token)|(.+)\.(\d+|error))@(-?\d+)")
_TIMES = ("before", "after")
_ROUNDING = 1e-5  # of a probability: smaller changes are none, and have no order


@dataclass(frozen=True, eq=False, repr=False)
class Intervention(Result):
    """A prompt without an intervention and with it.

    Attributes:
      values: [token time] Probabilities of next tokens, before and after: of the most probable of either time.
      token_ids: [token] Which, those that change most first; of those that do not change, the most probable.
      texts: The same, as people read them.
      features: [feature time] Activations of those that change most, before and after. After, dictionaries read the
        changed stream anew: one that is scaled is read near what was set, not as it.
      feature_names: As `5.10603@7`.
      outputs: Of each metric its `name`, and its value `before` and `after`.
      kl_nats: Of the prediction before to that after.
    """

    values: Float[Tensor, "token time"]
    token_ids: Int[Tensor, " token"]
    texts: Sequence[str]
    features: Float[Tensor, "feature time"]
    feature_names: Sequence[str]
    outputs: Sequence[Mapping[str, Any]]
    kl_nats: float

    axes: ClassVar[tuple[str, ...]] = ("token", "time")
    view: ClassVar[str | None] = "intervention"

    def columns(self, axis: str, index: Indices, places: Mapping[str, Indices]) -> dict[str, Any]:
        if axis == "time":
            return {"time": np.array(_TIMES, dtype=object)[index]}
        return {
            "token": index,
            "token_id": self.token_ids.numpy()[index],
            "text": np.array(self.texts, dtype=object)[index],
        }


@torch.no_grad()
def intervene(
    model: Model,
    prompt: Texts,
    dictionaries: Dictionaries,
    nodes: Sequence[str],
    *,
    scale: float = 0.0,
    add: float | None = None,
    outputs: Sequence[Metric] = (),
    top: int = 10,
    n_features: int = 30,
) -> Intervention:
    """Change what nodes write in a prompt, all together, and see what follows.

    What the prompt itself makes of them is changed: the same ablation as that of a graph's edges.

    Args:
      model: Any.
      prompt: One text.
      dictionaries: As of `causal_graph`.
      nodes: As a graph names them: `5.10603@7`, `5.error@7`, `token@7`.
      scale: What activations are multiplied by; 0 ablates.
      add: Instead: what is added to the activations of features.
      outputs: Metrics with one number.
      top: Tokens that are most probable before, and as many after.
      n_features: Features of later dictionaries that change most.
    Raises:
      BadArgument: There is no such node, or a number is none.
      BadDictionary: A dictionary does not fit the model.
      UnknownPosition: The prompt has no such position.
    Holds:
      Where one node is ablated, features of the next dictionary lose what its edges weigh.
    """
    levels = arrange(model, dictionaries)
    run = read_prompt(model, prompt, levels)
    if len(run.tokens.ids) != 1:
        raise BadArgument(f"{len(run.tokens.ids)} prompts were given.", "Try each alone.")
    top, n_features = read_whole("top", top, 1, model.config.d_vocab), read_whole("n_features", n_features, 0, 10_000)
    factor, more = _read_number("scale", scale), None if add is None else _read_number("add", add)
    if isinstance(nodes, str) or not nodes:
        raise BadArgument(f"nodes={nodes!r} was given.", 'Give a list, as ["5.10603@7"].')
    places = [_find_place(levels, run, node) for node in nodes]
    edits = [_make_edit(levels, run, place, node, factor, more) for place, node in zip(places, nodes, strict=True)]
    bound = [bind_output(metric, run) for metric in outputs]
    edited = model.run(run.tokens, edits=edits, keep=[level.read for level in levels])
    said = f"add={more!r}" if more is not None else f"scale={factor!r}"
    if not _is_finite(levels, edited) and _is_finite(levels, run):
        raise BadArgument(f"{said} was asked for, and {model.name} then gives NaN or infinity.", "Ask for less.")
    before, after = (one.at("logits", pos=-1)[0].float().log_softmax(-1).cpu() for one in (run, edited))
    ids = torch.unique(torch.cat((before.topk(top).indices, after.topk(top).indices)))
    ids = ids[before[ids].argsort(descending=True, stable=True)]
    changes = (after.exp() - before.exp())[ids].abs()
    ids = ids[changes.where(changes > _ROUNDING, 0).argsort(descending=True, stable=True)]
    names, features = _compare(levels, run, edited, min(pos for _, _, pos in places), n_features)
    said += f", outputs={list(outputs)!r}" if outputs else ""
    what = f"{more:+g}" if more is not None else "ablated" if factor == 0 else f"times {factor:g}"
    return Intervention(
        name=f"{', '.join(nodes[:3])}{' ...' if len(nodes) > 3 else ''} {what}",
        settings={
            "nodes": list(nodes),
            "scale": None if more is not None else factor,
            "add": more,
            "model": model.name,
            "has_bos": run.tokens.has_bos,
            "dtype": str(model.dtype).removeprefix("torch."),
        },
        python=write_lines(
            model.python,
            [
                f"rs.intervene(model, {describe_texts(run.source)}, dictionaries, {list(nodes)!r}, {said})",
            ],
        ),
        values=torch.stack((before.exp()[ids], after.exp()[ids]), dim=1),
        token_ids=ids,
        texts=[model.tokenizer.piece(i) for i in ids.tolist()],
        features=features,
        feature_names=names,
        outputs=[
            {"name": repr(metric), "before": float(base), "after": float(Metric.evaluate(reading, edited))}
            for metric, (reading, base) in zip(outputs, bound, strict=True)
        ],
        kl_nats=float((before.exp() * (before - after)).sum()),
    )


def _is_finite(levels: Sequence[Level], run: Run) -> bool:
    """Whether a run gives numbers, where dictionaries read and at its end."""
    values = [run.raw(level.read) for level in levels] + [run.at("logits", pos=-1)]
    return all(bool(value.isfinite().all()) for value in values)


def _read_number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not isfinite(value):
        raise BadArgument(f"{name}={value!r} was asked for.", "Give a number.")
    return float(value)


def _find_place(levels: Sequence[Level], run: Run, node: str) -> tuple[int, int, int]:
    """Level, feature and position of a node."""
    found = _NODE.fullmatch(str(node))
    if found is None:
        raise BadArgument(f"{node!r} was given as a node.", "Write 5.10603@7, 5.error@7 or token@7.")
    token, place, feature, where = found.groups()
    pos = int(resolve(int(where), run.tokens.n_tokens)[0, 0])
    if token:
        return TOKEN, int(run.tokens.ids[0, pos]), pos
    own = [n for n, level in enumerate(levels) if place in (str(level.layer), str(level.dictionary.site))]
    if len(own) != 1:
        sites = ", ".join(str(level.dictionary.site) for level in levels)
        raise BadArgument(f"{node} names {len(own)} of the dictionaries.", f"Name one by its site: {sites}.")
    if feature == "error":
        return own[0], ERROR, pos
    levels[own[0]].dictionary[int(feature)]  # which says whether there is one
    return own[0], int(feature), pos


def _make_edit(
    levels: Sequence[Level], run: Run, place: tuple[int, int, int], node: str, factor: float, more: float | None
) -> Edit:
    """What a node writes, changed."""
    level, feature, pos = place
    at = torch.tensor([pos])
    if (level == TOKEN or feature == ERROR) and more is not None:
        raise BadArgument(f"add={more:g} was asked for of {node}, which has no activation.", "Scale it.")
    if level == TOKEN:
        written, vector = Site("embed"), (factor - 1) * read_stream(run, Site("embed"), at)[0]
    else:
        one = levels[level]
        dictionary, written = one.dictionary, one.written
        x = read_stream(run, one.read, at).to(dictionary.decoder)
        active = dictionary.encode(x)
        if feature == ERROR:
            target = read_stream(run, written, at)
            vector = (factor - 1) * (target - dictionary.decode(active, of=x).reshape(target.shape).to(target))[0]
        else:
            value = active[:, feature]
            change = (factor - 1) * value if more is None else torch.full_like(value, more)
            vector = dictionary.write(torch.tensor([feature]).to(x.device), change, x)[0]
    return add_vector(written, vector.to(run.raw(written)).view(run.raw(written).shape[2:]), pos=pos)


def _compare(levels: Sequence[Level], run: Run, edited: Run, first: int, n: int) -> tuple[list[str], Tensor]:
    """Features at the first changed position or later that change most."""
    at = torch.arange(first, run.tokens.ids.shape[1])
    names, rows = list[str](), list[Tensor]()
    layers = [level.layer for level in levels]
    for level in levels:
        before, after = (
            level.dictionary.encode(read_stream(one, level.read, at)).float().cpu() for one in (run, edited)
        )
        changes = (after - before).abs().flatten()
        largest = changes.topk(min(n, len(changes))).indices
        largest = largest[changes[largest] > 0]
        slots, features = largest // before.shape[1], largest % before.shape[1]
        where = str(level.dictionary.site) if layers.count(level.layer) > 1 else level.layer
        names += [
            f"{where}.{feature}@{first + slot}" for slot, feature in zip(slots.tolist(), features.tolist(), strict=True)
        ]
        rows.append(torch.stack((before.flatten()[largest], after.flatten()[largest]), dim=1))
    found = torch.cat(rows)
    order = (found[:, 1] - found[:, 0]).abs().argsort(descending=True, stable=True)[:n]
    return [names[i] for i in order.tolist()], found[order]
