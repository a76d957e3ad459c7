"""The making of the model: whole words, batches from a seed, a stopped training that goes on, files that are equal."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from training.corpus import REPEAT, STAGES, STORY, TASK, Mixture, Prose, Stage
from training.export import export
from training.tokenizer import BOS, N_TOKENS, whole_words
from training.train import Recipe, _share_of_rate, make_model, train

import residscope as rs
from residscope.demo.tasks import _TASKS

RECIPE = Recipe(n_layers=1, d_model=16, n_heads=2, n_tokens=256, n_steps=8, n_warmup=1, save_every=2)
CPU = torch.device("cpu")
EVEN = {"prose": 0.3, "tasks": 0.3, "repeats": 0.4}
STILL = (Stage(0, {64: 1.0}, 31, EVEN),)


@pytest.mark.slow
def test_words_and_years_are_whole(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() <= N_TOKENS
    assert [word for word in whole_words() if len(tokenizer.encode(word).ids) != 2] == []
    assert tokenizer.encode("in 1732 to 17").tokens == [BOS, "in", "Ġ17", "32", "Ġto", "Ġ17"]
    for text in ("Bees fly.\n\nNaïve 世界 🎉", "  two  spaces", "1234567"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_prose_is_held_out_by_document(prose: Prose) -> None:
    assert len(prose.train["articles.txt"]) + len(prose.held_out["articles.txt"]) == 60
    assert len(prose.held_out["stories.txt"]) == 10
    assert prose.train["articles.txt"][0].startswith("= Title")
    for name, texts in prose.held_out.items():
        assert not {*texts} & {*prose.train[name]}


@pytest.mark.slow
def test_batches_follow_from_the_seed_and_the_number(mixture: Mixture, prose: Prose, tokenizer: Tokenizer) -> None:
    batch = mixture.make_batch(3, 64 * 64)
    assert batch.shape == (64, 64)
    assert (batch[:, 0] == mixture.bos).all()
    assert torch.equal(Mixture(prose, tokenizer, seed=5).make_batch(3, 64 * 64), batch)
    assert not torch.equal(mixture.make_batch(4, 64 * 64), batch)
    assert not torch.equal(Mixture(prose, tokenizer, seed=6).make_batch(3, 64 * 64), batch)


def find_periods(batch: torch.Tensor) -> list[int]:
    """Of the rows that are one thing said again and again."""
    found = [next((p for p in range(2, len(row) // 2) if torch.equal(row[1 + p :], row[1:-p])), 0) for row in batch]
    return [period for period in found if period]


def test_sequences_are_as_long_as_their_stage_has_them(prose: Prose, tokenizer: Tokenizer) -> None:
    stages = (*STILL, Stage(5, {64: 0.5, 256: 0.5}, 20, EVEN), Stage(60, {128: 1.0}, 100, EVEN))
    mixture = Mixture(prose, tokenizer, 5, stages)
    batches = [mixture.make_batch(number, 1024) for number in range(70)]
    assert all(batch.numel() == 1024 for batch in batches)
    lengths = [batch.shape[1] for batch in batches]
    assert {*lengths[:5]} == {64}
    assert {*lengths[60:]} == {128}
    assert 15 < lengths[5:60].count(256) < 40  # of 55, half: two standard errors are 7
    periods = [
        [p for batch in part for p in find_periods(batch)] for part in (batches[:5], batches[5:60], batches[60:])
    ]
    assert all(15 <= p <= most for part, most in zip(periods, (31, 20, 63), strict=True) for p in part)
    assert max(periods[2]) > 31
    assert 0.2 < len(periods[0]) / (5 * 16) < 0.6  # two fifths are repeated tokens


def test_the_stages_begin_at_once_and_go_on_to_the_whole_context() -> None:
    assert STAGES[0].begin == 0
    assert [*STAGES] == sorted(STAGES, key=lambda stage: stage.begin)
    assert max(STAGES[-1].lengths) == Recipe.n_ctx
    assert STAGES[-1].begin < Recipe.n_steps


def test_shares_are_those_of_the_batches(prose: Prose, tokenizer: Tokenizer) -> None:
    shares = Mixture(prose, tokenizer, 5, STILL).measure_shares(2000, 1024)
    assert {*shares} == {"stories.txt", "articles.txt", STORY, TASK, REPEAT}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[REPEAT] == pytest.approx(EVEN["repeats"], abs=0.06)  # of 800 sequences; three standard errors
    assert EVEN["tasks"] / 2 < shares[TASK] < EVEN["tasks"] + 0.06  # the rest of its sequences are prefixes


def test_rates_rise_and_fall() -> None:
    recipe = Recipe()
    shares = [_share_of_rate(step, recipe) for step in range(recipe.n_steps)]
    assert shares[0] == 1 / recipe.n_warmup
    assert shares[recipe.n_warmup] == 1
    assert shares[recipe.n_steps // 2] == pytest.approx(0.5, abs=0.01)
    assert shares[-1] < 1e-6
    falls = [b <= a for a, b in pairwise(shares)]
    assert [step + 1 for step, fell in enumerate(falls) if not fell] == [*range(1, recipe.n_warmup)]


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_if_it_had_not(mixture: Mixture, tmp_path: Path) -> None:
    whole = train(RECIPE, mixture, tmp_path / "whole", CPU)

    class Stopped(Exception):
        pass

    plain = mixture.make_batch

    numbers: list[int] = []

    def stop(number: int, n_tokens: int) -> torch.Tensor:
        if number == 3:
            raise Stopped
        return plain(number, n_tokens)

    def note(number: int, n_tokens: int) -> torch.Tensor:
        numbers.append(number)
        return plain(number, n_tokens)

    mixture.make_batch = stop  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        train(RECIPE, mixture, tmp_path / "parts", CPU)
    mixture.make_batch = note  # type: ignore[method-assign]
    parts = train(RECIPE, mixture, tmp_path / "parts", CPU)
    assert numbers == [*range(2, 8)]  # from the last state on
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)
    untrained = make_model(RECIPE, mixture.n_tokens, mixture.bos)
    assert not torch.equal(next(untrained.parameters()), next(whole.parameters()))
    with pytest.raises(SystemExit, match="of another recipe"):
        train(replace(RECIPE, seed=1), mixture, tmp_path / "parts", CPU)


def test_the_files_are_the_model(mixture: Mixture, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = make_model(RECIPE, mixture.n_tokens, mixture.bos).half().float()
    export(model, tokenizer, tmp_path)
    ours = rs.load(tmp_path)
    run = ours.run("When Victor and Diana went")
    assert run.tokens.has_bos
    with torch.no_grad():
        theirs = model(input_ids=run.tokens.ids).logits
    torch.testing.assert_close(run.logits, theirs, rtol=0, atol=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"


@pytest.mark.parametrize("task", _TASKS)
def test_pairs_are_whole_tokens_and_of_one_length(
    task: str, mixture: Mixture, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    export(make_model(RECIPE, mixture.n_tokens, mixture.bos), tokenizer, tmp_path)
    model = rs.load(tmp_path)
    pairs = rs.demo.pairs(task, 48)
    assert rs.demo.pairs(task, 48) == pairs
    assert rs.demo.pairs(task, 48, seed=1) != pairs
    clean, corrupted = (model.tokenize(list(side)) for side in (pairs.clean, pairs.corrupted))
    assert torch.equal(clean.n_tokens, corrupted.n_tokens)
    differ = (clean.ids != corrupted.ids).sum(-1)
    assert (differ == 1).all()
    assert len({model.single_token(answer) for answer in (*pairs.correct, *pairs.wrong)}) > 5
    assert all(correct != wrong for correct, wrong in zip(pairs.correct, pairs.wrong, strict=True))
    for role in pairs.roles:
        assert pairs.positions(model, role).shape == (48, 1)
    assert torch.equal(pairs.positions(model, "end")[:, 0], clean.n_tokens - 1)
