"""Kept bases: equal, found again, never another's, never in the way."""

from pathlib import Path

import pytest
import torch

import residscope as rs
from residscope.errors import BadArgument
from residscope.server.workbench import Workbench
from residscope.sites import Place, Site
from residscope.store.bases import BasisStore
from tests.models import random_llama
from tests.serving import FEW_TEXTS

SITE = Site("resid_pre", 2)
HERE = Place(SITE)


def test_a_second_start_reads_what_the_first_computed(
    stories: rs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Workbench(stories, FEW_TEXTS, data=tmp_path).basis(HERE)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3 * 5  # the whole residual stream came of one pass
    monkeypatch.setattr("residscope.server.workbench.pca_of_sites", lambda *a: pytest.fail("computed again"))
    again = Workbench(stories, FEW_TEXTS, data=tmp_path)
    assert torch.equal(again.basis(HERE).components, first.components)
    assert again.basis(HERE).to_json() == first.to_json()


def test_every_head_is_kept_for_itself(stories: rs.Model, tmp_path: Path) -> None:
    here = Place(Site("z", 1), 3)
    first = Workbench(stories, FEW_TEXTS, data=tmp_path).basis(here)
    assert len(list(tmp_path.rglob("*.safetensors"))) == stories.config.n_heads  # all heads came of one pass
    again = Workbench(stories, FEW_TEXTS, data=tmp_path)
    assert again.basis(here).to_json() == first.to_json()
    assert again.basis(Place(Site("z", 1), 2)).head == 2


def test_broken_files_are_computed_again(stories: rs.Model, tmp_path: Path) -> None:
    first = Workbench(stories, FEW_TEXTS, data=tmp_path).basis(HERE)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:50])
    assert Workbench(stories, FEW_TEXTS, data=tmp_path).basis(HERE).to_json() == first.to_json()


def test_other_models_and_other_texts_find_nothing(tmp_path: Path) -> None:
    hf, tokenizer = random_llama()
    model = rs.load(hf, tokenizer=tokenizer)
    BasisStore(tmp_path, model, ["some text"]).write(rs.pca(model, ["some text"], SITE))
    assert BasisStore(tmp_path, model, ["some text"]).read(HERE) is not None
    assert BasisStore(tmp_path, model, ["some", "text"]).read(HERE) is None
    hf.model.layers[2].mlp.up_proj.weight.data[5, 7] += 1e-3
    changed = rs.load(hf, tokenizer=tokenizer)
    assert changed.fingerprint != model.fingerprint
    assert BasisStore(tmp_path, changed, ["some text"]).read(HERE) is None


def test_a_folder_that_cannot_be_made(stories: rs.Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadArgument, match="cannot be written"):
        BasisStore(tmp_path / "file", stories, ["x"])
