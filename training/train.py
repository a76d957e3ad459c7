"""Training the bundled model: GPT-2's architecture on the mixture, from a seed, and from where it stopped."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import GPT2Config, GPT2LMHeadModel

from training.corpus import Mixture
from training.muon import Muon


@dataclass(frozen=True)
class Recipe:
    """Everything that a training is told."""

    seed: int = 0
    n_layers: int = 4
    d_model: int = 128
    n_heads: int = 4
    n_ctx: int = 256
    initializer_range: float = 0.06
    n_tokens: int = 2048  # of a step
    n_steps: int = 12000
    n_warmup: int = 100
    matrix_rate: float = 5e-3
    matrix_decay: float = 0.1
    save_every: int = 500

    @property
    def tokens_seen(self) -> int:
        """By the whole training."""
        return self.n_steps * self.n_tokens


def make_model(recipe: Recipe, n_tokens: int, bos: int) -> GPT2LMHeadModel:
    """An untrained model."""
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=n_tokens,
        n_positions=recipe.n_ctx,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one pass
        initializer_range=recipe.initializer_range,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=bos,
        eos_token_id=bos,
    )
    return GPT2LMHeadModel(config)


def train(recipe: Recipe, mixture: Mixture, folder: Path, device: torch.device) -> GPT2LMHeadModel:
    """Train to the end, from the last state in the folder if there is one.

    Args:
      recipe: As it was when the state was written.
      mixture: Gives each step's batch.
      folder: Where states and the log are written.
      device: Where it runs.
    """
    model = make_model(recipe, mixture.n_tokens, mixture.bos).to(device)
    optimizers = make_optimizers(model, recipe)
    first = _resume(model, optimizers, recipe, folder)
    begin = time.perf_counter()
    for step in range(first, recipe.n_steps):
        for optimizer, rate in zip(optimizers, (recipe.matrix_rate, mixture.find_stage(step).rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * _share_of_rate(step, recipe)
        ids = mixture.make_batch(step, recipe.n_tokens).to(device)
        loss = model(input_ids=ids, labels=ids).loss
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        done = step + 1
        if done % 50 == 0 or done == recipe.n_steps:
            _log(folder, recipe, done, float(loss.detach()), (time.perf_counter() - begin) / (done - first))
        if done % recipe.save_every == 0 or done == recipe.n_steps:
            _save(model, optimizers, recipe, done, folder)
    return model


def make_optimizers(model: GPT2LMHeadModel, recipe: Recipe) -> Sequence[Optimizer]:
    """Muon for the matrices of the blocks, its steps as large as AdamW's; AdamW for embeddings, norms and biases."""
    inner = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    outer = [
        model.transformer.wte.weight,
        model.transformer.wpe.weight,
        *(p for p in model.parameters() if p.ndim == 1),
    ]
    return (
        Muon(inner, lr=recipe.matrix_rate, weight_decay=recipe.matrix_decay),
        torch.optim.AdamW(outer, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    )


def _share_of_rate(step: int, recipe: Recipe) -> float:
    """Of the learning rates: up in a line, and down along a cosine."""
    if step < recipe.n_warmup:
        return (step + 1) / recipe.n_warmup
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.n_warmup) / (recipe.n_steps - recipe.n_warmup)))


def _log(folder: Path, recipe: Recipe, done: int, loss: float, seconds_a_step: float) -> None:
    line = {
        "step": done,
        "of": recipe.n_steps,
        "loss_nats": round(loss, 4),
        "tokens_a_second": round(recipe.n_tokens / seconds_a_step),
        "minutes_left": round((recipe.n_steps - done) * seconds_a_step / 60, 1),
    }
    print(json.dumps(line), flush=True)
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def _save(model: GPT2LMHeadModel, optimizers: Sequence[Optimizer], recipe: Recipe, step: int, folder: Path) -> None:
    """Parameters and what its optimizer knows of each, as safetensors; written whole or not at all."""
    state: dict[str, Tensor] = {}
    known = {parameter: kept for optimizer in optimizers for parameter, kept in optimizer.state.items()}
    for name, parameter in model.named_parameters():
        state[name] = parameter.detach().cpu().contiguous()
        state |= {f"{name}|{key}": value.detach().cpu().contiguous() for key, value in known[parameter].items()}
    save_file(state, folder / "new.safetensors", metadata={"step": str(step), "recipe": json.dumps(asdict(recipe))})
    (folder / "new.safetensors").replace(folder / "state.safetensors")


def _resume(model: GPT2LMHeadModel, optimizers: Sequence[Optimizer], recipe: Recipe, folder: Path) -> int:
    """The step to go on from."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "state.safetensors"
    if not path.is_file():
        return 0
    metadata = read_metadata(path)
    if json.loads(metadata["recipe"]) != asdict(recipe):
        raise SystemExit(f"{path} is of another recipe: {metadata['recipe']}. Choose another folder.")
    state = load_file(path, device=str(model.device))
    owner = {one: opt for opt in optimizers for group in opt.param_groups for one in group["params"]}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])
            kept = {key.partition("|")[2]: value for key, value in state.items() if key.startswith(f"{name}|")}
            owner[parameter].state[parameter] = kept
    return int(metadata["step"])


def read_metadata(path: Path) -> dict[str, str]:
    """What stands beside the tensors of a safetensors file."""
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        found: dict[str, str] = json.loads(file.read(n_bytes))["__metadata__"]
    return found
