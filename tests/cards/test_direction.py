"""What a direction is about, held to what it is made of."""

from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, TooFewTokens, UnknownSite
from residscope.running.texts import read_texts
from residscope.summaries.contexts import TopContexts
from residscope.summaries.histogram import Histogram
from tests.models import family_model


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return read_texts(rs.demo.texts)[:12]


@pytest.fixture(scope="module")
def basis(demo: rs.Model, texts: list[str]) -> rs.Basis:
    return rs.pca(demo, texts, "resid_pre.2")


def test_tokens_are_those_that_it_promotes_at_the_median_scale(
    demo: rs.Model, basis: rs.Basis, texts: list[str]
) -> None:
    found = rs.explain(demo, basis[3], texts, top=6)
    whole = rs.vocabulary(basis[3], model=demo, top=6, bottom=6)
    scales = torch.cat([demo.run(text)["ln_final_scale"][0, 1:] for text in texts])
    assert found.settings["scale"] == pytest.approx(float(scales.median()), rel=1e-4)
    assert found.texts[0] == whole.texts[0][:6]
    assert [*found.texts[1]] == whole.texts[0][6:][::-1]
    assert torch.allclose(found.values[0], whole.logits[0, :6] / scales.median(), rtol=1e-3)
    frame = found.to_frame()
    assert frame.columns.tolist() == ["side", "top", "token_id", "text", "value"]
    assert frame["side"].tolist() == ["promoted"] * 6 + ["suppressed"] * 6
    z = rs.explain(demo, basis[3], texts, top=2048, z_scores=True).values
    assert float(z[0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(z[0].std()) == pytest.approx(1, abs=1e-4)


def test_contexts_are_where_it_is_strongest(demo: rs.Model, basis: rs.Basis, texts: list[str]) -> None:
    found = rs.explain(demo, basis[0], texts, n_contexts=4, around=3)
    values = [rs.project(demo.run(text), basis[0]).values[0] for text in texts]
    for name, sign in (("top", 1), ("bottom", -1)):
        strongest = [float((sign * row[1:]).max()) for row in values]
        expected = sorted(range(len(texts)), key=lambda text: -strongest[text])[:4]
        assert [one["text"] for one in found.contexts[name]] == expected
        for one in found.contexts[name]:
            run = demo.run(texts[one["text"]])
            pieces = run.tokens.pieces[0]
            assert one["value"] == pytest.approx(float(values[one["text"]][one["pos"]]), abs=1e-3)
            assert one["pieces"][one["at"]] == pieces[one["pos"]]
            assert one["pieces"] == pieces[max(0, one["pos"] - 3) : one["pos"] + 4]
            following = rs.vocabulary(demo.run(run.tokens.ids[:, : one["pos"] + 1]), top=3)
            assert one["next"] == following.texts[0]
            assert one["loss_nats"] == pytest.approx(float(rs.loss(pos=[one["pos"]])(run)[0]), abs=1e-3)


def test_values_spread_as_the_components_say(demo: rs.Model, basis: rs.Basis, texts: list[str]) -> None:
    for number in (0, 5):
        found = rs.explain(demo, basis[number], texts, n_bins=7)
        assert int(found.counts.sum()) == basis.n_tokens
        assert len(found.edges) == 8
        assert found.deviation == pytest.approx(float(basis.deviations[number]), rel=1e-4)
        assert found.variance_share == pytest.approx(float(basis.shares[number]), rel=1e-3)


def test_heads_that_write_and_read_it_are_found(demo: rs.Model, texts: list[str]) -> None:
    written = rs.head_direction(demo, layer=1, head=3).at("resid_pre.2")
    best = rs.explain(demo, written, texts).writers[0]
    assert (best["layer"], best["head"]) == (1, 3)
    assert best["times"] > 2
    read = rs.head_direction(demo, layer=2, head=1, side="in")
    best = rs.explain(demo, read, texts).readers[0]
    assert (best["layer"], best["head"]) == (2, 1)
    assert all(one["layer"] < 2 for one in rs.explain(demo, read, texts).writers)
    last = rs.token_direction(demo, " Mary")
    assert rs.explain(demo, last, texts).readers == []


def test_what_is_near_comes_by_the_size_of_its_cosine(demo: rs.Model, basis: rs.Basis, texts: list[str]) -> None:
    dictionary = rs.demo.dictionaries["resid_pre.2"]
    feature = dictionary.direction(17)
    found = rs.explain(demo, feature, texts, near=[basis[0], basis[1], dictionary])
    assert found.near[0]["name"] == f"feature 17 of {dictionary.name}"
    assert found.near[0]["cosine"] == pytest.approx(1, abs=1e-5)
    sizes = [abs(one["cosine"]) for one in found.near]
    assert sizes == sorted(sizes, reverse=True)
    assert rs.explain(demo, basis[1], texts, near=[-basis[1], basis[0]]).near[0]["cosine"] == pytest.approx(-1)


def test_it_is_a_result(demo: rs.Model, basis: rs.Basis, tmp_path: Any) -> None:
    found = rs.explain(demo, basis[2], ["Tom ran home. He was glad.", "One day Mary saw a cat."])
    found.save(tmp_path / "card")
    assert rs.open(tmp_path / "card").to_json() == found.to_json()


def test_what_cannot_be_explained_is_refused(demo: rs.Model, basis: rs.Basis, stories: rs.Model) -> None:
    with pytest.raises(BadArgument, match="top"):
        rs.explain(demo, basis[0], ["Tom ran"], top=0)
    with pytest.raises(TooFewTokens, match="1 tokens that count"):
        rs.explain(demo, basis[0], ["Tom"])
    with pytest.raises(UnknownSite):
        rs.explain(stories, rs.Direction.of([1.0] * 64, "resid_pre.9"), ["Tom ran"])
    near = [rs.demo.dictionaries["resid_pre.2"]]
    with pytest.raises(BadArgument, match="writes 128 entries"):
        rs.explain(stories, rs.Direction.of([1.0] * 64, "resid_pre.1"), ["Tom ran away"], near=near)


def test_summaries_merge() -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(0))
    whole = Histogram.of(values, -2.0, 2.0, 9)
    parts = Histogram.of(values[:70], -2.0, 2.0, 9).merge(Histogram.of(values[70:], -2.0, 2.0, 9))
    assert torch.equal(whole.counts, parts.counts)
    assert int(whole.counts.sum()) == 200
    with pytest.raises(ValueError, match="bins"):
        whole.merge(Histogram.of(values, -2.0, 2.0, 8))
    rows = [[1.0, 5.0, float("nan")], [float("nan")] * 3, [4.0, 2.0, 6.0], [3.0, 0.0, 0.0]]
    each = [TopContexts.of(2, i, row, ["a", "b", "c"], 1) for i, row in enumerate(rows)]
    one = each[0].merge(each[1]).merge(each[2].merge(each[3]))
    other = each[3].merge(each[0]).merge(each[2]).merge(each[1])
    assert one == other
    assert [(context.value, context.text, context.pos) for context in one.found] == [(6.0, 2, 2), (5.0, 0, 1)]
    assert one.found[0].pieces == ("b", "c")


def adds(model: rs.Model, direction: rs.Direction, to: str, text: str) -> torch.Tensor:
    """What one unit of it changes where it arrives, at the last position, where every head looks at itself alone."""
    alone = rs.apply(f"pattern.{direction.site.layer}", lambda x: torch.eye(x.shape[-1]).to(x).expand(x.shape))
    plain, edited = (model.run(text, edits=edits) for edits in ([alone], [rs.add(direction.site, direction), alone]))
    return edited[to][0, -1] - plain[to][0, -1]


@pytest.mark.parametrize(
    ("family", "site", "head", "to", "through"),
    [
        ("gpt2", "z.1", 2, "attn_out.1", "W_O of head 2"),
        ("llama", "z.0", 3, "attn_out.0", "W_O of head 3"),
        ("llama", "v.1", 1, "attn_out.1", "W_O of heads 2, 3"),
        ("gpt2", "v.1", 1, "attn_out.1", "W_O of head 1"),
        ("llama", "head_out.2", 1, "attn_out.2", ""),
        ("gpt2", "mlp_act.1", None, "mlp_out.1", "W_out"),
        ("gemma2", "z.1", 2, "attn_raw.1", "W_O of head 2"),
        ("olmo2", "mlp_act.0", None, "mlp_raw.0", "W_out"),
        ("gemma2", "attn_raw.1", None, "attn_raw.1", ""),
    ],
)
def test_tokens_of_a_part_are_those_of_what_it_adds(
    family: str, site: str, head: int | None, to: str, through: str
) -> None:
    model, texts = family_model(family), ["abcdef ghi", "hello there", "one more"]
    width = model.axis_size(model.find(site).axes[-1], 0)
    vector = torch.randn(width, generator=torch.Generator().manual_seed(0))
    direction = rs.Direction.of(vector, site, "d", head=head)
    found = rs.explain(model, direction, texts, top=5)
    added = adds(model, direction, to, "abcdef")
    scales = ["ln_final_scale"]
    if to.partition("_")[2].startswith("raw"):  # RMS norms, which take off no mean
        norm = f"{to.partition('_')[0]}_norm_post"
        scales.append(f"{norm}_scale.{to[-1]}")
        added = added * (model.config.norm_offset + model.weights[f"{norm}_w.{to[-1]}"])
    medians = [torch.cat([model.run(text)[scale][0, 1:] for text in texts]).median() for scale in scales]
    per_unit = float(added.norm() / torch.stack(medians).prod())
    expected = rs.vocabulary(rs.Direction.of(added, "resid_post.2"), model=model, top=5, bottom=5)
    assert found.token_ids[0].tolist() == expected.token_ids[0, :5].tolist()
    assert found.token_ids[1].tolist() == expected.token_ids[0, 5:].tolist()[::-1]
    assert torch.allclose(found.values[0].double(), per_unit * expected.logits[0, :5].double(), rtol=1e-5)
    assert found.settings["unit"] == f"logits per unit, direct path only{', through ' if through else ''}{through}"
    assert found.settings["site"] == (site if head is None else f"{site} head {head}")
    assert (found.writers, all(one["layer"] > int(site[-1]) for one in found.readers)) == ([], True)
    assert len(found.readers) == min(5, 4 * (2 - int(site[-1])))
    values = torch.cat([rs.project(model.run(text), direction).values[0, 1:] for text in texts])
    assert found.deviation == pytest.approx(float(values.std()))
    held = torch.cat([model.run(text)[site][0, 1:] for text in texts])
    total = (held if head is None else held[:, head]).var(0).sum()
    assert found.variance_share == pytest.approx(float(values.var() / total))


def test_past_the_final_norm_only_the_unembedding_is_left(demo: rs.Model, texts: list[str]) -> None:
    direction = rs.pca(demo, texts, "ln_final")[1]
    found = rs.explain(demo, direction, texts, top=4)
    added = direction.vector.float() @ demo.weights["W_U"]
    best = (added - added.mean()).topk(4)
    assert found.token_ids[0].tolist() == best.indices.tolist()
    assert torch.allclose(found.values[0], best.values, rtol=1e-4)
    assert (found.settings["scale"], found.settings["norm"], found.writers) == (1.0, "none", [])


@pytest.mark.parametrize(("site", "head"), [("q.1", 2), ("k.2", 0), ("ln1.1", None), ("mlp_pre.0", None)])
def test_no_token_is_told_where_the_way_depends_on_the_text(
    demo: rs.Model, texts: list[str], site: str, head: int | None, tmp_path: Any
) -> None:
    basis = rs.pca(demo, texts, site, head=head)
    found = rs.explain(demo, basis[1], texts, near=[basis[1], basis[2]])
    place = site if head is None else f"{site} head {head}"
    assert found.settings["unit"] == f"no tokens: what {place} does to the logits depends on the text"
    assert (found.values.shape, found.token_ids.shape, found.texts) == ((2, 0), (2, 0), [[], []])
    assert (found.writers, found.readers, len(found.to_frame())) == ([], [], 0)
    assert found.variance_share == pytest.approx(float(basis.shares[1]), rel=1e-3)
    assert [one["cosine"] for one in found.near] == pytest.approx([1, 0], abs=1e-6)
    assert len(found.contexts["top"]) == 5
    found.save(tmp_path / "card")
    assert rs.open(tmp_path / "card").to_json() == found.to_json()


def test_a_norm_behind_the_embedding_makes_it_no_part_of_the_stream() -> None:
    found = rs.explain(family_model("bloom"), rs.Direction.of(torch.ones(32), "embed"), ["abc", "de"])
    assert found.settings["unit"].startswith("no tokens: what embed does")
