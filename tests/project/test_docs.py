"""The docs build, their cells and the README's snippets run, and nothing in them points elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from residscope.cli.main import cli
from residscope.settings import Settings
from residscope.sites import KINDS
from residscope.transformer.families import FAMILIES
from tests.models import SHARED, shared_path

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The docs as pages."""
    shared_path("models/stories260K")
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(out / "trees")]
    done = subprocess.run([*command, str(ROOT / "docs"), str(out / "html")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.mark.slow
@pytest.mark.timeout(600)
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
    shared_path("models/stories260K")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    code = "\n".join(blocks).replace("../shared", str(SHARED)).replace("/tmp/coloured.html", str(tmp_path / "c.html"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time, there was a little girl")
    assert (tmp_path / "c.html").is_file()


def test_the_readme_names_files_that_are_there() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).exists(), name
