"""The structure of the code: its layers, its lint, its types, and what must never lie in the repository."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import residscope as rs

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.slow
def test_layers_of_the_architecture_hold() -> None:
    run(str(BIN / "lint-imports"), "--no-cache")


@pytest.mark.slow
def test_lint_is_clean() -> None:
    run(str(BIN / "ruff"), "check", "--no-cache")
    run(str(BIN / "ruff"), "format", "--check", "--no-cache")


@pytest.mark.slow
def test_types_are_clean() -> None:
    run(str(BIN / "mypy"))


def test_public_names_are_there_and_documented() -> None:
    for name in rs.__all__:
        assert getattr(rs, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        rs.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_the_checker_sees_what_the_table_names() -> None:
    source = (ROOT / "src/residscope/__init__.py").read_text()
    checked = set(re.findall(r"import (\w+) as \1$", source, re.MULTILINE))
    assert checked == set(rs.__all__)


def test_no_file_names_a_registry_or_this_machine() -> None:
    # Written in parts, so that this file does not name them either.
    forbidden = [
        "py" + "pi.org",
        "pythonhosted" + ".org",
        "npmjs" + ".org",
        "npmjs" + ".com",
        "/wo" + "rk/",
        "/ro" + "ot/",
    ]
    for path in tracked():
        content = path.read_bytes().decode("utf-8", errors="ignore")
        assert not [name for name in forbidden if name in content], path


def test_the_lock_file_names_no_place() -> None:
    assert '"resolved"' not in (ROOT / "web/package-lock.json").read_text()


def test_skips_have_their_reasons() -> None:
    reasons = (ROOT / "tests/SKIPS.md").read_text()
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        found |= set(re.findall(r"pytest\.skip\(\s*f?\"([^\"{]*)", path.read_text()))
    for reason in found - {""}:
        assert reason.strip() in reasons, reason


def test_nothing_is_pickled() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        source = path.read_text()
        assert not re.search(r"\b(import pickle|joblib|marshal)\b", source), path
        for call in re.findall(r"\b(?:torch|np)\.load\b.*", source):
            assert "weights_only=True" in call or "allow_pickle=False" in call, path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("residscope-*.whl")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    run(*pip, "--target", str(folder / "site"), str(wheel))
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_carries_the_pages_and_nothing_else(installed: Path) -> None:
    carried = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    for name in ("index.html", "workbench.js", "saved.js", "views/coloured_text.js", "views/river.js"):
        assert f"residscope/results/static/{name}" in carried
    assert "residscope/demo/texts.txt" in carried
    assert not [name for name in carried if "tests/" in name or "node_modules" in name]


@pytest.mark.slow
def test_the_wheel_serves_the_pages_without_node_or_checkout(installed: Path, stories_path: Path) -> None:
    environment = {"PYTHONPATH": str(installed), "PATH": "/nowhere", "HOME": str(installed)}
    where = [sys.executable, "-c", "import residscope; print(residscope.__file__)"]
    found = subprocess.run(where, env=environment, cwd=installed, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(installed))
    command = [sys.executable, "-m", "residscope", "serve", str(stories_path), "--port", "0", "--no-open", "--json"]
    with subprocess.Popen(command, env=environment, cwd=installed, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = json.loads(process.stdout.readline())["address"]
        assert '<script type="module"' in httpx.get(address).text
        assert httpx.get(f"{address}static/workbench.js").status_code == 200
        process.terminate()
