"""Features that cannot cross a threshold are left out by a bound, and that changes nothing."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.graphs.levels import arrange, read_prompt
from residscope.graphs.reader import Reader

PROMPT = "Lily had a red ball. She went to the park with Tom. She"
Dictionaries = dict[str, rs.SparseAutoencoder]


def read_all(self: Reader, x: torch.Tensor, slots: torch.Tensor) -> Iterator[Any]:
    yield torch.arange(len(x)), None


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_graph_is_the_same(dictionaries: Dictionaries, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = rs.load("demo", dtype=dtype)
    given = dictionaries if dtype == "float64" else rs.demo.dictionaries
    some = [given["resid_pre.1"], given["resid_pre.2"], replace(given["resid_pre.3"], scaling="constant", factor=0.9)]
    n_read = list[float]()
    compare = Reader.compare

    def counted(self: Reader, x: Any, rows: Any, few: Any = None) -> Any:
        n_read.append(len(x) * (self.level.dictionary.n_features if few is None else len(few)))
        return compare(self, x, rows, few)

    monkeypatch.setattr(Reader, "compare", counted)
    with_bound = rs.causal_graph(model, PROMPT, some, "all", share=1.0, paths="any")
    n_bound, n_read[:] = sum(n_read), []
    monkeypatch.setattr(Reader, "divide", read_all)
    whole = rs.causal_graph(model, PROMPT, some, "all", share=1.0, paths="any")
    assert n_bound < 0.5 * sum(n_read)
    for name in ("sources", "targets", "levels", "features", "pos"):
        assert torch.equal(getattr(with_bound, name), getattr(whole, name))
    # The same products in matrices of another shape, which a kernel may round in another order.
    atol = 1e-12 if dtype == "float64" else whole.settings["noise_floor"]
    torch.testing.assert_close(with_bound.values, whole.values, rtol=0, atol=atol)
    assert with_bound.total == pytest.approx(whole.total, rel=1e-6)


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
def test_what_is_left_out_is_zero_as_near_as_the_bound_comes(
    wide: rs.Model, dictionaries: Dictionaries, activation: Any
) -> None:
    one = dictionaries["resid_pre.1"]
    made = replace(one, activation=activation, threshold=torch.full_like(one.encoder_bias, 0.3), by_decoder_norm=True)
    levels = arrange(wide, [made, dictionaries["resid_pre.2"]])
    run = read_prompt(wide, PROMPT, levels)
    positions = torch.tensor([3, 7])
    reader = Reader(run, levels[0], 0, positions, True, 0)
    # Straight along its column is the shortest way to each feature: there it is still zero, and a little on it is not.
    assert reader._reach is not None
    reach, toward = reader._reach[0], made.encoder / made.encoder.norm(dim=0)
    quiet = reader.features[0] == 0
    just, beyond = (reader.x[0] + (factor * reach * toward).T for factor in (0.999, 1.001))
    features = made.encode(just).diagonal()[quiet]
    assert bool((reach[quiet] > 0).all())
    assert not bool(features.any())
    if activation != "topk":  # of which others move too
        assert bool((made.encode(beyond).diagonal()[quiet] > 0).all())


def test_where_no_bound_is_known_all_are_read(wide: rs.Model, dictionaries: Dictionaries) -> None:
    plain = dictionaries["resid_pre.1"]
    for one, competition in ((replace(plain, scaling="norm"), True), (plain, False)):
        levels = arrange(wide, [one, dictionaries["resid_pre.2"]])
        reader = Reader(read_prompt(wide, PROMPT, levels), levels[0], 0, torch.tensor([3]), competition, 0)
        x = reader.x.expand(200, -1)
        assert [few for _, few in reader.divide(x, torch.zeros(200, dtype=torch.long))] == [None]
