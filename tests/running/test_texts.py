"""Files of texts, corpora and progress."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import config

import residscope as rs
from residscope.errors import BadTexts, EmptyPrompt
from residscope.running.progress import Step
from residscope.running.texts import BATCH_TOKENS, describe_texts, read_texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\ntwo\n\nthree\n"),
        ("b.txt", "one\ntwo\n<|endoftext|>\nthree"),
        ("c.json", json.dumps(["one\ntwo", "three"])),
        ("d.jsonl", '{"text": "one\\ntwo"}\n\n{"text": "three", "id": 7}\n'),
    ],
)
def test_files_of_every_kind(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_texts(tmp_path / name) == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\n \n", "holds no text"),
        ("a.txt", b"\xff\xfe", "cannot be read as texts"),
        ("a.json", b'{"a": 1', "cannot be read as texts"),
        ("a.json", b"[1, 2]", "no list of strings"),
        ("a.jsonl", b'{"txt": "x"}', "cannot be read as texts"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadTexts, match=says):
        read_texts(tmp_path / name)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadTexts, match="cannot be read as texts"):
        read_texts(tmp_path / "nowhere.txt")


def test_sample_texts_fit_and_differ(stories: rs.Model) -> None:
    texts = read_texts(rs.demo.texts)
    assert len(set(texts)) == len(texts) == 204
    assert stories.corpus(texts).n_cut == 0


def test_a_corpus_is_cut_and_batched(gpt2: rs.Model) -> None:
    corpus = gpt2.corpus(["a" * 50, "b" * 40, "c"] + ["d" * 30] * 300)
    assert corpus.n_cut == 1
    batches = list(corpus.batches("x"))
    assert sum(len(batch.lists()) for batch in batches) == 303
    assert all(batch.ids.numel() <= BATCH_TOKENS for batch in batches)
    assert [batch.ids.shape[1] for batch in batches] == sorted([b.ids.shape[1] for b in batches], reverse=True)


@pytest.mark.parametrize("texts", ["one", ["one", "two"], torch.tensor([[1, 2], [3, 4]]), [[1, 2, 3], [4]]])
def test_described_texts_are_the_same_texts(gpt2: rs.Model, texts: object) -> None:
    again = eval(describe_texts(texts))  # type: ignore[arg-type]
    assert torch.equal(gpt2.tokenize(again).ids, gpt2.tokenize(texts).ids)  # type: ignore[arg-type]


def test_described_files_are_the_same_files(tmp_path: Path) -> None:
    assert eval(describe_texts(rs.demo.texts), {"Path": Path, "rs": rs}) == rs.demo.texts
    assert eval(describe_texts(tmp_path)) == tmp_path


def test_empty_corpus(gpt2: rs.Model) -> None:
    with pytest.raises(EmptyPrompt):
        gpt2.corpus([])


def test_progress_is_told_and_work_can_be_cancelled(gpt2: rs.Model) -> None:
    texts, steps = ["a" * 40] * 300, list[Step]()
    with rs.progress(steps.append):
        rs.pca(gpt2, [*texts, "b c"], "resid_pre.1")
    assert [step.done for step in steps] == list(range(steps[-1].total + 1))
    assert steps[-1].total == 3
    with rs.progress(lambda step: work.cancel()) as work, pytest.raises(rs.Cancelled, match="at 1 of 3"):
        rs.pca(gpt2, texts, "resid_pre.1")
    rs.pca(gpt2, [*texts, "b c"], "resid_pre.1")  # nothing is left of it
    assert len(steps) == 4


def test_tokens_of_another_model_are_checked(gpt2: rs.Model, stories: rs.Model) -> None:
    with pytest.raises(BadTexts, match="token id 403, and the model's vocabulary ends at 299"):
        gpt2.run(stories.tokenize("Once,"))
    assert gpt2.tokenize([[1, 2, 3], [4]]).n_tokens.tolist() == [3, 1]


def test_described_tokens_run_again(gpt2: rs.Model) -> None:
    tokens = gpt2.tokenize(["one", "three"])
    again = gpt2.tokenize(eval(describe_texts(tokens)))
    assert torch.equal(again.ids, tokens.ids)


@pytest.mark.parametrize(
    "texts",
    [
        [[1.7, 2.9]],
        [[True, False]],
        {"a": 1},
        None,
        5,
        [1, 2],
        [[1, "a"]],
        [[1, None]],
        [[[1, 2]]],
        b"text",
        {"a text"},
        pd.Series(["one", "two"]),
        np.ones((1, 2)),
        np.array([[True]]),
        np.array([1, 2]),
        [np.ones(2)],
        [np.ones((2, 2), dtype=int)],
        torch.tensor([[True]]),
    ],
    ids=repr,
)
def test_what_is_no_text_is_refused(gpt2: rs.Model, texts: Any) -> None:
    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    with pytest.raises(BadTexts, match="Give "):
        gpt2.run(texts)
    with pytest.raises(BadTexts, match="Give "):
        gpt2.corpus(texts)


@pytest.mark.parametrize(
    "texts",
    [
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=np.uint8),
        [np.array([1, 2]), np.array([3, 4])],
        [torch.tensor([1, 2]), [3, 4]],
        [[np.int64(1), 2], (3, 4)],
    ],
    ids=repr,
)
def test_whole_numbers_of_any_kind_are_ids(gpt2: rs.Model, texts: Any) -> None:
    assert gpt2.tokenize(texts).lists() == [[1, 2], [3, 4]]
    assert describe_texts(texts) == "[[1, 2], [3, 4]]"
