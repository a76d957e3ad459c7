"""How much of what a graph shows came from positions that it does not show."""

from typing import Any

import pytest
import torch

import residscope as rs
from tests.graphs.conftest import PROMPT
from tests.graphs.wiring import STREAM, axes_at, wire

Dictionaries = dict[str, rs.SparseAutoencoder]
A, B = 97, 98


def trace(model: rs.Model, positions: Any, dictionaries: Any = STREAM) -> rs.Graph:
    return rs.causal_graph(model, torch.tensor([[A, B, B]]), dictionaries, positions, share=1.0, paths="any")


def test_the_known_share_is_found() -> None:
    # At the last of three positions 3 in all come from axis 1, of which one is its own: 1 + 1 + 1 through the head, a
    # third of each. Layer 1 doubles what the head brought, so that what came from elsewhere counts there too.
    model = wire({A: {0: 6.0}, B: {1: 3.0}}, {1: [({4: 2.0}, 0.0, {8: 1.0})]}, {0: {(1, 4): 1.0}})
    graph = trace(model, "last")
    # (4, 8) changes by (2, 4), of which its own value gives (1, 2).
    assert graph.settings["from_elsewhere"] == pytest.approx(0.5, abs=1e-12)
    assert "50.0% of the stream's change comes from positions not shown" in repr(graph)
    # Shown are positions 1 and 2, which change by (1.5, 3) and (2, 4); nothing comes from the first, that has none.
    assert trace(model, [1, 2]).settings["from_elsewhere"] == pytest.approx(0, abs=1e-12)
    other = wire({A: {1: 3.0}, B: {1: 3.0}}, {}, {0: {(1, 4): 1.0}})
    assert trace(other, [1, 2]).settings["from_elsewhere"] == pytest.approx((1.5 * 3 + 1 * 3) / 18, abs=1e-12)


def test_nothing_comes_from_elsewhere_where_all_is_shown(wide: rs.Model, dictionaries: Dictionaries) -> None:
    some = [dictionaries["resid_pre.0"], dictionaries["resid_pre.1"]]
    assert rs.causal_graph(wide, PROMPT, some, [0, 1, 2], top=1).settings["from_elsewhere"] == 0.0
    assert "positions not shown" not in repr(rs.causal_graph(wide, PROMPT, some, [0, 1], top=1))


@pytest.mark.slow
@pytest.mark.parametrize("memory_bytes", [None, 130_000])
def test_it_is_what_a_full_run_gives(
    wide: rs.Model, dictionaries: Dictionaries, memory_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_out(pattern: torch.Tensor) -> torch.Tensor:
        pattern = pattern.clone()
        pattern[:, :, -1, :-1] = 0
        return pattern

    passes: list[int] = []
    record = rs.Run.record

    def counted(self: rs.Run, wanted: Any, *others: Any) -> Any:
        passes.append(len(wanted))
        return record(self, wanted, *others)

    monkeypatch.setattr(rs.Run, "record", counted)
    ends = [dictionaries["resid_pre.0"], dictionaries["resid_post.3"]]
    graph = rs.causal_graph(wide, PROMPT, ends, top=1, memory_bytes=memory_bytes)
    assert (1 in passes) == (memory_bytes is not None)  # one more, for the last stream alone
    base, run = (
        wide.run(PROMPT, edits=edits) for edits in ([], [rs.apply(f"pattern.{layer}", leave_out) for layer in range(4)])
    )
    change = base.at("resid_post.3", -1) - base.at("resid_pre.0", -1)
    missing = base.at("resid_post.3", -1) - run.at("resid_post.3", -1)
    assert graph.settings["from_elsewhere"] == pytest.approx(
        float((missing * change).sum() / change.square().sum()), abs=1e-10
    )
    assert 0 < graph.settings["from_elsewhere"] < 1


def test_it_is_not_said_where_nothing_adds_up() -> None:
    model = wire({A: {0: 6.0}, B: {1: 3.0}}, {0: [({1: 1.0}, 0.0, {5: 1.0})]}, {0: {(1, 4): 1.0}})
    graph = trace(model, "last", [axes_at("mlp_out.0"), STREAM[2]])
    assert graph.settings["from_elsewhere"] is None
    assert "positions not shown" not in repr(graph)
