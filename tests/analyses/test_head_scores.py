"""Head scores equal TransformerLens's, and mean what they say on patterns that are known."""

import inspect
import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.analyses.head_scores import SCORES, draw_repeated, find_own_token, measure_pattern
from residscope.errors import BadArgument, BadTokenizer
from residscope.transformer.circuits import read_ov
from tests.models import family_model, own_state, shared_path


def test_attention_scores_equal_transformer_lens() -> None:
    oracle = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    model = rs.load(shared_path("reference/oracle_gpt2/checkpoint"))
    run = model.run(torch.tensor(oracle["repeated_tokens"]), keep="pattern")
    n_tokens = run.tokens.ids.shape[1] // 2
    for layer in range(model.config.n_layers):
        found = measure_pattern(run[f"pattern.{layer}"], n_tokens, 0).mean(1)
        for row, name in enumerate(("previous_token", "duplicate_token", "induction")):
            torch.testing.assert_close(found[row], torch.tensor(oracle[name][layer]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(("score", "back"), [("previous_token", 1), ("duplicate_token", 5), ("induction", 4)])
def test_a_head_that_always_looks_there_has_a_score_of_one(score: str, back: int, start: int) -> None:
    n = 10 + start
    pattern = torch.zeros(2, 1, n, n)
    for query in range(n):
        pattern[:, :, query, query - back if query - start >= back else 0] = 1
    found = dict(zip(SCORES, measure_pattern(pattern, 5, start), strict=False))
    assert (found[score] == 1).all()
    assert (found["entropy"] == 0).all()
    assert all(
        (found[other] < 0.5).all() for other in ("previous_token", "duplicate_token", "induction") if other != score
    )


def test_even_attention_has_the_entropy_of_its_keys() -> None:
    even = torch.ones(1, 1, 6, 6).tril()
    even = even / even.sum(-1, keepdim=True)
    expected = torch.arange(2, 7).log().mean()
    torch.testing.assert_close(measure_pattern(even, 3, 0)[4], expected[None, None])
    torch.testing.assert_close(measure_pattern(even, 3, 0)[3], (1 / torch.arange(2, 7)).mean()[None, None])


@pytest.mark.parametrize("read", ["embed", "layer0"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "olmo2", "gemma2"])
def test_copying_is_of_the_whole_matrix_from_token_to_logit(family: str, read: Literal["embed", "layer0"]) -> None:
    model = family_model(family)
    weights, c = model.weights, model.config
    scores = rs.head_scores(model, n_tokens=4, n_sequences=3, read=read)
    asked = draw_repeated(model, 3, 4, 0, with_bos=scores.settings["has_bos"])[:, -4:]
    after = torch.ones(c.d_model)  # what a norm after attention makes of a head's part, its scale apart
    if c.post_norm:
        after = c.norm_offset + weights["attn_norm_post_w.1"]
    tokens = weights["W_E"]
    if read == "layer0":
        start = [model.tokenizer.bos_id] if scores.settings["has_bos"] else []
        alone = [model.run(torch.tensor([[*start, token]])).at("resid_pre.1", -1) for token in range(c.d_vocab)]
        tokens = torch.cat(alone)
    values = weights.folded("W_V.1", centre=True).weight.repeat_interleave(c.n_heads // c.n_kv_heads, dim=0)
    unembed = weights.folded("W_U", centre=True).weight
    for head in range(c.n_heads):
        whole = tokens.double() @ values[head].double() @ (weights["W_O.1"][head] * after).double() @ unembed.double()
        eigenvalues = torch.linalg.eigvals(whole)
        expected = eigenvalues.sum().real / eigenvalues.abs().sum()
        torch.testing.assert_close(scores["copying"][1, head], expected, rtol=0, atol=1e-6)
        among = [[token in whole[token].topk(5).indices for token in row] for row in asked]
        shares = torch.tensor(among).to(scores.values).mean(1)
        torch.testing.assert_close(scores["own_token"][1, head], shares.mean())
        number = list(scores.scores).index("own_token")
        torch.testing.assert_close(scores.errors[number, 1, head], shares.std() / 3**0.5)


def test_a_copying_head_copies() -> None:
    config = rs.Config(n_layers=1, d_model=16, n_heads=2, d_mlp=0, d_vocab=16, n_ctx=8, norm=None)
    model = rs.load(own_state(config), config=config, dtype="float64")
    with torch.no_grad():
        block: Any = model.transformer.blocks[0]
        model.transformer.embedding.weight.copy_(torch.eye(16))
        model.transformer.unembedding.weight.copy_(torch.eye(16))
        for head, sign in enumerate((1.0, -1.0)):
            own = slice(8 * head, 8 * head + 8)
            block.attn.v.weight[own] = torch.eye(16)[own]
            block.attn.o.weight[:, own] = sign * torch.eye(16)[:, own]
    scores = rs.head_scores(model, n_tokens=4)
    torch.testing.assert_close(scores["copying"][0], torch.tensor([1.0, -1.0]).double())
    ids = torch.arange(16).view(2, 8)  # the first head reads one half of the tokens, the other the other
    circuit = read_ov(model.weights, model.config, 0)
    shares = find_own_token(*circuit, torch.eye(16).double(), torch.eye(16).double(), ids)
    assert shares.tolist() == [[1.0, 1.0], [1.0, 0.0]]  # what a head does not see, it promotes as it does all others


def test_scores_are_means_over_drawn_sequences(gpt2: rs.Model, tmp_path: Path) -> None:
    found = rs.head_scores(gpt2, n_sequences=5, n_tokens=6, seed=3)
    again = rs.head_scores(gpt2, n_sequences=5, n_tokens=6, seed=3)
    assert torch.equal(found.values, again.values)
    assert not torch.equal(found.values, rs.head_scores(gpt2, n_sequences=5, n_tokens=6, seed=4).values)
    assert found.values.shape == (7, 3, 4)
    assert found.errors[-1].isnan().all()
    assert (found.errors[:-2] > 0).all()
    layer, head, value = found.best("induction")
    assert value == float(found["induction"][layer, head]) == float(found["induction"].max())
    frame = found.to_frame()
    assert list(frame.columns) == ["score", "layer", "head", "error", "value"]
    assert frame["score"].nunique() == 7
    found.save(tmp_path / "scores")
    assert torch.equal(rs.open(tmp_path / "scores").values[:-1], found.values[:-1])
    with pytest.raises(BadArgument, match=r"score='inductive' was asked for. Choose 'previous_token'"):
        found["inductive"]


def test_special_tokens_are_left_out(stories: rs.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rs.head_scores(stories, n_tokens=10)
    assert found.settings["has_bos"]
    assert not rs.head_scores(stories, n_tokens=10, bos=False).settings["has_bos"]
    seen: list[Tensor] = []
    plain = stories.run

    def watched(texts: Tensor, **options: Any) -> rs.Run:
        seen.append(texts)
        return plain(texts, **options)

    monkeypatch.setattr(stories, "run", watched)
    rs.head_scores(stories, n_tokens=10)
    ids = seen[0]
    assert torch.equal(ids[:, 0], torch.full((8,), stories.tokenizer.bos_id or 0))
    assert torch.equal(ids[:, 1:11], ids[:, 11:])
    assert not torch.isin(ids[:, 1:], torch.tensor(sorted(stories.tokenizer.special_ids))).any()


def test_what_does_not_fit(gpt2: rs.Model) -> None:
    for n_tokens in (1, 21):
        with pytest.raises(BadArgument, match=f"n_tokens={n_tokens} was asked for. .*the context is 40: take 2 to "):
            rs.head_scores(gpt2, n_tokens=n_tokens)
    with pytest.raises(BadArgument, match=r"n_sequences=1 was asked for. Give a whole number from 2 on"):
        rs.head_scores(gpt2, n_sequences=1, n_tokens=5)
    with pytest.raises(BadArgument, match="Choose 'embed' or 'layer0'"):
        inspect.unwrap(rs.head_scores)(gpt2, read="layer1")  # without the tests' own check of its arguments
    config = rs.Config(n_layers=1, d_model=16, n_heads=2, d_mlp=0, d_vocab=16, n_ctx=8)
    nameless = rs.load(own_state(config), config=config)
    with pytest.raises(BadTokenizer, match="no beginning-of-sequence"):
        rs.head_scores(nameless, bos=True, n_tokens=3)
