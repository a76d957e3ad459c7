"""Graphs of the bundled model: equal to full runs, whatever is kept of them, and refused where they make no sense."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import residscope as rs
from residscope.errors import (
    BadArgument,
    BadCheckpoint,
    BadDictionary,
    BadMetric,
    Cancelled,
    ResidscopeError,
    UnknownPosition,
    UnknownSite,
)
from residscope.graphs.levels import arrange, make_ablations
from residscope.graphs.tracer import Tracer
from residscope.running.progress import Step
from tests.graphs.conftest import PROMPT, double
from tests.graphs.wiring import edges_of

Dictionaries = dict[str, rs.SparseAutoencoder]


def measure_naively(
    model: rs.Model, source: rs.SparseAutoencoder, target: rs.SparseAutoencoder, feature: int, pos: int
) -> torch.Tensor:
    """[pos feature] Of a target before and after a full run with the ablation."""
    base = model.run(PROMPT)
    x = base[str(source.site)][0, pos]
    of_feature = torch.zeros(source.n_features, dtype=x.dtype)
    of_feature[feature] = source.encode(x)[feature]
    written = source.decode(of_feature, of=x) - source.decode(torch.zeros_like(of_feature), of=x)
    run = model.run(PROMPT, edits=rs.add(str(source.site), -written, pos=pos))
    before, after = (target.encode(one[str(target.site)][0]) for one in (base, run))
    return before - after


@pytest.mark.filterwarnings("ignore::residscope.errors.DictionaryMisfit")
@pytest.mark.parametrize("positions", ["last", [1, 4, -1]])
@pytest.mark.parametrize("scaling", ["none", "norm", "layer_norm"])
def test_every_edge_is_what_a_full_run_gives(
    wide: rs.Model, dictionaries: Dictionaries, positions: Any, scaling: Any
) -> None:
    scaled = {site: replace(one, scaling=scaling) for site, one in dictionaries.items()}
    graph = rs.causal_graph(wide, PROMPT, scaled, positions, share=1.0, paths="any")
    frame, order = graph.to_frame(), list(scaled.values())
    assert frame["before"].abs().max() > 0
    rng = np.random.default_rng(0)
    for layer, one in enumerate(order[:-1]):
        nodes = graph.nodes()
        active = nodes[(nodes["layer"] == layer) & (nodes["activation"] > 0)]
        for row in rng.choice(len(active), size=4, replace=False):
            node = active.iloc[row]
            expected = measure_naively(wide, one, order[layer + 1], int(node["feature"]), int(node["pos"]))
            found = torch.zeros_like(expected)
            own = frame[
                (frame["layer"] == layer) & (frame["feature"] == node["feature"]) & (frame["pos"] == node["pos"])
            ]
            where = own["target_pos"].tolist(), own["target_feature"].tolist()
            found[where] = torch.tensor(own["value"].tolist(), dtype=torch.float64)
            hidden = [pos for pos in range(len(expected)) if pos not in graph.positions]
            expected[hidden] = 0
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_effects_are_what_full_runs_give(wide: rs.Model, dictionaries: Dictionaries, graph: rs.Graph) -> None:
    base, nodes = wide.run(PROMPT), graph.nodes()
    last = len(graph.pieces) - 1
    edits = {"token": rs.ablate("embed", pos=last)}
    for layer, one in enumerate(list(dictionaries.values())[:-1]):  # the last one's error has no edge
        x = base.at(one.site, -1)[0]
        edits[f"error {layer}"] = rs.replace(one.site, one.reconstruct(x), pos=-1)
    for name, edit in edits.items():
        kind, _, layer_ = name.partition(" ")
        row = nodes[(nodes["kind"] == kind) & (nodes["layer"] == (int(layer_) if layer_ else -1))].iloc[0]
        run = wide.run(PROMPT, edits=edit)
        for metric in (rs.loss(), rs.logit(" had")):
            assert row[repr(metric)] == pytest.approx(float((metric(base) - metric(run))[0]), abs=1e-10)


def test_competition_can_be_held(wide: rs.Model, dictionaries: Dictionaries) -> None:
    several = {site: dictionaries[site] for site in ("resid_pre.0", "resid_pre.1")}
    free, held = (
        rs.causal_graph(wide, PROMPT, several, share=1.0, competition=competition) for competition in (True, False)
    )
    target = several["resid_pre.1"]
    base = target.project(wide.run(PROMPT).at(target.site, -1)[0])
    room = base.topk(target.k or 0).values[-1]
    for graph, is_held in ((free, False), (held, True)):
        frame = graph.to_frame()
        before = base[frame["target_feature"].tolist()].numpy()
        after = before - frame["before"].to_numpy()
        left = (before * (before >= room.item())) - frame["value"].to_numpy()
        alone = np.maximum(after, 0) * (after >= room.item() - 1e-12)
        assert np.allclose(left, alone, atol=1e-10) == is_held
    assert len(edges_of(free)) != len(edges_of(held))


def test_the_rules_keep_what_they_say(wide: rs.Model, dictionaries: Dictionaries, graph: rs.Graph) -> None:
    def trace(**options: Any) -> dict[Any, float]:
        return edges_of(rs.causal_graph(wide, PROMPT, dictionaries, paths="any", **options))

    everything = {edge: value for edge, value in edges_of(graph).items() if edge[0] >= 0 and edge[1] >= 0}
    by_source: dict[Any, list[float]] = {}
    for edge, value in everything.items():
        by_source.setdefault(edge[:3], []).append(abs(value))
    largest = {key: sorted(values)[-3:][0] for key, values in by_source.items()}
    top = {edge: value for edge, value in everything.items() if abs(value) >= largest[edge[:3]] - 1e-12}
    assert trace(top=3) == pytest.approx(top, abs=1e-10)
    large = {edge: value for edge, value in everything.items() if abs(value) >= 0.2}
    assert trace(threshold=0.2) == pytest.approx(large, abs=1e-10)
    ordered = sorted(map(abs, everything.values()), reverse=True)
    kept = trace(share=0.5)
    total = sum(map(abs, kept.values()))
    assert total >= 0.5 * sum(ordered) > total - min(map(abs, kept.values()))
    assert sorted(map(abs, kept.values()), reverse=True) == pytest.approx(ordered[: len(kept)])
    default = rs.causal_graph(wide, PROMPT, dictionaries)
    assert default.share == default.settings["share"] == pytest.approx(float(default.values.abs().sum()) / sum(ordered))
    long = edges_of(default)
    starts, ends = {edge[:3] for edge in long}, {edge[3:] for edge in long}
    assert all(edge[:3] in ends or edge[3:] in starts for edge in long)
    assert len(long) < len(trace(top=10))


def test_pruning_keeps_the_fewest_and_the_paths(graph: rs.Graph) -> None:
    small = graph.prune(0.6)
    assert small.settings["share"] == small.share >= 0.6
    assert float(small.values.abs().min()) >= float(graph.values.abs().sort(descending=True).values[len(small.values)])
    target = graph.to_frame().query("target_layer == 3").iloc[0]
    node = 3, int(target["target_feature"]), int(target["target_pos"])
    leading = graph.prune(0.6, output=node).to_frame()
    assert set(leading["target_layer"]) <= {0, 1, 2, 3}
    ends = set(zip(leading["target_layer"], leading["target_feature"], strict=True))
    starts = set(zip(leading["layer"], leading["feature"], strict=True))
    assert ends <= starts | {node[:2]}


@pytest.mark.untyped
@pytest.mark.parametrize("wrong", [{"edges": 0.0}, {"output": (3, 5000, 7)}, {"paths": "x"}])
def test_what_cannot_be_pruned_is_refused(graph: rs.Graph, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadArgument):
        graph.prune(**wrong)


def test_parts_of_the_memory_give_the_same(wide: rs.Model, dictionaries: Dictionaries) -> None:
    whole, chunked = (
        rs.causal_graph(wide, PROMPT, dictionaries, [3, 7], memory_bytes=n_bytes) for n_bytes in (None, 3_000_000)
    )
    assert edges_of(whole) == pytest.approx(edges_of(chunked), abs=1e-10)


def test_progress_is_told_and_it_can_be_cancelled(wide: rs.Model, dictionaries: Dictionaries) -> None:
    steps: list[Step] = []
    with rs.progress(steps.append):
        rs.causal_graph(wide, PROMPT, dictionaries, outputs=[rs.loss()])
    traced = [step for step in steps if step.what == "tracing"]
    assert [step.done for step in traced] == sorted(step.done for step in traced)
    assert traced[-1].done == traced[-1].total > 0
    assert {step.what for step in steps} == {"tracing"}
    with pytest.raises(Cancelled), rs.progress(lambda step: work.cancel()) as work:
        rs.causal_graph(wide, PROMPT, dictionaries)


def _silent(dictionary: rs.SparseAutoencoder) -> rs.SparseAutoencoder:
    return replace(dictionary, activation="jumprelu", threshold=torch.full_like(dictionary.encoder_bias, 1e9))


def _spoiled(dictionary: rs.SparseAutoencoder) -> rs.SparseAutoencoder:
    return replace(dictionary, decoder=dictionary.decoder * torch.nan)


trace: Any = rs.causal_graph  # what a checker refuses is given too
REFUSED: list[tuple[str, type[ResidscopeError], Any]] = [
    ("nothing active", BadArgument, lambda m, d: trace(m, PROMPT, [_silent(one) for one in d.values()])),
    ("outside", UnknownPosition, lambda m, d: trace(m, PROMPT, d, [99])),
    ("a word", BadArgument, lambda m, d: trace(m, PROMPT, d, "first")),
    ("one alone", BadArgument, lambda m, d: trace(m, PROMPT, [d["resid_pre.1"]])),
    ("no dictionaries", BadArgument, lambda m, d: trace(m, PROMPT, ["demo/resid_pre.2-topk"] * 2)),
    ("twice", BadDictionary, lambda m, d: trace(m, PROMPT, [d["resid_pre.1"]] * 2)),
    ("two texts", BadArgument, lambda m, d: trace(m, [PROMPT, PROMPT], d)),
    ("two rules", BadArgument, lambda m, d: trace(m, PROMPT, d, top=3, share=0.5)),
    ("no share", BadArgument, lambda m, d: trace(m, PROMPT, d, share=2.0)),
    ("no threshold", BadArgument, lambda m, d: trace(m, PROMPT, d, threshold=-1.0)),
    ("a word for a threshold", BadArgument, lambda m, d: trace(m, PROMPT, d, threshold="high")),
    ("a word for a share", BadArgument, lambda m, d: trace(m, PROMPT, d, share="half")),
    ("no method", BadArgument, lambda m, d: trace(m, PROMPT, d, method="magic")),
    ("exact gradients", BadArgument, lambda m, d: trace(m, PROMPT, d, integrated_gradients=4)),
    ("a split estimate", BadArgument, lambda m, d: trace(m, PROMPT, d, method="attribution", split=True)),
    ("pruned to a word", BadArgument, lambda m, d: trace(m, PROMPT, d).prune("half")),
    ("pinned to a word", BadArgument, lambda m, d: trace(m, PROMPT, d).prune(pinned=["junk"])),
    ("led to two numbers", BadArgument, lambda m, d: trace(m, PROMPT, d).prune(output=(1, 2))),
    ("kept to a word", BadArgument, lambda m, d: trace(m, PROMPT, d).mark(keep="half")),
    ("paths", BadArgument, lambda m, d: trace(m, PROMPT, d, paths="short")),
    ("no list of outputs", BadMetric, lambda m, d: trace(m, PROMPT, d, outputs=rs.log_prob(5))),
    ("no folder", BadArgument, lambda m, d: trace(m, PROMPT, d, out=5)),
    ("no output", BadMetric, lambda m, d: trace(m, PROMPT, d, outputs=["loss"])),
    ("wide output", BadMetric, lambda m, d: trace(m, PROMPT, d, outputs=[rs.read("resid_pre.1")])),
    ("NaN", BadDictionary, lambda m, d: trace(m, PROMPT, [_spoiled(one) for one in d.values()])),
]


@pytest.mark.untyped
@pytest.mark.parametrize(("error", "call"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_makes_no_sense_is_refused(
    wide: rs.Model, dictionaries: Dictionaries, error: type[ResidscopeError], call: Any
) -> None:
    with pytest.raises(error) as caught:
        call(wide, dictionaries)
    assert caught.value.hint


def test_dictionaries_of_another_model_are_refused(stories: rs.Model, gpt2: rs.Model) -> None:
    with pytest.raises(BadDictionary, match=r"reads 128 entries, and resid_pre\.0 of .* has 64"):
        rs.causal_graph(stories, PROMPT, rs.demo.dictionaries)
    with pytest.raises(UnknownSite):
        rs.causal_graph(gpt2, PROMPT, [rs.demo.dictionaries["resid_post.3"], rs.demo.dictionaries["resid_pre.3"]])


@pytest.mark.parametrize(
    ("theirs", "ours", "fits"),
    [
        ("residscope-demo", "residscope-demo", True),
        ("gpt2-small", "openai-community/gpt2", True),
        ("tiny-stories-33M", "roneneldan/TinyStories-33M", True),
        ("mistral-7b", "mistralai/Mistral-7B-v0.1", True),
        ("gpt2-small", "residscope-demo", False),
        ("EleutherAI/pythia-160m", "gpt2", False),
        ("gpt2-small", None, True),
        (None, "gpt2", True),
    ],
)
def test_dictionaries_of_a_model_of_another_name_are_refused(
    dictionaries: Dictionaries, theirs: str | None, ours: str | None, fits: bool
) -> None:
    model = rs.load("demo", dtype="float64")
    assert model.known_as == "residscope-demo"
    model.known_as = ours
    named = {"model_name": theirs}
    given = [replace(dictionaries[f"resid_pre.{layer}"], facts=facts) for layer, facts in enumerate(({}, named))]
    if fits:
        arrange(model, given)
    else:
        with pytest.raises(BadDictionary, match=f"trained on {theirs}, and the model is {ours}"):
            rs.causal_graph(model, PROMPT, given)


def test_weights_with_nan_are_refused(dictionaries: Dictionaries) -> None:
    model = rs.load("demo", dtype="float64")
    with torch.no_grad():
        model.transformer.embedding.weight.fill_(torch.nan)
    with pytest.raises(BadCheckpoint, match=r"NaN or infinity at resid_pre\.0"):
        rs.causal_graph(model, PROMPT, dictionaries)


def test_what_doing_nothing_does_is_left_out(demo: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    step = [rs.demo.dictionaries["resid_pre.1"], rs.demo.dictionaries["resid_pre.2"]]
    plain = rs.causal_graph(demo, PROMPT, step, share=1.0)

    def ablate_the_first(self: Tracer, sources: Any) -> Any:
        return next(make_ablations(self.run, sources, self.positions))

    monkeypatch.setattr(Tracer, "_do_nothing", ablate_the_first)
    found = rs.causal_graph(demo, PROMPT, step, share=1.0)
    floor = found.settings["noise_floor"]
    own = plain.to_frame().query(f"feature == {plain.to_frame()['feature'].iloc[0]}")
    assert floor == pytest.approx(own["value"].abs().max(), rel=1e-4)
    assert edges_of(found) == {edge: value for edge, value in edges_of(plain).items() if abs(value) > floor}
    assert found.total == pytest.approx(float(found.values.abs().sum()))


def test_float32_is_as_float64_is(demo: rs.Model) -> None:
    found = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, share=1.0, paths="any")
    assert 0 < found.settings["noise_floor"] < 1e-4
    exact = rs.causal_graph(
        rs.load("demo", dtype="float64"),
        PROMPT,
        {site: double(one) for site, one in rs.demo.dictionaries.items()},
        share=1.0,
        paths="any",
    )
    ours, theirs = edges_of(found), edges_of(exact)
    assert all(ours[edge] == pytest.approx(value, abs=1e-3) for edge, value in theirs.items() if abs(value) > 0.05)


def test_the_code_that_it_says_makes_it_again(demo: rs.Model) -> None:
    found = rs.causal_graph(demo, PROMPT, rs.demo.dictionaries, [2, -1], top=2, outputs=[rs.logit(" had")])
    names: dict[str, Any] = {}
    exec(found.as_python(), names)
    assert edges_of(names["graph"]) == edges_of(found)


@pytest.mark.slow
def test_the_prompt_runs_once(wide: rs.Model, dictionaries: Dictionaries, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    record = rs.Run.record

    def counted(self: rs.Run, wanted: Any, *others: Any) -> Any:
        passes.append(len(wanted))
        return record(self, wanted, *others)

    monkeypatch.setattr(rs.Run, "record", counted)
    rs.causal_graph(wide, PROMPT, dictionaries, "all", later=True)
    assert len(passes) == 1
