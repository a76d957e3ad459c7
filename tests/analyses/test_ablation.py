"""Removing a head: the direct effect is minus what it wrote, and the rest of the total is self-repair."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.errors import BadArgument, BadMetric, UnknownSite
from tests.models import family_model, own_model

TEXTS = ["abcdef", "a longer text", "xyz"]
METRIC = rs.logit_difference("a", "b")


@pytest.mark.parametrize("which", ["gpt2", "llama", "gpt_neox", "olmo2", "gemma3_text"])
@pytest.mark.parametrize(("layer", "head"), [(0, 1), (2, 3)])
def test_the_direct_effect_is_minus_the_heads_attribution(which: str, layer: int, head: int) -> None:
    model = family_model(which)
    run = model.run(TEXTS)
    found = rs.ablate_head(model, run, layer=layer, head=head, metric=METRIC, with_="zero")
    config, weights = model.config, model.weights
    written = run[f"head_out.{layer}"].nan_to_num()[:, :, head]
    if config.post_norm:  # its scale held, and the weight of that norm
        scale = run[f"attn_norm_post_scale.{layer}"].nan_to_num(nan=1.0)
        written = written / scale[..., None] * (config.norm_offset + weights[f"attn_norm_post_w.{layer}"])
    last = run.tokens.n_tokens - 1
    written, scale = written[torch.arange(3), last], run.at("ln_final_scale", -1)
    unembed = weights.folded("W_U", centre=True).weight
    ids = [model.single_token(token) for token in "ab"]
    attribution = written @ (unembed[:, ids[0]] - unembed[:, ids[1]]) / scale
    torch.testing.assert_close(found["direct"], -attribution, rtol=0, atol=1e-9)
    edited = METRIC(model.run(TEXTS, edits=rs.ablate(f"z.{layer}", head=head)))
    torch.testing.assert_close(found["total"], edited - METRIC(run), rtol=0, atol=1e-9)
    torch.testing.assert_close(found["total"], found["direct"] + found["self_repair"])


def test_behind_the_last_attention_only_mlp_and_norm_make_up() -> None:
    config = rs.Config(n_layers=2, d_model=16, n_heads=2, d_mlp=0, d_vocab=300, n_ctx=40, norm=None)  # attention alone
    model = own_model(config, dtype=torch.float64)
    last = rs.ablate_head(model, TEXTS, layer=1, head=0, metric=METRIC)
    assert last["self_repair"].abs().max() < 1e-12
    assert last["direct"].abs().min() > 1e-6
    first = rs.ablate_head(model, TEXTS, layer=0, head=0, metric=METRIC)
    assert first["self_repair"].abs().min() > 1e-6
    assert (first["norm"] == 0).all()  # there is none


def test_the_norms_share_is_all_of_it_where_nothing_else_comes_after() -> None:
    config = rs.Config(n_layers=2, d_model=16, n_heads=2, d_mlp=0, d_vocab=300, n_ctx=40)
    found = rs.ablate_head(own_model(config, dtype=torch.float64), TEXTS, layer=1, head=1, metric=METRIC)
    torch.testing.assert_close(found["norm"], found["self_repair"], rtol=0, atol=1e-12)
    assert found["norm"].abs().min() > 1e-6


def test_it_is_a_result(gpt2: rs.Model, tmp_path: Path) -> None:
    found = rs.ablate_head(gpt2, TEXTS, layer=1, head=2, metric=METRIC)
    assert list(found.to_frame().columns) == ["effect", "batch", "value"]
    assert torch.equal(found.mean(), found.values.mean(-1))
    ends = found.interval(0.9)
    assert ends.shape == (4, 2)
    assert (ends[:, 0] <= found.mean()).all()
    assert (found.mean() <= ends[:, 1]).all()
    found.save(tmp_path / "ablation")
    assert torch.equal(rs.open(tmp_path / "ablation").values, found.values)
    assert found.settings["with"] == "constant"
    edited = gpt2.run(TEXTS, edits=rs.scale("resid_pre.1", 1.5))
    under = rs.ablate_head(gpt2, edited, layer=1, head=2, metric=METRIC)
    torch.testing.assert_close(under.base_values, METRIC(edited))


def test_what_does_not_fit(gpt2: rs.Model, llama: rs.Model) -> None:
    def whole(logits: Tensor) -> Tensor:
        return logits

    with pytest.raises(BadArgument, match="another model"):
        rs.ablate_head(gpt2, llama.run(TEXTS), layer=0, head=0, metric=METRIC)
    with pytest.raises(BadArgument, match="several numbers"):
        rs.ablate_head(gpt2, TEXTS, layer=0, head=0, metric=rs.metric(whole))
    with pytest.raises(UnknownSite):
        rs.ablate_head(gpt2, TEXTS, layer=7, head=0, metric=METRIC)
    with pytest.raises(BadMetric):
        rs.ablate_head(gpt2, TEXTS, layer=0, head=0, metric=rs.logit(["a", "b"]))
    with pytest.raises(BadArgument, match="no effect 'indirect'"):
        rs.ablate_head(gpt2, TEXTS, layer=0, head=0, metric=METRIC)["indirect"]
