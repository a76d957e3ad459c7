"""The making of the model: whole words, batches from a seed, a stopped training that goes on, files that are equal."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from training.corpus import N_POS, REPEAT, SHARES, STORY, TASK, Mixture, Prose
from training.export import export
from training.tokenizer import BOS, N_TOKENS, whole_words
from training.train import Recipe, make_model, train

import residscope as rs
from residscope.demo.tasks import _TASKS

RECIPE = Recipe(n_layers=1, d_model=16, n_heads=2, n_sequences=4, n_steps=8, n_warmup=1, save_every=2)
CPU = torch.device("cpu")


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


def test_batches_follow_from_the_seed_and_the_number(mixture: Mixture, prose: Prose, tokenizer: Tokenizer) -> None:
    batch = mixture.make_batch(3, 64)
    assert batch.shape == (64, N_POS)
    assert (batch[:, 0] == mixture.bos).all()
    assert torch.equal(Mixture(prose, tokenizer, seed=5).make_batch(3, 64), batch)
    assert not torch.equal(mixture.make_batch(4, 64), batch)
    assert not torch.equal(Mixture(prose, tokenizer, seed=6).make_batch(3, 64), batch)
    longer = mixture.make_batch(3, 8, 2 * N_POS)
    assert longer.shape == (8, 2 * N_POS)
    assert bool((longer[:, N_POS] != mixture.bos).any())  # no two rows put together
    once = batch[(batch == mixture.bos).sum(1) == 1]
    periods = [next((p for p in range(4, 64) if torch.equal(row[1 + p :], row[1:-p])), 0) for row in once]
    assert 0.1 < sum(p > 0 for p in periods) / 64 < 0.4  # a quarter is repeated tokens


def test_shares_are_those_of_the_batches(mixture: Mixture) -> None:
    shares = mixture.measure_shares(400)
    assert {*shares} == {"stories.txt", "articles.txt", STORY, TASK, REPEAT}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[REPEAT] == pytest.approx(SHARES["repeats"], abs=0.08)  # three standard errors
    assert SHARES["tasks"] / 2 < shares[TASK] < SHARES["tasks"] + 0.08  # the rest of its sequences are prefixes


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_if_it_had_not(mixture: Mixture, tmp_path: Path) -> None:
    whole = train(RECIPE, mixture, tmp_path / "whole", CPU)

    class Stopped(Exception):
        pass

    plain = mixture.make_batch

    shapes: list[tuple[int, int]] = []

    def stop(number: int, n_sequences: int, n_pos: int) -> torch.Tensor:
        if number == 3:
            raise Stopped
        return plain(number, n_sequences, n_pos)

    def note(number: int, n_sequences: int, n_pos: int) -> torch.Tensor:
        shapes.append((n_sequences, n_pos))
        return plain(number, n_sequences, n_pos)

    mixture.make_batch = stop  # type: ignore[method-assign, assignment]
    with pytest.raises(Stopped):
        train(RECIPE, mixture, tmp_path / "parts", CPU)
    mixture.make_batch = note  # type: ignore[method-assign, assignment]
    parts = train(RECIPE, mixture, tmp_path / "parts", CPU)
    assert shapes == [(4, N_POS)] * 5 + [(2, 2 * N_POS)]  # from the last state on; the eighth step is of longer ones
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
