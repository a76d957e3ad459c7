"""Sites and their names."""

from typing import Any

import pytest

from residscope.axes import AXES
from residscope.errors import UnknownSite
from residscope.sites import KINDS, Site, find_site, find_sites, list_sites, read_site

SITES = list_sites(3)


def test_a_site_is_a_value_with_a_name() -> None:
    assert str(Site("resid_pre", 5)) == "resid_pre.5"
    assert {Site("z", 1): "kept"}[read_site("z.1")] == "kept"
    assert Site("embed").axes == ("batch", "pos", "d_model")


def test_every_name_reads_back_and_every_axis_is_in_the_glossary() -> None:
    assert len(set(SITES)) == len(SITES) == 2 + 3 * sum(kind.layered for kind in KINDS.values()) + 3
    for site in SITES:
        assert find_site(str(site), SITES) == site
        assert set(site.axes) <= AXES.keys()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("blocks.2.hook_resid_pre", "resid_pre.2"),
        ("blocks.0.hook_resid_mid", "resid_mid.0"),
        ("blocks.1.attn.hook_z", "z.1"),
        ("blocks.1.attn.hook_pattern", "pattern.1"),
        ("blocks.1.hook_mlp_out", "mlp_out.1"),
        ("hook_embed", "embed"),
    ],
)
def test_names_of_transformer_lens_are_read(theirs: str, ours: str) -> None:
    assert str(find_site(theirs, SITES)) == ours


def test_sites_stand_in_the_order_of_computing() -> None:
    names = [str(site) for site in SITES if site.kind in ("embed", "resid_pre", "k", "q", "pattern", "z", "resid_post")]
    assert names[:8] == [
        "embed",
        *(f"{k}.0" for k in ("resid_pre", "k", "q", "pattern", "z", "resid_post")),
        "resid_pre.1",
    ]
    assert [str(site) for site in SITES[-3:]] == ["ln_final_scale", "ln_final", "logits"]


def test_a_model_lacks_the_sites_of_what_it_lacks() -> None:
    names = {site.kind for site in list_sites(2, absent={"pos_embed", "resid_mid"})}
    assert KINDS.keys() - names == {"pos_embed", "resid_mid"}


def test_kinds_stand_for_all_their_layers() -> None:
    assert [str(s) for s in find_sites(["z", "resid_pre.1", "z.0"], SITES)] == ["z.0", "z.1", "z.2", "resid_pre.1"]
    assert set(SITES) - set(find_sites("all", SITES)) == {Site("head_out", layer) for layer in range(3)}
    assert find_sites((), SITES) == ()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resid_pre.3", r"resid_pre has layers 0 to 2"),
        ("resid_pre", r"every one of 3 layers has it.*resid_pre\.0 to resid_pre\.2"),
        ("resid", r"the model's sites are embed, pos_embed, resid_pre"),
        ("embed.0", r"the model's sites are"),
        ("blocks.7.hook_resid_pre", r"layers 0 to 2"),
        ("", r"There is no site ''"),
    ],
)
def test_unknown_sites_list_the_known(name: str, says: str) -> None:
    with pytest.raises(UnknownSite, match=says):
        find_site(name, SITES)


def test_every_kind_says_what_it_means() -> None:
    assert all(kind.meaning for kind in KINDS.values())


@pytest.mark.parametrize("names", [None, 5, [None], [5], 2.5])
def test_what_names_no_site_is_refused(names: Any) -> None:
    with pytest.raises(UnknownSite, match=r"(None|5)'? ?.*(Give|Write) "):
        find_sites(names, SITES)
