"""Writes `sparsify/`: small dictionaries and transcoders, every parameter drawn, and what sparsify makes of them.

Made with eai-sparsify 1.3.3, in the environment of tests/golden/sparsify.txt:

    python -m tests.golden.make_sparsify tests/golden
"""

import sys
from pathlib import Path
from typing import Any

import torch
from sparsify import SparseCoder, SparseCoderConfig

from tests.golden.drawing import D_IN, N_ACTIVE, N_FEATURES, X, draw, save

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "topk": ("layers.1", {}),
    "groupmax": ("layers.1.self_attn", {"activation": "groupmax"}),
    "skip": ("h.1.attn", {"skip_connection": True}),
    "transcoder": ("layers.1.mlp", {"transcode": True}),
    "transcoder-skip": ("h.1.mlp", {"transcode": True, "skip_connection": True}),
    "transcoder-groupmax": ("gpt_neox.layers.1", {"transcode": True, "activation": "groupmax"}),
}


def main(folder: Path) -> None:
    outputs = {"x": X}
    for seed, (case, (module, changes)) in enumerate(CASES.items()):
        sae = SparseCoder(D_IN, SparseCoderConfig(num_latents=N_FEATURES, k=N_ACTIVE, **changes))
        draw(sae, 100 + seed)
        sae.save_to_disk(folder / case / module)
        acts, indices, _ = sae.encode(X)
        outputs[f"{case}/features"] = torch.zeros(len(X), N_FEATURES).scatter(-1, indices, acts)
        outputs[f"{case}/written"] = sae(X).sae_out
    save(outputs, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "sparsify")
