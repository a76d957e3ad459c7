"""`residscope reproduce`: a published analysis done again, our numbers beside theirs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import Tensor

    from residscope.running.model import Model

# TransformerLens's Exploratory_Analysis_Demo on GPT-2 small, its saved outputs; `source` says from which commit.
_PUBLISHED = Path(__file__).with_name("ioi_gpt2_small.json")
_HEAD = (9, 9)
_KEYS = {
    "lens": "logit_lens",
    "layers": "layer_attribution",
    "heads": "head_attribution",
    "patch_resid_pre": "patch_resid_pre",
    "patch_attn_out": "patch_attn_out",
    "patch_mlp_out": "patch_mlp_out",
    "patch_z": "patch_head_z_all_pos",
    "patch_v": "patch_head_v_all_pos",
    "patch_pattern": "patch_head_pattern_all_pos",
    "previous_token": "score_prev_token",
    "duplicate_token": "score_duplicate_token",
    "induction": "score_induction",
}


@click.command()
@click.argument("analysis", type=click.Choice(["ioi"]))
@click.option(
    "--model", default="gpt2", show_default=True, help="A directory with GPT-2 small, or its Hugging Face id."
)
@click.option("--device", help="auto (default), cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every array, ours and theirs.")
def reproduce(analysis: str, model: str, device: str | None, as_json: bool) -> None:
    """Do the indirect-object analysis again, and print the largest difference from what was published."""
    from residscope.running.model import load
    from residscope.settings import read_settings

    published = json.loads(_PUBLISHED.read_text(encoding="utf-8"))
    ours, theirs = compare(load(model, **read_settings().loading("float32", device)), published)
    if as_json:
        both = {name: {"ours": ours[name].tolist(), "theirs": theirs[name].tolist()} for name in theirs}
        click.echo(json.dumps(both))
    else:
        print_table(ours, theirs)


def compare(model: "Model", published: Mapping[str, Any]) -> "tuple[dict[str, Tensor], dict[str, Tensor]]":
    """What the walk finds in a model on the published prompts, and what was published, by the same names.

    Raises:
      BadArgument: The model has not as many layers and heads as GPT-2 small.
    """
    import torch

    from residscope.analyses.indirect_objects import walk_indirect_objects
    from residscope.errors import BadArgument

    shape = [model.config.n_layers, model.config.n_heads]
    heads = torch.tensor(published["head_attribution"]["values"])
    if shape != [*heads.shape]:
        raise BadArgument(
            f"{model.name} has {shape[0]} layers of {shape[1]} heads, and the published numbers are of 12 of 12.",
            "Give GPT-2 small; the guide to the bench does the same walk on any model.",
        )
    correct, wrong = zip(*published["ioi"]["answers_correct_incorrect"], strict=True)
    ours = walk_indirect_objects(
        model,
        clean=model.tokenize(published["ioi"]["prompts"], bos=True),
        corrupted=model.tokenize(published["ioi"]["corrupted_prompts"], bos=True),
        correct=correct,
        wrong=wrong,
        repeated=torch.tensor(published["induction_tokens"]["tokens"]).repeat(1, 2),
        head=_HEAD,
    )
    ablation = published["ablation"]
    named = {
        "logit_difference": published["ioi"]["per_prompt_logit_diff"],
        **{name: published[key]["values"] for name, key in _KEYS.items()},
        "ablated": ablation["post_ablation"],
        "heads_after": ablation["head_attribution_after"],
        "scale_ratio": ablation["average_ln_scale_ratio"],
    }
    theirs = {name: torch.tensor(values, dtype=torch.float64) for name, values in named.items()}
    base = ours["corrupted_logit_difference"].mean()
    whole = ours["logit_difference"].mean() - base
    ours["ablated"] = ours["ablated"].mean()
    ours |= {name: (value - base) / whole for name, value in ours.items() if name.startswith("patch_")}
    return {name: ours[name] for name in theirs}, theirs


def print_table(ours: "Mapping[str, Tensor]", theirs: "Mapping[str, Tensor]") -> None:
    """Each by its name, and how far it is off."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in ("measured", "numbers", "ours, where theirs is largest", "theirs", "largest difference"):
        table.add_column(title, justify="left" if title == "measured" else "right")
    for name, published in theirs.items():
        at = int(published.abs().argmax())
        largest = [f"{float(one.flatten()[at]):.4f}" for one in (ours[name], published)]
        apart = float((ours[name] - published).abs().max())
        table.add_row(name.replace("_", " "), str(published.numel()), *largest, f"{apart:.1e}")
    Console().print(table)
