"""A sweep equals running every set of edits alone, in full, on every kind of block."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import residscope as rs
from residscope.sites import KINDS
from residscope.transformer.rotary import Rotary
from tests.models import own_model

TEXTS = ["abcdefgh", "xyz", "hellohel"]
OTHERS = ["abXdefgh", "xyz", "HELLOHEL"]
# Pairs of batches: other lengths, one text, many of a kind.
PAIRS = [(TEXTS, OTHERS), (["one text"], ["one tExt"]), (["abc", "a longer one"], ["abd", "a lonGer one"])]

_FACTS: dict[str, Any] = {"n_layers": 3, "d_model": 16, "n_heads": 4, "d_mlp": 24, "d_vocab": 300, "n_ctx": 16}
_ROTARY = Rotary("default", 4, 100.0, 16)
MODELS: dict[str, dict[str, Any]] = {
    "learned positions": {"learned_positions": True},
    "rotary, grouped, gated": {"rotary": _ROTARY, "n_kv_heads": 2, "gated": True, "norm": "rms"},
    "parallel, two norms": {"rotary": dataclasses.replace(_ROTARY, n_dims=2), "parallel": True},
    "parallel, one norm": {"rotary": _ROTARY, "parallel": True, "shared_norm": True, "unembed_bias": True},
    "alibi": {"alibi": True, "embed_norm": True, "activation": "gelu"},
    "windows, caps, post-norms": {
        "rotary": _ROTARY,
        "rotary_windowed": dataclasses.replace(_ROTARY, theta=10.0),
        "windows": (3, None, 2),
        "attn_cap": 2.0,
        "logit_cap": 3.0,
        "post_norm": True,
        "norm": "rms",
        "norm_offset": 1.0,
        "n_kv_heads": 1,
        "qk_norm": "head",
    },
    "post-norms only": {"rotary": _ROTARY, "pre_norm": False, "post_norm": True, "norm": "rms", "qk_norm": "whole"},
    "attention only": {"learned_positions": True, "d_mlp": 0},
    "no norm": {"learned_positions": True, "norm": None, "activation": "solu"},
}
_made: dict[str, rs.Model] = {}


def model_of(name: str) -> rs.Model:
    if name not in _made:
        _made[name] = own_model(rs.Config(**{**_FACTS, **MODELS[name]}), dtype=torch.float64)
    return _made[name]


POSITIONS = st.one_of(
    st.none(),
    st.integers(-3, 2),
    st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True),
    st.just(slice(1, None)),
    st.just("each its own"),
)
NAMES = ["replace", "freeze", "add", "scale", "noise", "ablate", "project_out", "along", "knockout", "apply"]


def draw_edit(data: st.DataObject, model: rs.Model, other: rs.Run, base: rs.Run) -> rs.Edit:
    """Any edit of any editable site."""
    site = data.draw(st.sampled_from([site for site in model.sites if KINDS[site.kind].editable]), "site")
    pos, number = data.draw(POSITIONS, "pos"), data.draw(st.integers(0, 9), "number")
    if isinstance(pos, str):
        pos = base.tokens.n_tokens[:, None] - torch.tensor([[2, 1]])
    axes = [axis for axis in site.axes if axis not in ("batch", "pos", "query")]
    part: dict[str, Any] = {}
    if axes and axes[0] in ("head", "kv_head", "d_mlp"):
        last = model.axis_size(axes[0], 0) - 1
        chosen = data.draw(st.sampled_from([None, 0, last, [last, 0] if last else [0]]), "part")
        part = {"neuron" if axes[0] == "d_mlp" else "head": chosen}
    name = data.draw(st.sampled_from(NAMES), "edit")
    width = model.axis_size(axes[-1], 0) if axes and axes[-1].startswith("d_") else 1
    rows = torch.randn(2, width, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    if name == "replace":
        return rs.replace(site, other, pos=pos, **part)
    if name == "freeze":
        return rs.freeze([site], base, pos=pos, **part)
    if name == "scale" and site.kind != "scores":
        return rs.scale(site, 0.5, pos=pos, **part)
    if name == "noise":
        return rs.noise(site, 0.3, number, pos=pos, **part)
    if name == "ablate" and "scale" not in site.kind:
        return rs.ablate(site, pos=pos, **part)
    if name == "project_out" and width > 1 and "neuron" not in part:
        return rs.project_out(site, rows, pos=pos, **part)
    if name == "along" and width > 1 and "neuron" not in part:
        return rs.replace(site, other, pos=pos, along=rows[0], **part)
    if name == "knockout":
        head = number % model.config.n_heads
        return rs.knockout(f"pattern.{number % 3}", key=number % 2, query=slice(2, None), head=head)
    if name == "apply":
        return rs.apply(site, lambda x: x * 1.1)
    return rs.add(site, 0.1 * (1 + number), pos=pos, **part)


def check(base: rs.Run, sets: list[list[rs.Edit]], metric: rs.Metric, **options: Any) -> rs.Sweep:
    found = base.model.sweep(base, sets, metric, **options)
    for number, one in enumerate(sets):
        alone = metric(base.model.run(base.tokens, edits=[*base.edits, *one]))
        torch.testing.assert_close(found.values[number], alone, rtol=1e-10, atol=1e-10, equal_nan=True)
    assert found.noise_floor <= 1e-10
    return found


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_sweep_equals_running_every_set_in_full(name: str, data: st.DataObject) -> None:
    model = model_of(name)
    texts, others = data.draw(st.sampled_from(PAIRS), "texts")
    other, plain = model.run(others), model.run(texts)
    own = [draw_edit(data, model, other, plain) for _ in range(data.draw(st.integers(0, 1), "edits of the base run"))]
    base = model.run(texts, edits=own)
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4), "lengths of the sets")
    sets = [[draw_edit(data, model, other, plain) for _ in range(n)] for n in lengths]
    read = [data.draw(st.sampled_from(model.sites), "read") for _ in range(2)]
    metrics = [
        rs.logit_difference("a", "b"),
        rs.loss(),
        rs.read(read[0], pos=-1),
        rs.read(read[1], pos=[0, 2]),
        rs.metric(_both, reads=["resid_pre.1", "resid_post.2"], pos=[-2]),
    ]
    check(base, sets, metrics[data.draw(st.integers(0, 4), "metric")])


def _both(early: torch.Tensor, late: torch.Tensor) -> torch.Tensor:
    return early.sum((1, 2)) * late.sum(-1)[:, 0]
