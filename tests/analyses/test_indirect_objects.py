"""The published analysis, whole, held to what TransformerLens says of a random GPT-2."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.analyses.indirect_objects import PATCHED, walk_indirect_objects
from residscope.cli import reproduce
from tests.models import shared_path

PUBLISHED: dict[str, Any] = json.loads(Path(reproduce._PUBLISHED).read_text())
RAW = {"z": "attn_head_out_all_pos", "v": "attn_head_v_all_pos", "pattern": "attn_head_pattern_all_pos"}


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    """What TransformerLens says of the checkpoint."""
    told: dict[str, Any] = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    return told


def walk(oracle: dict[str, Any], head: tuple[int, int]) -> dict[str, Tensor]:
    correct, wrong = zip(*oracle["answers_correct_wrong"], strict=True)
    return walk_indirect_objects(
        rs.load(shared_path("reference/oracle_gpt2/checkpoint")),
        clean=torch.tensor(oracle["clean"]),
        corrupted=torch.tensor(oracle["corrupted_one_token"]),
        correct=correct,
        wrong=wrong,
        repeated=torch.tensor(oracle["repeated_tokens"]),
        head=head,
    )


def close(ours: Tensor, theirs: Any) -> None:
    torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=torch.float64), rtol=0, atol=1e-4)


def test_every_number_is_transformer_lens_s(oracle: dict[str, Any]) -> None:
    found = walk(oracle, (1, 2))
    close(found["logit_difference"], oracle["logit_difference"])
    close(found["corrupted_logit_difference"], oracle["logit_difference_corrupted"]["one"])
    close(found["lens"], torch.tensor(oracle["lens_final_scale"]["value"]).mean(1))
    close(found["layers"], torch.tensor(oracle["attribution_component"]["value"])[: len(found["layers"])].mean(1))
    close(found["heads"].flatten(), torch.tensor(oracle["attribution_head"]["value"]).mean(1))
    for name in ("previous_token", "duplicate_token", "induction"):
        close(found[name], oracle[name])
    raw = oracle["patch_denoise_mean_raw"]["one"]
    for site in PATCHED:
        close(found[f"patch_{site}"], raw[RAW.get(site, site)])
    close(found["ablated"], oracle["zero_z_last_position_folded"]["1.2"])


@pytest.mark.slow
def test_any_head_may_be_ablated(oracle: dict[str, Any]) -> None:
    for name, values in oracle["zero_z_last_position_folded"].items():
        layer, head = map(int, name.split("."))
        taken = walk(oracle, (layer, head))
        close(taken["ablated"], values)
        assert taken["head"].tolist() == [layer, head]
