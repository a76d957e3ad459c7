"""What is given to analyses in place of runs, models, words and numbers: each is refused in one sentence, or meant."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import config

import residscope as rs
from residscope.errors import BadArgument

TEXT = "When John and Mary went to the shops, John gave the bag to"
METRIC = rs.logit_difference(" Mary", " John")

RUNS: list[Callable[[Any], rs.Result]] = [
    rs.logit_lens,
    rs.attention,
    lambda run: rs.attribute(run, METRIC),
    lambda run: rs.next_tokens(run, " Mary"),
    lambda run: rs.compare(run, run),
]
MODELS: list[Callable[[Any], rs.Result]] = [
    rs.head_scores,
    lambda model: rs.composition(model, "Q"),
    lambda model: rs.singular_vectors(model, "W_in", layer=0),
    lambda model: rs.path_patch(model, rs.demo.pairs("ioi", 2), receivers="logits"),
    lambda model: rs.patch(model, rs.demo.pairs("ioi", 2), site="z"),
    lambda model: rs.ablate_head(model, TEXT, layer=0, head=0, metric=METRIC),
    lambda model: rs.ablate_layer(model, TEXT, layer=0, part="mlp", metric=METRIC),
    lambda model: rs.vocabulary(torch.ones(2048), model=model),
]
ID = "token={}.* was asked for. Give the text of one token, or an id from 0 to 2047"
GIVEN: list[tuple[Callable[[rs.Model, Any], object], str]] = [
    (lambda m, r: rs.vocabulary(r, tokens=2.5), ID.format("2.5")),  # type: ignore[arg-type]
    (lambda m, r: rs.next_tokens(r, None), ID.format("None")),  # type: ignore[arg-type]
    (lambda m, r: rs.next_tokens(r, 1.5), ID.format("1.5")),  # type: ignore[arg-type]
    (lambda m, r: rs.next_tokens(r, True), ID.format("True")),
    (lambda m, r: rs.next_tokens(r, [" Mary", " John"]), "2 tokens were given for 1 text. Give one"),
    (lambda m, r: rs.logit_lens(r, target=None), ID.format("None")),  # type: ignore[arg-type]
    (lambda m, r: rs.logit_lens(r, target=5.5), ID.format("5.5")),  # type: ignore[arg-type]
    (lambda m, r: rs.logit_lens(r, value=["prob"]), r"value=\['prob'\] was asked for. Choose 'prob', 'logit'"),  # type: ignore[arg-type]
    (lambda m, r: rs.attribute(r, METRIC, by=["head"]), r"by=\['head'\] was asked for. Choose 'component'"),  # type: ignore[arg-type]
    (lambda m, r: rs.composition(m, ["Q"]), r"kind=\['Q'\] was asked for. Choose 'Q', 'K' or 'V'"),  # type: ignore[arg-type]
    (lambda m, r: rs.head_scores(m, n_sequences=2.5), "n_sequences=2.5 was asked for"),  # type: ignore[arg-type]
    (lambda m, r: rs.head_scores(m, n_tokens="a"), "n_tokens='a' was asked for. They are said twice"),  # type: ignore[arg-type]
    (lambda m, r: rs.head_scores(m, seed="a"), "seed='a' was asked for"),  # type: ignore[arg-type]
    (lambda m, r: rs.head_scores(m, seed=10**30), "seed=10{30} was asked for. Give a whole number of at most 63 bits"),
    (lambda m, r: rs.head_scores(m, bos="x"), "bos='x' was asked for. Give 'auto', True or False"),  # type: ignore[arg-type]
    (lambda m, r: rs.head_scores(m, bos=None), "bos=None was asked for"),  # type: ignore[arg-type]
    (lambda m, r: rs.head_mosaic([]), r"\[\] was given as scores. Give a dict"),  # type: ignore[arg-type]
    (lambda m, r: rs.head_mosaic({"a": 3}), "{'a': 3} was given as scores"),  # type: ignore[dict-item]
]


@pytest.fixture(autouse=True)
def _as_if_annotations_were_not_checked() -> None:
    config.update("jaxtyping_disable", True)


@pytest.mark.parametrize("call", RUNS)
def test_what_is_no_run(call: Callable[[Any], rs.Result]) -> None:
    with pytest.raises(BadArgument, match=r"A str was given as a run\. Give what model\.run gives\."):
        call(TEXT)


@pytest.mark.parametrize("call", MODELS)
def test_what_is_no_model(call: Callable[[Any], rs.Result]) -> None:
    with pytest.raises(BadArgument, match=r"A str was given as a model\. Give what rs\.load gives\."):
        call("demo")


@pytest.mark.parametrize(("call", "says"), GIVEN, ids=[says[:40] for _, says in GIVEN])
def test_what_is_meant_by_nothing(call: Callable[[rs.Model, Any], object], says: str, demo: rs.Model) -> None:
    with pytest.raises(BadArgument, match=says):
        call(demo, demo.run(TEXT))


def test_a_level_that_is_no_number(demo: rs.Model) -> None:
    found = rs.ablate_head(demo, [TEXT, TEXT], layer=0, head=0, metric=METRIC)
    with pytest.raises(BadArgument, match="An interval of 'a' over 2 texts was asked for"):
        found.interval("a")  # type: ignore[arg-type]


def test_a_token_may_be_any_whole_number_and_is_told_by_its_text(demo: rs.Model, tmp_path: Any) -> None:
    run, mary = demo.run(TEXT), demo.single_token(" Mary")
    given: list[Any] = [" Mary", mary, np.int64(mary), torch.tensor(mary), torch.tensor([mary]), [mary], [" Mary"]]
    for one in given:
        lens, answered = rs.logit_lens(run, target=one), rs.next_tokens(run, one)
        assert lens.settings["target"] == " Mary"
        for found in (lens, answered):
            found.save(tmp_path / "found")
            assert rs.open(tmp_path / "found").to_json() == found.to_json()
            space: dict[str, Any] = {"rs": rs, "model": demo}
            exec(found.python[-2], space)
            assert eval(found.python[-1], space).to_json() == found.to_json()
    assert "target=' Mary'" in rs.logit_lens(run, target=mary).python[-1]
    several = rs.logit_lens(demo.run([TEXT, TEXT]), target=[" Mary", " John"])
    assert several.settings["target"] == [" Mary", " John"]


def test_every_result_of_an_edited_run_says_so(demo: rs.Model) -> None:
    edit = rs.scale("resid_pre.2", 0.5)
    plain, edited = demo.run(TEXT), demo.run(TEXT, edits=edit)
    calls: list[Callable[[rs.Run], rs.Result]] = [
        rs.logit_lens,
        rs.attention,
        rs.vocabulary,
        lambda run: rs.attribute(run, METRIC),
        lambda run: rs.next_tokens(run, " Mary"),
        lambda run: rs.ablate_head(demo, run, layer=3, head=0, metric=METRIC),
        lambda run: demo.sweep(run, [edit], METRIC),
    ]
    for call in calls:
        before, after = call(plain), call(edited)
        assert before.settings["edits"] == []
        assert after.settings["edits"] == [repr(edit)]
        assert "edited" not in before.name
        assert "edited" in after.name
    both = rs.compare(plain, edited)
    assert both.settings["edits"] == [[], [repr(edit)]]
    assert both.name == "what changed in demo, edited from demo"
    assert rs.next_tokens(plain, " Mary").settings["answer"] == " Mary"


def test_the_python_of_patched_tasks_is_short(demo: rs.Model) -> None:
    pairs = rs.demo.pairs("ioi", n=2)
    for found in (rs.patch(demo, pairs, site="attn_out", pos="end"), rs.path_patch(demo, pairs, receivers="logits")):
        assert "(model, rs.demo.pairs('ioi', n=2), " in found.python[-1]


def test_a_mosaic_imports_once(demo: rs.Model) -> None:
    scores = rs.head_scores(demo, n_sequences=2, n_tokens=4)
    lines = rs.head_mosaic({"a": scores, "b": scores}).python
    assert lines.count("import residscope as rs") == 1
    space: dict[str, Any] = {}
    exec("\n".join(lines[:-1]), space)
    assert eval(lines[-1], space).models == ["a", "b"]
