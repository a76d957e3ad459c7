"""What the bundled model does and which heads do it, measured on the files that are shipped."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.stats import binomtest
from torch import Tensor

import residscope as rs
from residscope.analyses.head_scores import draw_repeated
from residscope.demo.tasks import FRAMES
from residscope.demo.words import HELD_OUT_NAMES
from residscope.results.interval import bootstrap_interval
from residscope.running.run import Run

N_REPEATED = 50
_N_WORDS = 170  # of a story, which both models read whole
_USUAL = 128  # positions of most sequences in training


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
      name: What was measured.
      value: And how much.
      low, high: Its 95% interval.
      aim: "at least 0.97", or nothing where it is only told.
      met: Whether it was reached; None where there is no aim.
      cells: The same in parts.
    """

    name: str
    value: float
    low: float
    high: float
    aim: str = ""
    met: bool | None = None
    cells: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        verdict = {True: "met", False: "**missed**", None: ""}[self.met]
        return f"| {self.name} | {self.value:.3f} ({self.low:.3f} to {self.high:.3f}) | {self.aim} | {verdict} |"


def at_least(name: str, values: Float[Tensor, " n"], least: float, cells: Mapping[str, float] | None = None) -> Finding:
    """The mean of many, with a bootstrap interval, and whether it reaches `least`."""
    low, high = bootstrap_interval(values, 0.95).tolist()
    value = float(values.double().mean())
    return Finding(name, value, low, high, f"at least {least:g}", value >= least, cells or {})


def share_right(
    name: str, right: Sequence[bool], least: float, cells: Mapping[str, Sequence[bool]] | None = None
) -> Finding:
    """A share, with Wilson's interval, and the same in parts."""
    ends = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    parts = {key: sum(part) / len(part) for key, part in (cells or {}).items() if part}
    value = sum(right) / len(right)
    return Finding(name, value, ends.low, ends.high, f"at least {least:g}", value >= least, parts)


def measure_behaviours(model: rs.Model, n: int, stories: Sequence[str], other: rs.Model | None) -> list[Finding]:
    """The table of what the model is to do.

    Args:
      model: The bundled one.
      n: Prompts of the smaller tasks; indirect objects take twice as many.
      stories: Held-out text.
      other: Whose loss on the same text stands beside.
    """
    found = [
        _measure_pairs(model, "ioi", 2 * n, 0.97),
        _measure_third(model, n),
        _measure_bystander(model, n),
        _measure_repeats(model, n),
        _measure_pairs(model, "name", n, 0.95),
        _measure_pairs(model, "agreement", n, 0.95),
        _measure_years(model, n),
    ]
    texts = [_cut(text, [model, *([other] if other else [])]) for text in stories]
    own = measure_nats_per_byte(model, texts)
    low, high = bootstrap_interval(own, 0.95).tolist()
    value, beside = float(own.mean()), _measure_positions(model, texts)
    if other:
        beside[other.name] = float(measure_nats_per_byte(other, texts).mean())
    found.append(Finding("prose, nats per byte", value, low, high, "at most 0.70, aim 0.62", value <= 0.70, beside))
    return found


def _cut(text: str, models: Sequence[rs.Model]) -> str:
    """The beginning of a text, as much as fits the context of all models."""
    words = text.split(" ")[:_N_WORDS]
    while any(len(model.tokenizer.encode(" ".join(words))) > model.config.n_ctx for model in models):
        words = words[:-10]
    return " ".join(words)


def _measure_positions(model: rs.Model, texts: Sequence[str]) -> dict[str, float]:
    """Nats a token of the longer texts, to the usual length and beyond it."""
    longer = [text for text in texts if len(model.tokenizer.encode(text)) > _USUAL]
    parts = {"nats a token, to 128": slice(1, _USUAL), "nats a token, beyond": slice(_USUAL, None)}
    runs = [model.run(text) for text in longer]
    return {
        name: sum(float(rs.loss(pos=where)(run)) for run in runs) / len(runs) for name, where in parts.items() if runs
    }


def _measure_pairs(model: rs.Model, task: str, n: int, least: float) -> Finding:
    pairs = rs.demo.pairs(task, n)
    right = [bool(x > 0) for part in _parts(pairs) for x in part.metric()(model.run(list(part.clean)))]
    return share_right(f"{task}, right answer above the other", right, least, _by_cell(task, right))


def _by_cell(task: str, right: Sequence[bool]) -> dict[str, list[bool]]:
    """By wording and by what alternates within each, as `rs.demo.pairs` goes through them."""
    n_wordings = len(FRAMES[task])
    return {
        f"wording {frame}, {'ab'[order]}": [
            one for i, one in enumerate(right) if (i // 2 % n_wordings, i % 2) == (frame, order)
        ]
        for frame, order in product(range(n_wordings), range(2))
    }


def _parts(pairs: rs.Pairs, size: int = 100) -> list[rs.Pairs]:
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]


def _measure_third(model: rs.Model, n: int) -> Finding:
    """Where a third one gives, the two names are alike: beside it, how far they are apart where one of them gives."""
    pairs = rs.demo.pairs("ioi_three_names", n)
    apart = torch.cat([part.metric()(model.run(list(part.corrupted))) for part in _parts(pairs)])
    usual = torch.cat([part.metric()(model.run(list(part.clean))) for part in _parts(pairs)])
    low, high = bootstrap_interval(apart, 0.95).tolist()
    whole = float(usual.mean())
    orders = {f"order {'ab'[i]}": float(apart[i::2].mean()) for i in range(2)}  # which name comes first alternates
    name, aim = "ioi where three names stand, logit difference", "within a tenth of the usual, in both orders"
    met = all(abs(one) < 0.1 * whole for one in orders.values())
    cells = {"usual": whole, "mean size": float(apart.abs().mean()), **orders}
    return Finding(name, float(apart.mean()), low, high, aim, met, cells)


def _measure_bystander(model: rs.Model, n: int) -> Finding:
    """A known shortcut: whoever was named once receives. Here a third one was, too, who has nothing to do with it."""
    pairs, right = rs.demo.pairs("ioi", n), []
    rng = random.Random("bystander")
    for text, receiver, giver in zip(pairs.clean, pairs.correct, pairs.wrong, strict=True):
        other = rng.choice([name for name in HELD_OUT_NAMES if f" {name}" not in (receiver, giver)])
        logits = model.run(f"Nobody had seen {other} that day. {text}").at("logits", -1)[0]
        right.append(bool(logits[model.single_token(receiver)] > logits[model.single_token(f" {other}")]))
    found = share_right("ioi, right answer above one who was named before and has no part in it", right, 0.0)
    return replace(found, aim="", met=None)


def measure_first_position(model: rs.Model, texts: Sequence[str]) -> Finding:
    """How much longer the stream is at position 0 than elsewhere: the ratio of norms after the last layer, and each."""
    run = model.run([_cut(text, [model]) for text in texts], keep="resid_post")
    cells = {}
    for layer in range(model.config.n_layers):
        norms = run[f"resid_post.{layer}"].norm(dim=-1)
        rest = norms[:, 1:]
        cells[f"resid_post.{layer}, at 0"] = float(norms[0, 0])
        cells[f"resid_post.{layer}, elsewhere"] = float(rest.nanmedian())
    ratios = norms[:, 0] / rest.nanmedian(1).values
    low, high = bootstrap_interval(ratios, 0.95).tolist()
    return Finding("norm at position 0 over the median elsewhere", float(ratios.mean()), low, high, cells=cells)


def draw_repeats(model: rs.Model, n: int) -> Int[Tensor, "batch pos"]:
    """Random tokens, said twice, behind the first token."""
    return draw_repeated(model, n, N_REPEATED, seed=1, with_bos=True)


def second_half(run_of: Callable[[Tensor], Run], ids: Int[Tensor, "batch pos"]) -> Float[Tensor, " batch"]:
    """Mean loss on the repeated half, in nats; its first token, which nothing foretells, left out."""
    after = rs.loss(pos=slice(N_REPEATED + 2, None))
    return torch.cat([after(run_of(part)) for part in torch.split(ids, 50)])


def _measure_repeats(model: rs.Model, n: int) -> Finding:
    ids = draw_repeats(model, n)
    first = torch.cat([rs.loss(pos=slice(1, N_REPEATED + 1))(model.run(part)) for part in torch.split(ids, 50)])
    return at_least("repeated tokens, loss saved in nats", first - second_half(model.run, ids), 5.0)


def _measure_years(model: rs.Model, n: int) -> Finding:
    ids = [model.single_token(f"{year:02}") for year in range(100)]
    pairs, right = rs.demo.pairs("greater_than", n), []
    starts = [int(marks[0]) for marks in pairs.roles["year"]]
    for number, part in enumerate(_parts(pairs)):
        probs = model.run(list(part.clean)).at("logits", -1).softmax(-1)[:, ids]
        for row, start in zip(probs, starts[100 * number :], strict=False):
            right.append(bool(row[start + 1 :].sum() > row[: start + 1].sum()))
    return share_right("greater than, later years more probable", right, 0.90, _by_cell("greater_than", right))


def measure_nats_per_byte(model: rs.Model, texts: Sequence[str]) -> Float[Tensor, " batch"]:
    """The whole of each text, given its beginning-of-sequence token alone."""
    found = []
    for text in texts:
        run = model.run(text)
        n_predicted = int(run.tokens.n_tokens[0]) - 1
        found.append(float(rs.loss()(run)[0]) * n_predicted / len(text.encode()))
    return torch.tensor(found)


def measure_parts(model: rs.Model, n: int) -> list[Finding]:
    """Which heads do it: by where they look, and by what happens without them."""
    scores = rs.head_scores(model)
    ids = draw_repeats(model, n)
    whole = second_half(model.run, ids)
    heads = list(product(range(model.config.n_layers), range(model.config.n_heads)))
    inducing, looking_back = (
        [(layer, head) for layer, head in heads if scores[name][layer, head] > 0.4]
        for name in ("induction", "previous_token")
    )
    layer, head, _ = scores.best("previous_token")

    def cost(without: Sequence[tuple[int, int]]) -> Float[Tensor, " batch"]:
        edits = [rs.ablate(f"z.{layer}", "mean", head=head, texts=ids[:50]) for layer, head in without]
        return second_half(lambda part: model.run(part, edits=edits), ids) - whole

    rng = random.Random(0)
    others = [one for one in heads if one not in (*inducing, *looking_back)]  # these are part of the same circuit
    draws = [rng.sample(others, min(len(others), len(inducing))) for _ in range(5)]
    costs = [cost(draw) for draw in draws]
    random_costs = torch.stack(costs).mean(0)
    cells = {
        f"draw {number}: {', '.join(f'{layer}.{head}' for layer, head in draw)}": float(one.mean())
        for number, (draw, one) in enumerate(zip(draws, costs, strict=True))
    }
    found = []
    for name, least in (("previous_token", 0.8), ("induction", 0.8), ("duplicate_token", 0.4)):
        at = scores.best(name)
        error = float(scores.errors[list(scores.scores).index(name), at[0], at[1]])
        ends = (at[2] - 1.96 * error, at[2] + 1.96 * error)
        found.append(Finding(f"{name} head {at[0]}.{at[1]}", at[2], *ends, f"over {least:g}", at[2] > least))
    without = at_least(f"cost on repeats without the {len(inducing)} induction heads, nats", cost(inducing), 1.0)
    low, high = bootstrap_interval(random_costs, 0.95).tolist()
    value = float(random_costs.mean())
    return [
        *found,
        without,
        Finding(
            "the same without as many heads of neither kind, mean of 5 draws",
            value,
            low,
            high,
            "under 1",
            value < 1.0,
            cells,
        ),
        at_least(f"cost on repeats without the previous-token head {layer}.{head}, nats", cost([(layer, head)]), 1.0),
        _measure_self_repair(model, 200),
    ]


def _measure_self_repair(model: rs.Model, n: int) -> Finding:
    """The head whose loss is made up for most surely, at a level corrected for all heads."""
    pairs = rs.demo.pairs("ioi", n)
    run = model.run(list(pairs.clean))
    n_heads = model.config.n_layers * model.config.n_heads
    best: Finding | None = None
    for layer, head in product(range(model.config.n_layers), range(model.config.n_heads)):
        found = rs.ablate_head(model, run, layer=layer, head=head, metric=pairs.metric(), with_="constant")
        direct, repaired = float(found["direct"].mean()), found["self_repair"]
        low, high = bootstrap_interval(repaired, 1 - 0.05 / n_heads).tolist()
        if direct < 0 < low and (best is None or float(repaired.mean()) > best.value):
            cells = {"direct": direct, "norm": float(found["norm"].mean())}
            aim = "excludes zero, corrected for all heads"
            best = Finding(f"self-repair of head {layer}.{head}", float(repaired.mean()), low, high, aim, True, cells)
    return best or Finding("self-repair", 0.0, 0.0, 0.0, "excludes zero, corrected for all heads", False)


def measure_circuits(model: rs.Model, n: int) -> list[Finding]:
    """Which heads carry each task: whose values of the clean prompts, put into the corrupted ones, bring most back."""
    heads = list(product(range(model.config.n_layers), range(model.config.n_heads)))
    found = []
    for task in ("ioi", "name", "agreement", "greater_than"):
        pairs = rs.demo.pairs(task, n)
        metric, clean = pairs.metric(), model.run(list(pairs.clean), keep=["z", "pattern"])
        patches = [rs.replace(f"z.{layer}", clean, head=head) for layer, head in heads]
        sweep = model.sweep(model.run(list(pairs.corrupted)), patches, metric)
        whole = float((metric(clean) - sweep.base_values).mean())
        shares = (sweep.values - sweep.base_values) / whole  # [head batch]
        means = shares.mean(1)
        largest = means.abs().argsort(descending=True).tolist()[:5]
        low, high = bootstrap_interval(shares[largest[0]], 0.95).tolist()
        layer, head = heads[largest[0]]
        name = f"{task}: share of the difference that head {layer}.{head} alone restores"
        cells = {_name(heads[i]): float(means[i]) for i in largest} | {"whole, in logits": whole}
        without = rs.ablate_head(model, clean, layer=layer, head=head, metric=metric)
        cells |= {f"removed, {effect}": float(without[effect].mean()) for effect in ("total", "direct")}
        looks = clean[f"pattern.{layer}"][torch.arange(n), head, clean.tokens.n_tokens - 1]  # batch key
        roles = [role for role in pairs.roles if role != "end"]
        cells |= {f"looks at {role}": float(looks.gather(1, pairs.positions(model, role)).mean()) for role in roles}
        found.append(Finding(name, float(means[largest[0]]), low, high, cells=cells))
    return found


def measure_second_naming(model: rs.Model, n: int) -> Finding:
    """How it is known that a name stands there a second time: by which head's value at S2, and where that looks.

    A duplicate-token head looks at S1 itself, an induction head at what followed it. In the prompts that it is put into
    a third one stands at S2.
    """
    heads = list(product(range(model.config.n_layers), range(model.config.n_heads)))
    pairs = rs.demo.pairs("ioi_three_names", n)
    metric, twice = pairs.metric(), model.run(list(pairs.clean), keep=["z", "pattern"])
    first, second = (pairs.positions(model, role) for role in ("S1", "S2"))
    patches = [rs.replace(f"z.{layer}", twice, head=head, pos=second) for layer, head in heads]
    sweep = model.sweep(model.run(list(pairs.corrupted)), patches, metric)
    shares = (sweep.values - sweep.base_values) / float((metric(twice) - sweep.base_values).mean())  # [head batch]
    best = int(shares.mean(1).argmax())
    layer, head = heads[best]
    looks = twice[f"pattern.{layer}"][torch.arange(n), head, second[:, 0]]  # batch key
    cells = {"looks at S1": float(looks.gather(1, first).mean())}
    cells |= {"looks at the token after S1": float(looks.gather(1, first + 1).mean())}
    low, high = bootstrap_interval(shares[best], 0.95).tolist()
    name = f"ioi: share of the difference that head {_name(heads[best])} alone restores at S2"
    return Finding(name, float(shares[best].mean()), low, high, cells=cells)


def _name(head: tuple[int, int]) -> str:
    return f"{head[0]}.{head[1]}"


def tell(findings: Sequence[Finding]) -> dict[str, Any]:
    """Print the table; give it as JSON values."""
    print("| measured | value | aim | |\n| --- | --- | --- | --- |")
    for finding in findings:
        print(finding, flush=True)
    return {one.name: {key: value for key, value in vars(one).items() if key != "name"} for one in findings}
