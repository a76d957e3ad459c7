"""Dictionaries are trained on what runs hold, and the measuring tells one that explains from one that does not."""

from dataclasses import replace

import pytest
import torch
from training.activations import read_activations
from training.evaluate_dictionaries import explain_at_random, measure_dictionary

import residscope as rs

TEXTS = ["Once upon a time, there was a little girl", "The dog ran to the park and saw", "Lily and Tom liked to play"]
SITES = ["resid_pre.2", "resid_post.4"]


def identity(model: rs.Model, **facts: object) -> rs.SparseAutoencoder:
    """Gives back what it reads: a feature for each sign of each entry."""
    rows = torch.cat((torch.eye(64), -torch.eye(64)))
    return rs.SparseAutoencoder(
        name="identity",
        site=rs.Site("resid_pre", 2),
        encoder=rows.T,
        decoder=rows,
        encoder_bias=torch.zeros(128),
        decoder_bias=torch.zeros(64),
        **facts,  # type: ignore[arg-type]
    )


def test_activations_are_those_of_runs_without_the_first_of_each_text(stories: rs.Model) -> None:
    bos = stories.tokenizer.bos_id
    assert bos is not None
    several = torch.tensor([[bos, 300, 310, bos, 320, 330], [bos, 400, 410, 420, 430, 440]])
    first, second = read_activations(stories, SITES, [several, TEXTS])
    assert list(first) == list(second) == SITES
    for site in SITES:
        rows = stories.run(several)[site]
        expected = torch.cat((rows[0, [1, 2, 4, 5]], rows[1, 1:]))
        assert torch.equal(first[site], expected)
        torch.testing.assert_close(second[site], torch.cat([stories.run(text)[site][0, 1:] for text in TEXTS]))
    assert first["resid_pre.2"].shape == (9, 64)


def test_position_0_is_left_out_whatever_stands_there(stories: rs.Model) -> None:
    (found,) = read_activations(stories, SITES[:1], [torch.tensor([[300, 310, 320]])])
    assert found["resid_pre.2"].shape == (2, 64)


def test_the_identity_explains_everything(stories: rs.Model) -> None:
    found = measure_dictionary(stories, identity(stories), TEXTS)
    assert found.variance_explained == pytest.approx(1, abs=1e-5)
    assert found.loss_recovered == pytest.approx(1, abs=1e-4)
    assert found.n_active == pytest.approx(64)
    assert found.by_pca == pytest.approx(1)
    assert found.n_tokens == sum(len(stories.tokenizer.encode(text)) - 1 for text in TEXTS)
    assert "at most 32 active" in found.missed
    assert (found.site, found.architecture) == ("resid_pre.2", "relu")


def test_random_directions_explain_less_than_components(stories: rs.Model) -> None:
    rows = torch.nn.functional.normalize(torch.randn(128, 64, generator=torch.Generator().manual_seed(1)), dim=1)
    random = replace(identity(stories), encoder=rows.T, decoder=rows, activation="topk", k=8)
    found = measure_dictionary(stories, random, TEXTS)
    assert found.n_active == pytest.approx(8, abs=0.1)
    assert found.variance_explained < found.at_random < found.by_pca < 0.9
    assert found.by_pca == pytest.approx(float(rs.pca(stories, TEXTS, "resid_pre.2", 8).shares.sum()))
    assert {"variance explained at least 0.9", "loss recovered at least 0.95", "above PCA"} <= {*found.missed}
    assert "missed" not in str(found)
    assert "above PCA" in str(found)


def test_random_directions_at_their_best_scale() -> None:
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(2)) + 5
    shares = [explain_at_random(x, 64, k) for k in (1, 4, 32)]
    assert 0 < shares[0] < shares[1] < shares[2] < 1
    assert explain_at_random(3 * x - 7, 64, 4) == pytest.approx(shares[1], abs=1e-4)
