"""Writes `sae_lens/`: small dictionaries of every architecture, every parameter drawn, and what SAELens makes of them;
and `gemma_scope/`, drawn too, and what SAELens makes of those.

Made with sae-lens 6.54.12, in the environment of training/sae_lens.txt:

    python -m tests.golden.make_sae_lens tests/golden
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
    Transcoder,
    TranscoderConfig,
)
from sae_lens.loading import pretrained_sae_loaders
from sae_lens.saes.sae import SAEMetadata

from tests.golden.drawing import D_IN, N_ACTIVE, N_FEATURES, X, draw, save

SITE = "blocks.1.hook_resid_pre"
D_OUT = 8
TRANSCODES = {"apply_b_dec_to_input": False, "d_out": D_OUT}
ADDED = {"apply_b_dec_to_input": False}
CASES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "standard": (StandardSAE, StandardSAEConfig, {}),
    "standard-bias_added": (StandardSAE, StandardSAEConfig, ADDED),
    "standard-norm": (StandardSAE, StandardSAEConfig, {"normalize_activations": "constant_norm_rescale"}),
    "standard-layer_norm": (StandardSAE, StandardSAEConfig, {"normalize_activations": "layer_norm"}),
    "standard-average": (StandardSAE, StandardSAEConfig, {"normalize_activations": "expected_average_only_in"}),
    "standard-whitened": (StandardSAE, StandardSAEConfig, {"normalize_activations": "covariance_whitening"}),
    "standard-heads": (StandardSAE, StandardSAEConfig, {"reshape_activations": "hook_z"}),
    "gated": (GatedSAE, GatedSAEConfig, {}),
    "gated-layer_norm-bias_added": (GatedSAE, GatedSAEConfig, {**ADDED, "normalize_activations": "layer_norm"}),
    "topk": (TopKSAE, TopKSAEConfig, {"k": N_ACTIVE}),
    "topk-by_norm": (TopKSAE, TopKSAEConfig, {"k": N_ACTIVE, "rescale_acts_by_decoder_norm": True}),
    "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig, {}),
    "jumprelu-norm-bias_added": (
        JumpReLUSAE,
        JumpReLUSAEConfig,
        {**ADDED, "normalize_activations": "constant_norm_rescale"},
    ),
    "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, {"k": N_ACTIVE}),
    "matryoshka": (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
        {"k": N_ACTIVE, "matryoshka_widths": [5, N_FEATURES], "rescale_acts_by_decoder_norm": False},
    ),
    "transcoder": (Transcoder, TranscoderConfig, TRANSCODES),
    "transcoder-skip": (SkipTranscoder, SkipTranscoderConfig, TRANSCODES),
    "transcoder-skip-layer_norm": (
        SkipTranscoder,
        SkipTranscoderConfig,
        {**TRANSCODES, "normalize_activations": "layer_norm"},
    ),
    "transcoder-jumprelu": (JumpReLUTranscoder, JumpReLUTranscoderConfig, TRANSCODES),
    "transcoder-jumprelu-skip": (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig, TRANSCODES),
}


def main(folder: Path) -> None:
    outputs = {"x": X}
    for seed, (case, (kind, config, changes)) in enumerate(CASES.items()):
        heads = "reshape_activations" in changes
        metadata = SAEMetadata(
            model_name="drawn",
            hook_name="blocks.1.attn.hook_z" if heads else SITE,
            hook_name_out="blocks.1.hook_mlp_out" if "d_out" in changes else None,
            context_size=16,
            prepend_bos=True,
            l0=3.5,
        )
        sae = kind(config(d_in=D_IN, d_sae=N_FEATURES, metadata=metadata, **changes)).eval()
        draw(sae, seed)
        if isinstance(sae, BatchTopKTrainingSAE):  # what counts is what it makes for use, of which training is a past
            sae.topk_threshold.fill_(0.7)
            sae.save_model(folder / f"{case}-training")
            sae.save_inference_model(folder / case)
            sae = SAE.load_from_disk(folder / case)
        else:
            sae.save_model(folder / case)
        x = X.view(-1, 3, 4) if heads else X
        outputs |= {f"{case}/features": sae.encode(x), f"{case}/written": sae(x).reshape(len(X), -1)}
    save(outputs, folder)


def make_gemma_scope(folder: Path) -> None:
    outputs = {"x": X}
    inside = "layer_1/width_16k/average_l0_7"
    for seed, kind in enumerate(("res", "mlp", "att", "transcoders")):
        repository = f"gemma-scope-2b-pt-{kind}"
        drawn = JumpReLUSAE(JumpReLUSAEConfig(d_in=D_IN, d_sae=N_FEATURES, **ADDED))
        draw(drawn, 300 + seed)
        path = folder / repository / inside
        path.mkdir(parents=True, exist_ok=True)
        np.savez(path / "params.npz", **{name: x.detach().numpy() for name, x in drawn.named_parameters()})
        # Its loaders ask the hub for the file.
        pretrained_sae_loaders.hf_hub_download = lambda *_, path=path, **__: str(path / "params.npz")
        sizes = {"d_in": D_IN, "d_sae": N_FEATURES}
        x = X
        if kind == "transcoders":  # read what the norm makes of the stream: each input at a mean square of one
            load, x = pretrained_sae_loaders.gemma_2_transcoder_huggingface_loader, X / X.square().mean(-1, True).sqrt()
            assert load(repository, inside)[0]["hook_name"] == "blocks.1.ln2.hook_normalized"
            sae = JumpReLUTranscoder(JumpReLUTranscoderConfig(**sizes, d_out=D_IN, apply_b_dec_to_input=False))
        else:
            load = pretrained_sae_loaders.gemma_2_sae_huggingface_loader
            applied = load(repository, inside, cfg_overrides=sizes)[0]["apply_b_dec_to_input"]
            sae = JumpReLUSAE(JumpReLUSAEConfig(**sizes, apply_b_dec_to_input=applied))
        sae.load_state_dict(load(repository, inside, cfg_overrides=sizes)[1])
        outputs |= {f"{repository}/features": sae.encode(x), f"{repository}/written": sae(x)}
    save(outputs, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "sae_lens")
    make_gemma_scope(Path(sys.argv[1]) / "gemma_scope")
