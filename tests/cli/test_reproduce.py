"""`residscope reproduce`: what it computes on a GPT-2 of the right shape, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import residscope as rs
from residscope.cli.main import cli
from residscope.cli.reproduce import _PUBLISHED, compare, print_table
from residscope.errors import BadArgument
from tests.models import shared_path

PUBLISHED: dict[str, Any] = json.loads(_PUBLISHED.read_text())
CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 24,
    "vocab_size": 50257,
    "n_positions": 256,
}
CONFIG |= {"bos_token_id": 50256}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many layers and heads as GPT-2 small, and its tokenizer; narrow, and every weight drawn."""
    folder = tmp_path_factory.mktemp("gpt2")
    for file in shared_path("tokenizers/gpt2").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config(**{key: value for key, value in CONFIG.items() if key != "model_type"}))
    state = {name: 3 * value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(state, folder / "model.safetensors")
    return folder


def test_what_was_published_adds_up() -> None:
    """Copied rightly: parts sum to the whole, as the source says they do."""
    whole = sum(PUBLISHED["ioi"]["per_prompt_logit_diff"]) / 8
    assert whole == pytest.approx(PUBLISHED["ioi"]["average_logit_diff"], abs=1e-3)
    assert sum(PUBLISHED["layer_attribution"]["values"]) == pytest.approx(whole, abs=1e-3)
    heads = torch.tensor(PUBLISHED["head_attribution"]["values"])
    assert heads.shape == (12, 12)
    assert float(heads[9, 9]) == pytest.approx(PUBLISHED["ablation"]["dla_of_L9H9"], abs=1e-3)
    assert PUBLISHED["ablation"]["post_ablation"] == pytest.approx(2.917, abs=1e-3)
    assert torch.tensor(PUBLISHED["patch_resid_pre"]["values"]).shape == (12, 15)


@pytest.fixture(scope="module")
def found(small: Path) -> dict[str, dict[str, torch.Tensor]]:
    """What the command prints as JSON."""
    done = CliRunner().invoke(cli, ["reproduce", "ioi", "--model", str(small), "--json"])
    assert done.exit_code == 0, done.output
    both = json.loads(done.output)
    sides = ("ours", "theirs")
    return {side: {name: torch.tensor(one[side]).double() for name, one in both.items()} for side in sides}


@pytest.mark.slow
def test_all_that_was_published_is_computed(small: Path, found: dict[str, dict[str, torch.Tensor]]) -> None:
    ours, theirs = found["ours"], found["theirs"]
    assert len(ours) == 16
    assert float(theirs["ablated"]) == pytest.approx(PUBLISHED["ablation"]["post_ablation"])
    for name, value in ours.items():
        assert value.shape == theirs[name].shape, name
        assert bool(value.isfinite().all())
    assert float((ours["patch_resid_pre"][0, 10] - 1).abs()) < 1e-4  # where the prompts differ, all comes back
    assert float(ours["patch_resid_pre"][:, :10].abs().max()) < 1e-4  # and before, nothing
    pairs = PUBLISHED["ioi"]["answers_correct_incorrect"]
    metric = rs.logit_difference(*map(list, zip(*pairs, strict=True)))
    model = rs.load(small)
    run = model.run(model.tokenize(PUBLISHED["ioi"]["prompts"], bos=True))
    torch.testing.assert_close(ours["logit_difference"], metric(run).double())
    torch.testing.assert_close(ours["lens"][-1], ours["layers"].sum(), rtol=0, atol=1e-4)  # parts sum, bar the bias


def test_the_table_names_everything(
    found: dict[str, dict[str, torch.Tensor]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_table(found["ours"], found["theirs"])
    rows = dict(re.findall(r"^ *([a-z ]+?)  +\d+ +(\S+)", capsys.readouterr().out, re.M))
    assert rows.keys() == {name.replace("_", " ") for name in found["ours"]}
    at = int(found["theirs"]["logit_difference"].abs().argmax())
    assert rows["logit difference"] == f"{float(found['ours']['logit_difference'][at]):.4f}"  # ours, not theirs


def test_another_shape_is_refused(stories: rs.Model) -> None:
    with pytest.raises(BadArgument, match="5 layers of 8 heads, and the published numbers are of 12 of 12"):
        compare(stories, PUBLISHED)
