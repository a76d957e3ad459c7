"""Composition of heads equals that of the full matrices, and is one for heads that are made for each other."""

import inspect
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import residscope as rs
from residscope.analyses.composition import compose, draw_chance, face
from residscope.errors import BadArgument
from tests.models import OWN, family_model, own_config, own_model, own_state

Kind = Literal["Q", "K", "V"]
FAMILIES = ["gpt2", "llama", "qwen3", "gemma2", "olmo2"]
# Of a bilinear circuit: how what the part gives changes with the plainly normed stream that it reads.
MODELS = [*FAMILIES, *OWN, "layer norms after", "layer-normed heads", "layer-normed heads as one"]


def model_of(name: str) -> rs.Model:
    changes: dict[str, Any] = {
        "layer norms after": {"post_norm": True, "pre_norm": False},
        "layer-normed heads": {"qk_norm": "head"},
        "layer-normed heads as one": {"qk_norm": "whole", "n_kv_heads": 2},
        **OWN,
    }
    if name in FAMILIES:
        return family_model(name)
    return own_model(own_config(**changes[name]), dtype=torch.float64)


def plain(norm: Any, x: Tensor) -> Tensor:
    """What a norm's own module makes of vectors, scale and bias apart."""
    if norm is None:
        return x
    normed: Tensor = norm.centre(x) * (1.0 if norm.weight is None else norm.offset + norm.weight.detach())
    return normed


def full_matrices(model: rs.Model, layer: int) -> tuple[Tensor, Tensor]:
    """W_OV and W_QK of each head, [head d_model d_model], from the modules themselves, norms without scales."""
    block: Any = model.transformer.blocks[layer]
    c, unit = model.config, torch.eye(model.config.d_model, dtype=torch.float64)

    def by_head(project: Any) -> Tensor:
        read: Tensor = plain(block.ln1, unit) @ project.weight.detach().T
        return read

    v = by_head(block.attn.v).view(c.d_model, c.n_kv_heads, c.d_head)
    whole = c.qk_norm == "whole"
    q, k = by_head(block.attn.q), by_head(block.attn.k)
    q, k = (plain(block.attn.q_norm, q), plain(block.attn.k_norm, k)) if whole else (q, k)
    q, k = q.view(c.d_model, c.n_heads, c.d_head), k.view(c.d_model, c.n_kv_heads, c.d_head)
    q, k = (q, k) if whole else (plain(block.attn.q_norm, q), plain(block.attn.k_norm, k))
    out, group = block.attn.o.weight.detach().T.view(c.n_heads, c.d_head, c.d_model), c.n_heads // c.n_kv_heads
    heads = range(c.n_heads)
    ov = torch.stack([v[:, head // group] @ plain(block.ln1_post, out[head]) for head in heads])
    return ov, torch.stack([q[:, head] @ k[:, head // group].T for head in heads])


@pytest.mark.parametrize("kind", ["Q", "K", "V"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_that_of_the_full_matrices(name: str, kind: Kind) -> None:
    model = model_of(name)
    found = rs.composition(model, kind)
    circuits = [full_matrices(model, layer) for layer in range(model.config.n_layers)]
    for layer in range(model.config.n_layers):
        for later in range(model.config.n_layers):
            if later <= layer:
                assert found.values[layer, :, later].isnan().all()
                continue
            read = {"Q": circuits[later][1], "K": circuits[later][1].mT, "V": circuits[later][0]}[kind]
            for head, write in enumerate(circuits[layer][0]):
                expected = torch.linalg.matrix_norm(write @ read)
                expected = expected / torch.linalg.matrix_norm(write) / torch.linalg.matrix_norm(read)
                close = found.values[layer, head, later].double() + found.chance
                torch.testing.assert_close(close, expected, rtol=0, atol=1e-6)


def test_chance_is_the_mean_over_random_full_matrices() -> None:
    chance = draw_chance(24, 6)
    assert chance.shape == (16, 16)
    generator = torch.Generator().manual_seed(5)
    scores = []
    for _ in range(256):
        a, b, c, d = (torch.randn(24, 6, generator=generator) for _ in range(4))
        first, second = a @ b.T, c @ d.T
        scores.append(torch.linalg.matrix_norm(first @ second) / (first.norm() * second.norm()))
    torch.testing.assert_close(chance.mean(), torch.stack(scores).mean(), rtol=0.02, atol=0)
    torch.testing.assert_close(chance.mean(), torch.tensor(24**-0.5), rtol=0.02, atol=0)  # of many entries: its limit


def test_heads_without_anything_in_common_compose_nothing_and_the_same_line_composes_all() -> None:
    unit = torch.eye(8)
    first, second = unit[None, :, :2], unit[None, :, 2:4]
    assert compose(face(first, first.mT), face(second, second.mT)) == 0
    line = unit[None, :, :1]
    torch.testing.assert_close(compose(face(second[..., :1], line.mT), face(first[..., :1], line.mT)), torch.ones(1, 1))


def test_random_heads_compose_by_chance() -> None:
    config = own_config(d_model=128, n_heads=8, n_layers=2, d_mlp=0, norm=None)
    found = rs.composition(own_model(config), "K")
    assert found.values[0, :, 1].mean().abs() < found.chance_sd
    assert 0 < found.chance_sd < 0.1 * found.chance


def test_it_is_a_result(llama: rs.Model, tmp_path: Path) -> None:
    found = rs.composition(llama, "Q")
    frame = found.to_frame()
    assert list(frame.columns) == ["layer", "head", "target_layer", "target_head", "value"]
    assert len(frame) == 3 * 16  # pairs of layers, pairs of heads
    row = frame.iloc[-1]
    assert (row["layer"], row["head"], row["target_layer"], row["target_head"]) == (1, 3, 2, 3)
    assert row["value"] == pytest.approx(float(found.values[1, 3, 2, 3]))
    found.save(tmp_path / "composition")
    again = rs.open(tmp_path / "composition")
    assert isinstance(again, rs.Composition)
    assert torch.equal(again.values.nan_to_num(), found.values.nan_to_num())
    assert again.chance == found.chance
    assert found.python[-1] == "rs.composition(model, 'Q')"


def test_a_head_of_zeros_composes_with_none() -> None:
    state = own_state(config := own_config(n_layers=2))
    state["blocks.0.attn.o.weight"][:, :8] = 0
    found = rs.composition(rs.load(state, config=config), "V")
    assert found.values[0, 0].isnan().all()
    assert not found.values[0, 1:, 1].isnan().any()
    assert found.to_frame()["value"].isna().sum() == 4  # they are seen, not left out


def test_what_does_not_fit(gpt2: rs.Model) -> None:
    with pytest.raises(BadArgument, match="Choose 'Q', 'K' or 'V'"):
        inspect.unwrap(rs.composition)(gpt2, "O")
    with pytest.raises(BadArgument, match="one layer"):
        rs.composition(own_model(own_config(n_layers=1)), "Q")
