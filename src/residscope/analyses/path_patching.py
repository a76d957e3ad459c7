"""Path patching: what a head sends to others on the ways between them alone."""

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from residscope.analyses.patching import Patching, join_sweeps, run_sides
from residscope.errors import BadArgument
from residscope.running.arguments import read_choice, read_list
from residscope.running.edits import freeze as hold
from residscope.running.edits import replace
from residscope.running.metrics import Metric
from residscope.running.metrics import metric as make_metric
from residscope.running.model import Model, check_model
from residscope.running.pairs import Pairs
from residscope.sites import Site

SENDERS = {"heads": "z", "mlps": "mlp_out"}
FROZEN = {
    "heads": "all other heads keep their values of the clean run between sender and receivers; MLPs are recomputed",
    "heads+mlps": "all other heads and MLPs keep their values of the clean run between sender and receivers",
}
NORMS = {
    "recomputed": "norms between sender and receivers are recomputed",
    "frozen": "norms between sender and receivers divide by what they do in the clean run",
}
MEANING = "the sender's corrupted values reach the receivers; these reach the metric through everything after them"

Receiver = tuple[Site, int | None]  # what is read, and of which head


def path_patch(
    model: Model,
    pairs: Pairs,
    *,
    senders: Literal["heads", "mlps"] = "heads",
    receivers: str | Sequence[str],
    freeze: Literal["heads", "heads+mlps"] = "heads",
    norm: Literal["recomputed", "frozen"] = "recomputed",
    metric: Metric | None = None,
) -> Patching:
    """Let receivers alone hear of every sender what it says in the corrupted run; all else is of the clean one.

    Args:
      model: Any.
      pairs: Prompts of equally many tokens in each pair.
      senders: Every head, or every MLP, each alone and at all positions.
      receivers: Queries, keys and values of heads, as "q.9.9" (of `k` and `v`, the head that has its own), what an MLP
        reads, as "mlp.5", all together; or "logits" alone.
      freeze: See `FROZEN`.
      norm: See `NORMS`; "frozen" with `freeze="heads+mlps"` is the linear direct path.
      metric: With one number for each prompt; None is `pairs.metric()`.
    Returns:
      values  [layer head pair]  the metric, by sender (`[layer pair]` of MLPs); what nothing is sent by is as clean
    Raises:
      BadArgument: There is no such sender, receiver or way to freeze.
      UnknownSite: A receiver's layer is none.
      UnknownToken: An answer is not one token.
      BadMetric: The metric does not fit, gives several numbers for each prompt, or NaN.
      BadEdit: Prompts of a pair have other lengths.
    Holds:
      Every value equals that of two full runs: of the clean prompt with all frozen and the sender replaced, and of the
      clean prompt with the receivers replaced by what that gave them.
    Source: Wang et al., "Interpretability in the Wild" (2022), appendix B; Goldowsky-Dill et al., "Localizing Model
      Behavior with Path Patching" (2023).
    """
    check_model(model)
    for name, word, known in (("senders", senders, SENDERS), ("freeze", freeze, FROZEN), ("norm", norm, NORMS)):
        read_choice(name, word, known)
    names = [receivers] if isinstance(receivers, str) else read_list("receivers", receivers)
    if not names:
        raise BadArgument("No receiver was named.", 'Name one, as "q.9.9" or "logits".')
    hearing = [] if names == ["logits"] else [one for name in names for one in _find_receivers(model, name)]
    sides = run_sides(model, pairs, None, None, metric)
    frozen = ["z", "mlp_out"] if freeze == "heads+mlps" else ["z"]
    held = [site for site in model.sites if site.kind in frozen or (norm == "frozen" and site.kind.endswith("_scale"))]
    clean, corrupted = sides.runs["clean"], sides.runs["corrupted"]
    clean.keep(held)
    corrupted.keep(SENDERS[senders])
    # What every set would hold, its base does: a run of the clean prompts whose numbers are those of the clean run.
    between = model.run(clean.tokens, edits=hold(held, clean))

    def listen(*values: Tensor) -> Tensor:
        return torch.cat(
            [x if head is None else x[:, :, head] for x, (_, head) in zip(values, hearing, strict=True)], dim=-1
        )

    heard = make_metric(listen, pos=None, reads=[site for site, _ in hearing]) if hearing else sides.metric
    widths = [model.axis_size(site.axes[-1], 0) for site, _ in hearing]
    padding = ~clean.tokens.mask[..., None].to(model.device)
    labels: dict[str, Sequence[int]] = {"layer": range(model.config.n_layers)}
    labels |= {"head": range(model.config.n_heads)} if senders == "heads" else {}
    swept = []
    for layer in labels["layer"]:  # one by one: what receivers hear of all senders may be large
        sent = [replace(f"{SENDERS[senders]}.{layer}", corrupted, head=head) for head in labels.get("head", [None])]
        found = model.sweep(between, sent, heard)
        if hearing:
            told = [
                [
                    replace(site, part, head=head)
                    for (site, head), part in zip(hearing, one.split(widths, dim=-1), strict=True)
                ]
                for one in found.values.masked_fill(padding, 0)
            ]
            found = model.sweep(clean, told, sides.metric)
        swept.append(found)
    asked = {"senders": senders, "receivers": names, "freeze": freeze, "norm": norm}
    said = "".join(f", {name}={value!r}" for name, value in asked.items())
    values, facts = join_sweeps(swept, clean)
    return sides.result(
        f"paths from {senders} to {', '.join(names)}",
        values,
        labels,
        {**asked, "meaning": [MEANING, FROZEN[freeze], NORMS[norm]], **facts},
        f"rs.path_patch(model, {sides.python}{said})",
        patched=["clean"],
    )


def _find_receivers(model: Model, name: str) -> list[Receiver]:
    """What a receiver reads, as sites and heads.

    Raises:
      BadArgument: It is no receiver.
      UnknownSite: The model has no such layer.
    """
    found = re.fullmatch(r"([qkv])\.(\d+)\.(\d+)|mlp\.(\d+)", str(name))
    if not found:
        raise BadArgument(
            f"The receiver {name!r} was named.",
            'Name "q.9.9", "k.9.9", "v.9.9" or "mlp.5", or "logits" alone.',
        )
    kind, layer, head, mlp = found.groups()
    if mlp:
        there = {site.kind for site in model.sites}
        kinds = ["ln2"] if "ln2" in there else [kind for kind in ("mlp_pre", "mlp_up") if kind in there] or ["mlp_pre"]
        return [(model.find(f"{kind}.{mlp}"), None) for kind in kinds]
    site = model.find(f"{kind}.{layer}")
    n_heads = model.axis_size(site.axes[2], 0)
    if int(head) >= n_heads:
        raise BadArgument(f"The receiver {name!r} was named, and {site} has {n_heads} heads.", "Heads count from 0.")
    return [(site, int(head))]
