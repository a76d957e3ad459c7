"""Coloured texts and rivers."""

import pytest
import torch
from jaxtyping import TypeCheckError

import residscope as rs
from residscope.direction import Direction
from residscope.errors import BadArgument
from residscope.running.texts import read_texts
from residscope.sites import Site

TEXTS = ["Once upon a time, there was a tree.", "Tom ran"]


@pytest.fixture(scope="module")
def basis(stories: rs.Model) -> rs.Basis:
    return rs.pca(stories, rs.demo.texts, "resid_pre.3")


def test_values_are_the_formula(stories: rs.Model, basis: rs.Basis) -> None:
    run = stories.run(TEXTS)
    for direction in (basis[0], basis[63]):
        assert direction.mean is not None
        values = rs.project(run, direction).values
        expected = (run["resid_pre.3"].double() - direction.mean) @ direction.vector
        torch.testing.assert_close(values.double(), expected, rtol=0, atol=2e-5, equal_nan=True)
        n = int(run.tokens.n_tokens[1])
        assert values[1, n:].isnan().all()
        assert not values[1, :n].isnan().any()


def test_values_are_exact_in_float64(llama: rs.Model) -> None:
    direction = rs.pca(llama, ["some text", "another one"], "resid_mid.1")[2]
    assert direction.mean is not None
    run = llama.run(["hello", "a longer text"])
    expected = (run["resid_mid.1"] - direction.mean) @ direction.vector
    torch.testing.assert_close(rs.project(run, direction).values, expected, rtol=0, atol=1e-10, equal_nan=True)
    alone = rs.project(llama.run("hello"), direction).values[0]
    torch.testing.assert_close(rs.project(run, direction).values[0, :5], alone, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_sample_texts_have_mean_zero_and_the_said_deviation(stories: rs.Model, basis: rs.Basis) -> None:
    run = stories.run(rs.demo.texts)
    for component in (0, 5):
        values = rs.project(run, basis[component]).values[:, 1:]
        values = values[~values.isnan()]
        assert len(values) == basis.n_tokens
        assert values.mean().item() == pytest.approx(0, abs=1e-4)
        assert values.std().item() == pytest.approx(basis[component].deviation, rel=1e-4)


def test_means_of_positions(stories: rs.Model, basis: rs.Basis) -> None:
    texts = read_texts(rs.demo.texts)[:40]
    means = rs.position_means(stories, texts, "resid_pre.3", least=3)
    run = stories.run(texts)
    x, mask = run["resid_pre.3"].double(), run.tokens.mask
    direction = basis[2]
    result = rs.project(run, direction, centre=means)
    reached = mask.sum(0) >= 3
    assert 0 < int(reached.sum()) < len(reached)
    for pos in (0, 1, int(reached.nonzero()[-1])):
        torch.testing.assert_close(means.values[pos], x[mask[:, pos], pos].mean(0), rtol=0, atol=1e-5)
        assert result.values[mask[:, pos], pos].mean().item() == pytest.approx(0, abs=1e-4)
    late = int((~reached).nonzero()[0])
    torch.testing.assert_close(means.values[late], x[:, 1:][mask[:, 1:]].mean(0), rtol=0, atol=1e-5)
    assert (int(means.n_texts[1]), int(means.n_texts[-1])) == (40, 0)

    plain = rs.project(run, direction)
    assert result.by_position is not None
    torch.testing.assert_close(
        result.values, plain.values - torch.tensor(result.by_position), rtol=0, atol=1e-4, equal_nan=True
    )
    torch.testing.assert_close(
        rs.project(run, direction, centre="none").values,
        plain.values + direction.offset,
        rtol=0,
        atol=1e-4,
        equal_nan=True,
    )
    many = rs.project(run, basis[2:4], centre=means)
    torch.testing.assert_close(many.values[0], result.values, rtol=0, atol=1e-5, equal_nan=True)
    assert [one.settings["centre"] for one in (plain, result, many)] == ["mean", "position", "position"]


def test_means_of_positions_of_a_head(llama: rs.Model) -> None:
    texts = ["one two", "three four five"]
    means = rs.position_means(llama, texts, "z.1", head=1, least=1)
    run = llama.run(texts)
    torch.testing.assert_close(means.values[1], run["z.1"][:, 1, 1].mean(0), rtol=0, atol=1e-10)
    again: dict[str, object] = {"rs": rs, "model": llama}
    exec(means.python[-1], again)
    torch.testing.assert_close(again["means"].values, means.values)  # type: ignore[attr-defined]


def test_centres_that_do_not_fit(stories: rs.Model, basis: rs.Basis) -> None:
    run = stories.run(TEXTS)
    with pytest.raises(BadArgument, match=r"of resid_pre\.2, and PCA 0 of resid_pre\.3 lives"):
        rs.project(run, basis[0], centre=rs.position_means(stories, TEXTS, "resid_pre.2"))
    with pytest.raises((BadArgument, TypeCheckError), match="centre"):
        rs.project(run, basis[0], centre="middle")  # type: ignore[call-overload]
    with pytest.raises(BadArgument, match="least=0"):
        rs.position_means(stories, TEXTS, "resid_pre.2", least=0)


def test_a_basis_projects_each_component(stories: rs.Model, basis: rs.Basis) -> None:
    run = stories.run(TEXTS)
    many = rs.project(run, basis[2:5])
    assert many.values.shape == (3, 2, int(run.tokens.n_tokens.max()))
    torch.testing.assert_close(many.values[1], rs.project(run, basis[3]).values, rtol=0, atol=1e-5, equal_nan=True)
    frame = many.to_frame()
    assert sorted(set(frame["component"])) == [2, 3, 4]


def test_a_direction_without_a_mean(stories: rs.Model) -> None:
    vector = torch.eye(64, dtype=torch.float64)[7]
    direction = Direction("entry 7", Site("resid_pre", 1), vector)
    run = stories.run("Once upon a time")
    result = rs.project(run, direction)
    torch.testing.assert_close(result.values, run["resid_pre.1"][..., 7])
    assert (result.centred, result.offset, result.settings["centre"]) == (False, 0.0, "none")


def test_every_layer_of_a_river(stories: rs.Model, basis: rs.Basis) -> None:
    run = stories.run(TEXTS)
    river = rs.river(run, basis[2])
    assert list(river.rows) == [*(f"resid_pre.{layer}" for layer in range(5)), "resid_post.4"]
    assert river.here == 3
    own = rs.project(run, basis[2]).values
    torch.testing.assert_close(river.values[:, 3], own, rtol=0, atol=0, equal_nan=True)
    for row, site in enumerate(river.rows):
        expected = (run[site].double() - basis.mean) @ basis[2].vector
        torch.testing.assert_close(river.values[:, row].double(), expected, rtol=0, atol=5e-5, equal_nan=True)
    frame = river.to_frame()
    assert list(frame.columns) == ["batch", "layer", "site", "pos", "token", "value"]
    assert len(frame) == 6 * int(run.tokens.n_tokens.sum())


@pytest.mark.parametrize(("site", "rows"), [("embed", 1), ("ln_final", 1), ("attn_out.0", 5), ("resid_post.4", 5)])
def test_rivers_of_other_sites(stories: rs.Model, site: str, rows: int) -> None:
    direction = rs.pca(stories, rs.demo.texts, site, n=1)[0]
    river = rs.river(stories.run("Once upon a time"), direction)
    assert river.values.shape[1] == rows
    assert river.rows[river.here] == site


def test_a_projection_of_an_edited_run_says_so(stories: rs.Model) -> None:
    edited = stories.run("Once upon a time", edits=[rs.scale("resid_pre.1", 0.5)])
    direction = rs.token_direction(stories, " a").at("resid_pre.2")
    for result in (rs.project(edited, direction), rs.river(edited, direction)):
        assert result.settings["edits"] == ["rs.scale('resid_pre.1', factor=0.5)"]
    assert rs.project(stories.run("Once upon a time"), direction).settings["edits"] == []
