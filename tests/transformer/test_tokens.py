"""Tokens, and the pieces that people read."""

import json
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
import torch
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import residscope as rs
from residscope.errors import BadTexts, BadTokenizer, EmptyPrompt, PromptTooLong, UnknownToken
from residscope.transformer.tokens import Tokenizer, read_tokenizer, wrap_tokenizer
from tests.models import byte_tokenizer, hf_tokenizer, shared_path

GPT2_CONFIG = {"bos_token_id": 50256, "eos_token_id": 50256}


@pytest.fixture(scope="module")
def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's real tokenizer, from its older files."""
    return read_tokenizer(shared_path("tokenizers/gpt2"), GPT2_CONFIG, 50257)


def test_old_gpt2_files_give_gpt2_tokens(gpt2_tokenizer: Tokenizer) -> None:
    # Published ids of GPT-2's tokenizer.
    assert gpt2_tokenizer.encode("Hello world") == [15496, 995]
    assert gpt2_tokenizer.single_token(" Mary") == 5335
    assert gpt2_tokenizer.encode("Hello", bos=True) == [50256, 15496]
    assert not gpt2_tokenizer.prepends_bos


def test_old_gpt2_files_tokenize_as_transformers_does(gpt2_tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).symlink_to(shared_path("tokenizers/gpt2") / name)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Hello  world\n\n", "<|endoftext|>It's 日本 1234", " naïve\t"):
        assert gpt2_tokenizer.encode(text) == theirs(text).input_ids
    assert gpt2_tokenizer.tokenize(["a<|endoftext|>"], n_ctx=9).special.tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a  b\n\tc", ["a", " ", " b", "\n", "\t", "c"]),
        ("naïve", ["na", "ïve"]),
        ("日", ["\\xe6\\x97", "\\xa5"]),
        (" 🙂", [" 🙂"]),
    ],
)
def test_pieces_are_text_and_split_characters_bytes(gpt2_tokenizer: Tokenizer, text: str, pieces: list[str]) -> None:
    tokens = gpt2_tokenizer.tokenize([text], n_ctx=50)
    assert tokens.pieces == [pieces]
    assert "\ufffd" not in "".join(pieces)
    assert tokens.texts == [text]


def test_stories_tokens(stories: rs.Model) -> None:
    tokens = stories.tokenize(["Once upon a time\n", "日"])
    assert tokens.pieces[0] == ["<s>", " Once", " upon", " a", " time", "\n"]
    assert tokens.pieces[1] == ["<s>", " ", "\\xe6", "\\x97", "\\xa5"]
    assert tokens.special.tolist() == [[True] + [False] * 5, [True] + [False] * 5]
    assert tokens.n_tokens.tolist() == [6, 5]
    assert tokens.mask.tolist()[1] == [True] * 5 + [False]
    assert tokens.has_bos
    assert not stories.tokenize("Once", bos=False).has_bos
    assert stories.tokenize("Once", bos=True).pieces == [["<s>", " Once"]]


def test_find_counts_occurrences_from_one_and_shows_how_a_text_splits(stories: rs.Model) -> None:
    tokens = stories.tokenize(["a time, a time", "upon a day a time"])
    assert tokens.find(" a").tolist() == [[1], [2]]
    assert tokens.find(" a", occurrence=2).tolist() == [[4], [4]]
    with pytest.raises(UnknownToken, match=r"has 0: <s>\| a\| time"):
        tokens.find("day")


def test_single_token(stories: rs.Model) -> None:
    assert stories.tokenizer.piece(stories.single_token(" time")) == " time"
    with pytest.raises(UnknownToken, match=r"'cherry' is \d+ tokens: "):
        stories.single_token("cherry")


@pytest.mark.parametrize("said", [True, False])
def test_bos_of_older_files_follows_the_settings_beside_them(tmp_path: Path, *, said: bool) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).symlink_to(shared_path("tokenizers/gpt2") / name)
    bos = {"__type": "AddedToken", "content": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos, "add_bos_token": said}))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    ours = read_tokenizer(tmp_path, GPT2_CONFIG, 50257)
    assert ours.prepends_bos is said
    assert ours.encode("x") == [50256] * said + [87]
    assert ours.encode("x") == AutoTokenizer.from_pretrained(tmp_path)("x").input_ids


def test_bos_of_tokenizer_json_follows_its_template(tmp_path: Path) -> None:
    backend = byte_tokenizer()
    for template, expected in (("$A", [87]), ("<|begin|> $A", [256, 87])):
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<|begin|>", 256)])
        backend.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<|begin|>", "add_bos_token": true}')
        ours = read_tokenizer(tmp_path, {}, 300)
        assert ours.encode("x") == expected
        assert ours.encode("x") == PreTrainedTokenizerFast.from_pretrained(tmp_path)("x").input_ids
        assert ours.encode("x", bos=True) == [256, 87]
        assert ours.encode("x", bos=False) == [87]


def test_a_letter_goes_before_the_byte_that_spells_it(stories: rs.Model) -> None:
    by_byte = 3 + ord("z")
    assert stories.tokenizer.piece(by_byte) == "z"
    assert stories.single_token("z") == stories.tokenize("az").lists()[0][-1] != by_byte


def test_tokenizer_without_bos() -> None:
    tokenizer = Tokenizer(byte_tokenizer(), 300, bos_id=None, eos_ids=frozenset())
    assert not tokenizer.tokenize(["x"], n_ctx=5).has_bos
    with pytest.raises(BadTokenizer, match="no beginning-of-sequence"):
        tokenizer.encode("x", bos=True)


def test_old_sentencepiece_file(tmp_path: Path, shared: Path) -> None:
    corpus = shared_path("corpora/frankenstein.txt")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}'
    )
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    ours = read_tokenizer(tmp_path, {"bos_token_id": 1}, 400)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("You will rejoice to hear", "日 and 🙂", "  two  spaces"):
        assert ours.encode(text) == theirs(text).input_ids
    assert ours.tokenize(["I saw 日"], n_ctx=20).pieces[0][-3:] == ["\\xe6", "\\x97", "\\xa5"]


def test_slow_or_missing_tokenizer_in_memory() -> None:
    with pytest.raises(BadTokenizer, match="tokenizer=NoneType was given"):
        wrap_tokenizer(None, {}, 300)


def test_padding_of_a_given_tokenizer_is_left_alone() -> None:
    theirs = hf_tokenizer()
    theirs.backend_tokenizer.enable_padding(length=9)
    ours = wrap_tokenizer(theirs, {}, 300)
    assert len(ours.encode("abc")) == 3
    assert theirs.backend_tokenizer.padding["length"] == 9


def test_bad_texts(stories: rs.Model) -> None:
    with pytest.raises(EmptyPrompt, match="The prompt is empty"):
        stories.tokenize("")
    with pytest.raises(EmptyPrompt, match="Text 1 is empty"):
        stories.tokenize(["x", ""])
    with pytest.raises(EmptyPrompt, match="No text was given"):
        stories.tokenize([])
    with pytest.raises(PromptTooLong, match=r"has 601 tokens, and the model's context is 512. Shorten it by 89"):
        stories.tokenize("a " * 599 + "a")
    with pytest.raises(PromptTooLong, match=r"has 50,000,000 characters, and no more than"):
        stories.tokenize("a" * 50_000_000)
    with pytest.raises(BadTexts, match="lone surrogates"):
        stories.tokenize("\ud800")
    with pytest.raises(BadTexts, match="token id 512"):
        stories.tokenize(torch.tensor([[1, 512]]))
    with pytest.raises(BadTexts, match=r"shape \[3\]"):
        stories.tokenize(torch.tensor([1, 2, 3]))


def test_added_tokens_beyond_the_vocabulary_are_refused_when_they_occur() -> None:
    backend = byte_tokenizer()
    backend.add_special_tokens([tokenizers.AddedToken(f"<{n}>") for n in range(100)])
    tokenizer = Tokenizer(backend, 300, bos_id=None, eos_ids=frozenset())
    assert tokenizer.tokenize(["<3>"], n_ctx=5).pieces == [["<3>"]]
    with pytest.raises(BadTexts, match="token id 347"):
        tokenizer.tokenize(["<90>"], n_ctx=5)
