"""Writes `transformer_lens.safetensors`: small HookedTransformers, every parameter drawn, and their logits.

Made with transformer-lens 3.9.0, torch 2.13.0 and transformers 5.23.0, in an environment of their own:

    python tests/golden/make_transformer_lens.py tests/golden/transformer_lens.safetensors
"""

import json
import sys
from typing import Any

import torch
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

SIZES: dict[str, Any] = {
    "n_layers": 2,
    "d_model": 8,
    "n_ctx": 12,
    "d_head": 4,
    "d_vocab": 11,
    "d_mlp": 12,
    "device": "cpu",
}
ROTARY = {"positional_embedding_type": "rotary", "normalization_type": "RMS", "act_fn": "silu", "gated_mlp": True}
CASES: dict[str, dict[str, Any]] = {
    "solu_ln": {"act_fn": "solu_ln"},
    "solu, scores by layer": {"act_fn": "solu", "scale_attn_by_inverse_layer_idx": True, "attn_scale": 3.0},
    "attention only, no norm": {"attn_only": True, "normalization_type": None},
    "attention only, folded": {"attn_only": True, "normalization_type": "LN", "fold": True},
    "solu_ln, folded": {"act_fn": "solu_ln", "fold": True},
    "gelu, local": {
        "act_fn": "gelu_new",
        "use_local_attn": True,
        "window_size": 3,
        "attn_types": ["global", "local"],
        "use_attn_scale": False,
    },
    "alibi, normed embedding": {"act_fn": "gelu", "positional_embedding_type": "alibi", "post_embedding_ln": True},
    "parallel, adjacent pairs": {
        "act_fn": "gelu_fast",
        "parallel_attn_mlp": True,
        "positional_embedding_type": "rotary",
        "n_heads": 2,
        "d_head": 6,
        "rotary_dim": 4,
        "rotary_adjacent_pairs": True,
    },
    "grouped, gated": {**ROTARY, "n_heads": 4, "d_head": 2, "n_key_value_heads": 2, "rotary_base": 50},
    "grouped, gated, folded": {**ROTARY, "n_heads": 4, "d_head": 2, "n_key_value_heads": 2, "fold": True},
    "normed heads, around, capped": {
        **ROTARY,
        "use_qk_norm": True,
        "use_normalization_before_and_after": True,
        "attn_scores_soft_cap": 2.0,
        "output_logits_soft_cap": 3.0,
        "use_local_attn": True,
        "window_size": 4,
        "attn_types": ["local", "global"],
        "rotary_base_local": 20,
        "rotary_scaling_factor": 4.0,
    },
    "normed heads, around, folded": {
        **ROTARY,
        "use_qk_norm": True,
        "use_normalization_before_and_after": True,
        "fold": True,
    },
    "long waves": {**ROTARY, "use_NTK_by_parts_rope": True, "NTK_original_ctx_len": 8, "rotary_base": 50},
    "yarn": {
        **ROTARY,
        "use_yarn_rope": True,
        "yarn_factor": 4.0,
        "yarn_attention_factor": 1.1,
        "yarn_original_max_position_embeddings": 8,
        "yarn_beta_fast": 2.0,
    },
}


def main(path: str) -> None:
    tensors: dict[str, torch.Tensor] = {}
    configs: dict[str, Any] = {}
    ids = torch.randint(0, SIZES["d_vocab"], (2, 12), generator=torch.Generator().manual_seed(0))
    for number, (case, changes) in enumerate(CASES.items()):
        fold = changes.pop("fold", False)
        model = HookedTransformer(HookedTransformerConfig(**{**SIZES, **changes})).eval()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                centre = 1.0 if name.endswith(".w") else 0.0
                parameter.copy_(centre + 0.4 * torch.randn(parameter.shape, generator=generator))
            if fold:
                model.process_weights_()
            tensors |= {f"{case}/{name}": x.clone() for name, x in model.state_dict().items() if "rotary" not in name}
            tensors[f"{case}/logits"] = model(ids)
        configs[case] = {name: str(x) if isinstance(x, torch.dtype) else x for name, x in vars(model.cfg).items()}
    tensors["ids"] = ids
    save_file(tensors, path, metadata={"configs": json.dumps(configs, default=float)})


if __name__ == "__main__":
    main(sys.argv[1])
