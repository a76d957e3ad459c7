"""One's own checkpoint: attention alone, no norm, SoLU, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import residscope as rs
from residscope.errors import (
    BadArgument,
    BadCheckpoint,
    BadTokenizer,
    ModelNotFound,
    UnknownWeight,
    UnsupportedModel,
)
from residscope.transformer.rotary import Rotary
from residscope.transformer.transformer import Transformer
from tests.models import OWN, byte_tokenizer, hf_tokenizer, own_config, own_state, random_model

IDS = torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(1))
HF = hf_tokenizer()
State = dict[str, Tensor]


def plain_logits(state: State, config: rs.Config, ids: Tensor) -> Tensor:
    """A transformer of learned positions and layer norms, written once more in plain torch."""

    def norm(x: Tensor, name: str) -> Tensor:
        if config.norm is None:
            return x
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], config.norm_eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    n = ids.shape[1]
    x = state["embedding.weight"][ids] + state["positions.weight"][:n]
    for block in (f"blocks.{layer}" for layer in range(config.n_layers)):
        normed = norm(x, f"{block}.ln1")
        written = []
        for head in range(config.n_heads):
            part = slice(head * config.d_head, (head + 1) * config.d_head)
            q, k, v = (linear(normed, f"{block}.attn.{name}")[..., part] for name in "qkv")
            scores = (q @ k.transpose(1, 2) / config.d_head**0.5).masked_fill(
                ~torch.ones(n, n).tril().bool(), -torch.inf
            )
            written.append(scores.softmax(-1) @ v)
        x = x + linear(torch.cat(written, -1), f"{block}.attn.o")
        if config.d_mlp:
            h = linear(norm(x, f"{block}.ln2"), f"{block}.mlp.up")
            h = norm(h * h.softmax(-1), f"{block}.mlp.norm") if config.mlp_norm else h.relu()
            x = x + linear(h, f"{block}.mlp.down")
    return norm(x, "ln_final") @ state["unembedding.weight"].T


@pytest.mark.parametrize("case", ["attention only", "no norm", "SoLU"])
def test_own_models_equal_plain_torch(case: str) -> None:
    config = own_config(**OWN[case])
    state = own_state(config)
    logits = rs.load(state, config=config, dtype="float64").run(IDS).logits
    torch.testing.assert_close(logits, plain_logits(state, config, IDS), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("case", OWN)
def test_every_parameter_moves_the_logits(case: str) -> None:
    config = own_config(**OWN[case])
    model = rs.load(own_state(config, spread=0.1), config=config, dtype="float64")
    before = model.run(IDS[:1, :9]).logits
    for name, parameter in model.transformer.named_parameters():
        if name.startswith(("blocks.0", "blocks.2")):
            continue  # as layer 1
        kept = parameter.clone()
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        moved = not torch.allclose(model.run(IDS[:1, :9]).logits, before, rtol=1e-6, atol=1e-6)
        parameter.copy_(kept)
        # The softmax forgets what all keys have in common; a norm of the keys, or rotation, makes it differ.
        forgotten = name.endswith("attn.k.bias") and not (config.rotary or config.qk_norm or config.attn_cap)
        assert moved is not forgotten, name


def test_tensors_are_shared_where_they_already_are_as_wanted() -> None:
    config = own_config(tied=True)
    state = {name: tensor.float() for name, tensor in own_state(config).items()}
    model = rs.load(state, config=config, device="cpu")
    shared = model.transformer.get_parameter("blocks.1.attn.q.weight")
    assert shared.data_ptr() == state["blocks.1.attn.q.weight"].data_ptr()
    assert model.transformer.unembedding.weight is model.transformer.embedding.weight
    assert model.n_parameters == sum(x.numel() for name, x in state.items() if name != "unembedding.weight")
    assert rs.load(state, config=config, dtype="bfloat16").dtype == torch.bfloat16
    del state["unembedding.weight"]  # the same tensor once more
    assert torch.equal(rs.load(state, config=config, device="cpu").run(IDS).logits, model.run(IDS).logits)


def test_a_file_or_a_folder_of_named_tensors(tmp_path: Path) -> None:
    config = own_config(**OWN["SoLU"])
    state = own_state(config)
    save_file(state, tmp_path / "mine.safetensors")
    expected = rs.load(state, config=config, dtype="float64").run(IDS).logits
    for source in (tmp_path, tmp_path / "mine.safetensors", str(tmp_path / "mine.safetensors")):
        model = rs.load(source, config=config, dtype="float64")
        assert torch.equal(model.run(IDS).logits, expected)
        assert model.name == Path(source).stem


@pytest.mark.parametrize("tokenizer", [HF, byte_tokenizer()])
def test_with_a_tokenizer(tokenizer: Any) -> None:
    config = own_config(learned_positions=True)
    model = rs.load(own_state(config), config=config, tokenizer=tokenizer)
    assert model.run("abc").tokens.pieces == [["a", "b", "c"]]
    if tokenizer is HF:
        assert model.tokenize("abc", bos=True).has_bos


def test_without_a_tokenizer_ids_run_and_texts_are_refused() -> None:
    config = own_config(learned_positions=True)
    model = rs.load(own_state(config), config=config)
    run = model.run([[1, 2, 299], [5]])
    assert run.tokens.pieces == [["<1>", "<2>", "<299>"], ["<5>"]]
    assert model.generate([[1, 2]], n_tokens=2).texts[0].startswith("<1><2><")
    assert model.fingerprint
    for ask in (model.run, model.single_token, model.corpus):
        with pytest.raises(BadTokenizer, match="loaded without a tokenizer"):
            ask("x" * 100_000)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "blocks.1.ln2.bias"}, r"lacks 1 .*: blocks\.1\.ln2\.bias"),
        (lambda s: {**s, "blocks.3.ln1.bias": torch.ones(32)}, r"has 1 tensors .*: blocks\.3\.ln1\.bias"),
        (lambda s: {**s, "embedding.weight": torch.ones(300, 31)}, r"embedding\.weight of shape \[300, 31\]"),
        (lambda s: {**s, "positions.weight": torch.ones(40, 32).int()}, "stores positions.weight as int32"),
        (lambda s: {**s, "step": 5}, "'step', which is no tensor"),
    ],
)
def test_tensors_that_do_not_fit(change: Any, says: str) -> None:
    config = own_config(learned_positions=True)
    with pytest.raises(BadCheckpoint, match=says):
        rs.load(change(own_state(config)), config=config)


def test_calls_that_make_no_sense(tmp_path: Path) -> None:
    config = own_config()
    state = own_state(config)
    with pytest.raises(BadArgument, match="no config"):
        rs.load(state)
    with pytest.raises(BadArgument, match="config=3 was given"):
        rs.load(state, config=3)
    with pytest.raises(BadArgument, match="has its own config"):
        rs.load(Transformer(config), config=config)
    with pytest.raises(ModelNotFound, match="no file"):
        rs.load(tmp_path / "none.safetensors", config=config)
    with pytest.raises(BadCheckpoint, match="is pickled"):
        rs.load("mine.pt", config=config)


@pytest.mark.parametrize(
    "flags",
    [
        {"norm": None, "mlp_norm": True},
        {"norm": None, "qk_norm": "head"},
        {"norm": None, "embed_norm": True},
        {"shared_norm": True},
        {"rotary": Rotary("default", 12, 100.0, 40)},
    ],
)
def test_facts_that_do_not_go_together(flags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        own_config(**flags)


@pytest.mark.parametrize(("name", "value"), [("activation", "tanh"), ("norm", "batch"), ("qk_norm", "both")])
def test_words_that_no_fact_is_written_with(name: str, value: str) -> None:
    config = own_config()
    object.__setattr__(config, name, value)  # as if annotations were not checked
    with pytest.raises(ValueError, match=f"{name} is '{value}', and not one of"):
        config.__post_init__()


@pytest.mark.parametrize("source", [None, 5, ["gpt2"]])
def test_what_is_no_model_is_refused(source: Any) -> None:
    for config in (None, own_config()):
        with pytest.raises(BadArgument, match=r"was given as a model. Give "):
            rs.load(source, config=config)


def test_a_module_that_is_no_transformers_model_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"A Linear was given.*rs.wrap"):
        rs.load(torch.nn.Linear(2, 2))


def test_options_that_would_be_ignored_are_refused(stories_path: Path) -> None:
    with pytest.raises(BadArgument, match=r"A tokenizer was given .*stories260K"):
        rs.load(stories_path, tokenizer=HF)
    hf, tokenizer = random_model("gpt2")
    with pytest.raises(BadArgument, match=r"dtype='bfloat16' was asked for .* is float32"):
        rs.load(hf, tokenizer=tokenizer, dtype="bfloat16")
    with pytest.raises(BadArgument, match="There is no dtype 'float8'"):
        rs.load(hf, tokenizer=tokenizer, dtype="float8")
    half = rs.load(hf.to(torch.bfloat16), tokenizer=tokenizer, dtype="bfloat16")
    assert half.dtype == rs.load(hf, tokenizer=tokenizer).dtype == torch.bfloat16


@pytest.mark.parametrize("name", [3, None, ("W_O", 1)])
def test_what_is_no_weights_name_is_refused(gpt2: rs.Model, name: Any) -> None:
    with pytest.raises(UnknownWeight, match="list"):
        gpt2.weights[name]
    assert name not in gpt2.weights


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("n_layers", "d_model", "n_heads", "n_ctx") for value in (0, "x", None, 2.0, True)),
        *(("d_head", value) for value in (0, "x")),
        ("d_mlp", -1),
        ("family", 5),
        *(("rotary", value) for value in (True, 4, "default")),
        ("rotary_windowed", True),
        *(("norm_eps", value) for value in ("x", None, -1.0, float("nan"), True)),
        *(("windows", value) for value in (5, None, "abc", (1, 2), (0, 1, 2), ("a", "b", "c"))),
        *(("embed_scale", value) for value in (None, "x", float("inf"))),
        *(("attn_scale", value) for value in (0, 0.0, "x")),
        ("attn_cap", "x"),
        ("tied", "yes"),
        *(("norm", value) for value in ("batch", ["layer"])),
    ],
)
def test_facts_of_no_such_value_are_refused(name: str, value: Any) -> None:
    with pytest.raises(BadArgument, match=name) as found:
        own_config(**{name: value})
    assert found.value.hint


@pytest.mark.parametrize("facts", [{"n_dims": 3}, {"theta": 1.0}, {"type": "llama3", "low_freq_factor": 9.0}])
def test_turnings_of_no_such_value_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(BadArgument, match=r"A config was given of which .* Give "):
        rs.Rotary(**{"type": "default", "n_dims": 8, "theta": 1e4, "n_ctx_original": 40, **facts})
