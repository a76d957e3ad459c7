"""The docs build, their cells and the README's snippets run, and nothing in them points elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import residscope as rs
from residscope.cli.main import cli
from residscope.running.prepare import PREPARE
from residscope.settings import Settings
from residscope.sites import KINDS
from residscope.transformer.families import FAMILIES
from residscope.transformer.weights import list_kinds
from tests.models import own_config

ROOT = Path(__file__).parents[2]
METRICS = [
    name
    for name in rs.__all__
    if getattr(getattr(rs, name), "__module__", "") == "residscope.running.metrics" and name != "Metric"
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The docs as pages."""
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "trees")]
    done = subprocess.run([*command, str(ROOT / "docs"), str(out / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_docs_build_and_fetch_nothing(built: Path) -> None:
    for page in built.rglob("*.html"):
        fetched = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(https?:[^\"]*)", page.read_text())
        assert not fetched, (page.name, fetched)


@pytest.mark.slow
def test_everything_is_documented(built: Path) -> None:
    def text(name: str) -> str:
        return (built / "reference" / f"{name}.html").read_text()

    for kind in KINDS:
        assert kind in text("sites")
    for where in ("positions are not learned", "queries and keys are not turned"):
        assert where in text("sites")
    for name in [*PREPARE, *METRICS]:
        module = "edits" if name in PREPARE else "metrics"
        assert f'id="residscope.running.{module}.{name}"' in text("edits"), name
    for weight in list_kinds(own_config(qk_norm="head")):
        assert f">{weight}" in text("weights")
    for family in FAMILIES:
        assert f">{family}<" in text("families")
    for setting in Settings.model_fields:
        assert f"RESIDSCOPE_{setting.upper()}" in text("settings")
    for command in cli.list_commands(click.Context(cli)):
        assert f"residscope {command} " in text("terminal")
    for saved in ("coloured_text.html", "river.html"):
        assert (built / saved).is_file()


@pytest.mark.slow
def test_snippets_of_the_readme_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    code = "\n".join(blocks).replace("/tmp/coloured.html", str(tmp_path / "c.html"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time, there was a little")
    assert (tmp_path / "c.html").is_file()


SURFACE = """
import torch, residscope as rs
from residscope.direction import Direction
model = rs.load("demo")
direction = Direction("one", rs.Site("resid_pre", 2), torch.ones(128).double() / 128**0.5)
text, other = "Tom had a red ball. She", "Lily had a big dog. He"

model.config.n_layers; model.config.d_model; model.config.n_heads; model.config.n_kv_heads
model.weights["W_O.3"]
model.sites
tokens = model.tokenize("Once upon a time", bos=None)
tokens.ids, tokens.mask, tokens.n_tokens, tokens.pieces, tokens.has_bos, tokens.find(" upon", occurrence=1)
model.single_token(" He")
run = model.run("Once upon a time", keep=["resid_pre", "pattern.3"])
run["resid_pre.2"], run["blocks.2.hook_resid_pre"]
run.at("resid_pre.2", pos=-1)
run["z.1"]
run.logits
model.generate("Once upon", n_tokens=4, temperature=0.0, seed=0, edits=[rs.add("resid_pre.2", direction, scale=4.0)])
metric = rs.logit_difference(" He", " She")
run.gradients(metric, ["resid_pre.2", "z.3"])

run, value_or_run, site, later, earlier = model.run(text), model.run(text), "resid_pre.2", [[" He"]], [[" She", " the"]]
several = [rs.logit(" He"), rs.log_prob(" He"), rs.probability_difference(later, earlier), rs.loss(), rs.kl(run)]
several += [rs.metric(lambda logits: logits.amax(-1)), rs.read("resid_pre.3", pos=-1)]
assert metric(run).shape == (1,)
sd, seed, factor, fn, vector_or_direction = 0.1, 0, 0.5, torch.relu, direction
edits = [
    rs.replace(site, value_or_run, head=None, pos=None, along=None),
    rs.add(site, vector_or_direction, scale=1.0, pos=None), rs.scale(site, factor), rs.noise(site, sd, seed),
    rs.ablate(site, with_="zero", head=None, pos=None, along=None),
    rs.project_out(site, direction), rs.clamp(direction, 0.0), rs.knockout("pattern.3", head=1, query=-1, key=4),
    rs.freeze(["pattern"], run), rs.apply(site, fn),
]
edited = model.run(text, edits=[rs.ablate("z.3", head=1, pos=-1)])
for one in several:
    sweep = model.sweep(run, edits=edits, metric=one)
    assert sweep.values.shape[:2] == (10, 1) and sweep.noise_floor < 1e-3
sweep = model.sweep(run, edits=[[rs.ablate(f"z.{l}", head=h)] for l in range(4) for h in range(4)], metric=metric)
assert sweep.values.shape == (16, 1)
callback = print
with rs.progress(callback) as work:
    model.sweep(run, edits, metric)
    work.cancel()
    try:
        model.sweep(run, edits, metric)
    except rs.Cancelled:
        pass
    else:
        raise AssertionError("went on")

pairs = rs.demo.pairs("ioi", n=50)
metric, prompts = pairs.metric(), list(pairs.clean)
rs.head_scores(model).to_frame()
rs.ablate_head(model, prompts, layer=3, head=2, metric=metric)["self_repair"]
basis = rs.pca(model, rs.demo.texts, site="resid_pre.2", n=64)
rs.project(run, basis[7]).values
dictionary = rs.demo.dictionaries["resid_pre.2"]
dictionary.check(model, prompts[:20])
dictionary.site, dictionary.n_features
dictionary.decode(dictionary.encode(run["resid_pre.2"]))
rs.read(dictionary, pos=-1)(run), model.run(text, edits=[rs.clamp(dictionary[7], 0.0)])
"""


@pytest.mark.slow
def test_what_users_type_runs() -> None:
    done = subprocess.run([sys.executable, "-c", SURFACE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_names_files_that_are_there() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).exists(), name
