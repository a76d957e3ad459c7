"""Writing on, token by token."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import residscope as rs
from residscope.errors import BadArgument, PromptTooLong
from tests.models import shared_path

PUBLISHED = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


def test_stories_writes_its_published_text(stories: rs.Model) -> None:
    begin = stories.tokenize(torch.tensor([[stories.tokenizer.bos_id]]))
    assert stories.generate(begin, n_tokens=60).texts[0].startswith(PUBLISHED)


def test_greedy_tokens_equal_transformers(stories: rs.Model) -> None:
    hf = AutoModelForCausalLM.from_pretrained(shared_path("models/stories260K"))
    prompts = ["Once upon a time", "Tom had a red ball. He"]
    written = stories.generate(prompts, n_tokens=100).lists()
    for prompt, ids in zip(prompts, written, strict=True):
        expected = hf.generate(stories.tokenize(prompt).ids, max_new_tokens=100, do_sample=False, pad_token_id=0)
        assert ids == expected[0].tolist()


@pytest.mark.parametrize("which", ["gpt2", "llama"])
def test_each_token_is_the_best_of_a_full_run(which: str, request: pytest.FixtureRequest) -> None:
    model: rs.Model = request.getfixturevalue(which)
    (ids,) = model.generate("hello", n_tokens=12).lists()
    for n in range(5, len(ids)):
        assert int(model.run(torch.tensor([ids[:n]])).at("logits", -1).argmax()) == ids[n]


def test_draws_follow_the_seed(stories: rs.Model) -> None:
    def write(seed: int) -> str:
        return stories.generate("Once", n_tokens=30, temperature=1.0, seed=seed).texts[0]

    assert write(1) == write(1)
    assert write(1) != write(2)
    cold = stories.generate("Once", n_tokens=30, temperature=1e-4).texts
    assert cold == stories.generate("Once", n_tokens=30).texts


def test_an_end_token_ends_a_text(stories: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stories.generate("Once upon", n_tokens=10).lists()[0]
    monkeypatch.setattr(stories.tokenizer, "eos_ids", frozenset({whole[6]}))
    assert stories.generate("Once upon", n_tokens=10).lists()[0] == whole[:7]


def test_what_does_not_fit_is_refused(gpt2: rs.Model) -> None:
    with pytest.raises(PromptTooLong, match=r"are 45, and the model's context is 40. Ask for 5 fewer"):
        gpt2.generate("hello", n_tokens=40)
    with pytest.raises(BadArgument):
        gpt2.generate("hello", n_tokens=-1)
    assert gpt2.generate("hello", n_tokens=0).texts == ["hello"]
