"""Sweeps against TransformerLens's numbers of a small GPT-2: ten kinds of patching on two kinds of pairs, ablations."""

import json
from typing import Any

import pytest
import torch

import residscope as rs
from tests.models import shared_path


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    return found


@pytest.fixture(scope="module")
def model() -> rs.Model:
    return rs.load(shared_path("reference/oracle_gpt2/checkpoint"))


def metric_of(oracle: dict[str, Any]) -> rs.Metric:
    correct, wrong = zip(*oracle["answers_correct_wrong"], strict=True)
    return rs.logit_difference(list(correct), list(wrong))


def assert_near(ours: torch.Tensor, theirs: Any) -> None:
    torch.testing.assert_close(ours.double(), torch.tensor(theirs).double(), rtol=0, atol=2e-4)


def test_logit_differences(model: rs.Model, oracle: dict[str, Any]) -> None:
    metric = metric_of(oracle)
    assert_near(metric(model.run(torch.tensor(oracle["clean"]))), oracle["logit_difference"])
    for kind in ("one", "every"):
        corrupted = model.run(torch.tensor(oracle[f"corrupted_{kind}_token"]))
        assert_near(metric(corrupted), oracle["logit_difference_corrupted"][kind])


SITES = {"head_out": "z", "head_q": "q", "head_k": "k", "head_v": "v", "head_pattern": "pattern"}


@pytest.mark.parametrize("pairs", ["one", "every"])
@pytest.mark.parametrize("kind", ["resid_pre", "resid_mid", "attn_out", "mlp_out", *SITES, "head_out_by_pos"])
def test_patching(kind: str, pairs: str, model: rs.Model, oracle: dict[str, Any]) -> None:
    clean = model.run(torch.tensor(oracle["clean"]))
    corrupted = model.run(torch.tensor(oracle[f"corrupted_{pairs}_token"]))
    theirs, layers, n_pos = oracle["patch_denoise_mean_raw"][pairs], range(3), clean.tokens.ids.shape[1]
    if kind == "head_out_by_pos":
        expected = torch.tensor(theirs["attn_head_out_by_pos"])
        edits = [
            rs.replace(f"z.{layer}", clean, head=head, pos=pos)
            for layer in layers
            for pos in range(n_pos)
            for head in range(4)
        ]
    elif kind in SITES:
        expected = torch.tensor(theirs[f"attn_{kind}_all_pos"])
        edits = [rs.replace(f"{SITES[kind]}.{layer}", clean, head=head) for layer in layers for head in range(4)]
    else:
        expected = torch.tensor(theirs[kind])
        edits = [rs.replace(f"{kind}.{layer}", clean, pos=pos) for layer in layers for pos in range(n_pos)]
    sweep = model.sweep(corrupted, edits, metric_of(oracle))
    assert_near(sweep.values.mean(-1).view(expected.shape), expected.tolist())


def test_their_zero_is_our_constant(model: rs.Model, oracle: dict[str, Any]) -> None:
    base = model.run(torch.tensor(oracle["clean"]))
    theirs = oracle["zero_z_last_position_folded"]
    edits = [
        rs.ablate(f"z.{layer}", "constant", head=int(head), pos=-1)
        for layer, _, head in (name.partition(".") for name in theirs)
    ]
    values = model.sweep(base, edits, metric_of(oracle)).values
    assert_near(values, list(theirs.values()))
    zero = model.sweep(base, [rs.ablate("z.0", head=0, pos=-1)], metric_of(oracle)).values
    assert (zero[0] - values[0]).abs().max() > 1e-2
