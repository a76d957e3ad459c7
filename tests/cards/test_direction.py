"""What a direction is about, held to what it is made of."""

from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, TooFewTokens, UnknownSite
from residscope.running.texts import read_texts
from residscope.summaries.contexts import TopContexts
from residscope.summaries.histogram import Histogram


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
