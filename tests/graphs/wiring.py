"""Transformers wired by hand, of which every cause is known: one feature for each axis of the stream."""

import torch

import residscope as rs
from residscope.sites import read_site
from tests.models import hf_tokenizer, own_state

D_MODEL, N_CTX = 12, 8
Edge = tuple[int, int, int, int, int, int]  # layer, feature, pos, target layer, feature, pos


def wire(
    embeddings: dict[int, dict[int, float]],
    mlp: dict[int, list[tuple[dict[int, float], float, dict[int, float]]]],
    heads: dict[int, dict[tuple[int, int], float]],
) -> rs.Model:
    """A model without norms, whose attention looks at all it may alike.

    Args:
      embeddings: What each token writes: axes and amounts.
      mlp: Of each layer, neurons: what they read, their bias, what they write.
      heads: Of each layer, what attention moves: from an axis to an axis, by a factor.
    """
    config = rs.Config(
        n_layers=2,
        d_model=D_MODEL,
        n_heads=1,
        d_mlp=4,
        d_vocab=300,
        n_ctx=N_CTX,
        norm=None,
        activation="relu",
        learned_positions=True,
    )
    state = {name: torch.zeros_like(tensor) for name, tensor in own_state(config).items()}
    for token, axes in embeddings.items():
        for axis, amount in axes.items():
            state["embedding.weight"][token, axis] = amount
    for layer, neurons in mlp.items():
        for number, (reads, bias, writes) in enumerate(neurons):
            state[f"blocks.{layer}.mlp.up.bias"][number] = bias
            for axis, amount in reads.items():
                state[f"blocks.{layer}.mlp.up.weight"][number, axis] = amount
            for axis, amount in writes.items():
                state[f"blocks.{layer}.mlp.down.weight"][axis, number] = amount
    for layer, moves in heads.items():
        for number, ((source, target), factor) in enumerate(moves.items()):
            state[f"blocks.{layer}.attn.v.weight"][number, source] = 1.0
            state[f"blocks.{layer}.attn.o.weight"][target, number] = factor
    return rs.load(state, config=config, tokenizer=hf_tokenizer(), dtype="float64", device="cpu")


def axes_at(site: str) -> rs.SparseAutoencoder:
    """A feature for each axis, as much as stands there, where that is above zero."""
    eye = torch.eye(D_MODEL, dtype=torch.float64)
    return rs.SparseAutoencoder(
        name=f"axes of {site}",
        site=read_site(site),
        encoder=eye,
        decoder=eye,
        encoder_bias=torch.zeros(D_MODEL).double(),
        decoder_bias=torch.zeros(D_MODEL).double(),
    )


STREAM = [axes_at("resid_pre.0"), axes_at("resid_pre.1"), axes_at("resid_post.1")]


def edges_of(graph: rs.Graph) -> dict[Edge, float]:
    """Each edge with its weight."""
    names = ["layer", "feature", "pos", "target_layer", "target_feature", "target_pos"]
    frame = graph.to_frame()
    keys = map(tuple, frame[names].to_numpy().tolist())
    return dict(zip(keys, frame["value"].tolist(), strict=True))
