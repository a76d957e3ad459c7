"""Edits by a dictionary's features: at sites with heads, which it reads side by side, and as data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.errors import BadEdit
from tests.dictionaries.test_sae_lens import WEIGHTS, write

TEXTS = ["a short one", "xyz", "the longest of these texts"]


def at_z(d_in: int) -> rs.SparseAutoencoder:
    generator = torch.Generator().manual_seed(3)
    encoder = torch.randn(d_in, 40, generator=generator, dtype=torch.float64)
    return rs.SparseAutoencoder(
        name="of z",
        site=rs.Site("z", 2),
        encoder=encoder,
        decoder=torch.randn(40, d_in, generator=generator, dtype=torch.float64),
        encoder_bias=torch.zeros(40).double(),
        decoder_bias=torch.zeros(d_in).double(),
    )


def assert_same(model: rs.Model, edit: rs.Edit, by_hand: rs.Edit) -> None:
    base, metric = model.run(TEXTS), rs.logit(5)
    run, expected = model.run(TEXTS, edits=edit), model.run(TEXTS, edits=by_hand)
    torch.testing.assert_close(run["z.2"], expected["z.2"], equal_nan=True)
    assert (expected["z.2"] - base["z.2"]).nan_to_num().abs().max() > 1e-3
    sweep = model.sweep(base, [edit, rs.scale("z.2", 0.5), [rs.scale("z.1", 2.0), edit]], metric)
    torch.testing.assert_close(sweep.values[0], metric(expected))
    torch.testing.assert_close(sweep.values[2], metric(model.run(TEXTS, edits=[rs.scale("z.1", 2.0), by_hand])))


def test_a_dictionary_of_all_heads_is_clamped(gpt2: rs.Model) -> None:
    sae = at_z(32)

    def by_hand(z: Tensor) -> Tensor:
        missing = 0.5 - sae.encode(z)[..., 7]
        written: Tensor = missing[..., None] * sae.decoder[7]
        return z + written.reshape(z.shape)

    assert_same(gpt2, rs.clamp(sae[7], 0.5), rs.apply("z.2", by_hand))


def test_a_direction_of_all_heads_is_added(gpt2: rs.Model) -> None:
    direction = at_z(32).direction(3)
    split = direction.vector.reshape(4, 8)
    assert_same(gpt2, rs.add("z.2", direction, 2.0), rs.apply("z.2", lambda z: z + 2 * split))
    assert_same(gpt2, rs.replace("z.2", direction), rs.apply("z.2", lambda z: split.expand(z.shape)))
    wrong: list[rs.Edit] = [
        rs.add("z.2", direction.vector),  # numbers have the site's axes
        rs.add("z.2", direction, head=1),
    ]
    for edit in wrong:
        with pytest.raises(BadEdit, match=r"has the shape \[32\]"):
            gpt2.run(TEXTS, edits=edit)


def test_a_direction_of_all_heads_is_projected_out(gpt2: rs.Model) -> None:
    sae = at_z(32)
    direction, other = sae.direction(3), sae.direction(4)
    d = direction.vector

    def without(z: Tensor) -> Tensor:
        flat = z.flatten(-2)
        without: Tensor = flat - (flat @ d)[..., None] * d
        return without.reshape(z.shape)

    def held(z: Tensor) -> Tensor:
        flat = z.flatten(-2)
        held: Tensor = flat + (1.5 - flat @ d)[..., None] * d
        return held.reshape(z.shape)

    assert_same(gpt2, rs.project_out("z.2", direction), rs.apply("z.2", without))
    assert_same(gpt2, rs.clamp(direction, 1.5), rs.apply("z.2", held))
    both = gpt2.run(TEXTS, edits=rs.project_out("z.2", [direction, other]))["z.2"].flatten(-2).nan_to_num()
    assert (both @ torch.stack((d, other.vector)).T).abs().max() < 1e-9
    with pytest.raises(BadEdit, match="The direction has the shape"):
        gpt2.run(TEXTS, edits=rs.project_out("z.2", direction, head=1))
    elsewhere = replace(direction, site=rs.Site("resid_pre", 2))
    for edit in (rs.project_out("z.2", elsewhere), rs.add("z.2", elsewhere)):
        with pytest.raises(BadEdit, match=r"lives at resid_pre\.2"):
            gpt2.run(TEXTS, edits=edit)
    with pytest.raises(BadEdit, match="of different widths"):
        gpt2.run(TEXTS, edits=rs.project_out("z.2", [direction, d[:8]]))
    with pytest.raises(BadEdit, match="The direction has the shape"):
        gpt2.run(TEXTS, edits=rs.ablate("z.2", along=direction))


def test_a_loaded_dictionarys_feature_is_data(tmp_path: Path) -> None:
    dictionary = rs.load_dictionary(write(tmp_path / "sae"))
    assert dictionary.source == str(tmp_path / "sae")
    edit = rs.clamp(dictionary[7], 0.0, pos=-1)
    data = json.loads(json.dumps(edit.to_json()))
    assert data["feature"] == {"feature": {"dictionary": str(tmp_path / "sae"), "number": 7}}
    again = rs.Edit.from_json(data, dictionaries=rs.load_dictionary)
    assert again == edit == eval(repr(edit), {"rs": rs})
    assert torch.equal(again.arguments["feature"].vector, WEIGHTS["W_dec"][7])
    assert repr(edit) == f"rs.clamp(feature=rs.load_dictionary({str(tmp_path / 'sae')!r})[7], value=0.0, pos=-1)"
    assert edit != rs.clamp(dictionary[6], 0.0, pos=-1)
    assert rs.clamp(dictionary.to(torch.device("cpu"))[7], 0.0, pos=-1) == edit
    with pytest.raises(BadEdit, match=r"dictionaries=rs\.load_dictionary"):
        rs.Edit.from_json(data)
    moved = rs.clamp(rs.load_dictionary(tmp_path / "sae", site="resid_post.2", centred=True)[7], 0.0)
    data = json.loads(json.dumps(moved.to_json()))
    again = rs.Edit.from_json(data, dictionaries=rs.load_dictionary)
    assert again == moved == eval(repr(moved), {"rs": rs})
    assert again.arguments["feature"].site == rs.Site("resid_post", 2)
    data["feature"]["feature"]["allow_pickle"] = True  # is not for who wrote the edit to say
    assert rs.Edit.from_json(data, dictionaries=rs.load_dictionary) == moved


def test_a_dictionary_made_in_memory_is_not_data(tmp_path: Path) -> None:
    changed = replace(rs.load_dictionary(write(tmp_path / "sae")), name="changed")
    for dictionary in (at_z(32), changed):
        assert dictionary.source is None
        with pytest.raises(BadEdit, match="made in memory, and has no JSON"):
            rs.clamp(dictionary[7], 0.0).to_json(tmp_path)
    assert rs.clamp(changed[7], 0.0) != rs.clamp(at_z(32)[7], 0.0)
