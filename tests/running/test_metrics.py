"""Every metric against plain computation from the logits, alone and in sweeps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.sites import KINDS, Site
from tests.models import own_model

TEXTS = ["abcdef", "xyz", "hello w"]
ENDS = [5, 2, 6]
ROWS = torch.arange(3)
FACTS: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_mlp": 24, "d_vocab": 300, "n_ctx": 16}


@pytest.fixture(scope="module", params=["plain", "capped"])
def model(request: pytest.FixtureRequest) -> rs.Model:
    facts = {"learned_positions": True} if request.param == "plain" else {"alibi": True, "logit_cap": 2.0}
    config = rs.Config(**FACTS, **facts, unembed_bias=request.param == "capped")
    return own_model(config, dtype=torch.float64)


def last(run: rs.Run) -> Tensor:
    return run.logits[ROWS, ENDS]


def ids(model: rs.Model, letters: str) -> list[int]:
    return [model.single_token(letter) for letter in letters]


def own_loss(run: rs.Run, positions: list[list[int]]) -> Tensor:
    log_probs = run.logits.log_softmax(-1)
    return torch.stack(
        [
            -torch.stack([log_probs[t, p - 1, run.tokens.ids[t, p]] for p in own]).mean()
            for t, own in enumerate(positions)
        ]
    )


def sums(logits: Tensor, chosen: list[list[int]]) -> Tensor:
    probs = logits.softmax(-1)
    return torch.stack([probs[t, own].sum() for t, own in enumerate(chosen)])


CASES: dict[str, tuple[Callable[[rs.Model], rs.Metric], Callable[[rs.Run], Tensor]]] = {
    "one token": (lambda m: rs.logit("a"), lambda r: last(r)[:, ids(r.model, "a")[0]]),
    "its id, early": (lambda m: rs.logit(7, pos=1), lambda r: r.logits[:, 1, 7]),
    "one a text": (lambda m: rs.logit(["a", "b", "c"]), lambda r: last(r)[ROWS, ids(r.model, "abc")]),
    "a set": (lambda m: rs.logit({"a", "b"}), lambda r: last(r)[:, ids(r.model, "ab")].mean(-1)),
    "a set, twice named": (lambda m: rs.logit([["a", "b", "a"]]), lambda r: last(r)[:, ids(r.model, "ab")].mean(-1)),
    "a set a text": (
        lambda m: rs.logit([["a", "b"], ["c"], [5, "d"]]),
        lambda r: torch.stack(
            [
                last(r)[t, own].mean()
                for t, own in enumerate([ids(r.model, "ab"), ids(r.model, "c"), [5, *ids(r.model, "d")]])
            ]
        ),
    ),
    "a difference": (
        lambda m: rs.logit_difference(["a", "b", "c"], "d"),
        lambda r: last(r)[ROWS, ids(r.model, "abc")] - last(r)[:, ids(r.model, "d")[0]],
    ),
    "a log probability": (lambda m: rs.log_prob("a"), lambda r: last(r).log_softmax(-1)[:, ids(r.model, "a")[0]]),
    "of a set": (
        lambda m: rs.log_prob([["a", "b"], ["c"], ["d", "e"]]),
        lambda r: sums(last(r), [ids(r.model, "ab"), ids(r.model, "c"), ids(r.model, "de")]).log(),
    ),
    "probabilities": (
        lambda m: rs.probability_difference([["a", "b"]], [["c"], ["d", "e"], ["f"]]),
        lambda r: (
            sums(last(r), [ids(r.model, "ab")] * 3)
            - sums(last(r), [ids(r.model, "c"), ids(r.model, "de"), ids(r.model, "f")])
        ),
    ),
    "loss": (lambda m: rs.loss(), lambda r: own_loss(r, [list(range(1, end + 1)) for end in ENDS])),
    "loss somewhere": (lambda m: rs.loss(pos=[1, -1]), lambda r: own_loss(r, [[1, end] for end in ENDS])),
    "kl": (
        lambda m: rs.kl(m.run(TEXTS)),
        lambda r: (
            last(r.model.run(TEXTS)).softmax(-1) * (last(r.model.run(TEXTS)).log_softmax(-1) - last(r).log_softmax(-1))
        ).sum(-1),
    ),
    "own function": (lambda m: rs.metric(lambda x: x.amax(-1)), lambda r: last(r).amax(-1)),
    "that counts": (lambda m: rs.metric(lambda x: x.argmax(-1)), lambda r: last(r).argmax(-1).double()),
    "of positions": (
        lambda m: rs.metric(lambda x: x.std((1, 2)), pos=[0, -1]),
        lambda r: torch.stack([r.logits[t, [0, end]].std() for t, end in enumerate(ENDS)]),
    ),
    "of sites": (
        lambda m: rs.metric(lambda z, x: z.sum((1, 2)) * x[:, 3], reads=["z.1", "resid_pre.1"], pos=-2),
        lambda r: r["z.1"][ROWS, [e - 1 for e in ENDS]].sum((1, 2)) * r["resid_pre.1"][ROWS, [e - 1 for e in ENDS], 3],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_metrics_equal_plain_computation(name: str, model: rs.Model) -> None:
    make, plain = CASES[name]
    base = model.run(TEXTS)
    metric = make(model)
    assert metric(base).shape == (3,)
    torch.testing.assert_close(metric(base), plain(base), rtol=0, atol=1e-12)
    edits = [rs.scale("z.1", 0.5, head=1), rs.add("resid_pre.1", 0.1, pos=0), rs.ablate("mlp_out.0", pos=-1)]
    sweep = model.sweep(base, edits, metric)
    assert sweep.values.shape == (3, 3)
    for row, edit in zip(sweep.values, edits, strict=True):
        torch.testing.assert_close(row, plain(model.run(TEXTS, edits=edit)), rtol=0, atol=1e-12)


def test_kl_is_in_nats_and_never_negative(model: rs.Model) -> None:
    base = model.run(TEXTS)
    assert (rs.kl(base)(base) == 0).all()
    edits = [rs.noise("resid_pre.1", 10.0**-n, n) for n in range(10)]
    values = model.sweep(base, edits, rs.kl(base)).values
    assert (values >= 0).all()
    assert (values[0] > 1e-3).all()


@pytest.mark.parametrize("pos", [-1, [0, -1], slice(-2, None), None])
def test_reading_a_site(pos: Any, model: rs.Model) -> None:
    base = model.run(TEXTS)
    for site in model.sites:
        read = rs.read(site, pos=pos)
        value = read(base)
        expected = base.at(site, pos)
        if "query" in site.axes and not isinstance(pos, int):
            expected = expected.transpose(1, 2)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12, equal_nan=True)
        sweep = model.sweep(base, [rs.scale("z.0", 0.5)], read)
        assert sweep.values.shape == (1, *value.shape)
        assert len(sweep.axes) == sweep.values.ndim
        assert set(sweep.axes[2:]) <= {*KINDS[site.kind].axes, "pos"} - {"batch", "query"}


def test_reading_features(model: rs.Model) -> None:
    class Dictionary:
        site = Site("resid_pre", 1)

        def encode(self, x: Tensor) -> Tensor:
            return x[..., :5].relu()

    base = model.run(TEXTS)
    assert torch.equal(rs.read(Dictionary())(base), base.at("resid_pre.1", -1)[:, :5].relu())
    sweep = model.sweep(base, [rs.scale("mlp_out.0", 2.0)], rs.read(Dictionary(), pos=[0, 1]))
    assert sweep.axes == ("edit", "batch", "pos", "feature")
    expected = model.run(TEXTS, edits=rs.scale("mlp_out.0", 2.0)).at("resid_pre.1", [0, 1])[..., :5].relu()
    torch.testing.assert_close(sweep.values[0], expected)


def test_metrics_say_what_they_are(model: rs.Model) -> None:
    assert repr(rs.logit_difference(" a", [1, 2])) == "rs.logit_difference(' a', [1, 2], pos=-1)"
    assert eval(repr(rs.loss(pos=[1, 2])), {"rs": rs}).unit == "nats"
    assert repr(rs.kl(model.run("ab"))) == "rs.kl(model.run('ab'), pos=-1)"


def test_what_is_read_has_the_unit_of_its_site() -> None:
    units = {site: rs.read(site).unit for site in ("resid_pre.2", "blocks.1.attn.hook_pattern", "scores.0", "z.1")}
    assert units == {
        "resid_pre.2": "stream",
        "blocks.1.attn.hook_pattern": "probability",
        "scores.0": "logits",
        "z.1": "activation",
    }
