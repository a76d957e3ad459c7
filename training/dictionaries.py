"""Train the bundled model's dictionaries: `python -m training.dictionaries MODEL --corpora FOLDER --into FOLDER`.

A sparse autoencoder for the stream before every layer and after the last, and one of another architecture for a layer
in the middle: all in lockstep, with SAELens, on activations of our own runs. It needs the environment of
`training/sae_lens.txt`.
"""

import argparse
import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
    TrainingSAE,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.mixing_buffer import multi_hook_concat_split_iter
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import residscope as rs
from residscope.running.texts import Texts
from residscope.sites import Site
from training.activations import read_activations
from training.corpus import Mixture, Stage, read_prose

MODEL_NAME = "residscope-demo"
DATASET = "the mixture of training/corpus.py"
SHARES = {"prose": 0.65, "tasks": 0.3, "repeats": 0.05}  # random tokens are half noise, and would take many features
_N_MEASURED = 20  # batches that the mean and the scale are taken from


@dataclass(frozen=True)
class Recipe:
    """Everything that a training is told.

    Attributes:
      seed: Of all draws.
      expansion: Features for each entry of the stream.
      n_active: Features of a token, of TopK.
      n_active_on_average: Of JumpReLU, which has as many over many tokens; a little lower, as held-out ones may differ.
      n_tokens: That each dictionary sees.
      batch_tokens: Of each step.
      buffer_tokens: Among which those of a step are drawn.
      window_tokens: A feature that was zero at all of the last so many is dead, and learns what the others miss.
      run_tokens: Of each run of the model.
    """

    seed: int = 0
    expansion: int = 8
    n_active: int = 32
    n_active_on_average: float = 30.0
    n_tokens: int = 1_500_000
    batch_tokens: int = 1024
    buffer_tokens: int = 65_536
    window_tokens: int = 100_000
    learning_rate: float = 3e-3
    run_tokens: int = 8192

    @property
    def n_steps(self) -> int:
        """Of each dictionary."""
        return self.n_tokens // self.batch_tokens


def train_dictionaries(model: rs.Model, batches: Iterable[Texts], folder: Path, recipe: Recipe) -> None:
    """Train one for every stream, and write each to `folder/SITE-ARCHITECTURE`.

    Args:
      model: Whose streams.
      batches: Texts that fit the context, without end.
      folder: Made where it is not there.
      recipe: As above.
    """
    torch.manual_seed(recipe.seed)
    dictionaries = make_dictionaries(model, recipe)
    sites = {name: name.partition("-")[0] for name in dictionaries}
    each = [*dict.fromkeys(sites.values())]
    activations = read_activations(model, each, batches)
    shuffled = multi_hook_concat_split_iter(recipe.buffer_tokens, recipe.batch_tokens, activations, each)
    config = SAETrainerConfig(
        total_training_samples=recipe.n_steps * recipe.batch_tokens,
        train_batch_size_samples=recipe.batch_tokens,
        lr=recipe.learning_rate,
        lr_end=recipe.learning_rate,
        lr_warm_up_steps=recipe.n_steps // 20,
        lr_decay_steps=recipe.n_steps // 3,
        dead_feature_window=recipe.window_tokens // recipe.batch_tokens,
        device=str(model.device),
    )
    with closing(shuffled):  # left open, it complains when Python ends
        trainer = MultiSAETrainer(config, dictionaries, sites, shuffled)
        _begin_at_mean(trainer)
        trainer.fit()
    for name, dictionary in dictionaries.items():
        save_dictionary(dictionary, folder / name)


def make_dictionaries(model: rs.Model, recipe: Recipe) -> dict[str, TrainingSAE]:
    """Untrained ones, by the name of the folder that each will have."""
    n_layers = model.config.n_layers
    streams = [*(Site("resid_pre", layer) for layer in range(n_layers)), Site("resid_post", n_layers - 1)]
    made = {
        f"{site}-topk": TopKTrainingSAE(TopKTrainingSAEConfig(**_facts(model, site, recipe), k=recipe.n_active))
        for site in streams
    }
    middle = streams[n_layers // 2]
    # Trained so, which keeps to the number of features that is asked for, and saved as JumpReLU.
    config = BatchTopKTrainingSAEConfig(**_facts(model, middle, recipe), k=recipe.n_active_on_average)
    return made | {f"{middle}-jumprelu": BatchTopKTrainingSAE(config)}


def _facts(model: rs.Model, site: Site, recipe: Recipe) -> dict[str, Any]:
    """What the configs of all architectures say of a dictionary."""
    metadata = SAEMetadata(
        model_name=MODEL_NAME,
        hook_name=f"blocks.{site.layer}.hook_{site.kind}",
        dataset_path=DATASET,
        context_size=model.config.n_ctx,
        prepend_bos=True,
        seqpos_slice=(1, None),
        exclude_special_tokens=True,
    )
    return {
        "d_in": model.config.d_model,
        "d_sae": recipe.expansion * model.config.d_model,
        "decoder_init_norm": 1.0,  # at the usual 0.1, some features never come alive
        "normalize_activations": "expected_average_only_in",
        "device": str(model.device),
        "metadata": metadata,
    }


def _begin_at_mean(trainer: MultiSAETrainer) -> None:
    """Measure each site's scale, and begin each decoder's bias at its mean, which would take many steps to learn."""
    batches = [next(trainer.data_provider) for _ in range(_N_MEASURED)]
    for name, dictionary in trainer.saes.items():
        x = torch.cat([batch[trainer.hook_names[name]] for batch in batches])
        scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
        trainer.trainers[name].activation_scaler.scaling_factor = scale
        dictionary.b_dec.data.copy_(x.mean(0) * scale)


def save_dictionary(dictionary: TrainingSAE, folder: Path) -> None:
    """Write a trained one as SAELens does, which makes each row of the decoder of length 1; then in float16."""
    weights, config = dictionary.save_inference_model(folder)
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights)
    weights.chmod(0o644)  # safetensors' own is its writer's alone
    facts = json.loads(config.read_text()) | {"dtype": "float16", "device": "cpu"}
    config.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Read the call, and train."""
    parser = argparse.ArgumentParser(prog="python -m training.dictionaries", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the exported model")
    parser.add_argument("--corpora", type=Path, required=True, help="a folder of texts, as the model was trained on")
    parser.add_argument("--sampled", type=Path, help="a file of sampled stories")
    parser.add_argument("--into", type=Path, required=True, help="where the dictionaries are written")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--tokens", type=int, default=Recipe.n_tokens)
    asked = parser.parse_args()
    model, recipe = rs.load(asked.model), replace(Recipe(), seed=asked.seed, n_tokens=asked.tokens)
    tokenizer = Tokenizer.from_file(str(asked.model / "tokenizer.json"))
    prose = read_prose(asked.corpora, asked.sampled)
    mixture = Mixture(prose, tokenizer, asked.seed, [Stage(0, {model.config.n_ctx: 1.0}, 100, SHARES)])
    batches = (mixture.make_batch(number, recipe.run_tokens) for number in count())
    train_dictionaries(model, batches, asked.into, recipe)


if __name__ == "__main__":
    main()
