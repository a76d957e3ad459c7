"""The causal check: equal to full runs, held against what it says, and able to say that a direction does nothing."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.directions import causal_check
from residscope.errors import BadArgument, BadDirection, EmptyPrompt, UnknownSite
from residscope.running.texts import read_texts
from residscope.summaries.moments import Moments

TEXTS = ["abcdefgh", "hello there", "xyz", "one more text"]
FEW: dict[str, Any] = {"n_draws": 3}


def direction_at(site: str, seed: int = 0, **facts: Any) -> rs.Direction:
    return rs.Direction.of(torch.randn(32, generator=torch.Generator().manual_seed(seed)), site, "d", **facts)


def by_hand(model: rs.Model, edit: rs.Edit) -> torch.Tensor:
    """Change of the loss and KL of every text, one at a time, `[measure batch]`."""
    rows = []
    for text in TEXTS:
        base, edited = model.run(text), model.run(text, edits=[edit])
        ids = base.tokens.ids[0, 2:]
        before, after = (run.logits[0, 1:-1].log_softmax(-1) for run in (base, edited))
        losses = [-each.gather(-1, ids[:, None]).mean() for each in (before, after)]
        rows.append([losses[1] - losses[0], (before.exp() * (before - after)).sum(-1).mean()])
    return torch.tensor(rows).T


@pytest.mark.parametrize(("site", "head"), [("resid_pre.1", None), ("z.1", 2), ("k.2", 0), ("mlp_act.1", None)])
def test_every_value_equals_that_of_full_runs(gpt2: rs.Model, site: str, head: int | None) -> None:
    width = gpt2.axis_size(gpt2.find(site).axes[-1], 0)
    drawn = torch.randn(width, generator=torch.Generator().manual_seed(0))
    direction = rs.Direction.of(drawn, site, "d", head=head)
    check = rs.causal_check(gpt2, direction, TEXTS, strength=1.5, **FEW)
    held = torch.cat([gpt2.run(text)[site][0, 1:] for text in TEXTS])
    rows = held if head is None else held[:, head]
    centred = direction.of(direction.vector, site, mean=rows.mean(0))
    amount = 1.5 * float((rows @ direction.vector).std())
    where: dict[str, Any] = {"pos": slice(1, None), "head": head}
    edits = {
        "remove": rs.project_out(site, centred, centre="mean", **where),
        "add": rs.add(site, centred, amount, **where),
        "subtract": rs.add(site, centred, -amount, **where),
        "clamp": rs.clamp(centred, amount, **where),
    }
    for number, action in enumerate(check.actions):
        assert torch.allclose(check.values[:, number, 0], by_hand(gpt2, edits[action]), atol=1e-9), action
    assert torch.allclose(check.whole, by_hand(gpt2, rs.replace(site, rows.mean(0), **where)), atol=1e-9)
    assert check.settings["added"] == pytest.approx(amount)
    assert check.settings["site"] == (site if head is None else f"{site} head {head}")


def test_texts_apart_are_texts_together(gpt2: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    direction = direction_at("mlp_out.0")
    whole = rs.causal_check(gpt2, direction, TEXTS, **FEW)
    monkeypatch.setattr(causal_check, "_LOGITS_AT_ONCE", 1)
    assert torch.allclose(rs.causal_check(gpt2, direction, TEXTS, **FEW).values, whole.values, atol=1e-10)


def test_others_vary_as_much_and_point_elsewhere(demo: rs.Model) -> None:
    texts = read_texts(rs.demo.texts)[:6]
    check = rs.causal_check(demo, rs.pca(demo, texts, "resid_pre.2")[10], texts, actions=["remove"], n_draws=8)
    own, alike = check.deviations[0], check.deviations[[kind == "variance" for kind in check.kinds]]
    assert torch.allclose(alike, own.expand(8), rtol=1e-6)
    plain = check.deviations[[kind == "random" for kind in check.kinds]]
    assert float((plain / own - 1).abs().mean()) > 0.05
    assert check.kinds.count("shuffled") == 0


def test_what_the_model_cannot_read_does_nothing(gpt2: rs.Model) -> None:
    even = rs.Direction.of(torch.ones(32), "resid_post.2", "what the final norm takes off")
    check = rs.causal_check(gpt2, even, TEXTS, n_draws=20)
    assert float(check.values[:, :, 0].abs().max()) < 1e-10
    assert float(check.values[1, :, 1:].abs().mean()) > 1e-4
    assert "no more than chance" in check.verdict
    assert bool((check.summary()["p"] == 1).all())


def test_what_the_model_reads_does_more_than_chance(demo: rs.Model) -> None:
    texts = rs.demo.pairs("ioi", 12).clean
    token = rs.token_direction(demo, " Mary", minus=" the")
    check = rs.causal_check(demo, token, list(texts), actions=["add"], strength=4.0)
    assert check.verdict.endswith(
        "; 0 of 20 directions that vary as much move them as far or farther: more than chance (p = 0.048)."
    )
    row = check.summary().query("measure == 'kl'").iloc[0]
    assert row["low"] < row["effect"] < row["high"]
    assert row["variance_high"] < row["effect"]
    assert row["p"] == pytest.approx(1 / 21)


def test_contrasts_and_probes_bring_their_shuffled_labels(demo: rs.Model) -> None:
    he = [f"{name} ran home. He was" for name in ("Tom", "John", "Paul", "Sam")]
    she = [f"{name} ran home. She was" for name in ("Amy", "Mary", "Sue", "Jane")]
    contrast = rs.contrast(demo, he, she, site="resid_pre.2")
    check = rs.causal_check(demo, contrast, [*he, *she], actions=["remove"], n_draws=20)
    assert check.kinds.count("shuffled") == 20
    assert "of 20 directions of shuffled labels move them" in check.verdict
    frame = check.to_frame()
    assert {*frame.columns} == {"measure", "action", "vector", "kind", "batch", "value"}
    assert len(frame) == 2 * 1 * 61 * 8
    low, high = check.summary()[["shuffled_low", "shuffled_high"]].to_numpy()[0]
    assert low <= high
    probe = rs.probe(demo, [*he, *she], [0] * 4 + [1] * 4, site="resid_pre.2")
    assert probe.shuffled is not None
    assert probe.shuffled.shape == (40, 128)


def told(others: list[float], shuffled: Sequence[float] = ()) -> str:
    """The verdict on a direction that moves predictions by one nat, where chance gives these."""
    means = torch.tensor([1.0, *others, *shuffled], dtype=torch.float64)
    kinds = ["direction"] + ["variance"] * len(others) + ["shuffled"] * len(shuffled)
    values = means.expand(2, 1, -1)[..., None]
    found: dict[str, Any] = {
        "measures": ["loss", "kl"],
        "actions": ["remove"],
        "kinds": kinds,
        "whole": torch.full((2, 1), 4.0),
    }
    check = causal_check.CausalCheck(name="", settings={}, python=[], values=values, deviations=means, **found)
    return check.verdict.partition("; ")[2]


def test_the_verdict_counts_those_as_large_and_says_where_they_are_too_few() -> None:
    assert told([0.1] * 97 + [2.0] * 3) == (
        "3 of 100 directions that vary as much move them as far or farther: more than chance (p = 0.04)."
    )
    assert told([0.1] * 29 + [1.0]).endswith(
        "1 of 30 directions that vary as much move them as far or farther: no more than chance (p = 0.065)."
    )
    assert told([0.1] * 10).endswith(
        "10 directions that vary as much cannot tell: the smallest p is 0.091; ask for n_draws=20 or more."
    )
    assert "10 directions of shuffled labels cannot tell: the smallest p is 0.091; make the" in told(
        [0.1] * 20, [0.1] * 10
    )
    assert told([0.1] * 20, [0.1] * 40).endswith("more than chance (p = 0.048).")
    assert told([2.0] * 20, [0.1] * 10).endswith("no more than chance (p = 1).")


def test_it_is_a_result(demo: rs.Model, tmp_path: Any) -> None:
    basis = rs.pca(demo, ["Tom ran home. He was glad.", "One day Mary saw a cat."], "resid_pre.1")
    check = rs.causal_check(demo, basis[2], ["Tom ran home.", "Amy was sad."], **FEW)
    check.save(tmp_path / "check")
    assert rs.open(tmp_path / "check").to_json() == check.to_json()
    names: dict[str, Any] = {}
    *lines, call = check.as_python().strip().split("\n")
    exec("\n".join(lines), names)
    assert torch.allclose(eval(call, names).values, check.values, atol=1e-5)


def test_what_cannot_be_checked_is_refused(gpt2: rs.Model) -> None:
    direction = direction_at("resid_pre.1")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"actions": ["erase"]}, BadArgument, "'erase'"),
        ({"actions": []}, BadArgument, r"\[\]"),
        ({"n_draws": 0}, BadArgument, "n_draws"),
        ({"texts": []}, EmptyPrompt, "No text"),
        ({"texts": ["abc", "a"]}, BadArgument, "Text 1 has 1 tokens"),
        ({"direction": rs.Direction.of(range(1, 9), "resid_pre.1", "short")}, BadDirection, "short has 8 entries"),
        ({"direction": direction_at("resid_pre.7")}, UnknownSite, "layers 0 to 2"),
        ({"direction": direction_at("z.1")}, BadArgument, "a vector for each head, and none was chosen"),
        ({"direction": direction_at("pattern.1")}, UnknownSite, "each position has a vector"),
    ]
    for asked, error, says in cases:
        call: dict[str, Any] = {"model": gpt2, "direction": direction, "texts": TEXTS, **asked}
        with pytest.raises(error, match=says):
            rs.causal_check(**call)


def test_variances_are_matched_between_the_ends() -> None:
    rows = torch.randn(500, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.arange(1, 13)
    covariance = Moments.of(rows).covariance
    weights = torch.randn(6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    variances = torch.linalg.eigvalsh(covariance)
    for share in (0.05, 0.5, 0.95):
        wanted = float(variances[0] + share * (variances[-1] - variances[0]))
        found = causal_check._match_variance(weights, covariance, wanted)
        found = found / found.norm(dim=-1, keepdim=True)
        assert torch.allclose(((found @ covariance) * found).sum(-1), torch.full((6,), wanted).double(), rtol=1e-6)
