"""Runs: alone or in a batch, kept or computed later, whole or at some positions."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import residscope as rs
from residscope.errors import NotKept, UnknownPosition, UnknownSite
from residscope.transformer.families import FAMILIES
from tests.models import family_model

TEXTS = ["a short one", "x", "the longest of these three texts"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_text_equals_itself_alone_and_padding_is_nan(family: str) -> None:
    model = family_model(family)
    together = model.run(TEXTS, keep="all")
    for number, text in enumerate(TEXTS):
        alone, n = model.run(text, keep="all"), len(text)
        for site in model.sites:
            ours, theirs = together[site][number], alone[site][0]
            if site.kind in ("scores", "pattern"):
                assert ours[:, n:].isnan().all()
                assert ours[:, :, n:].isnan().all()
                ours = ours[:, :n, :n]
            else:
                assert ours[n:].isnan().all()
                ours = ours[:n]
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", ["gpt2", "llama", "phi"])
def test_what_is_asked_for_later_equals_what_was_kept(family: str) -> None:
    model = family_model(family)
    kept = model.run(TEXTS, keep="all")
    for first in ("resid_pre.1", "resid_post.2", "logits"):
        for site in model.sites:
            run = model.run(TEXTS, keep=[first])
            torch.testing.assert_close(run[site], kept[site], rtol=0, atol=1e-10, equal_nan=True)


def test_only_what_is_kept_is_kept(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS, keep=["resid_pre.1", "pattern"])
    assert {str(site) for site in run.kept} == {"resid_post.0", "resid_pre.1", "pattern.0", "pattern.1", "pattern.2"}
    run.at("logits", -1)
    assert "logits" not in {str(site) for site in run.kept}
    assert "ln_final" in {str(site) for site in run.kept}


def test_later_passes_start_from_the_nearest_kept_stream(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS, keep=["resid_pre.1"])
    ran: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda module, given: ran.append(module.layer))
        for block in gpt2.transformer.blocks
    ]
    run["z.1"]
    assert ran == [1]
    run["resid_post.0"]
    run["resid_pre.0"]
    assert ran == [1]
    run["resid_mid.2"]
    assert ran == [1, 1, 2]
    for handle in handles:
        handle.remove()


def test_the_stream_after_a_layer_is_the_stream_before_the_next(llama: rs.Model) -> None:
    run = llama.run("one place", keep=["resid_post.1"])
    assert run["resid_post.1"].data_ptr() == run["resid_pre.2"].data_ptr()


def test_a_strict_run_refuses(gpt2: rs.Model) -> None:
    run = gpt2.run("hello", keep=["resid_pre.1"], strict=True)
    assert run["resid_pre.1"].shape == (1, 5, 32)
    for site in ("z.1", "logits"):
        with pytest.raises(NotKept, match="was not kept, and the run is strict"):
            run[site]
        with pytest.raises(NotKept, match="was not kept, and the run is strict"):
            run.at(site, -1)


def test_positions(gpt2: rs.Model) -> None:
    run = gpt2.run(TEXTS)
    whole, lengths = run["resid_pre.2"], [len(text) for text in TEXTS]
    last = torch.stack([whole[i, n - 1] for i, n in enumerate(lengths)])
    assert torch.equal(run.at("resid_pre.2", -1), last)
    assert torch.equal(run.at("resid_pre.2", 0), whole[:, 0])
    assert torch.equal(run.at("resid_pre.2", [-1, 0]), torch.stack([last, whole[:, 0]], 1))
    own = torch.tensor([[3], [0], [-2]])
    expected = torch.stack([whole[0, 3], whole[1, 0], whole[2, lengths[2] - 2]])[:, None]
    assert torch.equal(run.at("resid_pre.2", own), expected)
    torch.testing.assert_close(run.at("pattern.1", 0), run["pattern.1"][:, :, 0], rtol=0, atol=0, equal_nan=True)
    tail = run.at("resid_pre.2", slice(-3, None))
    assert torch.equal(tail[0], whole[0, lengths[0] - 3 : lengths[0]])
    assert torch.equal(tail[1, :1], whole[1, :1])
    assert tail[1, 1:].isnan().all()
    torch.testing.assert_close(run.at("resid_pre.2", None), whole, rtol=0, atol=0, equal_nan=True)


def test_logits_at_a_position_equal_the_logits(llama: rs.Model) -> None:
    some = llama.run(TEXTS).at("logits", [0, -1])
    run = llama.run(TEXTS)
    assert run.logits.shape[:2] == (3, max(map(len, TEXTS)))
    torch.testing.assert_close(some, run.at("logits", [0, -1]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("pos", [3, -2, [0, 1], torch.tensor([[0], [1], [0]])])
def test_positions_that_a_text_has_not(gpt2: rs.Model, pos: object) -> None:
    with pytest.raises(UnknownPosition, match=r"text 1 has 1 token\."):
        gpt2.run(TEXTS).at("resid_pre.0", pos)  # type: ignore[arg-type]


@pytest.mark.parametrize("pos", [torch.tensor([0, 1, 2]), torch.zeros(2, 1, dtype=torch.long), torch.zeros(3, 1)])
def test_positions_of_the_wrong_shape(gpt2: rs.Model, pos: torch.Tensor) -> None:
    with pytest.raises(UnknownPosition, match=r"is \[batch n\], of whole numbers"):
        gpt2.run(TEXTS).at("resid_pre.0", pos)


def test_unknown_sites(gpt2: rs.Model) -> None:
    with pytest.raises(UnknownSite):
        gpt2.run("x", keep=["resid_pre.9"])
    with pytest.raises(UnknownSite):
        gpt2.run("x")["nothing"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="abc \n", min_size=1, max_size=30), min_size=1, max_size=5))
def test_batches_of_any_texts_equal_each_alone(llama: rs.Model, texts: list[str]) -> None:
    logits = llama.run(texts).at("logits", -1)
    for row, text in zip(logits, texts, strict=True):
        torch.testing.assert_close(row, llama.run(text).at("logits", -1)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_only_layers_whose_pattern_is_seen_leave_fused_attention(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    fused = F.scaled_dot_product_attention

    def attend(*given: Any, **named: Any) -> torch.Tensor:
        calls.append(given)
        return fused(*given, **named)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    model = family_model(family)
    cases: list[tuple[list[str], list[rs.Edit], int]] = [
        ([], [], 0),
        (["resid_pre", "q", "z", "head_out"], [rs.ablate("z.1"), rs.ablate("k.2")], 0),
        (["pattern.1"], [], 1),
        (["scores.0", "pattern.0", "pattern.2"], [], 2),
        ([], [rs.noise("pattern.1", 0.1), rs.knockout("pattern.1", key=0, query=-1), rs.scale("scores.2", 0.5)], 2),
    ]
    for keep, edits, n_open in cases:
        calls.clear()
        model.run("abc", keep=[*keep, "logits"], edits=edits)
        assert len(calls) == model.config.n_layers - n_open, (keep, edits)
