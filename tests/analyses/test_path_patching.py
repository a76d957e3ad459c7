"""Path patching: two full runs for every sender, and direct attribution where only the direct path is left."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import config

import residscope as rs
from residscope.analyses.patching import EFFECTS
from residscope.errors import BadArgument, BadEdit, UnknownSite
from tests.analyses.test_patching import PAIRS, SHIFTED
from tests.models import family_model, own_config, own_model

Receiver = tuple[str, int | None]
READ = {"gpt2": ["ln2"], "llama": ["ln2"], "olmo2": ["mlp_pre", "mlp_up"]}


def path_patch_in_full(
    model: rs.Model, kind: str, receivers: list[Receiver], *, mlps: bool, scales: bool
) -> torch.Tensor:
    """Two full runs for each sender of a kind of site, into receivers or the logits."""
    clean, corrupted = model.run(list(PAIRS.clean)), model.run(list(PAIRS.corrupted))
    held = [
        site
        for site in model.sites
        if site.kind == "z" or (mlps and site.kind == "mlp_out") or (scales and site.kind.endswith("_scale"))
    ]
    values = []
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads) if kind == "z" else [None]:
            sent = rs.replace(f"{kind}.{layer}", corrupted, head=head)
            heard = model.run(list(PAIRS.clean), edits=[rs.freeze(held, clean), sent])
            if receivers:
                told = [rs.replace(site, heard, head=number) for site, number in receivers]
                heard = model.run(list(PAIRS.clean), edits=told)
            values.append(PAIRS.metric()(heard))
    return torch.stack(values)


FREEZES = list(product(["heads", "heads+mlps"], ["recomputed", "frozen"]))
QUICK = [("gpt2", *one) for one in FREEZES] + [("llama", *FREEZES[0]), ("olmo2", *FREEZES[-1])]
OTHERS = [one for one in ((which, *one) for which in ("llama", "olmo2") for one in FREEZES) if one not in QUICK]


@pytest.mark.parametrize(
    ("which", "freeze", "norm"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS)]
)
def test_it_equals_two_full_runs(which: str, freeze: Any, norm: Any) -> None:
    model = family_model(which)
    in_full = {"mlps": freeze == "heads+mlps", "scales": norm == "frozen"}
    neurons: dict[int, list[Receiver]] = {
        layer: [(f"{kind}.{layer}", None) for kind in READ[which]] for layer in (1, 2)
    }
    asked: dict[str, tuple[list[Receiver], int]] = {  # and how many layers send to them
        "logits": ([], 3),
        "mlp.1": (neurons[1], 2),
        "v.2.1 k.1.0 q.2.0": ([("v.2", 1), ("k.1", 0), ("q.2", 0)], 2),
        "q.2.3 mlp.2": ([("q.2", 3), *neurons[2]], 3),
    }
    for names, (receivers, n_layers) in asked.items():
        found = rs.path_patch(model, PAIRS, receivers=names.split(), freeze=freeze, norm=norm)
        expected = path_patch_in_full(model, "z", receivers, **in_full)
        assert found.axes == ("layer", "head", "pair")
        torch.testing.assert_close(found.values.flatten(0, 1), expected, rtol=0, atol=1e-9)
        changed = (found.values - found.clean_values).abs().amax((1, 2)) > 1e-6
        assert changed.tolist() == [layer < n_layers for layer in range(3)], names
        assert (found.reference, found.meaning) == EFFECTS["clean"]  # what nothing is sent by is as clean


def test_mlps_send_too(gpt2: rs.Model) -> None:
    for freeze, mlps in (("heads", False), ("heads+mlps", True)):
        found = rs.path_patch(gpt2, PAIRS, senders="mlps", receivers="k.2.2", freeze=freeze)  # type: ignore[arg-type]
        assert found.axes == ("layer", "pair")
        expected = path_patch_in_full(gpt2, "mlp_out", [("k.2", 2)], mlps=mlps, scales=False)
        torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-9)


def test_what_is_left_of_all_is_the_direct_path(llama: rs.Model) -> None:
    found = rs.path_patch(llama, PAIRS, receivers="logits", freeze="heads+mlps", norm="frozen")
    clean, corrupted = llama.run(list(PAIRS.clean)), llama.run(list(PAIRS.corrupted))
    written = torch.stack(
        [corrupted.at(f"head_out.{layer}", -1) - clean.at(f"head_out.{layer}", -1) for layer in range(3)]
    )  # layer pair head d_model
    ids = torch.tensor([[llama.single_token(token) for token in side] for side in (PAIRS.correct, PAIRS.wrong)])
    unembed = llama.weights.folded("W_U", centre=True).weight
    along = (unembed[:, ids[0]] - unembed[:, ids[1]]) / clean.at("ln_final_scale", -1)
    expected = torch.einsum("lphd,dp->lhp", written, along)
    torch.testing.assert_close(found.values - found.clean_values, expected, rtol=0, atol=1e-9)


def test_it_is_a_result_whose_python_runs(stories: rs.Model, tmp_path: Path) -> None:
    pairs = rs.pairs([{"clean": "one day a", "corrupted": "one day b", "correct": "a", "wrong": "b"}])
    metric = rs.log_prob("a")
    found = rs.path_patch(stories, pairs, receivers=["q.2.1", "v.2.0"], metric=metric, norm="frozen")
    assert [*found.to_frame()] == ["layer", "head", "pair", "clean", "corrupted", "value"]
    assert torch.equal(found.clean_values, metric(stories.run("one day a")))
    assert found.settings["receivers"] == ["q.2.1", "v.2.0"]
    assert found.settings["unit"] == "nats"
    for one in (found, rs.path_patch(stories, pairs, receivers="logits")):
        assert "edits" not in one.settings  # what is held is the analysis's own
    names: dict[str, Any] = {}
    exec("\n".join(found.python[:-1]), names)
    assert torch.equal(eval(found.python[-1], names).values, found.values)
    found.save(tmp_path / "paths")
    assert rs.open(tmp_path / "paths").to_frame().equals(found.to_frame())


def test_what_does_not_fit(gpt2: rs.Model, llama: rs.Model) -> None:
    config.update("jaxtyping_disable", True)  # as if annotations were not checked
    given: list[tuple[Any, str, dict[str, Any]]] = [
        (BadArgument, "senders='neurons' was asked for", {"senders": "neurons"}),
        (BadArgument, "freeze='mlps' was asked for", {"freeze": "mlps"}),
        (BadArgument, "norm='own' was asked for", {"norm": "own"}),
        (BadArgument, "No receiver was named", {"receivers": []}),
        (BadArgument, "receivers=None was asked for", {"receivers": None}),
        (BadArgument, r"senders=\['heads'\] was asked for. Choose 'heads' or 'mlps'", {"senders": ["heads"]}),
        (BadArgument, r"The receiver 'z\.1\.1' was named", {"receivers": ["z.1.1"]}),
        (BadArgument, "The receiver 3 was named", {"receivers": [3]}),
        (BadArgument, r"The receiver 'q\.1' was named", {"receivers": ["q.1"]}),
        (BadArgument, "The receiver 'logits' was named", {"receivers": ["q.1.1", "logits"]}),
        (BadArgument, r"'k\.1\.2' was named, and k\.1 has 2 heads", {"receivers": "k.1.2"}),
        (UnknownSite, r"no site 'v\.3': v has layers 0 to 2", {"receivers": "v.3.0"}),
        (BadEdit, "other texts or lengths", {"pairs": SHIFTED}),
    ]
    for error, says, changes in given:
        with pytest.raises(error, match=says):
            rs.path_patch(llama, **{"pairs": PAIRS, "receivers": "logits", **changes})
    attention_only = own_model(own_config(d_mlp=0, learned_positions=True))
    for asked in ({"receivers": "mlp.1"}, {"receivers": "logits", "senders": "mlps"}):
        with pytest.raises(UnknownSite, match="no site 'mlp_"):
            rs.path_patch(attention_only, PAIRS, **asked)  # type: ignore[arg-type]
