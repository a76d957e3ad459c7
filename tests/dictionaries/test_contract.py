"""The contract check: a dictionary that fits says so, and one that is read wrongly is told how it was meant."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadDictionary, TooFewTokens, UnknownSite

TEXTS = ["Once upon a time, there was a little girl", "The dog ran to the park and saw", "Lily and Tom liked to play"]


def principal(model: rs.Model, site: str, **facts: Any) -> rs.SparseAutoencoder:
    """Gives back what the site's first principal components hold, both signs of each a feature."""
    basis = rs.pca(model, TEXTS, site)
    spread = basis.components[:40].float()
    rows = torch.cat((spread, -spread))
    mean = basis.mean.float()
    return rs.SparseAutoencoder(
        name="principal",
        site=rs.Site(*_parts(site)),
        encoder=rows.T,
        decoder=rows,
        encoder_bias=torch.zeros(80),
        decoder_bias=mean,
        **facts,
    )


def _parts(site: str) -> tuple[str, int]:
    kind, _, layer = site.partition(".")
    return kind, int(layer)


def test_a_dictionary_that_fits(stories: rs.Model, tmp_path: Path) -> None:
    found = principal(stories, "resid_pre.3").check(stories, TEXTS)
    assert found["variance_explained"] > 0.98
    assert 30 < found["n_active"] <= 40
    assert found.loss_recovered > 0.97
    assert found.warning is None
    assert found.readings[0] == "as configured"
    assert {"one layer earlier", "one layer later", "centred", "without the first token"} <= {*found.readings}
    assert found.settings["has_bos"]
    found.save(tmp_path / "contract")
    assert torch.equal(rs.open(tmp_path / "contract").values, found.values)
    assert list(found.to_frame().columns) == ["reading", "measure", "value"]


def test_measures_are_those_of_the_formulas(stories: rs.Model) -> None:
    dictionary = principal(stories, "resid_pre.2")
    found = dictionary.check(stories, TEXTS)
    run = stories.run(TEXTS)
    counted = run.tokens.mask.clone()
    counted[:, 0] = False
    x = run["resid_pre.2"][counted].double()
    wide = replace(
        dictionary,
        **{n: getattr(dictionary, n).double() for n in ("encoder", "decoder", "encoder_bias", "decoder_bias")},
    )
    missed = (x - wide.reconstruct(x)).square().sum() / (x - x.mean(0)).square().sum()
    assert found["variance_explained"] == pytest.approx(float(1 - missed), abs=1e-4)
    assert found["n_active"] == pytest.approx(float((wide.encode(x) > 0).double().sum(-1).mean()), rel=1e-3)
    assert found["dead"] == pytest.approx(float((wide.encode(x) <= 0).all(0).double().mean()), abs=0.02)
    assert found.n_tokens == len(x)


@pytest.mark.parametrize(
    ("said", "is_of", "meant"),
    [
        ("resid_pre.3", "resid_pre.2", "one layer earlier"),
        ("resid_pre.1", "resid_pre.2", "one layer later"),
        ("resid_pre.4", "resid_post.4", "one layer later"),
    ],
)
def test_one_layer_off(said: str, is_of: str, meant: str, stories: rs.Model) -> None:
    dictionary = replace(principal(stories, is_of), site=rs.Site(*_parts(said)))
    found = dictionary.check(stories, TEXTS)
    assert found.warning is not None
    assert f"read {meant}" in found.warning


def test_the_stream_was_centred(stories: rs.Model) -> None:
    fits = principal(stories, "resid_pre.2")
    rows = fits.decoder - fits.decoder.mean(-1, keepdim=True)
    mean = fits.decoder_bias - fits.decoder_bias.mean()
    # In a centred stream these rows are all there is; the mean of each token over d_model is large here.
    shifted = replace(fits, encoder=rows.T + 3 / 64, decoder=rows, decoder_bias=mean)
    found = shifted.check(stories, TEXTS)
    assert found.warning is not None
    assert "read centred" in found.warning
    assert replace(shifted, centred=True).check(stories, TEXTS).warning is None


def test_zeros_recover_nothing(stories: rs.Model) -> None:
    nothing = replace(principal(stories, "resid_pre.3"), decoder=torch.zeros(80, 64), decoder_bias=torch.zeros(64))
    found = nothing.check(stories, TEXTS)
    assert found.loss_recovered == pytest.approx(0, abs=1e-5)
    assert found["variance_explained"] < 0.01
    assert found.warning is not None
    assert "another model's" in found.warning


def test_what_does_not_fit(stories: rs.Model, gpt2: rs.Model) -> None:
    dictionary = principal(stories, "resid_pre.3")
    with pytest.raises(BadDictionary, match=r"reads 64 entries, and resid_pre\.2 of .* has 32"):
        replace(dictionary, site=rs.Site("resid_pre", 2)).check(gpt2, TEXTS)
    with pytest.raises(UnknownSite):
        replace(dictionary, site=rs.Site("resid_pre", 9)).check(stories, TEXTS)
    with pytest.raises(TooFewTokens):
        dictionary.check(stories, ["a"])
    with pytest.raises(TooFewTokens, match="loss does not depend on the site"):
        principal(stories, "resid_pre.3").check(stories, [[5, 6], [7, 8]])


def test_texts_are_cut_at_the_dictionarys_context(stories: rs.Model) -> None:
    dictionary = replace(principal(stories, "resid_pre.3"), facts={"context_size": 4})
    lists = [stories.tokenize(text).lists()[0] for text in TEXTS]
    found = dictionary.check(stories, TEXTS)
    assert found.n_cut == sum(len(ids) > 4 for ids in lists) > 0
    assert found.n_tokens == sum(min(len(ids), 4) - 1 for ids in lists)
    assert principal(stories, "resid_pre.3").check(stories, TEXTS).n_cut == 0
