"""The card of a feature: activations are the dictionary's, contexts the strongest, tokens those of its direction."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument

TEXTS = ["Lily had a red ball. She ran home.", "Tom saw a big dog.", "The cat sat on the mat and slept."]
SITE = "resid_pre.3"


@pytest.fixture(scope="module")
def dictionary() -> rs.SparseAutoencoder:
    return rs.demo.dictionaries[SITE]


@pytest.fixture(scope="module")
def seen(demo: rs.Model, dictionary: rs.SparseAutoencoder) -> rs.Activations:
    return rs.read_activations(demo, dictionary, TEXTS)


def test_activations_are_those_of_the_dictionary(
    demo: rs.Model, dictionary: rs.SparseAutoencoder, seen: rs.Activations
) -> None:
    run = demo.run(TEXTS, keep=[SITE])
    features = dictionary.encode(run[SITE]).nan_to_num() * run.tokens.mask[..., None]
    features[:, 0] = 0
    ours = torch.zeros_like(features)
    number = torch.repeat_interleave(torch.arange(dictionary.n_features), seen.starts.diff())
    ours[seen.texts, seen.pos, number] = seen.values
    torch.testing.assert_close(ours, features, rtol=1e-4, atol=1e-5)
    assert seen.n_tokens == int(run.tokens.mask.sum()) - len(TEXTS)


def test_contexts_are_the_strongest_place_of_each_text(
    demo: rs.Model, dictionary: rs.SparseAutoencoder, seen: rs.Activations
) -> None:
    feature = int(seen.starts.diff().argmax())
    found = rs.explain_feature(demo, dictionary, feature, seen, around=2)
    run = demo.run(TEXTS, keep=[SITE])
    activations = dictionary.encode(run[SITE])[..., feature].nan_to_num()
    activations[:, 0] = 0
    values = [one["value"] for one in found.contexts]
    assert values == sorted(values, reverse=True)
    assert len({one["text"] for one in found.contexts}) == len(values) == len(TEXTS)
    for one in found.contexts:
        row = activations[one["text"]]
        assert one["value"] == pytest.approx(float(row.max()), rel=1e-4)
        assert one["pos"] == int(row.argmax())
        start = one["pos"] - one["at"]
        assert one["pieces"] == run.tokens.pieces[one["text"]][start : start + len(one["pieces"])]
        assert one["activations"] == pytest.approx(row[start : start + len(one["pieces"])].tolist(), rel=1e-4, abs=1e-4)
    assert found.n_active == int(found.counts.sum()) == int((activations[run.tokens.mask] > 0).sum())


def test_tokens_are_those_of_its_direction_times_what_one_unit_writes(
    demo: rs.Model, dictionary: rs.SparseAutoencoder, seen: rs.Activations
) -> None:
    found = rs.explain_feature(demo, dictionary, 564, seen, top=5)
    ours = rs.explain(demo, dictionary.direction(564), TEXTS, top=5, n_contexts=0)
    assert found.token_ids.equal(ours.token_ids)
    torch.testing.assert_close(found.values, ours.values * dictionary[564].vector.norm())
    assert 564 not in [int(one["name"].split()[1]) for one in found.near]


def test_a_feature_that_is_never_active_has_no_context(
    demo: rs.Model, dictionary: rs.SparseAutoencoder, seen: rs.Activations
) -> None:
    feature = int(seen.starts.diff().argmin())
    found = rs.explain_feature(demo, dictionary, feature, seen)
    assert (found.n_active, list(found.contexts), int(found.counts.sum())) == (0, [], 0)


def test_it_is_saved_and_opened_and_points_to_its_page_where_that_is_known(
    demo: rs.Model, dictionary: rs.SparseAutoencoder, tmp_path: Path
) -> None:
    known = replace(dictionary, facts={"neuronpedia_id": "gpt2-small/5-res-jb"})
    found = rs.explain_feature(demo, known, 7, TEXTS)
    assert found.page == "https://www.neuronpedia.org/gpt2-small/5-res-jb/7"
    found.save(tmp_path / "feature")
    assert rs.open(tmp_path / "feature").to_json() == found.to_json()
    published = dictionary.loaded_from("jbloom/GPT2-Small-SAEs-Reformatted/blocks.8.hook_resid_pre")
    assert str(rs.explain_feature(demo, published, 7, TEXTS).page).endswith("/gpt2-small/8-res-jb/7")
    assert rs.explain_feature(demo, dictionary, 7, TEXTS).page is None


def test_what_cannot_be_meant_is_refused(
    demo: rs.Model, dictionary: rs.SparseAutoencoder, seen: rs.Activations
) -> None:
    with pytest.raises(BadArgument, match="feature=5000 was asked for"):
        rs.explain_feature(demo, dictionary, 5000, seen)
    with pytest.raises(BadArgument, match="activations are of"):
        rs.explain_feature(demo, rs.demo.dictionaries["resid_pre.2"], 5, seen)
    with pytest.raises(rs.ResidscopeError, match="second token"):
        rs.read_activations(demo, dictionary, [[0]])
