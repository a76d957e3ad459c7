"""The bundled model: what it does, that its files are small and load fast, and that its dictionaries fit it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training.card import write_card
from training.evaluate import measure_behaviours, measure_parts
from training.ship import CARD, PACKAGE, SHIPPED, read_results

import residscope as rs
from residscope.running.texts import read_texts


@pytest.mark.slow
def test_it_loads_without_transformers() -> None:
    code = (
        "import sys, torch, residscope as rs\n"
        "model = rs.load('demo')\n"
        "print(model.name, model.source, {'transformers', 'anywidget', 'huggingface_hub'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "demo rs.load('demo') set()\n", done.stderr


def test_the_package_data_is_small_and_readable() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".safetensors", ".json", ".txt")]
    assert sum(path.stat().st_size for path in files) < 20e6
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)
    assert json.loads((PACKAGE / "model/config.json").read_text())["dtype"] == "float16"


@pytest.mark.slow
def test_it_does_what_it_was_made_for(demo: rs.Model) -> None:
    """The cheap rows of the table, on 50 prompts each: what the card says is met is met, and all are as it says."""
    kept = read_results()[SHIPPED]["measured"]
    stories = read_texts(rs.demo.texts)[:50]
    measured = {one.name: one for one in measure_behaviours(demo, 50, stories, None)}
    prose = measured.pop("prose, nats per byte")
    assert kept[prose.name]["value"] < prose.value < 2  # passages of our own are harder than stories
    for one in measured.values():
        share = kept[one.name]["low"] >= 0 and kept[one.name]["high"] <= 1
        assert one.value == pytest.approx(kept[one.name]["value"], rel=0.15, abs=0.2 if share else 0.5), str(one)
        if kept[one.name]["met"]:
            assert one.high >= float(one.aim.removeprefix("at least ")), str(one)
    assert {name for name, one in kept.items() if one["met"]} >= {
        "ioi, right answer above the other",
        "repeated tokens, loss saved in nats",
        "name, right answer above the other",
        "agreement, right answer above the other",
        "greater than, later years more probable",
    }


@pytest.mark.slow
def test_it_has_the_parts(demo: rs.Model) -> None:
    kept = read_results()[SHIPPED]["measured"]
    for one in measure_parts(demo, 50):
        assert one.met == kept[one.name]["met"], str(one)
        assert one.value == pytest.approx(kept[one.name]["value"], rel=0.2), str(one)


@pytest.mark.slow
def test_a_dictionary_fits_every_stream(demo: rs.Model) -> None:
    assert [*rs.demo.dictionaries] == [*(f"resid_pre.{layer}" for layer in range(4)), "resid_post.3"]
    texts = read_texts(rs.demo.texts)[:60]
    jumprelu = rs.load_dictionary("demo/resid_pre.2-jumprelu")
    assert jumprelu.activation == "jumprelu"
    for site, dictionary in [*rs.demo.dictionaries.items(), ("resid_pre.2", jumprelu)]:
        assert str(dictionary.site) == site
        contract = dictionary.check(demo, texts)
        assert contract.warning is None
        assert contract["n_active"] <= (33 if dictionary.activation == "topk" else 40)
        assert contract["variance_explained"] > 0.8, site
        assert contract.loss_recovered > 0.9, site


def test_a_bundled_dictionary_is_named_alike_everywhere() -> None:
    dictionary = rs.demo.dictionaries["resid_pre.1"]
    assert dictionary.source == "demo/resid_pre.1-topk"
    again = rs.Edit.from_json(rs.clamp(dictionary[3], 1.0).to_json(), dictionaries=rs.load_dictionary)
    assert again == rs.clamp(dictionary[3], 1.0)
    assert torch.equal(rs.load_dictionary(dictionary.source).decoder, dictionary.decoder)
    with pytest.raises(KeyError):
        rs.demo.dictionaries["resid_pre.9"]


def test_the_card_says_what_was_measured() -> None:
    assert write_card(read_results(), SHIPPED) == Path(CARD).read_text()
