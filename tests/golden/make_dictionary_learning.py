"""Writes `dictionary_learning/`: small dictionaries, every parameter drawn, and what the library makes of them.

Made with dictionary-learning 0.1.0, in the environment of tests/golden/dictionary_learning.txt:

    python -m tests.golden.make_dictionary_learning tests/golden
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers import BatchTopKTrainer, GatedSAETrainer, JumpReluTrainer, TopKTrainer
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE, MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.training import trainSAE
from dictionary_learning.utils import load_dictionary
from torch import nn

from tests.golden.drawing import D_IN, N_ACTIVE, N_FEATURES, X, draw, save

NAMED = {"submodule_name": "resid_post_layer_1"}
FEW = {"k": N_ACTIVE}
# Folder, trainer, class, and what else the trainer is told.
CASES: dict[str, tuple[str, type, type[nn.Module], dict[str, Any]]] = {
    "standard": ("any", StandardTrainer, AutoEncoder, {}),
    "standard-unit_norms": ("resid_out_layer1", StandardTrainer, AutoEncoder, {}),
    "april": ("mlp_out_layer1", StandardTrainerAprilUpdate, AutoEncoderNew, {}),
    "gated": ("attn_out_layer1", GatedSAETrainer, GatedAutoEncoder, {}),
    "topk": ("any", TopKTrainer, AutoEncoderTopK, NAMED | FEW),
    "batchtopk": ("any", BatchTopKTrainer, BatchTopKSAE, NAMED | FEW),
    "batchtopk-no_threshold": ("any", BatchTopKTrainer, BatchTopKSAE, NAMED | FEW),
    "jumprelu": ("any", JumpReluTrainer, JumpReluAutoEncoder, NAMED),
    "matryoshka": (
        "any",
        MatryoshkaBatchTopKTrainer,
        MatryoshkaBatchTopKSAE,
        NAMED | FEW | {"group_fractions": [0.25, 0.75]},
    ),
}


class Activations(list[torch.Tensor]):
    """What training would read, with what a buffer says of itself."""

    config: ClassVar = {"io": "out", "ctx_len": 16}


def drawn(kind: type[nn.Module], case: str, seed: int) -> Callable[..., nn.Module]:
    """Makes a dictionary of which every parameter is drawn."""

    def make(*args: Any, **others: Any) -> nn.Module:
        made = kind(*args, **others)
        draw(made, seed)
        if isinstance(made, AutoEncoder) and case.endswith("unit_norms"):
            made.decoder.weight.data /= made.decoder.weight.norm(dim=0)
        if "threshold" in dict(made.named_buffers()) and not case.endswith("no_threshold"):
            dict(made.named_buffers())["threshold"].fill_(0.6)
        return made

    return make


def main(folder: Path) -> None:
    outputs = {"x": X}
    for seed, (case, (name, trainer, kind, told)) in enumerate(CASES.items()):
        told = {"activation_dim": D_IN, "dict_size": N_FEATURES, "layer": 1, "lm_name": "drawn", **told}
        told |= {"trainer": trainer, "steps": 5000, "device": "cpu", "dict_class": drawn(kind, case, 200 + seed)}
        trainSAE(Activations([X]), [told], steps=0, save_dir=str(folder / case / name), device="cpu")
        saved = folder / case / name / "trainer_0"
        if kind is AutoEncoderNew:  # which its trainer does not write down
            config = json.loads((saved / "config.json").read_text())
            config["trainer"]["dict_class"] = "AutoEncoderNew"
            (saved / "config.json").write_text(json.dumps(config, indent=4))
        made, _ = load_dictionary(str(saved), "cpu")
        outputs |= {f"{case}/features": made.encode(X), f"{case}/written": made(X)}
    save(outputs, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "dictionary_learning")
