"""The published analysis of indirect objects, whole: from the logits to self-repair, of any model."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from residscope.analyses.attribution import attribute
from residscope.analyses.head_scores import measure_pattern
from residscope.analyses.logit_lens import logit_lens
from residscope.analyses.patching import patch
from residscope.running.edits import ablate
from residscope.running.metrics import Answer, logit_difference
from residscope.running.model import Model
from residscope.running.texts import Texts

PATCHED = ("resid_pre", "attn_out", "mlp_out", "z", "v", "pattern")
SCORED = ("previous_token", "duplicate_token", "induction")


@torch.no_grad()
def walk_indirect_objects(
    model: Model,
    *,
    clean: Texts,
    corrupted: Texts,
    correct: Sequence[Answer],
    wrong: Sequence[Answer],
    repeated: Int[Tensor, "batch pos"],
    head: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """Do the whole of TransformerLens's exploratory analysis.

    Args:
      model: Any whose attention can be read, with learned positions.
      clean: Prompts, all equally long.
      corrupted: As many, as long.
      correct: A token for each, as text or id.
      wrong: Another for each.
      repeated: Tokens that are said twice, for the scores of heads.
      head: Which is taken away at the last position; None is the one that gives most to the logit difference.
    Returns:
      logit_difference, corrupted_logit_difference  [pair]  correct less wrong, at the last position
      lens     [2 n_layers + 1]  the difference off every stream, by the final norm's scale of the whole run
      layers   [2 + 2 n_layers]  what both embeddings and every sub-block give to the difference, and
      heads    [layer head]      every head
      patch_*  [layer pos] or [layer head]  the difference of the corrupted prompts with a clean activation
      previous_token, duplicate_token, induction  [layer head]  attention on `repeated`
      head     [2]           the layer and the number of the one that was taken away
      ablated  [pair]        the difference without the head, at the last position
      heads_after  [layer head]  what every head then gives
      scale_ratio  []        by which the final norm divides less then
    Holds:
      Equal to what TransformerLens finds, to 1e-4.
    Source: TransformerLens, `Exploratory_Analysis_Demo`; Wang et al., "Interpretability in the Wild" (2022).
    """
    metric = logit_difference(list(correct), list(wrong))
    run = model.run(clean)
    found: dict[str, Tensor] = {
        "logit_difference": metric(run),
        "corrupted_logit_difference": metric(model.run(corrupted)),
    }
    lenses = [
        logit_lens(run, norm="final", value="logit", target=list(answers), sub_blocks=True, top=1).values[:, :, -1]
        for answers in (correct, wrong)
    ]
    parts = attribute(run, metric)
    found["lens"] = (lenses[0] - lenses[1]).mean(0) - parts["bias"].mean()
    found["layers"] = torch.cat(
        (
            torch.stack((parts["embed"], parts["pos_embed"])).mean(1),
            torch.stack((parts["attn_out"], parts["mlp_out"]), -1).mean(0).flatten(),
        )
    )
    found["heads"] = attribute(run, metric, by="head")["head"].mean(0)
    for site in PATCHED:
        found[f"patch_{site}"] = patch(model, clean=clean, corrupted=corrupted, site=site, metric=metric).mean(raw=True)
    scored = model.run(repeated, keep="pattern")
    patterns = [scored[f"pattern.{layer}"] for layer in range(model.config.n_layers)]
    n_tokens = repeated.shape[1] // 2
    scores = torch.stack([measure_pattern(pattern, n_tokens, repeated.shape[1] % 2).mean(1) for pattern in patterns], 1)
    found |= dict(zip(SCORED, scores, strict=False))
    layer, number = head or divmod(int(found["heads"].argmax()), model.config.n_heads)
    without = model.run(clean, edits=[ablate(f"z.{layer}", "constant", head=number, pos=-1)])
    found["head"], found["ablated"] = torch.tensor((layer, number)), metric(without)
    found["heads_after"] = attribute(without, metric, by="head")["head"].mean(0)
    scales = [one.at("ln_final_scale", -1) for one in (run, without)]
    found["scale_ratio"] = (scales[0] / scales[1]).mean()
    return {name: value.double().cpu() for name, value in found.items()}
