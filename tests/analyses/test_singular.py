"""Singular vectors are those of the full matrices, and tokens lie along them as the model's own numbers say."""

import inspect
import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.errors import BadArgument, UnknownWeight
from tests.analyses.test_composition import full_matrices, model_of, plain
from tests.models import OWN, shared_path

MODELS = ["gpt2", "llama", "qwen3", "gemma2", "olmo2", "layer norms after", "layer-normed heads", "SoLU"]
Head = Literal["OV", "QK"]
MLP = Literal["W_in", "W_gate", "W_out"]


def full_mlp(model: rs.Model, matrix: MLP, layer: int) -> Tensor:
    """Its matrix between stream and neurons, [d_model d_mlp], from the modules themselves, norms without scales."""
    block: Any = model.transformer.blocks[layer]

    if matrix == "W_out":
        hidden = plain(block.mlp.norm, torch.eye(model.config.d_mlp, dtype=torch.float64))
        return plain(block.ln2_post, hidden @ block.mlp.down.weight.T).detach().T
    project = block.mlp.gate if matrix == "W_gate" else block.mlp.up
    read: Tensor = plain(block.ln2, torch.eye(model.config.d_model, dtype=torch.float64)) @ project.weight.T
    return read.detach()


def assert_tokens(found: rs.SingularVectors, side: int, everywhere: Tensor) -> None:
    """Values are the largest of what each component gives to all tokens, [component d_vocab]."""
    expected = everywhere.topk(found.values.shape[-1])
    torch.testing.assert_close(found.values[side], expected.values, rtol=0, atol=1e-9)
    torch.testing.assert_close(everywhere.gather(1, found.token_ids[side]), expected.values)


def logits_of(model: rs.Model, vectors: Tensor) -> Tensor:
    """What the model's own final norm and unembedding give each vector, scale and biases apart."""
    unembed = model.transformer.unembedding.weight.detach()
    logits = plain(model.transformer.ln_final, vectors) @ unembed.T
    return logits if model.config.logit_cap else logits - logits.mean(-1, keepdim=True)


@pytest.mark.parametrize("matrix", ["OV", "QK"])
@pytest.mark.parametrize("name", MODELS)
def test_of_a_head_they_are_those_of_the_full_matrix(name: str, matrix: Head) -> None:
    model = model_of(name)
    found = rs.singular_vectors(model, matrix, layer=1, head=2, n=5, top=7)
    whole = full_matrices(model, 1)[matrix == "QK"][2]
    scales = torch.linalg.svdvals(whole)[:5]
    torch.testing.assert_close(found.singular_values, scales)
    first, second = found.vectors
    for vectors in (first, second):
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(5).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(first @ whole, scales[:, None] * second, rtol=0, atol=1e-9)
    embed = model.weights["W_E"]
    seen = [side @ embed.T for side in (first, second)]
    seen = [one - one.mean(-1, keepdim=True) for one in seen]
    assert_tokens(found, 0, seen[0])
    last = logits_of(model, second) if matrix == "OV" else seen[1]
    assert_tokens(found, 1, last)
    assert (last.max(1).values >= -last.min(1).values).all()  # the furthest token is on the positive end


@pytest.mark.parametrize("matrix", ["W_in", "W_gate", "W_out"])
@pytest.mark.parametrize("name", MODELS)
def test_of_an_mlp_they_are_those_of_the_full_matrix(name: str, matrix: MLP) -> None:
    model = model_of(name)
    if matrix == "W_gate" and not model.config.gated:
        with pytest.raises(UnknownWeight, match="nearest names"):
            rs.singular_vectors(model, matrix, layer=2)
        return
    found = rs.singular_vectors(model, matrix, layer=2, n=5, top=7)
    whole = full_mlp(model, matrix, 2)
    torch.testing.assert_close(found.singular_values, torch.linalg.svdvals(whole)[:5])
    (vectors,) = found.vectors
    torch.testing.assert_close((vectors @ whole).norm(dim=1), found.singular_values)
    torch.testing.assert_close(vectors @ whole @ whole.T, found.singular_values[:, None] ** 2 * vectors)
    seen = vectors @ model.weights["W_E"].T
    everywhere = logits_of(model, vectors) if matrix == "W_out" else seen - seen.mean(-1, keepdim=True)
    assert_tokens(found, 0, everywhere)
    assert found.sides == (("out",) if matrix == "W_out" else ("in",))


def test_a_head_that_writes_one_token_for_another() -> None:
    model = model_of("no norm")
    state = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    state["embedding.weight"] = torch.eye(300, 32).double()
    state["unembedding.weight"] = torch.eye(300, 32).double()
    state["blocks.0.attn.v.weight"][:8], state["blocks.0.attn.o.weight"][:, :8] = 0, 0
    state["blocks.0.attn.v.weight"][0, 3], state["blocks.0.attn.o.weight"][7, 0] = 2, -5  # reads 3, lowers 7
    changed = rs.load(state, config=model.config, dtype="float64")
    found = rs.singular_vectors(changed, "OV", layer=0, head=0, n=1, top=300)
    assert found.singular_values.item() == pytest.approx(10)
    assert found.token_ids[1, 0, 0] == 7  # the positive end is where the token stands out,
    assert found.token_ids[0, 0, -1] == 3  # so that what is read lies on the negative one


@pytest.mark.parametrize("name", ["gpt2", "gemma2", *OWN])
def test_the_unembedding_bias_with_the_norm_folded_is_what_a_stream_of_nothing_says(name: str) -> None:
    model = model_of(name)
    bias = model.weights.folded("W_U").bias
    assert bias.shape == (model.config.d_vocab,)
    last = model.config.n_layers - 1
    run = model.run(torch.tensor([[1, 2]]), edits=rs.replace(f"resid_post.{last}", 0.0))
    torch.testing.assert_close(model.transformer.cap_logits(bias), run.logits[0, 0], rtol=0, atol=1e-12)


def test_the_unembedding_bias_is_transformer_lens_s() -> None:
    oracle = json.loads(shared_path("reference/oracle_gpt2/oracle.json").read_text())
    bias = rs.load(shared_path("reference/oracle_gpt2/checkpoint")).weights.folded("W_U").bias
    correct, wrong = torch.tensor(oracle["answers_correct_wrong"]).T
    expected = torch.tensor(oracle["attribution_component"]["unembedding_bias"])
    torch.testing.assert_close(bias[correct] - bias[wrong], expected, rtol=0, atol=1e-4)


def test_it_is_a_result(gpt2: rs.Model, tmp_path: Path) -> None:
    found = rs.singular_vectors(gpt2, "OV", layer=1, head=0, n=2, top=3)
    frame = found.to_frame()
    columns = ["side", "component", "singular_value", "top", "token_id", "token", "value"]
    assert list(frame.columns) == columns
    assert list(frame["side"]) == ["in"] * 6 + ["out"] * 6
    row = frame.iloc[8]
    assert (row["component"], row["top"]) == (0, 2)
    assert row["token_id"] == found.token_ids[1, 0, 2]
    assert row["token"] == gpt2.tokenizer.piece(int(row["token_id"])) == found.texts[1][0][2]
    assert row["singular_value"] == found.singular_values[0]
    found.save(tmp_path / "vectors")
    again = rs.open(tmp_path / "vectors")
    assert again.to_frame().equals(frame)
    assert found.python[-1] == "rs.singular_vectors(model, 'OV', layer=1, head=0, n=2, top=3)"
    of_mlp = rs.singular_vectors(gpt2, "W_in", layer=0, n=1, top=1)
    assert of_mlp.python[-1] == "rs.singular_vectors(model, 'W_in', layer=0, n=1, top=1)"
    assert of_mlp.name.startswith("singular vectors of W_in of layer 0 of ")


@pytest.mark.parametrize(
    ("matrix", "options", "says"),
    [
        ("OV", {}, "OV was asked for, and no head. Say of which: head=0 to 3"),
        ("QK", {"head": 4}, "head=4 was asked for. Give a whole number from 0 to 3"),
        ("W_in", {"head": 0}, "head=0 was asked for, and W_in is the MLP's"),
        ("VO", {"head": 0}, "matrix='VO' was asked for. Choose 'OV', 'QK', 'W_in'"),
        ("OV", {"head": 0, "n": 9}, "n=9 was asked for. Give a whole number from 1 to 8"),
        ("OV", {"head": 0, "top": 0}, "top=0 was asked for. Give a whole number from 1 to 300"),
        ("OV", {"head": 0, "layer": 3}, "layer=3 was asked for. Give a whole number from 0 to 2"),
    ],
)
def test_what_does_not_fit(matrix: Any, options: dict[str, Any], says: str, gpt2: rs.Model) -> None:
    with pytest.raises((BadArgument, UnknownWeight), match=says):
        inspect.unwrap(rs.singular_vectors)(gpt2, matrix, **{"layer": 0, **options})
