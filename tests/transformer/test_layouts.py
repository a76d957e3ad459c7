"""Files as the hub has them, old and new: all give the same model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import residscope as rs
from residscope.errors import BadCheckpoint, BadTokenizer, ModelNotFound, UnsupportedModel
from residscope.transformer.families import FAMILIES
from residscope.transformer.loading import read_config
from tests.models import D_VOCAB, assert_equal, byte_tokenizer, random_gpt2, random_llama, random_model, save

IDS = torch.randint(0, D_VOCAB, (2, 30), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def gpt2_path(tmp_path: Path) -> Path:
    return save(random_gpt2()[0], tmp_path / "gpt2")


@pytest.fixture
def llama_path(tmp_path: Path) -> Path:
    return save(random_llama()[0], tmp_path / "llama")


def rewrite(path: Path, change: Any) -> None:
    """Replace the tensors by what `change` makes of them."""
    file = path / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(change(tensors), file, metadata={"format": "pt"})


def reconfigure(path: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes one."""
    file = path / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def logits(path: Path) -> torch.Tensor:
    return rs.load(path).run(IDS).logits


def test_gpt2_without_prefix_and_head_and_with_masks(gpt2_path: Path) -> None:
    before = logits(gpt2_path)

    def age(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        for layer in range(3):
            old[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 40, 40).tril()
            old[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        old.pop("lm_head.weight", None)
        return old

    rewrite(gpt2_path, age)
    assert torch.equal(logits(gpt2_path), before)


def test_gpt2_with_a_stored_copy_of_the_tied_head(gpt2_path: Path) -> None:
    before = logits(gpt2_path)
    rewrite(gpt2_path, lambda t: {**t, "lm_head.weight": t["transformer.wte.weight"].clone()})
    assert torch.equal(logits(gpt2_path), before)


def test_gpt2_config_of_2019(gpt2_path: Path) -> None:
    before = logits(gpt2_path)
    old = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 256,
        "embd_pdrop": 0.1,
        "eos_token_id": 257,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 40,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 3,
        "n_positions": 40,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": D_VOCAB,
    }
    (gpt2_path / "config.json").write_text(json.dumps(old))
    assert torch.equal(logits(gpt2_path), before)


def test_llama_with_rotary_buffers_and_old_keys(llama_path: Path) -> None:
    before = logits(llama_path)
    rewrite(
        llama_path,
        lambda t: t | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)},
    )
    reconfigure(
        llama_path,
        rope_parameters=None,
        rope_theta=10000.0,
        dtype=None,
        torch_dtype="float32",
        head_dim=None,
        pretraining_tp=1,
        _name_or_path="somewhere",
    )
    assert torch.equal(logits(llama_path), before)


def test_rope_scaling_means_what_rope_parameters_does(llama_path: Path) -> None:
    reconfigure(llama_path, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0})
    new = logits(llama_path)
    reconfigure(llama_path, rope_parameters=None, rope_theta=100.0, rope_scaling={"type": "linear", "factor": 2.0})
    assert torch.equal(logits(llama_path), new)


def test_many_files(llama_path: Path) -> None:
    before = logits(llama_path)
    tensors = load_file(llama_path / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, part in parts.items():
        save_file({name: tensors[name].clone() for name in part}, llama_path / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (llama_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (llama_path / "model.safetensors").unlink()
    assert torch.equal(logits(llama_path), before)
    (llama_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"lacks model-00002-of-00002\.safetensors"):
        rs.load(llama_path)


# What the hub's older files have otherwise: names of tensors, buffers of layer 1, keys of the config.
_MASKS = ("attn.bias", "attn.masked_bias")
_ROPE = {"rope_parameters": None, "rope_theta": 10_000.0, "rope_scaling": None}
_TURNS = ("self_attn.rotary_emb.inv_freq",)
OLDER: dict[str, tuple[dict[str, str], tuple[str, ...], dict[str, Any]]] = {
    "gpt2": ({r"transformer\.": ""}, _MASKS, {"n_ctx": 40, "n_special": 0, "resid_pdrop": 0.1}),
    "gpt_neo": (
        {r"transformer\.": ""},
        ("attn.attention.bias", "attn.attention.masked_bias"),
        {"gradient_checkpointing": False, "summary_type": "cls_index", "tie_word_embeddings": None},
    ),
    "gptj": ({}, (*_MASKS, "attn.embed_positions"), {"rotary": True, "scale_attn_weights": True, "n_inner": None}),
    "gpt_neox": (
        {r"lm_head": "embed_out"},
        ("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
        {
            "rope_parameters": None,
            "rotary_pct": 0.25,
            "rotary_emb_base": 10_000,
            "attention_bias": None,
            "attention_probs_dropout_prob": 0,
            "hidden_dropout_prob": 0,
        },
    ),
    "opt": (
        {r"model\.decoder\.": "decoder."},
        (),
        {"activation_dropout": 0.0, "prefix": "</s>", "enable_bias": None, "tie_word_embeddings": None},
    ),
    "bloom": (
        {r"transformer\.": ""},
        (),
        {
            "n_embed": 32,
            "hidden_size": None,
            "n_head": None,
            "num_attention_heads": 4,
            "n_inner": None,
            "attention_softmax_in_fp32": True,
            "masked_softmax_fusion": True,
            "bias_dropout_fusion": True,
            "offset_alibi": 100,
            "skip_bias_add": True,
            "skip_bias_add_qkv": False,
            "unk_token_id": 0,
            "tie_word_embeddings": None,
        },
    ),
    "llama": ({}, _TURNS, {**_ROPE, "head_dim": None, "pretraining_tp": 1}),
    "mistral": ({}, _TURNS, {**_ROPE, "head_dim": None}),
    "qwen2": ({}, (), {**_ROPE, "layer_types": None, "use_mrope": False}),
    "qwen3": ({}, (), {**_ROPE, "layer_types": None, "sliding_window": 7}),
    "gemma": ({}, _TURNS, {**_ROPE, "hidden_act": "gelu", "hidden_activation": None, "tie_word_embeddings": None}),
    "gemma2": (
        {},
        (),
        {**_ROPE, "layer_types": None, "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"},
    ),
    "gemma3_text": (
        {},
        (),
        {
            "rope_parameters": None,
            "rope_theta": 1_000_000,
            "rope_local_base_freq": 10_000,
            "layer_types": None,
            "_sliding_window_pattern": None,
            "sliding_window_pattern": 2,
            "cache_implementation": "hybrid",
        },
    ),
    "gemma3": (
        {r"(model\.language_model|language_model\.model)\.": "language_model.model.", r"model\.(?=vi|mu)": ""},
        (),
        {},
    ),
    "phi": ({}, _TURNS, {**_ROPE, "qk_layernorm": False}),
    "phi3": ({}, _TURNS, {**_ROPE, "attention_bias": False, "partial_rotary_factor": 1.0}),
    "olmo2": ({}, (), _ROPE),
}
FACTORS = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48, "original_max_position_embeddings": 1024}


@pytest.mark.parametrize("family", FAMILIES)
def test_files_of_now_and_of_then(family: str, tmp_path: Path) -> None:
    hf, _ = random_model(family)
    path = save(hf, tmp_path / family)
    before = logits(path)
    with torch.no_grad():
        assert_equal(before, hf(IDS).logits)
    renamed, buffers, keys = OLDER[family]

    def age(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for now, then in renamed.items():
            tensors = {re.sub(f"^{now}", then, name): tensor for name, tensor in tensors.items()}
        layer = next(re.match(r".*(layers|h)\.1\.", name) for name in tensors if re.search(r"\b(layers|h)\.1\.", name))
        return tensors | {f"{layer.group()}{name}": torch.ones(1) for name in buffers}  # type: ignore[union-attr]

    rewrite(path, age)
    reconfigure(path, **keys)
    assert torch.equal(logits(path), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_reads_its_example(family: str) -> None:
    raw = {"model_type": family, **FAMILIES[family].example}
    assert read_config(raw, "here")[1].family == family
    with pytest.raises(UnsupportedModel, match="wobble=1"):
        read_config({**raw, "wobble": 1}, "here")


OPTIONAL = {
    "num_key_value_heads",
    "num_attention_heads",
    "sliding_window",
    "partial_rotary_factor",
    "n_head",
    "n_layer",
}


@pytest.mark.parametrize(
    ("family", "older", "now"),
    [
        ("phi", {"partial_rotary_factor": 0.25}, {"rope_parameters": {"partial_rotary_factor": 0.25}}),
        (
            "phi3",
            {"rope_scaling": {"type": "su", **FACTORS}},
            {"rope_parameters": {"rope_type": "longrope", **FACTORS}},
        ),
        ("gemma3_text", {"rope_local_base_freq": 9}, {"rope_parameters": {"sliding_attention": {"rope_theta": 9}}}),
    ],
)
def test_older_keys_of_the_angles(family: str, older: dict[str, Any], now: dict[str, Any]) -> None:
    example = {**FAMILIES[family].example, "model_type": family}
    read = [read_config(example | keys, "here")[1] for keys in ({}, older, now)]
    assert read[0] != read[1] == read[2]


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("gptj", {"rotary": False}, "rotary=False"),
        ("gptj", {"scale_attn_weights": False}, "scale_attn_weights=False"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before=False"),
        ("opt", {"word_embed_proj_dim": 512}, "word_embed_proj_dim=512, and only 768 is supported"),
        ("opt", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm=True"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm=True"),
        ("bloom", {"n_inner": 5}, "n_inner=5"),
        ("bloom", {"slow_but_exact": True, "pretraining_tp": 2}, "pretraining_tp=2, and only 1 is supported"),
        ("mistral", {"layer_types": ["full_attention"] * 32}, "layer_types"),
        ("qwen2", {"use_mrope": True}, "use_mrope=True"),
        ("qwen2", {"layer_types": ["chunked_attention"] * 24}, "layers of type chunked_attention"),
        ("gemma", {"hidden_activation": "silu"}, "hidden_activation='silu'"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        ("gemma3_text", {"rope_parameters": {"rope_type": "linear"}}, "rope_parameters.*rope_type='linear'"),
        ("gemma3", {"text_config": {**FAMILIES["gemma3"].example["text_config"], "wobble": 1}}, "wobble=1"),
        ("phi3", {"lm_head_bias": True}, "lm_head_bias=True"),
        ("phi3", {"rope_scaling": {"type": "spiral"}}, "spiral"),
        ("mistral", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ],
)
def test_what_a_family_does_not_compute_is_refused(family: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises((UnsupportedModel, BadCheckpoint), match=says):
        read_config({"model_type": family, **FAMILIES[family].example, **changes}, "here")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt_neo", {"attention_types": [[["global"], 5]]}),
        ("gpt_neo", {"attention_types": [[["global"], 10**12]]}),
        ("gpt_neo", {"num_heads": 7}),
        ("gptj", {"rotary_dim": None}),
        ("gpt_neox", {"rotary_pct": 0.01}),
        ("mistral", {"num_hidden_layers": 10**12}),
        ("mistral", {"sliding_window": 0}),
        ("gemma2", {"layer_types": ["full_attention"] * 3}),
        ("phi3", {"rope_scaling": {"type": ["longrope"]}}),
    ],
)
def test_values_of_a_family_that_make_no_sense(family: str, changes: dict[str, Any]) -> None:
    with pytest.raises(BadCheckpoint, match="makes no sense"):
        read_config({"model_type": family, **FAMILIES[family].example, **changes}, "here")


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_stored_halves_are_read_as_float32(llama_path: Path, stored: torch.dtype) -> None:
    rewrite(llama_path, lambda t: {name: tensor.to(stored) for name, tensor in t.items()})
    model = rs.load(llama_path)
    assert model.dtype == torch.float32
    weight = load_file(llama_path / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    assert torch.equal(model.transformer.get_parameter("blocks.1.mlp.up.weight"), weight.float())


def test_weights_of_the_wanted_type_stay_mapped(gpt2_path: Path) -> None:
    model = rs.load(gpt2_path)
    q, v = (model.transformer.get_parameter(f"blocks.0.attn.{name}.weight") for name in "qv")
    assert q.untyped_storage().data_ptr() == v.untyped_storage().data_ptr()
    assert q.stride() == (1, 96)  # a view of the fused matrix, not a copy


def test_only_pickled_weights_are_refused_with_the_command(gpt2_path: Path) -> None:
    (gpt2_path / "model.safetensors").unlink()
    (gpt2_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(BadCheckpoint, match=r"pytorch_model\.bin.*never opened.*save_pretrained"):
        rs.load(gpt2_path)


def test_truncated_file(gpt2_path: Path) -> None:
    file = gpt2_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors is not a whole safetensors file"):
        rs.load(gpt2_path)
    file.write_bytes(b"")
    with pytest.raises(BadCheckpoint, match="not a whole safetensors file"):
        rs.load(gpt2_path)


def test_missing_left_over_and_misshapen_tensors_are_named(gpt2_path: Path) -> None:
    rewrite(gpt2_path, lambda t: {**t, "transformer.h.0.extra.weight": torch.ones(3)})
    with pytest.raises(BadCheckpoint, match=r"1 tensors that a gpt2 model does not: transformer\.h\.0\.extra\.weight"):
        rs.load(gpt2_path)
    rewrite(gpt2_path, lambda t: {n: x for n, x in t.items() if "extra" not in n and "h.1.ln_2.bias" not in n})
    with pytest.raises(BadCheckpoint, match=r"lacks 1 of the tensors.*transformer\.h\.1\.ln_2\.bias"):
        rs.load(gpt2_path)
    rewrite(gpt2_path, lambda t: {**t, "transformer.h.1.ln_2.bias": torch.ones(7)})
    with pytest.raises(BadCheckpoint, match=r"h\.1\.ln_2\.bias of shape \[7\].*\[32\]"):
        rs.load(gpt2_path)


def test_untied_model_needs_its_head(llama_path: Path) -> None:
    rewrite(llama_path, lambda t: {n: x for n, x in t.items() if n != "lm_head.weight"})
    with pytest.raises(BadCheckpoint, match=r"lacks.*lm_head\.weight"):
        rs.load(llama_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "swoosh"}, "swoosh"),
        ({"model_type": "mamba"}, r"family 'mamba'. Supported families: gpt2, gpt_neo"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder=True"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
    ],
)
def test_what_is_not_known_is_refused_by_name(llama_path: Path, changes: dict[str, Any], says: str) -> None:
    reconfigure(llama_path, **changes)
    with pytest.raises(UnsupportedModel, match=says):
        rs.load(llama_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rms_norm_eps": None}, "has no 'rms_norm_eps'"),
        ({"hidden_size": "many"}, "makes no sense"),
        ({"num_attention_heads": 0, "head_dim": None}, "makes no sense"),
    ],
)
def test_broken_configs(llama_path: Path, changes: dict[str, Any], says: str) -> None:
    reconfigure(llama_path, **changes)
    with pytest.raises(BadCheckpoint, match=says):
        rs.load(llama_path)


def test_directories_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no config\.json \(it is empty\)"):
        rs.load(tmp_path)
    with pytest.raises(ModelNotFound, match="There is no directory"):
        rs.load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"config\.json cannot be read"):
        rs.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(BadCheckpoint, match="has no 'n_embd'"):
        rs.load(tmp_path)


def test_tokenizers_that_are_missing_or_too_large(gpt2_path: Path) -> None:
    (gpt2_path / "tokenizer.json").unlink()
    with pytest.raises(BadTokenizer, match="has no tokenizer"):
        rs.load(gpt2_path)
    (gpt2_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadTokenizer, match="cannot be read"):
        rs.load(gpt2_path)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["x" * n for n in range(2, 400)])
    large = json.loads(tokenizer.to_str())
    large["model"]["vocab"] |= {f"{'y' * n}": 1000 + n for n in range(100)}
    (gpt2_path / "tokenizer.json").write_text(json.dumps(large))
    with pytest.raises(BadTokenizer, match=r"has 355 tokens and the model's vocabulary 300"):
        rs.load(gpt2_path)


def test_unknown_dtype_and_device(gpt2_path: Path) -> None:
    with pytest.raises(rs.ResidscopeError, match="no dtype 'float8'"):
        rs.load(gpt2_path, dtype="float8")
    with pytest.raises(rs.ResidscopeError, match="no device 'abacus'"):
        rs.load(gpt2_path, device="abacus")


@pytest.mark.parametrize("make", [random_gpt2, random_llama])
def test_a_stored_head_goes_before_the_flag_that_ties_it(make: Any, tmp_path: Path) -> None:
    hf, tokenizer = make(tie_word_embeddings=True)
    path = save(hf, tmp_path / "model")
    head = torch.randn(hf.get_input_embeddings().weight.shape, generator=torch.Generator().manual_seed(5))
    rewrite(path, lambda t: {**t, "lm_head.weight": head})
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(path)(IDS).logits
        assert_equal(rs.load(path).run(IDS).logits, theirs)
        hf.lm_head.weight = torch.nn.Parameter(head.clone())
        assert_equal(rs.load(hf, tokenizer=tokenizer).run(IDS).logits, hf(IDS).logits)


@pytest.mark.parametrize("make", [random_gpt2, random_llama])
def test_the_one_of_two_shared_names_that_was_saved(make: Any, tmp_path: Path) -> None:
    hf, _ = make(tie_word_embeddings=True)
    path = save(hf, tmp_path / "model")
    before = logits(path)
    names = ("transformer.wte.weight", "model.embed_tokens.weight")
    rewrite(path, lambda t: {"lm_head.weight" if name in names else name: x for name, x in t.items()})
    assert torch.equal(logits(path), before)


def test_longrope_with_its_original_context_beside_it(llama_path: Path) -> None:
    factors = {"short_factor": [1.0, 1.1, 1.3, 1.4], "long_factor": [1.0, 2.0, 3.0, 4.5]}
    scaling = {"rope_type": "longrope", "rope_theta": 100.0, "original_max_position_embeddings": 16, **factors}
    reconfigure(llama_path, rope_parameters=scaling)
    inside = logits(llama_path)
    del scaling["original_max_position_embeddings"]
    reconfigure(llama_path, rope_parameters=scaling, original_max_position_embeddings=16)
    assert torch.equal(logits(llama_path), inside)
    with torch.no_grad():
        assert_equal(logits(llama_path), AutoModelForCausalLM.from_pretrained(llama_path)(IDS).logits)


@pytest.mark.parametrize(
    "changes",
    [
        *({"vocab_size": size} for size in (-5, "512", 512.0, True, 10**30)),
        *({"num_hidden_layers": n} for n in (0, "3", 10**6)),
        *({"num_key_value_heads": n} for n in (-2, 3)),
        {"head_dim": -12},
        {"head_dim": 7},
        {"intermediate_size": []},
        {"rms_norm_eps": "1e-6"},
        {"tie_word_embeddings": "yes"},
        *({"rope_parameters": {"rope_type": "linear", "factor": factor}} for factor in (0, -4, "x")),
        {"rope_parameters": {"rope_type": "default", "rope_theta": 0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4}},
        {"rope_parameters": {"rope_type": "longrope", "short_factor": ["a"] * 4, "long_factor": [1.0] * 4}},
    ],
)
def test_values_that_make_no_sense(llama_path: Path, changes: dict[str, Any]) -> None:
    reconfigure(llama_path, **changes)
    with pytest.raises(BadCheckpoint, match="makes no sense"):
        rs.load(llama_path)


@pytest.mark.parametrize("changes", [{"n_head": 5}, {"n_head": -4}, {"n_inner": "x"}, {"n_positions": "64"}])
def test_gpt2_values_that_make_no_sense(gpt2_path: Path, changes: dict[str, Any]) -> None:
    reconfigure(gpt2_path, **changes)
    with pytest.raises(BadCheckpoint, match="makes no sense"):
        rs.load(gpt2_path)


def test_files_of_the_wrong_shape_or_kind(gpt2_path: Path) -> None:
    whole = load_file(gpt2_path / "model.safetensors")
    for tensor in (torch.tensor(1.0), torch.ones(2, 3, 4), torch.ones(32, 96).to(torch.int8)):
        rewrite(gpt2_path, lambda t, tensor=tensor: {**whole, "transformer.h.0.attn.c_attn.weight": tensor})
        with pytest.raises(BadCheckpoint, match=r"h\.0\.attn\.c_attn\.weight"):
            rs.load(gpt2_path)
    for content in ("[]", '{"weight_map": {"a": 5}}', '{"weight_map": []}'):
        (gpt2_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(BadCheckpoint, match=r"model\.safetensors\.index\.json"):
            rs.load(gpt2_path)
    reconfigure(gpt2_path, model_type=["gpt2"])
    with pytest.raises(UnsupportedModel, match="Supported families"):
        rs.load(gpt2_path)
    (gpt2_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        rs.load(gpt2_path)
