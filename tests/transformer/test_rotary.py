"""Every kind of rotary scaling equals transformers', within the trained context and beyond."""

from typing import Any

import pytest
import torch

import residscope as rs
from residscope.errors import BadCheckpoint, UnsupportedModel
from residscope.transformer.rotary import read_rotary
from tests.models import D_VOCAB, assert_equal, random_llama, random_model

N_CTX, ORIGINAL = 64, 16
DIVISORS = {"short_factor": [1.0, 1.1, 1.3, 1.4], "long_factor": [1.0, 2.0, 3.0, 4.5]}
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "yarn, all keys": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "beta_fast": 4.0,
        "beta_slow": 0.5,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        "truncate": False,
    },
    "yarn, given attention": {
        "rope_type": "yarn",
        "factor": 4.0,
        "attention_factor": 1.5,
        "original_max_position_embeddings": ORIGINAL,
    },
    "longrope": {"rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": ORIGINAL, **DIVISORS},
    "longrope, ratio": {"rope_type": "longrope", "original_max_position_embeddings": ORIGINAL, **DIVISORS},
}


def scaled_llama(scaling: str, **changes: Any) -> tuple[Any, Any]:
    """A Llama whose context is `N_CTX` when scaled; a dynamic one states the context before scaling."""
    return random_llama(
        max_position_embeddings=ORIGINAL if scaling == "dynamic" else N_CTX,
        rope_parameters={"rope_theta": 100.0, **SCALINGS[scaling]},
        **changes,
    )


@pytest.mark.parametrize("n_tokens", [ORIGINAL, ORIGINAL + 1, N_CTX])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaled_model_equals_transformers(scaling: str, n_tokens: int) -> None:
    hf, tokenizer = scaled_llama(scaling)
    model = rs.load(hf, tokenizer=tokenizer)
    assert model.config.n_ctx == N_CTX
    ids = torch.randint(0, D_VOCAB, (2, n_tokens), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert_equal(model.run(ids).logits, hf(ids).logits)


@pytest.mark.parametrize("scaling", ["dynamic", "longrope"])
def test_texts_of_other_lengths_in_one_batch_keep_their_angles(scaling: str) -> None:
    hf, tokenizer = scaled_llama(scaling, dtype=torch.float64)
    model = rs.load(hf, tokenizer=tokenizer)
    texts = ["a" * 10, "b" * 30, "c" * N_CTX]
    together = model.run(texts)
    for number, text in enumerate(texts):
        alone = model.run(text).logits[0]
        torch.testing.assert_close(together.logits[number, : len(text)], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scaling", ["dynamic", "longrope"])
def test_generation_crosses_into_the_stretched_context(scaling: str) -> None:
    hf, tokenizer = scaled_llama(scaling, dtype=torch.float64, eos_token_id=None)
    model = rs.load(hf, tokenizer=tokenizer)
    (written,) = model.generate("a" * (ORIGINAL - 3), n_tokens=8).lists()
    for n in range(ORIGINAL - 3, ORIGINAL + 5):
        assert int(model.run(torch.tensor([written[:n]])).at("logits", -1).argmax()) == written[n]


def test_generation_crosses_where_only_windowed_layers_stretch() -> None:
    stretched = {**SCALINGS["longrope"], "short_factor": [1.0] * 6, "long_factor": [9.0] * 6}
    parameters = {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_theta": 100.0, **stretched}}
    facts = {"rope_parameters": parameters, "sliding_window": 30, "tie_word_embeddings": False, "eos_token_id": None}
    hf, tokenizer = random_model("gemma3_text", dtype=torch.float64, seed=2, **facts)
    model = rs.load(hf, tokenizer=tokenizer)
    (written,) = model.generate("Some words", n_tokens=20).lists()
    for n in range(ORIGINAL - 3, ORIGINAL + 14):
        assert int(model.run(torch.tensor([written[:n]])).at("logits", -1).argmax()) == written[n]


@pytest.mark.parametrize(
    ("parameters", "error", "says"),
    [
        ({"rope_type": "spiral"}, UnsupportedModel, "spiral"),
        ({"rope_type": "linear"}, BadCheckpoint, "'factor'"),
        ({"rope_type": "llama3", "factor": 2.0}, BadCheckpoint, "'low_freq_factor'"),
        ({"rope_type": "linear", "factor": 2.0, "wobble": 1}, UnsupportedModel, "wobble"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, UnsupportedModel, "partial_rotary_factor"),
        ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}, BadCheckpoint, "1 longrope factors"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        read_rotary(parameters, theta=100.0, n_dims=8, n_ctx=64, source="here")
