"""Graphs with several dictionaries of one layer, whose nodes are told apart by the sites that these read."""

from dataclasses import replace
from functools import cache

import pytest

import residscope as rs
from residscope.errors import BadArgument
from residscope.sites import read_site
from tests.graphs.conftest import PROMPT

pytestmark = pytest.mark.filterwarnings("ignore::residscope.errors.DictionaryMisfit")  # of the borrowed ones
OURS = rs.demo.dictionaries


@cache
def make() -> tuple[rs.Model, list[rs.SparseAutoencoder], rs.Graph]:
    model = rs.load("demo")
    borrowed = [replace(OURS["resid_pre.2"], site=read_site(site)) for site in ("attn_out.1", "mlp_out.1")]
    given = [OURS["resid_pre.1"], *borrowed, OURS["resid_pre.2"]]
    return model, given, rs.causal_graph(model, PROMPT, given, top=30)


def test_every_node_has_a_name_an_id_and_a_row_of_its_own() -> None:
    _, _, graph = make()
    n = len(graph.levels)
    said = [graph.describe(node) for node in range(n)]
    ids = [node["node_id"] for node in graph.to_attribution_graph("two", "demo")["nodes"]]
    assert len({*said}) == len({*ids}) == n == len(graph.nodes()[["site", "feature", "pos"]].drop_duplicates())
    of = graph.nodes()["site"]
    assert [name.startswith("mlp_out.1.") for name in said] == [*(of == "mlp_out.1")]
    assert [name.startswith("2.") for name in said] == [*(of == "resid_pre.2")]
    assert {name for name, site in zip(ids, of, strict=True) if name.endswith("_mlp_out")} == {
        f"1_{name.removeprefix('mlp_out.1.').replace('@', '_')}_mlp_out" for name in said if "mlp_out" in name
    }


def test_nodes_are_named_by_site() -> None:
    model, given, graph = make()
    nodes = graph.nodes()
    shared = nodes[nodes["layer"] == 1].groupby(["feature", "pos"])["site"].nunique()
    feature, pos = shared[shared > 1].index[0]
    for site in ("attn_out.1", "mlp_out.1"):
        node = (site, int(feature), int(pos))
        assert nodes["site"][graph.find(*node)] == site
        pinned = rs.causal_graph(model, PROMPT, given, top=1, pinned=[node])
        assert pinned.activations[pinned.find(*node)] == graph.activations[graph.find(*node)]
        grown = rs.grow_graph(model, PROMPT, given, node, ways="causes")
        assert {grown.nodes()["site"][int(target)] for target in grown.targets} >= {site}
    with pytest.raises(BadArgument, match=r"Layer 1 has 3 dictionaries. Name one by its site: \['resid_pre.1', 'attn"):
        graph.find(1, int(feature), int(pos))
    with pytest.raises(BadArgument, match=r"no dictionary of layer 'mlp_out.2'"):
        graph.find("mlp_out.2", int(feature), int(pos))
