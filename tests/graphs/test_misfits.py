"""What a graph says of dictionaries that are another model's, or another place's."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

import residscope as rs
from residscope.errors import BadDictionary, DictionaryMisfit
from residscope.running.texts import read_texts
from residscope.sites import read_site

OURS = list(rs.demo.dictionaries.values())
SITES = ("resid_pre.0", "resid_pre.1", "resid_pre.2", "resid_pre.3", "resid_post.3")
PROMPT = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day"


def read_at(number: int, site: str) -> rs.SparseAutoencoder:
    return replace(OURS[number], site=read_site(site))


def find_misfits(model: rs.Model, prompt: str, dictionaries: Sequence[rs.SparseAutoencoder]) -> list[str]:
    """As a graph keeps them, which are those that are warned of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        graph = rs.causal_graph(model, prompt, dictionaries)
    misfits = [str(one.message) for one in seen if one.category is DictionaryMisfit]
    assert graph.settings["misfits"] == misfits
    assert ("DOES NOT FIT" in repr(graph)) == bool(misfits)
    return misfits


@pytest.mark.parametrize("n_words", [3, 9, 30])
def test_right_dictionaries_are_not_accused(demo: rs.Model, n_words: int) -> None:
    for text in read_texts(rs.demo.texts)[:25]:
        assert find_misfits(demo, " ".join(text.split()[:n_words]), OURS) == []
    assert find_misfits(demo, "the the the the the the the the", OURS) == []


@pytest.mark.parametrize(
    ("dictionaries", "where", "meant"),
    [
        ([read_at(i, SITES[i + 1]) for i in range(4)], "resid_post.3", "resid_pre.3"),
        ([read_at(i, SITES[i - 1]) for i in range(1, 5)], "resid_pre.3", "resid_post.3"),
        ([OURS[0], OURS[1], read_at(3, SITES[2]), OURS[4]], "resid_pre.2", "resid_pre.3"),
        ([OURS[0], read_at(2, SITES[1])], "resid_pre.1", "resid_pre.2"),
    ],
    ids=["later", "earlier", "one of four", "a place that is not in the graph"],
)
def test_a_layer_off(demo: rs.Model, dictionaries: Sequence[rs.SparseAutoencoder], where: str, meant: str) -> None:
    said = rf"explains \d+% of {where} in this prompt, and \d+% of {meant}: likely it is that one's"
    assert any(re.search(said, one) for one in find_misfits(demo, PROMPT, dictionaries))


def test_another_models(demo: rs.Model) -> None:
    torch.manual_seed(0)
    weights = {name: x.clone() for name, x in demo.transformer.state_dict().items()}
    drawn = {name: torch.randn_like(x) * x.std() if x.ndim == 2 else x for name, x in weights.items()}
    other = rs.load("demo")
    other.transformer.load_state_dict(drawn)
    misfits = find_misfits(other, PROMPT, OURS)
    assert misfits
    assert all("likely it is another model's" in one for one in misfits)


def test_one_whose_features_are_all_silent(demo: rs.Model) -> None:
    high = torch.full((OURS[2].n_features,), 1e9)
    silent = replace(OURS[2], activation="jumprelu", k=None, threshold=high)
    [said] = find_misfits(demo, PROMPT, [OURS[0], silent, OURS[3]])
    assert said.startswith("resid_pre.2-topk has no active feature at these positions.")
    with pytest.warns(DictionaryMisfit):
        graph = rs.causal_graph(demo, PROMPT, [silent, OURS[3]])
    assert "0 nodes, 0 edges and nothing was measured" in repr(graph)
    with pytest.raises(BadDictionary, match="holds NaN in its threshold"):
        rs.causal_graph(demo, PROMPT, [OURS[1], replace(silent, threshold=high * torch.nan)])
