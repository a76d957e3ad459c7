"""TransformerLens: a TransformerBridge with the weights as they are (no compatibility mode)."""

import sys
from functools import cache
from itertools import product
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformer_lens import patching
from transformer_lens.model_bridge import TransformerBridge

from benchmarks.peers.worker import Job, Request, device, difference, ids_of, serve

MODEL = sys.argv[1]
SWEEPS = {
    "resid_pre": patching.get_act_patch_resid_pre,
    "attn_out": patching.get_act_patch_attn_out,
    "mlp_out": patching.get_act_patch_mlp_out,
    "z": patching.get_act_patch_attn_head_out_all_pos,
    "q": patching.get_act_patch_attn_head_q_all_pos,
    "k": patching.get_act_patch_attn_head_k_all_pos,
    "v": patching.get_act_patch_attn_head_v_all_pos,
    "pattern": patching.get_act_patch_attn_head_pattern_all_pos,
}


@cache
def load(dtype: str) -> Any:
    return TransformerBridge.boot_transformers(MODEL, device=device(), dtype=getattr(torch, dtype)).eval()


def forward(request: Request) -> Job:
    model, ids = load(request["dtype"]), ids_of(request)
    return Job(lambda: None, lambda _: model(ids), lambda _, logits: {"values": logits[:, -1]})


def keep_all(request: Request) -> Job:
    model, ids = load(request["dtype"]), ids_of(request)
    return Job(lambda: None, lambda _: model.run_with_cache(ids), lambda _, found: {"values": found[0][:, -1]})


def sweep(request: Request) -> Job:
    """Its own sweep; it needs the cache of the clean run, and the corrupted one for what the numbers are held to."""
    model, metric, patch = load(request["dtype"]), difference(request), SWEEPS[request["site"]]
    clean, corrupted = ids_of(request, "clean"), ids_of(request, "corrupted")
    cells: dict[str, Any] = {}
    if "layers" in request:  # by head and position, of these alone
        patch = patching.get_act_patch_attn_head_out_by_pos
        asked = product(request["layers"], range(clean.shape[1]), range(model.cfg.n_heads))
        cells = {"index_axis_names": None, "index_df": pd.DataFrame(asked, columns=["layer", "pos", "head"])}
    return Job(
        lambda: (model.run_with_cache(clean)[1], metric(model(corrupted))),
        lambda prepared: patch(model, corrupted, prepared[0], metric, reduce="none", **cells).values.flatten(0, -2),
        lambda prepared, values: {"values": values, "base": prepared[1]},
    )


def remove(request: Request) -> Job:
    """One hooked full forward for each vector; the next stream is read."""
    model, ids, dictionary = load(request["dtype"]), ids_of(request), load_file(request["dictionary"], device())
    vectors, layer = dictionary["vectors"][: request["n_edits"]], request["layer"]

    def one(vector: Tensor) -> Tensor:
        found = []

        def take_out(x: Tensor, hook: Any) -> Tensor:
            x[:, -1] -= vector
            return x

        def read(x: Tensor, hook: Any) -> None:
            found.append((x[:, -1] @ dictionary["encoder"]).relu())

        hooks = [(f"blocks.{layer}.hook_resid_pre", take_out), (f"blocks.{layer + 1}.hook_resid_pre", read)]
        model.run_with_hooks(ids, fwd_hooks=hooks)
        return found[0]

    return Job(lambda: None, lambda _: torch.stack([one(v) for v in vectors]), lambda _, x: {"values": x})


def remove_batched(request: Request) -> Job:
    """All edited streams as one batch, from the edited layer to the next; this version runs the layers below too."""
    model, ids, dictionary = load(request["dtype"]), ids_of(request), load_file(request["dictionary"], device())
    vectors, layer = dictionary["vectors"][: request["n_edits"]], request["layer"]

    def work(stream: Tensor) -> Tensor:
        edited = stream.expand(len(vectors), -1, -1).clone()
        edited[:, -1] -= vectors
        after = model(edited, start_at_layer=layer, stop_at_layer=layer + 1)
        features: Tensor = (after[:, -1:] @ dictionary["encoder"]).relu()
        return features

    return Job(lambda: model.run_with_cache(ids)[1][f"blocks.{layer}.hook_resid_pre"], work, lambda _, x: {"values": x})


def attribute_heads(request: Request) -> Job:
    """Every head's result, normed by the final scale, along the direction of the answers."""
    model, ids = load(request["dtype"]), ids_of(request)
    correct, wrong = (model.W_U[:, request[name]] for name in ("correct", "wrong"))
    direction = (correct - wrong).T * model.ln_final.weight  # batch d_model; its weight is not folded

    def work(cache: Any) -> Tensor:
        results = cache.stack_head_results(layer=-1, pos_slice=-1)
        found: Tensor = (cache.apply_ln_to_stack(results, layer=-1, pos_slice=-1) * direction).sum(-1)
        return found  # head batch

    def leave_constants_out(cache: Any, found: Tensor) -> dict[str, Tensor]:
        """Beside ours, which counts what does not depend on attention as the layer's."""
        biases = torch.stack([block.ln1.bias for block in model.blocks])
        held = torch.einsum("ld,lhdv->lhv", biases, model.W_V) + model.b_V
        stack = torch.einsum("lhv,lhvd->lhd", held, model.W_O).flatten(0, 1)[:, None].expand(-1, len(ids), -1)
        constants = (cache.apply_ln_to_stack(stack, layer=-1, pos_slice=-1) * direction).sum(-1)
        return {"values": (found - constants).T}

    return Job(lambda: model.run_with_cache(ids)[1], work, leave_constants_out)


def head_scores(request: Request) -> Job:
    """Its exploratory analysis's three: means of diagonals of the patterns on random tokens said twice."""
    model = load(request["dtype"])
    ids = torch.randint(model.cfg.d_vocab, (8, 50), generator=torch.Generator().manual_seed(0)).repeat(1, 2)

    def work(_: None) -> Tensor:
        cache = model.run_with_cache(ids, remove_batch_dim=False)[1]
        patterns = torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)])
        diagonals = [patterns.diagonal(-back, -2, -1).mean((1, -1)) for back in (1, 50, 49)]
        return torch.stack(diagonals)

    return Job(lambda: None, work)


if __name__ == "__main__":
    serve(
        {
            "forward": forward,
            "keep_all": keep_all,
            "sweep": sweep,
            "remove": remove,
            "remove_batched": remove_batched,
            "attribute_heads": attribute_heads,
            "head_scores": head_scores,
        }
    )
