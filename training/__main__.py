"""Make the bundled model and its dictionaries: `python -m training --shared FOLDER [--seed N] [--into FOLDER]`.

Sampled stories, the tokenizer, the training's state and the dictionaries are files, and are not made again where they
are there: stopped in its training, it goes on from the last state. The model's files and what they do are written anew
each time.
"""

import argparse
import json
import os
import random
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

import residscope as rs
from training.corpus import SAMPLED, STORIES, Mixture, Prose, read_prose
from training.evaluate import (
    measure_behaviours,
    measure_circuits,
    measure_first_position,
    measure_parts,
    measure_second_naming,
    tell,
)
from training.evaluate_dictionaries import HEADER, measure_dictionaries
from training.export import export
from training.grammar import write_story, write_task
from training.sampling import sample_stories
from training.tokenizer import train_tokenizer
from training.train import Recipe, train

SAE_LENS = Path(".peers/sae_lens/bin/python")  # `make bundled-model` installs it


def make_tokenizer(prose: Prose, path: Path) -> Tokenizer:
    """The one in the file, or a new one, trained on all training text and as much of the grammar's as a tenth of it."""
    if path.is_file():
        return Tokenizer.from_file(str(path))
    rng = random.Random(0)
    texts = [text for part in prose.train.values() for text in part]
    tokenizer = train_tokenizer([*texts, *(make(rng) for make in (write_story, write_task) for _ in range(5000))])
    tokenizer.save(str(path))
    return tokenizer


def write_held_out(prose: Prose, n: int) -> list[str]:
    """As many texts of every kind, none of which was trained on; those of the grammar are drawn anew."""
    rng = random.Random("held out")
    written = [make(rng) for make in (write_story, write_task) for _ in range(n)]
    return [*(text for texts in prose.held_out.values() for text in texts[:n]), *written]


def main() -> None:
    """Read the call, and make everything that is not there yet."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="holds corpora/ and models/")
    parser.add_argument("--into", type=Path, default=Path("training/made"), help="where everything is written")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--steps", type=int, default=Recipe.n_steps)
    parser.add_argument("--stories", type=int, default=8192, help="how many are sampled from the other model")
    parser.add_argument("--prompts", type=int, default=500, help="of each task in the evaluation")
    parser.add_argument("--tokens", type=int, help="that each dictionary sees; 0 for none; unset, as its own recipe")
    asked = parser.parse_args()
    if asked.prompts < 24:
        parser.error(f"--prompts {asked.prompts}: every wording and order is to be there; take 24 at least.")
    if not (asked.shared / "corpora" / STORIES).is_file():
        parser.error(f"--shared {asked.shared}: there is no corpora/{STORIES}.")
    if asked.tokens != 0 and not SAE_LENS.is_file():
        parser.error(f"There is no {SAE_LENS}, which trains the dictionaries; run `make bundled-model`.")
    asked.into.mkdir(parents=True, exist_ok=True)
    other = asked.shared / "models/stories260K"
    sampled = asked.into / SAMPLED
    sample_stories(other, sampled, asked.stories, seed=0)
    prose = read_prose(asked.shared / "corpora", sampled)
    tokenizer = make_tokenizer(prose, asked.into / "tokenizer.json")
    recipe = replace(Recipe(), seed=asked.seed, n_steps=asked.steps)
    folder = asked.into / f"seed_{recipe.seed}"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mixture = Mixture(prose, tokenizer, recipe.seed)
    model = train(recipe, mixture, folder, device)
    export(model, tokenizer, folder / "model")
    ours = rs.load(folder / "model")
    findings = measure_behaviours(ours, asked.prompts, prose.held_out[STORIES], rs.load(other))
    findings += [*measure_parts(ours, 100), *measure_circuits(ours, 100), measure_second_naming(ours, 100)]
    told = tell([*findings, measure_first_position(ours, prose.held_out[STORIES][:50])])
    if asked.tokens != 0 and not (folder / "dictionaries").is_dir():
        call: list[str | Path] = [SAE_LENS, "-m", "training.dictionaries", folder / "model", "--sampled", sampled]
        call += ["--corpora", asked.shared / "corpora", "--into", folder / "new", "--seed", str(recipe.seed)]
        call += ["--tokens", str(asked.tokens)] if asked.tokens else []
        subprocess.run(call, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        (folder / "new").rename(folder / "dictionaries")
    figures = (
        measure_dictionaries(ours, folder / "dictionaries", write_held_out(prose, 100)) if asked.tokens != 0 else []
    )
    print("\n".join([HEADER, *map(str, figures)]), flush=True)
    kept = {
        "recipe": asdict(recipe),
        "tokens_seen": recipe.tokens_seen,
        "tokens_a_second": json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["tokens_a_second"],
        "machine": torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads",
        "shares": mixture.measure_shares(recipe.n_steps, recipe.n_tokens),
        "measured": told,
        "dictionaries": [asdict(one) | {"missed": one.missed} for one in figures],
    }
    (folder / "evaluation.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
