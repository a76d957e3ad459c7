"""Principal components against scikit-learn's, and what they are not made of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import residscope as rs
from residscope.directions.pca import pca_of_sites
from residscope.errors import BadArgument, BadDirection, EmptyPrompt, TooFewTokens, UnknownComponent, UnknownSite
from residscope.running.texts import read_texts
from residscope.sites import Site
from tests.models import shared_path


def activations(model: rs.Model, texts: list[str], site: str, left_out: int = 1) -> np.ndarray:
    """Every token's stream, one text at a time."""
    rows = [model.run(text)[site][0, left_out:] for text in texts]
    return torch.cat(rows).double().numpy()


@pytest.fixture(scope="module")
def exact_stories(stories_path: Path) -> rs.Model:
    """In float64: components whose variances are near each other magnify how float32 rounds one text and a batch."""
    return rs.load(stories_path, dtype="float64")


@pytest.mark.parametrize("site", ["embed", "resid_pre.3", "attn_out.0", "mlp_out.2", "resid_post.4", "ln_final"])
def test_components_equal_scikit_learn(exact_stories: rs.Model, site: str) -> None:
    texts = read_texts(rs.demo.texts)[:40]
    basis = rs.pca(exact_stories, texts, site)
    x = activations(exact_stories, texts, site)
    theirs = PCA(svd_solver="full").fit(x)
    assert basis.n_tokens == len(x)
    np.testing.assert_allclose(basis.mean, theirs.mean_, atol=1e-6)
    np.testing.assert_allclose(basis.variances, theirs.explained_variance_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(basis.shares, theirs.explained_variance_ratio_, rtol=1e-6, atol=1e-9)
    varying = theirs.explained_variance_ > 1e-6 * theirs.explained_variance_[0]
    signs = np.sign((theirs.components_ * basis.components.numpy()).sum(1, keepdims=True))
    np.testing.assert_allclose((signs * theirs.components_)[varying], basis.components[varying], atol=1e-6)


def test_of_each_component_the_largest_entry_is_positive(stories: rs.Model) -> None:
    components = rs.pca(stories, rs.demo.texts, "resid_pre.2").components
    assert (components.gather(1, components.abs().argmax(1, keepdim=True)) > 0).all()
    torch.testing.assert_close(components @ components.T, torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.slow
def test_a_vector_gets_the_mean_and_deviation_that_a_component_has(stories: rs.Model) -> None:
    basis = rs.pca(stories, rs.demo.texts, "resid_pre.2")
    component = basis[4]
    bare = rs.Direction.of(component.vector, "resid_pre.2")
    found = basis.measure(bare)
    assert found.deviation == pytest.approx(component.deviation, rel=1e-9)
    assert found.offset == pytest.approx(component.offset, rel=1e-9)
    assert found.left_out == component.left_out
    assert basis.measure(component) is component
    code = {"rs": rs, "model": stories, "direction": bare, "Path": Path}
    exec("\n".join(line for line in found.python if "import" not in line and "rs.load" not in line), code)
    assert code["direction"].deviation == found.deviation  # type: ignore[attr-defined]
    with pytest.raises(BadDirection, match=r"lives at resid_pre\.1, and the basis at resid_pre\.2"):
        basis.measure(rs.Direction.of(component.vector, "resid_pre.1"))
    with pytest.raises(UnknownComponent, match="3 of 64"):
        rs.pca(stories, rs.demo.texts, "resid_pre.2", n=3).measure(bare)


def test_first_positions_are_left_out_and_said(stories: rs.Model) -> None:
    texts = ["Once upon a time", "Tom ran"]
    basis, whole = rs.pca(stories, texts, "resid_pre.1"), rs.pca(stories, texts, "resid_pre.1", left_out=())
    lengths = stories.tokenize(texts).n_tokens
    assert basis.n_tokens == int(lengths.sum()) - 2
    assert whole.n_tokens == int(lengths.sum())
    assert basis.left_out == [0]
    assert basis[0].left_out == (0,)
    np.testing.assert_allclose(whole.mean, activations(stories, texts, "resid_pre.1", 0).mean(0), atol=1e-6)


def test_order_and_batching_do_not_matter(llama: rs.Model) -> None:
    texts = [f"{n} and {'so on ' * (n % 5)}" for n in range(300)]
    one, two = rs.pca(llama, texts, "resid_pre.2"), rs.pca(llama, texts[::-1], "resid_pre.2")
    torch.testing.assert_close(one.components, two.components, rtol=0, atol=1e-8)
    torch.testing.assert_close(one.mean, two.mean, rtol=0, atol=1e-10)


def test_sites_together_equal_each_alone(stories: rs.Model) -> None:
    texts = read_texts(rs.demo.texts)[:20]
    sites = [Site("resid_pre", layer) for layer in range(5)]
    for site, basis in pca_of_sites(stories, texts, sites).items():
        torch.testing.assert_close(basis.components, rs.pca(stories, texts, site).components, rtol=0, atol=1e-12)


def test_texts_over_the_context_are_cut_and_counted(gpt2: rs.Model) -> None:
    basis = rs.pca(gpt2, ["a" * 100, "b" * 10], "resid_pre.1")
    assert (basis.n_cut, basis.n_texts, basis.n_tokens) == (1, 2, 39 + 9)


def test_components_are_directions(stories: rs.Model) -> None:
    basis = rs.pca(stories, rs.demo.texts, "resid_pre.2", n=10)
    assert len(basis) == 10
    direction = basis[7]
    assert (direction.name, str(direction.site)) == ("PCA 7 of resid_pre.2", "resid_pre.2")
    assert direction.vector.norm().item() == pytest.approx(1)
    assert direction.offset == pytest.approx(float(basis.mean @ basis.components[7]))
    assert direction.deviation == pytest.approx(float(basis.variances[7]) ** 0.5)
    made_of = {"n_texts": basis.n_texts, "n_tokens": basis.n_tokens, "n_cut": basis.n_cut, "source": stories.source}
    assert direction.history.items() >= made_of.items()
    assert direction.history["share"] == pytest.approx(float(basis.shares[7]))
    assert basis[-1].name == "PCA 9 of resid_pre.2"
    assert basis[3:6][1].name == "PCA 4 of resid_pre.2"
    assert torch.equal(basis[3:6][1].vector, basis[4].vector)


def test_a_warning_under_ten_times_d_model(stories: rs.Model) -> None:
    assert rs.pca(stories, rs.demo.texts, "resid_pre.0").warning is None
    few = rs.pca(stories, "Once upon a time there was a tree", "resid_pre.0").warning
    assert few is not None
    assert "under ten times d_model (640)" in few


def test_unembedded_sites_and_numbers_that_are_not_there(stories: rs.Model) -> None:
    with pytest.raises(UnknownSite, match="directions live where each position has a vector"):
        rs.pca(stories, "Once upon a time", "pattern.0")
    with pytest.raises(UnknownComponent, match="65 components were asked for"):
        rs.pca(stories, "Once upon a time", "resid_pre.0", n=65)
    basis = rs.pca(stories, "Once upon a time", "resid_pre.0", n=4)
    for wrong in (4, -5):
        with pytest.raises(UnknownComponent, match="count from 0 to 3"):
            basis[wrong]
    with pytest.raises(UnknownComponent):
        basis[4:9]
    with pytest.raises(TooFewTokens, match="1 tokens that count"):
        rs.pca(stories, "Once", "resid_pre.0")
    with pytest.raises(BadArgument, match="count from 0"):
        rs.pca(stories, "Once upon a time", "resid_pre.0", left_out=(-1,))
    with pytest.raises(EmptyPrompt):
        rs.pca(stories, [], "resid_pre.0")


@pytest.mark.slow
def test_a_real_file_of_stories(stories: rs.Model) -> None:
    path = shared_path("corpora/tinystories_sample_2MB.txt")
    basis = rs.pca(stories, read_texts(path)[:200], "resid_pre.3", n=8)
    assert basis.n_cut > 0
    assert 0.2 < float(basis.shares.sum()) < 1
