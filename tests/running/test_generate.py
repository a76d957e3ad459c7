"""Writing on, token by token."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import residscope as rs
from residscope.errors import BadArgument, PromptTooLong, UnknownToken
from residscope.transformer.families import FAMILIES
from residscope.transformer.rotary import Rotary
from tests.models import own_model, random_model, save, shared_path

PUBLISHED = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


def test_stories_writes_its_published_text(stories: rs.Model) -> None:
    begin = stories.tokenize(torch.tensor([[stories.tokenizer.bos_id]]))
    assert stories.generate(begin, n_tokens=60).texts[0].startswith(PUBLISHED)


@pytest.mark.slow
def test_greedy_tokens_equal_transformers(stories: rs.Model) -> None:
    hf = AutoModelForCausalLM.from_pretrained(shared_path("models/stories260K"))
    prompts = ["Once upon a time", "Tom had a red ball. He"]
    written = stories.generate(prompts, n_tokens=100).lists()
    for prompt, ids in zip(prompts, written, strict=True):
        expected = hf.generate(stories.tokenize(prompt).ids, max_new_tokens=100, do_sample=False, pad_token_id=0)
        assert ids == expected[0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_of_every_family_equal_transformers(family: str) -> None:
    hf, tokenizer = random_model(family, eos_token_id=None)
    prompt = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(1))
    (written,) = rs.load(hf, tokenizer=tokenizer).generate(prompt, n_tokens=24).lists()
    assert written == hf.generate(prompt, max_new_tokens=24, do_sample=False, pad_token_id=0)[0].tolist()


@pytest.mark.parametrize("which", ["gpt2", "llama"])
def test_each_token_is_the_best_of_a_full_run(which: str, request: pytest.FixtureRequest) -> None:
    model: rs.Model = request.getfixturevalue(which)
    (ids,) = model.generate("hello", n_tokens=12).lists()
    for n in range(5, len(ids)):
        assert int(model.run(torch.tensor([ids[:n]])).at("logits", -1).argmax()) == ids[n]


def test_draws_follow_the_seed(stories: rs.Model) -> None:
    def write(seed: int) -> str:
        return stories.generate("Once", n_tokens=12, temperature=1.0, seed=seed).texts[0]

    assert write(1) == write(1)
    assert write(1) != write(2)
    cold = stories.generate("Once", n_tokens=12, temperature=1e-4).texts
    assert cold == stories.generate("Once", n_tokens=12).texts


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


def test_a_text_ends_with_any_token_that_the_generation_config_names(tmp_path: Path) -> None:
    hf, tokenizer = random_model("gpt2", eos_token_id=None)
    whole = rs.load(hf, tokenizer=tokenizer).generate("abc", n_tokens=12).lists()[0]
    end = whole[8]
    first = whole.index(end, 3)
    hf.generation_config.eos_token_id = [299, end]
    assert rs.load(hf, tokenizer=tokenizer).generate("abc", n_tokens=12).lists()[0] == whole[: first + 1]
    written = rs.load(save(hf, tmp_path)).generate("abc", n_tokens=12).lists()[0]
    assert written == whole[: first + 1]
    with torch.no_grad():
        theirs = hf.generate(torch.tensor([whole[:3]]), max_new_tokens=12, do_sample=False, pad_token_id=0)[0].tolist()
    assert theirs == written


LONG = "and another one that is"
STEERING: list[tuple[str, Any]] = [
    ("everywhere", lambda v: [rs.add("resid_pre.1", v, 2.0)]),
    ("once", lambda v: [rs.add("resid_pre.1", v, 3.0, pos=2)]),
    ("at the end", lambda v: [rs.add("mlp_out.0", v, 3.0, pos=-1)]),
    ("of each text", lambda v: [rs.add("attn_out.1", v, 3.0, pos=torch.tensor([[1], [0], [4]]))]),
    ("newest", lambda v: [rs.add("resid_pre.2", v, 3.0, pos="new")]),
    ("heads", lambda v: [rs.ablate("z.1", head=1), rs.scale("mlp_act.0", 2.0, neuron=[3, 5], pos="new")]),
    ("noise", lambda v: [rs.noise("resid_pre.1", 0.7, seed=4), rs.noise("scores.2", 0.5, seed=5, pos=[0, -1])]),
    ("knockout from the end", lambda v: [rs.knockout("pattern.1", key=[-1, -2], query="new")]),
    ("resample everywhere", lambda v: [rs.ablate("mlp_out.1", "resample", texts=["a text that is long enough", LONG])]),
    ("knockout", lambda v: [rs.knockout("pattern.1", key=0, query=-1), rs.knockout("pattern.2", key=1, query="new")]),
    (
        "a function",
        lambda v: [rs.apply("resid_pre.1", lambda x: x + 0.3 * x.cumsum(1)), rs.apply("scores.1", lambda x: 2 * x)],
    ),
    (
        "mean",
        lambda v: [rs.ablate("z.1", "mean", texts=["abcdef", "ghi"], head=2), rs.ablate("mlp_out.0", "mean", pos=-1)],
    ),
    ("resample", lambda v: [rs.ablate("resid_pre.1", "resample", seed=2, pos=0)]),
]


@pytest.mark.parametrize("which", ["gpt2", "llama"])
@pytest.mark.parametrize("name", [name for name, _ in STEERING])
def test_writing_under_edits_equals_full_runs_token_by_token(
    which: str, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: rs.Model = request.getfixturevalue(which)
    monkeypatch.setattr(model.tokenizer, "eos_ids", frozenset())
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0)).double()
    edits: list[rs.Edit] = dict(STEERING)[name](vector)
    prompts = ["hello", "abc", "a longer one"]
    lengths = torch.tensor([5, 3, 12])
    written = model.generate(prompts, n_tokens=6, edits=edits)
    assert written.lists() != model.generate(prompts, n_tokens=6).lists()
    for step in range(6):
        now = [ids[: n + step] for ids, n in zip(written.lists(), lengths.tolist(), strict=True)]
        expected = [ids[n + step] for ids, n in zip(written.lists(), lengths.tolist(), strict=True)]
        run = model.run(now, edits=[one for edit in edits for one in at_step(edit, lengths, step, prompts)])
        assert run.at("logits", -1).argmax(-1).tolist() == expected


def at_step(edit: rs.Edit, lengths: torch.Tensor, step: int, prompts: list[str]) -> list[rs.Edit]:
    """The edit as a full run of prompt and new tokens has it."""
    arguments, pos = dict(edit.arguments), edit.arguments.get("pos")
    if isinstance(pos, str):
        if not step:
            return []
        arguments["pos"] = lengths[:, None] + torch.arange(step)
    elif isinstance(pos, (int, list)):
        asked = torch.tensor(pos if isinstance(pos, list) else [pos])
        arguments["pos"] = torch.where(asked < 0, asked + lengths[:, None], asked.expand(3, -1))
    if "key" in arguments:
        asked = torch.tensor(arguments["key"] if isinstance(arguments["key"], list) else [arguments["key"]])
        arguments["key"] = torch.where(asked < 0, asked + lengths[:, None], asked.expand(3, -1))
    if arguments.get("with_") == "mean":
        arguments.setdefault("texts", prompts)
    return [rs.Edit(edit.name, edit.sites, arguments)]


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_edits_stay_where_they_are_when_all_angles_change(kind: str) -> None:
    """Past a length all keys turn anew, and what was edited before is edited again."""
    factors = {"short_factors": (1.0, 1.0), "long_factors": (2.0, 4.0)} if kind == "longrope" else {}
    rotary = Rotary(kind, 4, 100.0, 8, factor=2.0, **factors)  # type: ignore[arg-type]
    facts: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_mlp": 24, "d_vocab": 300, "n_ctx": 16}
    model = own_model(rs.Config(**facts, rotary=rotary), dtype=torch.float64)
    other = model.run("HELLO")
    edits = [
        rs.replace("scores.0", other, pos=[2, -1]),
        rs.add("resid_pre.1", 0.5, pos=1),
        rs.knockout("pattern.1", key=0, query=-1),
    ]
    (ids,) = model.generate("hello", n_tokens=8, edits=edits).lists()
    for n in range(5, 13):
        wide = {"scores.0": torch.nn.functional.pad(other["scores.0"], (0, n - 5, 0, n - 5))}
        full = [rs.replace("scores.0", wide, pos=[2, 4]), edits[1], rs.knockout("pattern.1", key=0, query=4)]
        assert int(model.run(torch.tensor([ids[:n]]), edits=full).at("logits", -1).argmax()) == ids[n]


def test_what_does_not_fit_is_refused_before_anything_is_written(gpt2: rs.Model) -> None:
    steps: list[Any] = []
    with rs.progress(steps.append):
        for edit in (
            rs.add("resid_pre.1", torch.ones(3).double()),
            rs.add("resid_pre.1", 1.0, pos=4),
            rs.replace("resid_pre.1", gpt2.run(["hello", "abc"])),
            rs.replace("resid_pre.1", gpt2.run("abc"), pos=0),
            rs.add("resid_pre.1", 1.0, pos=torch.zeros(3, 1).long()),
            rs.add("resid_pre.9", 1.0, pos="new"),
        ):
            with pytest.raises(rs.ResidscopeError):
                gpt2.generate(["hello", "abc"], n_tokens=4, edits=edit)
        assert not steps
        for edit in (  # five tokens and three more have no mean and no donor of seven
            rs.ablate("z.1", "mean", by="pos", texts=["seven.."]),
            rs.ablate("z.1", "resample", texts=["seven.."]),
        ):
            with pytest.raises(rs.ResidscopeError):
                gpt2.generate(["hello", "abc"], n_tokens=4, edits=edit)
    assert {step.what for step in steps} == {"averaging"}


def test_every_text_has_draws_of_its_own(stories: rs.Model) -> None:
    written = stories.generate(["Tom saw"] * 3, n_tokens=20, temperature=1.0, seed=3).lists()
    assert len({tuple(ids) for ids in written}) == 3
    assert written[:1] == stories.generate("Tom saw", n_tokens=20, temperature=1.0, seed=3).lists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("n_tokens", value) for value in (2.5, "2", None, True, -1)),
        *(("temperature", value) for value in (float("nan"), float("inf"), "hot", None, True, -1.0)),
        *(("seed", value) for value in (None, 1.5, "x", 2**70, -(2**70))),
    ],
)
def test_an_argument_of_no_such_value_is_refused(gpt2: rs.Model, name: str, value: Any) -> None:
    with pytest.raises(BadArgument, match=f"{name}={re.escape(repr(value))} was asked for. Give "):
        gpt2.generate("abc", **{"n_tokens": 2, name: value})


def test_seeds_are_any_whole_number_that_torch_takes(gpt2: rs.Model) -> None:
    for seed in (-(2**63), -1, 2**63 - 1):
        gpt2.generate(["abc", "abd"], n_tokens=1, temperature=1.0, seed=seed)


@pytest.mark.parametrize("text", [5, None, ["a"]])
def test_what_is_no_text_is_no_token(gpt2: rs.Model, text: Any) -> None:
    with pytest.raises(UnknownToken, match="Give a string"):
        gpt2.single_token(text)
