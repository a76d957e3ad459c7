"""Edits as data: JSON and back, Python and back, equality."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import residscope as rs
from residscope.errors import BadEdit
from residscope.sites import Site

TEXTS = ["abcd", "xyzuvw"]
FINITE = st.floats(-3, 3, allow_subnormal=False)
POSITIONS = st.one_of(
    st.none(),
    st.integers(-4, 3),
    st.sampled_from([slice(1, None), slice(None, -1), slice(0, 3, 2)]),
    st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True),
    st.just(torch.tensor([[1], [-1]])),
)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


UNIT = drawn(32) / drawn(32).norm()
VECTOR: Any = st.sampled_from(
    [
        lambda _: 0.25,
        lambda _: drawn(32),
        lambda _: drawn(2, 32),
        lambda _: drawn(32).numpy(),
        lambda _: drawn(32).tolist(),
        lambda site: rs.Direction.of(UNIT, site, "a 'name'", mean=2 * drawn(32), deviation=1.5),
    ]
)
ALONG = st.one_of(st.none(), st.just(drawn(2, 32)), st.just([drawn(32)]))
SITE = st.sampled_from(["resid_pre.1", "mlp_out.0", "blocks.1.hook_attn_out"])


def draw_edit(draw: Any, run: rs.Run) -> rs.Edit:
    """Any edit that is data."""
    site, pos, number = draw(SITE), draw(POSITIONS), draw(FINITE)
    head = draw(st.sampled_from([None, 1, [0, 3]]))
    recorded = {"resid_pre.1": run["resid_pre.1"], "mlp_out.0": run["mlp_out.0"], "attn_out.1": run["attn_out.1"]}
    mean, along = draw(st.none() | st.just(drawn(32))), draw(ALONG)
    texts: Any = draw(st.sampled_from([["abc", "defghi"], [[1, 2], [3, 4, 5]], "abcdef"]))
    rows: Any = draw(st.sampled_from([drawn(2, 32), [drawn(32), drawn(2, 32)[1]]]))
    makers: list[Callable[[], rs.Edit]] = [
        lambda: rs.replace(site, draw(VECTOR)(site), pos=pos, along=along),
        lambda: rs.replace(site, recorded, pos=1),
        lambda: rs.replace("z.1", 1.0, head=head, pos=pos),
        lambda: rs.add(site, draw(VECTOR)(site), number, pos),
        lambda: rs.scale("mlp_act.1", number, neuron=draw(st.sampled_from([None, 3, [5, 1]])), pos=pos),
        lambda: rs.noise("z.0", abs(number), draw(st.integers(0, 9)), head=head, pos=pos),
        lambda: rs.ablate(site, pos=pos, along=along),
        lambda: rs.ablate("z.2", "constant", head=head, pos=pos),
        lambda: rs.ablate(site, "mean", texts=texts, pos=1),
        lambda: rs.ablate(site, "resample", texts=["abcdefgh"], seed=draw(st.integers(0, 9)), draws=2),
        lambda: rs.project_out(site, rows, pos=pos),
        lambda: rs.clamp(rs.Direction("one", Site("resid_pre", 2), UNIT, mean), number, pos=pos),
        lambda: rs.knockout("pattern.1", key=draw(st.sampled_from([-1, [2, 1]])), query=[3], head=head),
        lambda: rs.freeze(["attn_out.1", "resid_pre.1"], recorded, pos=1),
    ]
    which: int = draw(st.integers(0, len(makers) - 1))
    return makers[which]()


def evaluate(edit: rs.Edit, folder: Path, model: rs.Model) -> Any:
    """The edit that its `repr` makes, with its files beside."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        scope = {"rs": rs, "torch": torch, "safetensors": safetensors, "model": model, "Path": Path}
        return eval(repr(edit), scope)
    finally:
        os.chdir(before)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_edit_is_itself_after_json_and_after_python(
    data: st.DataObject, gpt2: rs.Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("edit")
    run = gpt2.run(["ABCD", "XYZUVW"])
    edit = draw_edit(data.draw, run)
    written = json.loads(json.dumps(edit.to_json(folder), allow_nan=False))
    back = rs.Edit.from_json(written, folder)
    again = evaluate(edit, folder, gpt2)
    assert back == edit == again
    assert hash(back) == hash(edit) == hash(again)
    assert back.to_json(folder) == edit.to_json(folder)
    base = gpt2.run(TEXTS, edits=edit).at("logits", -1)
    for other in (back, again):
        torch.testing.assert_close(gpt2.run(TEXTS, edits=other).at("logits", -1), base, rtol=0, atol=1e-12)


def test_a_run_is_written_as_its_values_and_lengths(gpt2: rs.Model, tmp_path: Path) -> None:
    source = gpt2.run(["ABC", "XYZUVWRST"])
    for edit in (rs.replace("z.1", source, head=2, pos=-1), rs.freeze(["mlp_out", "z.0"], source, pos=[0, -1])):
        assert evaluate(edit, tmp_path, gpt2) == edit
        back = rs.Edit.from_json(json.loads(json.dumps(edit.to_json(tmp_path))), tmp_path)
        ours, theirs = (gpt2.run(TEXTS, edits=one).at("logits", -1) for one in (edit, back))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        assert evaluate(back, tmp_path, gpt2) == back


def test_long_vectors_lie_beside_by_their_content(tmp_path: Path) -> None:
    long, short = drawn(32), drawn(16)
    assert list(rs.add("resid_pre.1", short).to_json()) == ["edit", "sites", "vector", "scale"]
    with pytest.raises(BadEdit, match=r"holds 32 numbers, too many .* Give to_json a folder"):
        rs.add("resid_pre.1", long).to_json()
    for edit in (rs.add("resid_pre.1", long), rs.add("mlp_out.0", long.clone(), 2.0), rs.add("z.1", long.numpy())):
        edit.to_json(tmp_path / "new")
    (file,) = (tmp_path / "new").iterdir()
    data = rs.add("resid_pre.1", long).to_json(tmp_path / "new")
    assert data["vector"] == {"hash": file.stem}
    with pytest.raises(BadEdit, match=f"vector {file.name} is not in"):
        rs.Edit.from_json(data, tmp_path)
    safetensors.torch.save_file({"value": 2 * long}, file)
    with pytest.raises(BadEdit, match="does not hold what its name says"):
        rs.Edit.from_json(data, tmp_path / "new")
    file.write_bytes(b"nothing")
    with pytest.raises(BadEdit, match="does not hold what its name says"):
        rs.Edit.from_json(data, tmp_path / "new")


def test_edits_are_equal_by_what_they_do(gpt2: rs.Model, llama: rs.Model) -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    v = drawn(32)
    assert rs.add("z.1", v) == rs.add("z.1", v.clone()) == rs.add("z.1", v.numpy())
    assert rs.add("z.1", v) != rs.add("z.1", -v)
    assert rs.add("z.1", v) != rs.add("z.1", v.float())
    assert rs.add("z.1", v) != rs.add("z.1", v, head=0)
    assert rs.add("z.1", v) != rs.replace("z.1", v)
    assert rs.scale("z.1", np.float64(2.0)) == rs.scale("z.1", 2.0)  # type: ignore[arg-type, unused-ignore]
    assert rs.apply("z.1", double) == rs.apply("z.1", double) != rs.apply("z.1", lambda x: 2 * x)
    assert rs.apply("z.1", lambda x: x) != rs.apply("z.1", lambda x: 2 * x)
    one, other = gpt2.run("abc"), llama.run("abc")
    assert rs.replace("z.1", one) == rs.replace("z.1", gpt2.run("abc"))
    assert rs.replace("z.1", one) != rs.replace("z.1", other)
    assert rs.replace("z.1", one) != rs.replace("z.1", gpt2.run("abc", edits=rs.scale("z.0", 0.5)))
    assert len({rs.add("z.1", v), rs.add("z.1", v.clone()), rs.add("z.1", -v)}) == 2


def test_functions_are_not_data() -> None:
    with pytest.raises(BadEdit, match="by a function is not data, and has no JSON"):
        rs.apply("z.1", lambda x: x).to_json()
    with pytest.raises(BadEdit, match=r"holds a value of the type Feature, which has no JSON"):
        rs.clamp(Feature(), 0.0).to_json()
    with pytest.raises(BadEdit, match="holds nan, which has no JSON"):
        rs.scale("z.1", float("nan")).to_json()


class Feature:
    site, vector = Site("resid_pre", 1), drawn(32)

    def read(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.vector


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"edit": "nothing", "sites": ["z.1"]},
        {"edit": "apply", "sites": ["z.1"], "function": "x"},
        {"edit": "add", "sites": "z.1", "vector": 1.0, "scale": 1.0},
        {"edit": "add", "sites": [], "vector": 1.0, "scale": 1.0},
        {"edit": "add", "sites": ["z.1"]},
        {"edit": "add", "sites": ["z.1"], "vector": 1.0, "scale": 1.0, "bogus": 2},
        {"edit": "add", "sites": ["z.1"], "vector": {"values": [1], "dtype": "bogus", "shape": [1]}, "scale": 1.0},
        {"edit": "add", "sites": ["z.1"], "vector": {"values": [1], "dtype": "load", "shape": [1]}, "scale": 1.0},
        {"edit": "add", "sites": ["z.1"], "vector": {"values": [1], "dtype": "float64", "shape": [2]}, "scale": 1.0},
        {"edit": "add", "sites": ["z.1"], "vector": {"hash": "../secret"}, "scale": 1.0},
        {"edit": "add", "sites": ["z.1"], "vector": {"hash": 5}, "scale": 1.0},
        {"edit": "add", "sites": ["z.1"], "vector": {}, "scale": 1.0},
        {"edit": "add", "sites": ["z.1"], "vector": {"other": 1}, "scale": 1.0},
        {"edit": "scale", "sites": ["z.1"], "factor": 1.0, "pos": {"slice": 3}},
        {"edit": "ablate", "sites": ["z.1"], "with_": "resample", "draws": 0},
    ],
)
def test_what_is_no_edit_is_refused(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadEdit):
        rs.Edit.from_json(data, tmp_path)


@pytest.mark.parametrize("data", [None, "x", [1], 5, {"edit": [1], "sites": ["z.1"]}])
def test_what_is_no_mapping_is_no_edit(data: Any) -> None:
    with pytest.raises(BadEdit, match="is no edit"):
        rs.Edit.from_json(data)


def test_an_edit_of_no_known_name() -> None:
    with pytest.raises(BadEdit, match="no edit 'foo'"):
        rs.Edit("foo", ("z.1",))


def test_a_folder_may_be_a_string(tmp_path: Path) -> None:
    edit = rs.add("resid_pre.1", drawn(32))
    assert rs.Edit.from_json(edit.to_json(str(tmp_path)), str(tmp_path)) == edit
