"""Directions of tokens, positions, heads and neurons: each does or reads in a run what it says."""

from collections.abc import Callable

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, BadDirection, UnknownToken
from residscope.transformer.circuits import read_tokens
from residscope.transformer.direct_path import find_direct_path
from tests.models import FACTS, family_model


def in_the_last_stream(model: rs.Model, vector: torch.Tensor) -> tuple[torch.Tensor, float]:
    """How logits before any cap change where a vector is added to the last stream, the final norm's scale held."""
    norm = model.transformer.ln_final
    moved = vector.to(model.dtype)
    if norm is not None:
        moved = norm.centre(moved) * (1.0 if norm.weight is None else norm.offset + norm.weight)
    return model.transformer.unembedding.weight @ moved, float(vector.norm())


@pytest.mark.parametrize("family", FACTS)
def test_a_token_is_promoted_by_as_much_as_is_said(family: str) -> None:
    model = family_model(family)
    for minus in (None, 5):
        direction = rs.token_direction(model, 3, minus=minus)
        assert str(direction.site) == f"resid_post.{model.config.n_layers - 1}"
        # The derivative of what it names along any vector is that vector times the direction's length along it.
        vector = torch.randn(model.config.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        changes = in_the_last_stream(model, vector)[0].double()
        named = changes[3] - (changes[5] if minus else 0.0 if model.config.logit_cap else changes.mean())
        expected = float(direction.vector @ vector) * direction.history["length"]
        assert float(named) == pytest.approx(expected, abs=1e-9)
    assert direction.mean is None
    assert direction.offset == 0


def test_a_token_is_what_its_direction_promotes_most(demo: rs.Model) -> None:
    found = rs.vocabulary(rs.token_direction(demo, " Mary"), model=demo, top=1, bottom=0)
    assert found.texts[0][0] == " Mary"
    both = rs.vocabulary(rs.token_direction(demo, " Mary", minus=" John"), model=demo, top=1, bottom=1)
    assert both.texts[0] == [" Mary", " John"]


def test_an_embedding_is_what_a_run_reads(demo: rs.Model) -> None:
    run = demo.run("Tom ran to Mary")
    along = rs.project(run, rs.token_direction(demo, " Mary", read="embed")).values[0]
    assert int(along.argmax()) == run.tokens.pieces[0].index(" Mary")
    assert float(along.max()) == pytest.approx(float(run["embed"][0, -1].norm()), rel=1e-5)
    position = rs.position_direction(demo, 2)
    assert float(rs.project(run, position).values[0, 2]) == pytest.approx(
        float(run["pos_embed"][0, 2].norm()), rel=1e-5
    )


@pytest.mark.parametrize("family", FACTS)
def test_a_neuron_writes_and_reads(family: str) -> None:
    model = family_model(family)
    written = rs.neuron_direction(model, layer=1, neuron=2)
    run = model.run(torch.tensor([[1, 2, 3, 4]]))
    more = model.run(run.tokens, edits=[rs.add("mlp_act.1", torch.eye(model.config.d_mlp)[2].to(model.dtype), pos=-1)])
    site = "mlp_raw.1" if model.config.post_norm else "mlp_out.1"
    change = (more[site] - run[site])[0, -1].double()
    if not model.config.post_norm:
        assert torch.allclose(change, written.vector * written.history["length"], atol=1e-9)
    read = rs.neuron_direction(model, layer=1, neuron=2, side="in")
    assert read.site.kind == ("resid_pre" if model.config.parallel else "resid_mid")
    scale = run["ln1_scale.1" if model.config.shared_norm else "ln2_scale.1"] if has_norm(model) else torch.ones(1, 4)
    values = rs.project(run, read).values[0] * read.history["length"] / scale[0].cpu()
    matrix = "mlp_up.1" if "W_gate.1" in model.weights else "mlp_pre.1"
    bias = model.weights.folded("W_in.1").bias[2]
    assert torch.allclose(values + bias, run[matrix][0, :, 2].to(values), atol=1e-4)


def has_norm(model: rs.Model) -> bool:
    return any(site.kind in ("ln1_scale", "ln2_scale") for site in model.sites)


@pytest.mark.parametrize(("circuit", "side"), [("OV", "out"), ("OV", "in"), ("QK", "query"), ("QK", "key")])
def test_heads_have_the_singular_vectors_of_their_circuits(demo: rs.Model, circuit: str, side: str) -> None:
    found = rs.singular_vectors(demo, circuit, layer=1, head=2, n=3)  # type: ignore[arg-type]
    for rank in range(3):
        one = rs.head_direction(demo, layer=1, head=2, circuit=circuit, rank=rank, side=side)  # type: ignore[arg-type]
        expected = found.vectors[found.sides.index(side), rank].double()
        assert float(one.vector @ expected) == pytest.approx(1, abs=1e-5)
        assert one.history["singular_value"] == pytest.approx(float(found.singular_values[rank]), rel=1e-5)
        assert str(one.site) == ("attn_out.1" if side == "out" else "resid_pre.1")


def test_the_python_makes_it_again(demo: rs.Model) -> None:
    made = [
        rs.token_direction(demo, " Mary", minus=" John"),
        rs.position_direction(demo, 3),
        rs.head_direction(demo, layer=2, head=1),
        rs.neuron_direction(demo, layer=0, neuron=9, side="in"),
    ]
    for one in made:
        names: dict[str, rs.Direction] = {}
        exec("\n".join(one.python), names)
        again = names["direction"]
        assert torch.equal(again.vector, one.vector)
        assert (again.name, again.site, again.history) == (one.name, one.site, one.history)


BAD: list[tuple[Callable[[rs.Model], object], type[Exception], str]] = [
    (lambda m: rs.token_direction(m, "no token"), UnknownToken, "no token"),
    (lambda m: rs.token_direction(m, 99_999), BadArgument, "99999"),
    (lambda m: rs.token_direction(m, " Mary", minus=" Mary"), BadDirection, "zero everywhere"),
    (lambda m: rs.token_direction(m, " Mary", read="both"), BadArgument, "'unembed' or 'embed'"),  # type: ignore[arg-type]
    (lambda m: rs.position_direction(m, 256), BadArgument, "256"),
    (lambda m: rs.head_direction(m, layer=4, head=0), BadArgument, "layer"),
    (lambda m: rs.head_direction(m, layer=0, head=0, rank=32), BadArgument, "rank"),
    (lambda m: rs.head_direction(m, layer=0, head=0, side="key"), BadArgument, "OV has in and out"),
    (lambda m: rs.head_direction(m, layer=0, head=0, circuit="VO"), BadArgument, "'OV' or 'QK'"),  # type: ignore[arg-type]
    (lambda m: rs.neuron_direction(m, layer=0, neuron=512), BadArgument, "neuron"),
    (lambda m: rs.neuron_direction(m, layer=0, neuron=0, side="gate"), BadArgument, "'out', 'in'"),
]


@pytest.mark.untyped
@pytest.mark.parametrize(("make", "error", "says"), BAD)
def test_what_is_not_there_is_said(
    demo: rs.Model, make: Callable[[rs.Model], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        make(demo)


def test_a_model_without_embedded_positions_has_no_direction_of_one(stories: rs.Model) -> None:
    with pytest.raises(BadArgument, match="no embedding of positions"):
        rs.position_direction(stories, 0)


def test_a_direction_says_of_which_weights_it_is(demo: rs.Model, stories: rs.Model) -> None:
    own = rs.token_direction(demo, 3).history
    assert (own["model"], own["source"], own["revision"]) == ("demo", "rs.load('demo')", None)
    assert own["weights"] == demo.weights_hash
    assert stories.weights_hash != demo.weights_hash
    for dtype, same in (("float64", True), ("bfloat16", True), ("float16", False)):
        assert (rs.load("demo", dtype=dtype).weights_hash == demo.weights_hash) == same
    trained = rs.load("demo")
    with torch.no_grad():
        trained.transformer.unembedding.weight[0, 0] *= 1.1
    assert trained.weights_hash != demo.weights_hash
    for one in (
        rs.pca(demo, ["Lily had a red ball.", "She ran."], "resid_pre.1")[0],
        rs.neuron_direction(demo, layer=0, neuron=0),
    ):
        assert one.history["weights"] == demo.weights_hash


ELSEWHERE: list[tuple[str, int | None]] = [
    ("resid_pre.1", None),
    ("attn_out.0", None),
    ("mlp_out.1", None),
    ("mlp_act.1", None),
    ("ln_final", None),
    ("z.1", 1),
    ("v.0", 0),
    ("head_out.0", 1),
]


@pytest.mark.parametrize("family", FACTS)
def test_a_token_is_promoted_from_elsewhere_by_as_much_as_is_said(family: str) -> None:
    model = family_model(family)
    for name, head in ELSEWHERE:
        site = model.find(name)
        direction = rs.token_direction(model, 3, minus=5, site=name, head=head)
        assert (direction.site, direction.head) == (site, head)
        unit = torch.randn(len(direction.vector), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        path = find_direct_path(model.weights, model.config, site, head, unit)
        assert path is not None
        logits = read_tokens(model.weights, model.config, path.side, path.vector[None])[0]
        expected = float(direction.vector @ unit) * direction.history["length"]
        assert float(logits[3] - logits[5]) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(BadArgument, match=r"From q\.0 no way leads"):
        rs.token_direction(model, 3, site="q.0", head=0)
    with pytest.raises(BadArgument, match="An embedding was asked for at z"):
        rs.token_direction(model, 3, read="embed", site="z.0", head=0)
