"""Patching: TransformerLens's numbers, those of full runs with one edit, and the other prompt's if all is patched."""

import json
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import config
from torch import Tensor

import residscope as rs
from residscope.analyses.patching import DIRECTIONS, Patching
from residscope.errors import BadArgument, BadEdit, BadMetric, EmptyPrompt, UnknownPosition, UnknownToken
from residscope.running import sweep
from residscope.running.pairs import Side
from residscope.running.progress import Step
from tests.models import family_model, shared_path

ROWS = [
    {"clean": "when m and j sat, j gave to", "corrupted": "when m and j sat, m gave to", "correct": "m", "wrong": "j"},
    {"clean": "once j and m met. m gave to", "corrupted": "once j and m met. k gave to", "correct": "j", "wrong": "m"},
    {"clean": "by k and m, m lay for", "corrupted": "by n and m, k ran for", "correct": "n", "wrong": "m"},
]
ROLES = [
    {"IO": ("m", "j"), "S2": (18, 18), "end": -1},
    {"IO": ("j", "j"), "S2": (18, 18), "end": -1},
    {"IO": (3, 3), "S2": (12, 12), "end": -1},
]
PAIRS = rs.pairs([{**row, **roles} for row, roles in zip(ROWS, ROLES, strict=True)])
SHIFTED = rs.pairs(
    [
        {
            "clean": "a m b j c",
            "corrupted": "aa m bb m c",
            "correct": "m",
            "wrong": "j",
            "S": ("j", 8),
            "IO": "m",
            "end": -1,
        },
        {"clean": "j aa m", "corrupted": "aa j m", "correct": "j", "wrong": "m", "S": "m", "IO": "j", "end": -1},
    ]
)
FIRST = PAIRS[:2]  # of one length, and one token differs
STREAM = ["resid_pre", "resid_mid", "attn_out", "mlp_out"]
HEADS = {"z": "head_out", "q": "head_q", "k": "head_k", "v": "head_v", "pattern": "head_pattern"}


@pytest.fixture(scope="module")
def oracle() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    return found


@pytest.mark.parametrize("which", ["one", "every"])
def test_transformer_lens_says_the_same(which: str, oracle: dict[str, Any]) -> None:
    model = rs.load(shared_path("reference/oracle_gpt2/checkpoint"))
    correct, wrong = zip(*oracle["answers_correct_wrong"], strict=True)
    theirs = {name: torch.tensor(value).double() for name, value in oracle["patch_denoise_mean_raw"][which].items()}

    def patched(site: str | list[str], pos: slice | None = None) -> Tensor:
        found = rs.patch(
            model,
            clean=torch.tensor(oracle["clean"]),
            corrupted=torch.tensor(oracle[f"corrupted_{which}_token"]),
            site=site,
            pos=pos,
            metric=rs.logit_difference(list(correct), list(wrong)),
        )
        torch.testing.assert_close(found.clean_values, torch.tensor(oracle["logit_difference"]), rtol=0, atol=1e-4)
        return found.mean(raw=True).double()

    stream = torch.stack([theirs[kind] for kind in STREAM])
    torch.testing.assert_close(patched(STREAM), stream, rtol=0, atol=1e-4)
    heads = torch.stack([theirs[f"attn_{kind}_all_pos"] for kind in HEADS.values()])
    torch.testing.assert_close(patched([*HEADS]), heads, rtol=0, atol=1e-4)
    by_pos = theirs["attn_head_out_by_pos"].transpose(1, 2)  # theirs is layer, position, head
    torch.testing.assert_close(patched("z", slice(None)), by_pos, rtol=0, atol=1e-4)


@pytest.mark.parametrize("which", ["gpt2", "llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("pairs", [PAIRS, SHIFTED], ids=["aligned", "shifted"])
def test_a_role_is_patched_from_where_it_is_to_where_it_is(which: str, pairs: rs.Pairs) -> None:
    model, roles = family_model(which), list(pairs.roles)
    sides: dict[Side, rs.Run] = {"clean": model.run(pairs.clean), "corrupted": model.run(pairs.corrupted)}
    for site, heads in (("resid_post", [None]), ("attn_out", [None]), ("k", range(model.config.n_kv_heads))):
        found = rs.patch(model, pairs, site=site, pos=roles, direction="both")
        assert found.axes == (
            "direction",
            "layer",
            *(["head"] if "gpt" in which else ["kv_head"]) * (site == "k"),
            "role",
            "pair",
        )
        expected = []
        for (source, base), head, role in product(DIRECTIONS.values(), heads, roles):
            of, to = (pairs.positions(model, role, side) for side in (source, base))
            value = sides[source].at(f"{site}.1", of)
            value = value if head is None else value[:, :, head]
            edit = rs.replace(f"{site}.1", value, head=head, pos=to)
            expected.append(pairs.metric()(model.run(sides[base].tokens, edits=edit)))
        assert found.values.shape[1] == 3
        torch.testing.assert_close(found.values[:, 1].flatten(0, -2), torch.stack(expected), rtol=0, atol=1e-9)


def test_heads_of_prompts_that_align(llama: rs.Model) -> None:
    clean, corrupted = llama.run(list(PAIRS.clean)), llama.run(list(PAIRS.corrupted))
    for site in ("z", "q", "pattern"):
        whole = rs.patch(llama, PAIRS, site=site)
        at_end = rs.patch(llama, PAIRS, site=site, pos="end")
        assert whole.axes == ("layer", "head", "pair")
        assert at_end.axes == ("layer", "head", "role", "pair")
        for pos, value in ((None, whole.values[2, 3]), (-1, at_end.values[2, 3, 0])):
            edit = rs.replace(f"{site}.2", clean, head=3, pos=pos)
            expected = PAIRS.metric()(llama.run(corrupted.tokens, edits=edit))
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)


def test_heads_of_keys_and_values_stand_for_their_readers(llama: rs.Model) -> None:
    groups = llama.config.n_heads // llama.config.n_kv_heads
    assert groups > 1
    for pos, pairs in ((None, FIRST), (["S2", "end"], PAIRS)):
        both = rs.patch(llama, pairs, site=["z", "v"], pos=pos, direction="both")
        assert both.axes[:4] == ("direction", "site", "layer", "head")
        alone = [rs.patch(llama, pairs, site=site, pos=pos, direction="both").values for site in ("z", "v")]
        torch.testing.assert_close(both.values[:, 0], alone[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(both.values[:, 1], alone[1].repeat_interleave(groups, dim=2), rtol=0, atol=1e-9)
        assert both.settings["heads"] == "a head of keys or values stands for every query head that reads it"
    assert "heads" not in rs.patch(llama, FIRST, site=["k", "v"]).settings


def test_what_a_number_means_follows_from_the_run_that_is_patched(gpt2: rs.Model, tmp_path: Path) -> None:
    told = {one: rs.patch(gpt2, FIRST[:1], site="resid_pre", pos="S2", direction=one) for one in ("denoise", "noise")}
    assert told["denoise"].reference == 0
    assert told["denoise"].meaning == "the share restored: 0 as corrupted, 1 as clean"
    assert told["noise"].reference == 1
    assert "restored" not in str(told["noise"].meaning)
    for one in told.values():  # behind the last attention nothing reads this position
        base = one.corrupted_values if one.reference == 0 else one.clean_values
        late = rs.patch(gpt2, FIRST[:1], site="resid_post", pos="S2", direction=one.settings["direction"])
        torch.testing.assert_close(late.values[-1, 0], base, rtol=0, atol=1e-9)
        assert float(late.mean()[-1, 0]) == pytest.approx(float(one.reference), abs=1e-6)  # type: ignore[arg-type]
        one.save(tmp_path / "one")
        again = rs.open(tmp_path / "one")
        assert isinstance(again, rs.Patching)
        assert (again.reference, again.meaning) == (one.reference, one.meaning)
        assert {"reference", "meaning"} <= one.payload().keys()
    both = rs.patch(gpt2, FIRST[:1], site="resid_pre", pos="S2", direction="both")
    assert [*both.reference] == [0, 1]  # type: ignore[misc]
    assert [*both.meaning] == [told["denoise"].meaning, told["noise"].meaning]


def test_patching_all_that_differs_gives_the_other_run(gpt2: rs.Model) -> None:
    found = rs.patch(gpt2, FIRST, site="resid_pre", pos="S2", direction="both")
    denoised, noised = found.values[:, 0, 0]
    torch.testing.assert_close(denoised, found.clean_values, rtol=0, atol=1e-9)
    torch.testing.assert_close(noised, found.corrupted_values, rtol=0, atol=1e-9)
    untouched = rs.patch(gpt2, FIRST, site="resid_pre", pos=slice(0, 18))
    assert torch.equal(untouched.values, untouched.corrupted_values.expand_as(untouched.values))


class Told:
    """A result of twenty pairs that the metric tells apart, and one cell of each kind."""

    clean = torch.linspace(2, 4, 20, dtype=torch.float64)
    corrupted = torch.linspace(-1, 1, 20, dtype=torch.float64) ** 3
    some = corrupted + torch.linspace(0.1, 0.5, 20, dtype=torch.float64)

    def __init__(self, clean: Tensor | None = None, noise_floor: float = 1e-9) -> None:
        clean = self.clean if clean is None else clean
        self.result = rs.Patching(
            "told",
            {"noise_floor": noise_floor},
            [],
            values=torch.stack([clean, self.corrupted[: len(clean)], self.some[: len(clean)]]),
            reference=0.0,
            meaning="the share restored",
            clean_values=clean,
            corrupted_values=self.corrupted[: len(clean)],
            labels={"layer": [0, 1, 2], "pair": list(range(len(clean)))},
            positions=torch.zeros(0, len(clean), dtype=torch.long),
            pieces=[],
        )


def test_normalised_is_a_ratio_of_means() -> None:
    told = Told()
    found = told.result
    share = (told.some.mean() - told.corrupted.mean()) / (told.clean.mean() - told.corrupted.mean())
    torch.testing.assert_close(found.mean(), torch.tensor([1, 0, share]).double())
    torch.testing.assert_close(found.mean(raw=True), found.values.mean(-1))
    ends = found.interval(0.9)
    torch.testing.assert_close(ends[:2], torch.tensor([[1.0, 1.0], [0.0, 0.0]]).double())  # of any pairs
    rng = np.random.default_rng(0)
    drawn = rng.integers(20, size=(20_000, 20))
    up, over = (told.some - told.corrupted).numpy(), (told.clean - told.corrupted).numpy()
    theirs = np.quantile(up[drawn].mean(1) / over[drawn].mean(1), [0.05, 0.95])
    assert np.abs(ends[2].numpy() - theirs).max() < 0.05 * (theirs[1] - theirs[0])
    raw = found.interval(0.9, raw=True)
    assert raw[0, 0] < told.clean.mean() < raw[0, 1]


def test_what_hardly_differs_is_not_divided_by() -> None:
    spread = Told.clean - Told.corrupted
    spread = spread - spread.mean()
    error = spread.std() / 20**0.5
    for n_errors, refused in ((1.9, True), (2.1, False), (-1.9, True), (-2.1, False)):
        found = Told(Told.corrupted + spread + n_errors * error).result
        if refused:
            with pytest.raises(
                BadArgument, match=r"above that of the corrupted ones, with a standard error of .* over 20"
            ):
                found.mean()
            with pytest.raises(BadArgument, match="raw=True"):
                found.interval()
            assert found.mean(raw=True).isfinite().all()
        else:
            assert found.mean()[0] == pytest.approx(1)
    assert Told(Told.clean[:1]).result.mean().tolist()[:2] == [1, 0]  # one pair has no error
    with pytest.raises(BadArgument, match="too near to zero"):
        _ = Told(Told.clean[:1], noise_floor=100.0).result.normalised


def test_it_is_a_result(gpt2: rs.Model, tmp_path: Path) -> None:
    found = rs.patch(gpt2, SHIFTED, site=["k", "v"], pos=["S", "end"], direction="both")
    frame = found.to_frame()
    assert [*frame] == [*found.axes[:-1], "pos", "token", "pair", "clean", "corrupted", "value"]
    assert found.axes == ("direction", "site", "layer", "head", "role", "pair")
    row = frame[(frame.role == "S") & (frame.pair == 1) & (frame.site == "v") & (frame.direction == "noise")].iloc[0]
    assert (row.pos, row.token, row.clean) == (5, "m", found.clean_values[1])
    assert row.value == found.values[1, 1, 0, 0, 0, 1]
    assert found.settings["meaning"]["noise"] == "values of the corrupted run in the clean one"
    found.save(tmp_path / "patching")
    opened = rs.open(tmp_path / "patching")
    assert isinstance(opened, rs.Patching)
    assert torch.equal(opened.values, found.values)
    assert opened.axes == found.axes
    assert opened.to_frame().equals(frame)
    by_pos = rs.patch(gpt2, FIRST, site="resid_pre", pos=[-1, 3]).to_frame()
    assert by_pos[by_pos.pair == 0][["pos", "token"]].drop_duplicates().to_numpy().tolist() == [[26, "o"], [3, "n"]]


def test_its_python_runs(stories: rs.Model, tmp_path: Path) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(["one day a", "one day b"]))
    metric = rs.logit_difference(["a", "b"], ["b", "a"])
    texts = {"clean": tmp_path / "texts.json", "corrupted": ["one day b", "one day a"], "metric": metric}
    pairs = rs.pairs([{"clean": "a b", "corrupted": "b b", "correct": "a", "wrong": "b", "end": -1}])
    for found in (
        rs.patch(stories, pairs, site="z", pos=["end"], direction="noise"),
        rs.patch(stories, site=["q", "z"], pos=torch.tensor([[1, 2], [2, 0]]), **texts),  # type: ignore[arg-type]
    ):
        assert found.python[-1].startswith("rs.patch(")
        names: dict[str, Any] = {}
        exec("\n".join(found.python[:-1]), names)
        assert torch.equal(eval(found.python[-1], names).values, found.values)


def test_what_does_not_fit(gpt2: rs.Model) -> None:
    def whole(logits: Tensor) -> Tensor:
        return logits

    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    metric = rs.logit("a")
    given: list[tuple[Any, str, dict[str, Any]]] = [
        (BadArgument, "direction='clean' was asked for. Choose 'denoise', 'noise' or 'both'", {"direction": "clean"}),
        (BadArgument, "site=None was asked for. Give one by its name, or a list", {"site": None}),
        (BadArgument, "site=5 was asked for", {"site": 5}),
        (BadArgument, r"site='resid_pre\.1' was asked for", {"site": "resid_pre.1"}),
        (BadArgument, "site='logits' was asked for", {"site": "logits"}),
        (BadArgument, "No site was named", {"site": []}),
        (BadArgument, "no common axes: z by head, resid_pre by no head", {"site": ["z", "resid_pre"]}),
        (BadArgument, "There is no role 'S3'", {"pos": ["S3"]}),
        (BadArgument, r"The prompts have 21 to 27 tokens", {}),
        (BadArgument, r"The prompts have 21 to 27 tokens", {"site": "z", "pos": [0]}),
        (BadArgument, r"pos=slice\(40, 50, None\) is no position", {"pairs": FIRST, "pos": slice(40, 50)}),
        (UnknownPosition, "Position 27 was asked for", {"pairs": FIRST, "pos": 27}),
        (UnknownPosition, "No position was named", {"pairs": FIRST, "pos": []}),
        (BadArgument, "A pattern is over positions", {"site": "pattern", "pos": "IO"}),
        (BadEdit, "other texts or lengths", {"pairs": SHIFTED, "site": "z"}),
        (BadMetric, "several numbers for each prompt", {"pairs": FIRST, "metric": rs.metric(whole)}),
        (BadMetric, "3 was given as a metric", {"metric": 3}),
        (EmptyPrompt, "No text was given", {"pairs": PAIRS[3:]}),
        (BadArgument, "A list was given as pairs", {"pairs": ROWS}),
        (BadArgument, "were not given", {"pairs": None, "clean": "a", "corrupted": "b"}),
        (BadArgument, "other prompts too", {"clean": "a", "corrupted": "b"}),
        (
            BadArgument,
            "2 clean prompts and 1 ",
            {"pairs": None, "clean": ["a", "b"], "corrupted": "b", "metric": metric},
        ),
        (BadArgument, "have 2 to 3 tokens", {"pairs": None, "clean": "ab", "corrupted": "abc", "metric": metric}),
        (BadArgument, "no pairs mark", {"pairs": None, "clean": "a", "corrupted": "b", "metric": metric, "pos": "IO"}),
    ]
    for error, says, changes in given:
        with pytest.raises(error, match=says):
            rs.patch(gpt2, **{"pairs": PAIRS, "site": "resid_pre", **changes})
    with pytest.raises(BadArgument, match="A str was given as a model"):
        rs.patch("demo", PAIRS, site="z")  # type: ignore[arg-type]
    several = rs.pairs([{**ROWS[0], "correct": "mary"}])
    with pytest.raises(UnknownToken, match="mary"):
        rs.patch(gpt2, several, site="resid_pre")


@pytest.mark.parametrize("when", [0, 1, 3])  # of the clean prompts, of the corrupted ones, of a patched run
def test_what_is_no_number(when: int, gpt2: rs.Model) -> None:
    asked = count()

    def fails(logits: Tensor) -> Tensor:
        return torch.where((torch.arange(len(logits)) == 1) & (next(asked) == when), torch.nan, logits[:, 0])

    with pytest.raises(BadMetric, match=r"The metric of pair 1 is nan: 'once j and m met\. [mk] gave to'"):
        rs.patch(gpt2, FIRST, site="resid_pre", pos="S2", metric=rs.metric(fails))


def test_what_is_known_so_far_is_told_as_it_will_be(gpt2: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "WALK_BYTES", 0)  # set by set
    told: list[Patching] = []

    def listen(step: Step) -> None:
        if step.so_far:
            told.append(step.so_far())  # type: ignore[arg-type]

    with rs.progress(listen):
        whole = rs.patch(gpt2, FIRST, site="resid_mid", pos=["S2", "end"], direction="both")
    known = [~one.values.isnan() for one in told]
    counts = [int(one.sum()) for one in known]
    assert counts == sorted(counts)
    assert len({*counts}) == whole.values[..., 0].numel() + 1
    assert counts[-1] == whole.values.numel()
    for part, there in zip(told, known, strict=True):
        assert torch.equal(part.values[there], whole.values[there])
        assert (part.labels, part.python, part.name) == (whole.labels, whole.python, whole.name)
        assert torch.equal(part.clean_values, whole.clean_values)
    assert told[0].to_html()
    with rs.progress(listen):
        n = len(told)
        gpt2.sweep(gpt2.run("a"), [rs.scale("z.1", 0.5)], rs.logit(3))
    assert len(told) == n  # a plain sweep has no other form
