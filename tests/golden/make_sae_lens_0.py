"""Writes `sae_lens_0/`: one dictionary as SAELens wrote its first ones, in a folder and in a pickle, and what it gave.

Made with sae-lens 0.4.0, in the environment of tests/golden/sae_lens_0.txt:

    python -m tests.golden.make_sae_lens_0 tests/golden
"""

import sys
from pathlib import Path

import torch
import wandb
from sae_lens import LanguageModelSAERunnerConfig
from sae_lens.training.sparse_autoencoder import SparseAutoencoder

from tests.golden.drawing import D_IN, X, draw, save


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wandb.util.generate_id = lambda: "drawn"  # newer ones have none, and this is the same each time
    config = LanguageModelSAERunnerConfig(
        model_name="gpt2-small",
        hook_point="blocks.1.hook_resid_pre",
        hook_point_layer=1,
        d_in=D_IN,
        expansion_factor=2,
        context_size=16,
        dtype=torch.float32,
        log_to_wandb=False,
    )
    sae = SparseAutoencoder(config)
    draw(sae, 400)
    active = torch.linspace(0.05, 0.3, 2 * D_IN)
    sae.save_model(str(folder / "folder"), active.log10())
    sae.save_model_legacy(str(folder / "pickle.pt"))
    given = sae(X)
    save({"x": X, "old/features": given.feature_acts, "old/written": given.sae_out}, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "sae_lens_0")
