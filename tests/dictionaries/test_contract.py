"""The contract check: a dictionary that fits says so, and one that is read wrongly is told how it was meant."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument, BadDictionary, DictionaryMisfit, TooFewTokens, UnknownSite

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
    with pytest.warns(DictionaryMisfit, match=f"read {meant}"):
        found = dictionary.check(stories, TEXTS)
    assert found.warning is not None
    assert f'site="{is_of}"' in found.warning
    assert "DOES NOT FIT" in repr(found)
    assert found.warning.split(":")[0] in found._repr_mimebundle_()["text/html"]


def test_the_stream_was_centred(stories: rs.Model) -> None:
    fits = principal(stories, "resid_pre.2")
    rows = fits.decoder - fits.decoder.mean(-1, keepdim=True)
    mean = fits.decoder_bias - fits.decoder_bias.mean()
    # In a centred stream these rows are all there is; the mean of each token over d_model is large here.
    shifted = replace(fits, encoder=rows.T + 3 / 64, decoder=rows, decoder_bias=mean)
    with pytest.warns(DictionaryMisfit, match=r"read centred .* Try load_dictionary\(\.\.\., centred=True\)"):
        shifted.check(stories, TEXTS)
    assert replace(shifted, centred=True).check(stories, TEXTS).warning is None


def test_zeros_recover_nothing(stories: rs.Model) -> None:
    nothing = replace(principal(stories, "resid_pre.3"), decoder=torch.zeros(80, 64), decoder_bias=torch.zeros(64))
    with pytest.warns(DictionaryMisfit, match="another model's"):
        found = nothing.check(stories, TEXTS)
    assert found.loss_recovered == pytest.approx(0, abs=1e-5)
    assert found["variance_explained"] < 0.01


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


def test_inputs_were_scaled(stories: rs.Model) -> None:
    fits = principal(stories, "attn_out.1")
    factor = 64**0.5 / stories.run(TEXTS)["attn_out.1"][:, 1:].norm(dim=-1).nanmean()
    assert factor > 5  # so that what is above the threshold once scaled is below it otherwise
    trained = replace(
        fits, decoder_bias=fits.decoder_bias * factor, activation="jumprelu", threshold=torch.full((80,), 0.3)
    )
    with pytest.warns(DictionaryMisfit, match='read inputs scaled by one factor .* Try .*scaling="constant", factor='):
        found = trained.check(stories, TEXTS)
    assert {"inputs normalised", "each input scaled to a mean square of one"} <= {*found.readings}


def test_inputs_were_scaled_to_a_mean_length_of_one(stories: rs.Model) -> None:
    fits = principal(stories, "resid_pre.4")
    length = float(stories.run(TEXTS)["resid_pre.4"][:, 1:].norm(dim=-1).nanmean())
    with pytest.warns(DictionaryMisfit, match=rf"factor to a mean length of one .* factor={1 / length:.4g}\)"):
        replace(fits, decoder_bias=fits.decoder_bias / length).check(stories, TEXTS)


def test_a_transcoder(stories: rs.Model) -> None:
    run = stories.run(TEXTS)
    counted = run.tokens.mask.clone()
    counted[:, 0] = False
    x, y = run["ln2.2"][counted], run["mlp_out.2"][counted]
    with_one = torch.cat((x[:, :18], torch.ones(len(x), 1)), dim=1)  # more would explain all of so few tokens
    linear = torch.linalg.lstsq(with_one, y).solution  # no features: all that it writes skips them
    transcoder = rs.SparseAutoencoder(
        name="linear",
        site=rs.Site("ln2", 2),
        target=rs.Site("mlp_out", 2),
        encoder=torch.zeros(64, 3),
        decoder=torch.zeros(3, 64),
        encoder_bias=torch.zeros(3),
        decoder_bias=linear[-1],
        skip=torch.cat((linear[:-1], torch.zeros(46, 64))).T.contiguous(),
        less_decoder_bias=False,
    )
    found = transcoder.check(stories, TEXTS)
    missed = (y - with_one @ linear).double().square().sum() / (y - y.mean(0)).double().square().sum()
    assert 0.5 < found["variance_explained"] < 0.9
    assert found["variance_explained"] == pytest.approx(float(1 - missed), abs=1e-4)
    assert found.loss_recovered > 0.2
    later = replace(transcoder, site=rs.Site("ln2", 3), target=rs.Site("mlp_out", 3))  # both a layer on
    with pytest.warns(DictionaryMisfit, match="read one layer earlier"):
        other = later.check(stories, TEXTS)
    assert found.values[list(found.readings).index("one layer later"), 0] == pytest.approx(other["variance_explained"])
    with pytest.raises(BadDictionary, match=r"writes 64 entries, and mlp_act\.2"):
        replace(transcoder, target=rs.Site("mlp_act", 2)).check(stories, TEXTS)
    with pytest.raises(BadArgument, match=r"reads ln2\.2 and writes mlp_out\.2"):
        _ = transcoder[0].vector


def test_what_the_files_claim(stories: rs.Model) -> None:
    fits = principal(stories, "resid_pre.3")
    found = replace(fits, facts={"n_active": 30, "variance_explained": 0.95}).check(stories, TEXTS)
    assert found.warning is None
    assert found.claimed == {"n_active": 30, "variance_explained": 0.95}
    assert "claimed n_active=30" in repr(found)
    with pytest.warns(DictionaryMisfit, match=r"features are active where its files claim 5\.0"):
        replace(fits, facts={"n_active": 5}).check(stories, TEXTS)
    few = replace(fits, encoder=fits.encoder * 0.5)
    with pytest.warns(DictionaryMisfit, match="of the variance where its files claim 99%"):
        replace(few, facts={"variance_explained": 0.99}).check(stories, TEXTS)


def test_texts_had_a_first_token(stories: rs.Model) -> None:
    fits = principal(stories, "resid_post.4")
    with pytest.warns(DictionaryMisfit, match=r"read with a first token .* Try model\.tokenize\(texts, bos=True\)"):
        found = replace(fits, facts={"prepend_bos": False}).check(stories, TEXTS)
    assert not found.settings["has_bos"]
    assert fits.check(stories, TEXTS).warning is None


def test_short_texts_are_enough_with_their_first_token(stories: rs.Model) -> None:
    text = next(text for text in (" ".join(TEXTS[0].split()[:n]) for n in range(1, 9)) if len(_ids(stories, text)) == 3)
    found = principal(stories, "resid_pre.3").check(stories, [text])
    assert found.n_tokens == 2
    assert "without the first token" not in found.readings
    with pytest.raises(TooFewTokens, match="The texts have 1 token that counts"):
        principal(stories, "resid_pre.3").check(stories, torch.tensor([_ids(stories, text)[:2]]))


def _ids(model: rs.Model, text: str) -> list[int]:
    return model.tokenize(text).lists()[0]


def test_what_makes_nan_is_refused(stories: rs.Model) -> None:
    fits = principal(stories, "resid_pre.3")
    for name in ("encoder", "decoder", "encoder_bias", "decoder_bias"):
        with pytest.raises(BadDictionary, match=r"principal makes NaN of resid_pre\.3"):
            replace(fits, **{name: getattr(fits, name) * torch.nan}).check(stories, TEXTS)
