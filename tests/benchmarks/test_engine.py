"""The table of the engine: what it asks, counts and says. No peer is needed."""

import re
from pathlib import Path

import pytest
import torch
from benchmarks.checkpoint import write_gpt2
from benchmarks.cost import compute_exponent
from benchmarks.engine import Found, Table, write_line
from benchmarks.large import SHAPES, write_lines
from benchmarks.rows import (
    D_MODEL,
    N_PAIRS,
    SUBJECT,
    Against,
    Row,
    Task,
    forward,
    make_pairs,
    make_rows,
    remaining_flops,
)
from benchmarks.sides import PEERS, Side, SideFailed, version_of
from safetensors.torch import load_file, save_file

import residscope as rs
from benchmarks import analyses
from tests.models import assert_equal


def test_pairs_of_one_token_differ_in_one() -> None:
    pairs = make_pairs("one token")
    differ = torch.tensor(pairs["clean"]) != torch.tensor(pairs["corrupted"])
    assert differ.sum(1).tolist() == [1] * N_PAIRS
    assert bool(differ[:, SUBJECT].all())


def test_remaining_flops_of_one_layer_and_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.rows.N_LAYERS", 1)
    monkeypatch.setattr("benchmarks.rows.N_POS", 1)
    weights = 12 * D_MODEL**2
    attention, logits = 4 * D_MODEL, 4 * D_MODEL
    assert remaining_flops("every token") == N_PAIRS * (2 * weights + attention + logits)


def test_every_row_asks_sides_that_exist() -> None:
    table = make_rows("dictionary.safetensors")
    assert {row.number for row in table} == set(range(1, 10))
    assert {other.task.side for row in table for other in row.against} <= {"residscope", *PEERS}
    assert version_of("transformer_lens") == "transformer-lens==4.3.0"


@pytest.mark.parametrize(("ours", "apart", "said"), [(0.1, 0.0, "| met |"), (0.6, 0.0, "missed"), (0.1, 1.0, "missed")])
def test_a_line_says_whether_the_goal_is_met(tmp_path: Path, ours: float, apart: float, said: str) -> None:
    task = Task("residscope", {})
    row = Row(4, "sweep", task, (Against(task, least=2),))
    found = []
    for i, (seconds, value) in enumerate(((ours, 0.0), (1.0, apart))):
        save_file({"values": torch.full((3,), value)}, tmp_path / str(i))
        found.append(Found(tmp_path / str(i), [seconds] * 3, [seconds] * 3))
    line = write_line(row, row.against[0], found[0], found[1], 0.5)
    assert said in line
    assert line.endswith("| 3 | 50% |")


def test_rows_that_are_not_measured_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, head = tmp_path / "engine.md", "# Head\n\n| row |\n| --- |\n"
    monkeypatch.setattr("benchmarks.engine.RESULT", path)
    first = Table(head, {4, 10}, kept=True)
    first.add(["| 4 old |"], ["Row 4: old."])
    first.add([], ["Row 10: large.\n\n| work |"])
    second = Table(head, {3, 4}, kept=True)
    second.add(["| 4 new |"], ["Row 4: new."])
    second.add(["| 3 its memory |"], [])
    expected = "| 3 its memory |\n| 4 new |\n\nRow 4: new.\n\nRow 10: large.\n\n| work |\n"
    assert path.read_text() == head + expected
    Table(head.replace("Head", "Another machine"), {1}, kept=True).add(["| 1 |"], [])
    assert path.read_text().endswith("| --- |\n| 1 |\n")
    Table(head, {1}, kept=False).add(["| 1 quick |"], [])
    assert "quick" not in path.read_text()


def test_exponent_of_squares() -> None:
    assert compute_exponent([(1, 3.0), (2, 12.0), (8, 192.0)]) == pytest.approx(2)


@pytest.mark.slow
def test_a_side_answers_with_times_and_numbers(tmp_path: Path) -> None:
    write_gpt2(tmp_path / "model", n_layers=1, d_model=64, n_heads=2, n_ctx=32, d_vocab=100)
    ids = [[1, 2, 3], [4, 5, 6]]
    with Side("residscope", tmp_path / "model") as side:
        request = forward("residscope", 1, 1, ids=ids, file=str(tmp_path / "numbers")).request
        assert len(side.ask(request)["seconds"]) == 3
        shares = side.ask(request | {"profile": True})["shares"]
        assert 0 < sum(shares.values()) <= 1
        assert len(shares) == 5
        with pytest.raises(SideFailed, match="BadTexts"):
            side.ask(request | {"ids": [[100]]})
    expected = rs.load(tmp_path / "model").run(ids).logits[:, -1]
    assert_equal(load_file(tmp_path / "numbers")["values"], expected)


def test_every_row_of_the_analyses_asks_sides_that_exist() -> None:
    table = analyses.make_rows()
    assert {row.number for row in table} == set(range(1, 7))
    assert {other.task.side for row in table for other in row.against} <= {"residscope", *PEERS}
    assert table[0].tolerance == 1e-6


@pytest.mark.slow
def test_sweeps_and_paths_are_what_they_stand_for(tmp_path: Path) -> None:
    write_gpt2(tmp_path / "model", n_layers=2, d_model=64, n_heads=2, n_ctx=32, d_vocab=100)
    model = rs.load(tmp_path / "model")
    pairs = {"clean": ["abc", "bcd"], "corrupted": ["adc", "ecd"], "correct": ["a", "b"], "wrong": ["c", "d"]}
    paths = {"dtype": "float32", "pairs": pairs, "receiver": "q.1.0", "n_layers": 1}
    ids = {"clean": [[1, 2, 3]], "corrupted": [[1, 5, 3]], "correct": [7], "wrong": [8]}
    by_place = {"do": "sweep", "dtype": "float32", "site": "z", "layers": [1], **ids}
    numbers = {}
    with Side("residscope", tmp_path / "model") as side:
        for name, request in (
            ("path_patch", {"do": "path_patch", **paths}),
            ("path_patch_in_full", {"do": "path_patch_in_full", **paths}),
            ("sweep", by_place),
        ):
            side.ask({**request, "file": str(tmp_path / name)})
            numbers[name] = load_file(tmp_path / name)["values"]
    assert_equal(numbers["path_patch"][:2], numbers["path_patch_in_full"])
    found = rs.patch(
        model,
        clean=torch.tensor(ids["clean"]),
        corrupted=torch.tensor(ids["corrupted"]),
        site="z",
        pos=slice(None),
        metric=rs.logit_difference(7, 8),
    )
    assert_equal(numbers["sweep"].flatten(), found.values[1, ..., 0].T.flatten())


@pytest.mark.slow
def test_a_vocabulary_of_words_is_decoded(tmp_path: Path) -> None:
    analyses.write_words(tmp_path / "words")
    assert rs.load(tmp_path / "words").tokenizer.piece(50_256) == " w50256"
    lines = analyses.time_vocabulary(tmp_path / "words")
    assert [line.split(":")[0] for line in lines] == ["the ten best tokens", "all 50,257 tokens, as a frame"]


@pytest.mark.slow
def test_larger_models_are_measured_beside_what_is_predicted() -> None:
    small = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    small |= {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": 50}
    *_, run, keeps, gradients, residual, heads = write_lines("small", SHAPES["Gemma-2-9B"] | small, "cpu", rounds=1)
    named = {"logits": run, "everything": keeps, "gradients": gradients, "positions": residual, "heads": heads}
    for name, line in named.items():
        assert name in line
        assert re.search(r"\| [\d.]+ \(.*\) \| .*(B|bytes) \| .*B \| (within 10%|\*\*missed\*\*) \|$", line), line
