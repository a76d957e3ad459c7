"""Sweeps that are cut short, run side by side, or in parts; and what they need not compute."""

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadEdit, TooLarge
from tests.models import own_model

TEXTS = ["abcdefgh", "xyz", "hello w"]
OTHERS = ["ABCDEFGH", "XYZ", "HELLO W"]
METRIC = rs.logit_difference("a", "b")


def patches(model: rs.Model, other: rs.Run) -> list[rs.Edit]:
    return [rs.replace(f"resid_pre.{layer}", other, pos=pos) for layer in range(3) for pos in (0, 1, -1)]


def in_full(base: rs.Run, edits: list[Any], metric: rs.Metric) -> torch.Tensor:
    sets = [[one] if isinstance(one, rs.Edit) else one for one in edits]
    return torch.stack([metric(base.model.run(base.tokens, edits=[*base.edits, *one])) for one in sets])


def test_a_cancelled_or_failing_sweep_leaves_the_model_as_it_was(gpt2: rs.Model) -> None:
    base, other = gpt2.run(TEXTS), gpt2.run(OTHERS)
    edits = patches(gpt2, other)
    right = in_full(base, edits, METRIC)
    steps: list[Any] = []
    with rs.progress(steps.append) as work:
        work.cancel()
        with pytest.raises(rs.Cancelled):
            gpt2.sweep(base, edits, METRIC)

    def fail(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        gpt2.sweep(base, [*edits, rs.apply("z.1", fail)], METRIC)
    with pytest.raises(BadEdit):
        gpt2.sweep(base, [*edits, rs.add("z.1", float("nan"))], METRIC)
    with rs.progress(steps.append):
        values = gpt2.sweep(base, edits, METRIC).values
    torch.testing.assert_close(values, right, rtol=0, atol=1e-10)
    assert torch.equal(METRIC(gpt2.run(TEXTS)), METRIC(base))
    assert steps[-1].done == steps[-1].total > 0
    assert {step.what for step in steps} == {"sweeping"}


def test_two_sweeps_at_once_give_what_each_gives_alone(gpt2: rs.Model) -> None:
    base, other = gpt2.run(TEXTS), gpt2.run(OTHERS)
    edits = [patches(gpt2, other), [rs.ablate(f"z.{layer}", head=head) for layer in range(3) for head in range(4)]]
    right = [in_full(gpt2.run(TEXTS), one, METRIC) for one in edits]
    found: dict[tuple[int, int], torch.Tensor] = {}

    def sweep(number: int) -> None:
        for turn in range(3):
            found[number, turn] = gpt2.sweep(base, edits[number], METRIC).values

    threads = [threading.Thread(target=sweep, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for (number, _), values in found.items():
        torch.testing.assert_close(values, right[number], rtol=0, atol=1e-10)


def test_a_run_keeps_more_while_another_thread_reads_it(gpt2: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    base = gpt2.run(TEXTS, keep=["resid_pre"])
    depth = rs.Model.depth

    def slow(self: rs.Model, place: Any) -> int:
        if threading.current_thread() is not threading.main_thread():
            return depth(self, place)
        other = threading.Thread(target=base.keep, args=([f"z.{place.layer or 0}", "mlp_out"],))
        other.start()
        other.join()
        return depth(self, place)

    monkeypatch.setattr(rs.Model, "depth", slow)
    torch.testing.assert_close(base["q.2"], gpt2.run(TEXTS)["q.2"], equal_nan=True)


def test_what_is_known_to_change_nothing_is_not_computed(gpt2: rs.Model) -> None:
    base, again = gpt2.run(TEXTS), gpt2.run(TEXTS)
    null = [rs.scale("z.1", 1.0), rs.replace("resid_pre.1", again), rs.freeze(["mlp_out"], base), rs.add("z.0", 0.0)]
    nothing = gpt2.sweep(base, null, METRIC)
    assert torch.equal(nothing.values, METRIC(base).expand(4, -1))
    one = gpt2.sweep(base, [rs.add("z.1", 1.0, pos=-1)], METRIC)
    both = gpt2.sweep(base, [rs.add("z.1", 1.0, pos=-1), *null], METRIC)
    assert one.n_tokens_computed > 0
    # The null edit that measures the noise floor may begin earlier; the four sets themselves add nothing.
    assert both.n_tokens_computed <= one.n_tokens_computed + 3 * sum(map(len, TEXTS))
    alone = gpt2.sweep(base, [rs.add("z.2", 1.0, pos=-1)], METRIC)
    whole = gpt2.sweep(base, [rs.add("z.0", 1.0, pos=0)], METRIC)
    assert alone.n_tokens_computed < whole.n_tokens_computed


def test_the_same_tokens_up_to_there_are_known_to_be_equal(gpt2: rs.Model) -> None:
    base, other = gpt2.run(["abcdef"]), gpt2.run(["abcXef"])
    early = gpt2.sweep(base, [rs.replace("resid_pre.1", other, pos=p) for p in (0, 1, 2)], METRIC)
    assert torch.equal(early.values, METRIC(base).expand(3, -1))
    late = gpt2.sweep(base, [rs.replace("resid_pre.1", other, pos=p) for p in (3, 4, 5)], METRIC)
    assert (late.values != METRIC(base)).all()
    assert early.n_tokens_computed < late.n_tokens_computed


def test_a_freeze_that_an_earlier_edit_reaches_is_not_null(gpt2: rs.Model) -> None:
    """So a direct effect differs from a total one."""
    base = gpt2.run(TEXTS)
    ablation = rs.ablate("z.0", head=1)
    hold = rs.freeze(["attn_out.1", "attn_out.2", "mlp_out"], base)
    found = gpt2.sweep(base, [ablation, [ablation, hold], [hold, ablation], hold], METRIC)
    torch.testing.assert_close(found.values, in_full(base, [ablation, [ablation, hold], [ablation, hold], []], METRIC))
    assert (found.values[0] - found.values[1]).abs().min() > 1e-6
    direct = gpt2.run(TEXTS).at("resid_post.2", -1) + (
        gpt2.run(TEXTS, edits=ablation).at("attn_out.0", -1) - base.at("attn_out.0", -1)
    )
    torch.testing.assert_close(gpt2.run(TEXTS, edits=[ablation, hold]).at("resid_post.2", -1), direct)


def test_only_what_is_read_is_computed(gpt2: rs.Model) -> None:
    base, other = gpt2.run(TEXTS), gpt2.run(OTHERS)
    edits = [rs.replace("resid_pre.0", other, pos=0)]
    logits = gpt2.sweep(base, edits, METRIC)
    inner = gpt2.sweep(base, edits, rs.read("resid_mid.0", pos=-1))
    early = gpt2.sweep(base, edits, rs.read("resid_pre.2", pos=1))
    assert inner.n_tokens_computed < early.n_tokens_computed < logits.n_tokens_computed
    torch.testing.assert_close(inner.values, in_full(base, edits, rs.read("resid_mid.0", pos=-1)), rtol=0, atol=1e-10)
    later = gpt2.sweep(base, [rs.scale("z.2", 3.0)], rs.read("resid_pre.2"))
    assert torch.equal(later.values[0], base.at("resid_pre.2", -1))
    assert later.n_tokens_computed == 0


def test_parts_give_the_whole(gpt2: rs.Model) -> None:
    base, other = gpt2.run(TEXTS), gpt2.run(OTHERS)
    edits = [*patches(gpt2, other), *(rs.ablate(f"z.{i}", head=h) for i in range(3) for h in range(4))]
    whole = gpt2.sweep(base, edits, METRIC)
    counts = []
    for power in (14, 15, 16, 17, 18, 30):
        steps: list[Any] = []
        with contextlib.suppress(TooLarge), rs.progress(steps.append):
            parts = gpt2.sweep(base, edits, METRIC, memory_bytes=2**power)
            torch.testing.assert_close(parts.values, whole.values, rtol=0, atol=1e-10)
            counts.append(len(steps))
    assert counts[0] > counts[-1]
    with pytest.raises(TooLarge, match="Give memory_bytes="):
        gpt2.sweep(base, edits, METRIC, memory_bytes=1000)


def test_float32_stays_within_the_bound_and_says_its_noise(stories: rs.Model) -> None:
    texts = ["Once upon a time, Lily", "Tom had a red ball. He"]
    base, other = stories.run(texts), stories.run(["Once upon a day, Lily", "Tim had a red ball. He"])
    edits: list[Any] = [rs.replace(f"resid_pre.{layer}", other, pos=pos) for layer in range(5) for pos in (1, 5, -1)]
    edits += [rs.ablate(f"z.{layer}", head=head) for layer in range(5) for head in (0, 5)]
    read = rs.read("logits")
    found, full = stories.sweep(base, edits, read), in_full(base, edits, read)
    scale = full.abs().amax(-1, keepdim=True).clamp(min=1)
    assert ((found.values - full).abs() / scale).max() <= 1e-5
    assert 0 <= found.noise_floor <= 1e-5 * float(scale.max())


def test_the_draws_of_a_resampling_have_a_mean_and_a_spread(gpt2: rs.Model) -> None:
    texts = ["abcd", "efgh", "ijkl", "mnop", "qrst"]
    edit = rs.ablate("resid_pre.1", "resample", seed=3, draws=4)
    for own in ([], [rs.apply("z.0", lambda x: 1.5 * x)]):
        base = gpt2.run(texts, edits=own)
        found = gpt2.sweep(base, [edit, rs.scale("z.1", 0.5)], METRIC)
        draws = in_full(base, [rs.ablate("resid_pre.1", "resample", seed=3 + n) for n in range(4)], METRIC)
        assert found.values.shape == (2, 5)
        torch.testing.assert_close(found.values[0], draws.mean(0), rtol=0, atol=1e-10)
        torch.testing.assert_close(found.values[1], in_full(base, [rs.scale("z.1", 0.5)], METRIC)[0])
        assert found.spread is not None
        torch.testing.assert_close(found.spread[0], draws.std(0, correction=0), rtol=0, atol=1e-10)
        assert (found.spread[1] == 0).all()


def test_a_sweep_is_a_result(gpt2: rs.Model, tmp_path: Any) -> None:
    found = gpt2.sweep(gpt2.run(TEXTS), [rs.ablate("z.1", head=h) for h in range(4)], METRIC)
    frame = found.to_frame()
    assert list(frame.columns) == ["edit", "batch", "drowned", "value"]
    assert len(frame) == 12
    found.save(tmp_path / "sweep")
    assert torch.equal(rs.open(tmp_path / "sweep").values, found.values)
    assert found.settings["unit"] == "logits"


@pytest.mark.parametrize("make", [rs.ablate, lambda site, pos: rs.add(site, 0.7, pos=pos)])
def test_slices_that_a_text_does_not_fill_stay_with_their_own_set(make: Any, gpt2: rs.Model) -> None:
    texts = ["abc", "abcdefg"]
    base = gpt2.run(texts)
    sets = [make("mlp_out.1", pos=slice(start, start + 2)) for start in (0, 2, 4)]
    alone = torch.stack([METRIC(gpt2.run(texts, edits=edit)) for edit in sets])
    torch.testing.assert_close(gpt2.sweep(base, sets, METRIC).values, alone, rtol=0, atol=1e-10)


def test_a_query_that_edits_leave_no_key_mixes_nothing(gpt2: rs.Model) -> None:
    base = gpt2.run(TEXTS)
    both = [rs.knockout("pattern.1", key=key, query=1) for key in (0, 1)]
    run = gpt2.run(TEXTS, edits=both)
    assert not run["z.1"][:, 1].any()
    found = gpt2.sweep(base, [both], METRIC)
    torch.testing.assert_close(found.values[0], METRIC(run), rtol=0, atol=1e-10)
    assert found.values.isfinite().all()


def test_the_noise_floor_does_not_depend_on_the_order(stories: rs.Model) -> None:
    base = stories.run(["Once upon a time, there was a tree", "Tom ran"])
    vector = torch.ones(stories.config.d_model)
    edits = [rs.add(f"resid_pre.{layer}", vector, pos=pos) for layer in range(1, 5) for pos in (-1, 2, 1)]
    edits += [rs.scale(f"resid_pre.{layer}", 2.0, pos=-2) for layer in range(1, 5)]
    floors = {stories.sweep(base, order, rs.logit(7)).noise_floor for order in (edits, edits[::-1])}
    assert len(floors) == 1
    assert floors.pop() > 0


def test_edits_of_patterns_need_no_more_room_than_they_take(stories: rs.Model) -> None:
    base = stories.run(torch.randint(3, 500, (1, 128), generator=torch.Generator().manual_seed(0)))
    edit = rs.knockout("pattern.2", head=1, key=3, query=slice(4, None))
    swept = stories.sweep(base, [edit], rs.logit(7), memory_bytes=32_000_000)
    torch.testing.assert_close(swept.values, in_full(base, [edit], rs.logit(7)))
    assert float((swept.values - swept.base_values).abs()) > swept.noise_floor


def test_a_shared_norm_that_comes_after_only() -> None:
    facts = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_mlp": 32, "d_vocab": 300, "n_ctx": 40, "norm": "rms"}
    config = rs.Config(**facts, parallel=True, shared_norm=True, pre_norm=False, post_norm=True)  # type: ignore[arg-type]
    model = own_model(config, dtype=torch.float64)
    base = model.run(torch.tensor([[5, 7, 9, 11]]))
    edit = rs.scale("z.0", 2.0, pos=1)
    torch.testing.assert_close(
        model.sweep(base, [edit], rs.logit(7)).values, in_full(base, [edit], rs.logit(7)), rtol=0, atol=1e-10
    )


def test_the_python_of_a_sweep_imports_what_it_uses(stories: rs.Model, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("Tom ran home.")
    base = stories.run(tmp_path / "texts.txt")
    vector = torch.linspace(-1, 1, 16)
    edits = [rs.replace("z.1", vector[:8], head=1, pos=-1), rs.scale("z.2", 0.0, pos=torch.tensor([[2]]))]
    swept = stories.sweep(base, edits, rs.logit(7))
    *lines, last = swept.as_python().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    torch.testing.assert_close(eval(last, names).values, swept.values)
    assert swept.settings["has_bos"]


def test_a_sweeps_frame_names_the_positions_that_are_read(gpt2: rs.Model) -> None:
    base = gpt2.run(["abcdefgh", "xyz"])
    swept = gpt2.sweep(base, [rs.scale("z.0", 2.0)], rs.read("ln1_scale.1", pos=slice(2, 5)))
    frame = swept.to_frame()
    assert list(zip(frame["batch"], frame["pos"], frame["token"], strict=True)) == [
        (0, 2, "c"),
        (0, 3, "d"),
        (0, 4, "e"),
        (1, 2, "z"),
    ]
    run = gpt2.run(base.tokens, edits=rs.scale("z.0", 2.0))
    assert frame["value"].tolist() == pytest.approx(
        [*run["ln1_scale.1"][0, 2:5].tolist(), float(run["ln1_scale.1"][1, 2])]
    )


@pytest.mark.parametrize("edit", [rs.scale("mlp_up.1", 2.0), rs.scale("pos_embed", 2.0)], ids=str)
def test_a_strict_base_run_is_swept_wherever_edits_come_in(edit: rs.Edit) -> None:
    facts: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_mlp": 32, "d_vocab": 300, "n_ctx": 40}
    model = own_model(rs.Config(**facts, gated=True, learned_positions=True), dtype=torch.float64)
    base = model.run("abc", keep=["resid_pre", "ln_final"], strict=True)
    swept = model.sweep(base, [edit], METRIC).values
    torch.testing.assert_close(swept, in_full(model.run("abc"), [edit], METRIC), rtol=0, atol=1e-10)


def test_readings_as_wide_as_the_vocabulary_say_how_far_they_are(
    stories: rs.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, steps = stories.run("Once upon a time, there was a girl."), list[Any]()
    sets = [rs.add("resid_pre.0", torch.ones(64), scale, pos=0) for scale in range(1, 9)]
    with rs.progress(steps.append):
        whole = run.model.sweep(run, sets, rs.loss()).values
    n_steps = len(steps)
    monkeypatch.setattr("residscope.running.sweep._WIDE_BYTES", 1)
    with rs.progress(steps.append):
        torch.testing.assert_close(run.model.sweep(run, sets, rs.loss()).values, whole, rtol=0, atol=1e-5)
    assert len(steps) - n_steps >= n_steps + len(sets) - 1
