"""The terminal: what it says, how fast, and how it fails."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import click
import httpx
import pytest

from residscope.cli.main import cli
from tests.cli.conftest import CALL, Serving
from tests.patience import PATIENCE

HEAVY = {"torch", "transformers", "pydantic", "numpy", "pandas", "fastapi", "rich", "sqlalchemy", "argon2"}
COMMANDS = [
    [],
    *([name] for name in cli.list_commands(click.Context(cli))),
    ["users", "add"],
    ["directions", "explain"],
]


def residscope(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "residscope", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys; from residscope.cli.main import main\n"
        f"sys.argv = ['residscope', *{command}, '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"heavy = {HEAVY} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, residscope; assert 'torch' not in sys.modules; assert 'load' in dir(residscope)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_next_tokens_as_a_table_and_as_json(call: CALL, stories_path: Path) -> None:
    done = residscope("run", str(stories_path), "Once upon a", "--top", "3")
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\s+\d+\s+' time'\s+[\d.]+\s+-0\.\d+\s+0\.9\d+", done.stdout)
    assert "read as '<s>| Once| upon| a'" in done.stdout
    parsed = json.loads(call("run", str(stories_path), "Once upon a", "--json").stdout)
    assert parsed["texts"][0][0] == " time"
    assert len(parsed["token_ids"][0]) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["run", "MODEL", ""], 1, "Error: The prompt is empty. Type some text."),
        (["run", "MODEL", "a " * 600], 1, "the model's context is 512"),
        (["run", "/nowhere", "x"], 1, "Error: There is no directory '/nowhere'"),
        (["run", "MODEL", "x", "--pos", "9"], 1, "Position 9 was asked for"),
        (["run", "MODEL", "x", "--dtype", "float8"], 1, "no dtype 'float8'"),
        (["run", "MODEL"], 2, "Missing argument 'PROMPT'"),
        (["run", "MODEL", "x", "--top", "0"], 2, "0 is not in the range"),
        (["dance"], 2, "No such command 'dance'"),
        (["serve", "--port", "many"], 2, "'many' is not a valid integer"),
        (["serve", "MODEL", "--host", "0.0.0.0"], 1, "can be reached from other machines"),
        (["serve", "MODEL", "--texts", "/nowhere.txt"], 1, "/nowhere.txt cannot be read as texts"),
        (["serve", "MODEL", "--dictionary", "demo/resid_pre.2-topk"], 1, "reads 128 entries"),
        (["run", "x" * 300, "x"], 1, "cannot be looked at (File name too long)"),
    ],
)
def test_failures_are_one_clear_line(
    call: CALL, stories_path: Path, arguments: list[str], status: int, says: str
) -> None:
    done = call(*[str(stories_path) if a == "MODEL" else a for a in arguments])
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert len([line for line in done.stderr.splitlines() if not line.startswith("Loading")]) == 1


@pytest.mark.slow
def test_a_setting_that_makes_no_sense_is_named(
    call: CALL, stories_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, says in (("abc", "unable to parse string as an integer"), ("99999", "less than or equal to 65535")):
        monkeypatch.setenv("RESIDSCOPE_PORT", value)
        done = call("serve", str(stories_path))
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: RESIDSCOPE_PORT is '{value}': ")
        assert says in done.stderr


@pytest.mark.slow
def test_doctor(call: CALL) -> None:
    facts = json.loads(call("doctor", "--json").stdout)
    assert facts["packages"]["torch"]
    assert facts["missing"] == []
    assert "Nothing is missing." in call("doctor").stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.slow
def test_serve_prints_its_address_and_ends_on_interrupt(call: CALL, stories_path: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("Once upon a time\n\nTom ran home")
    port = free_port()
    texts = str(tmp_path / "texts.txt")
    serving = Serving("serve", str(stories_path), "--port", str(port), "--texts", texts, "--no-open")
    assert serving.said == f"Residscope is open at http://127.0.0.1:{port}/ (Ctrl-C ends it)\n"
    assert httpx.get(f"http://127.0.0.1:{port}/api/v1/model", timeout=PATIENCE).json()["n_texts"] == 2
    busy = call("serve", str(stories_path), "--port", str(port))
    assert busy.returncode == 1
    assert f"Port {port} of 127.0.0.1 is busy" in busy.stderr
    errors = serving.stop()
    assert "Traceback" not in errors
    assert serving.process.returncode in (0, 1)


@pytest.mark.slow
def test_without_a_command_the_workbench_opens_on_the_bundled_model() -> None:
    serving = Serving(RESIDSCOPE_PORT="0", BROWSER="true")
    found = re.search(r"http\S+/", serving.said)
    assert found
    assert httpx.get(f"{found[0]}api/v1/model", timeout=PATIENCE).json()["name"] == "demo"
    serving.stop()


@pytest.mark.slow
def test_settings_come_from_the_environment_and_a_busy_port_gives_the_next(stories_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serving = Serving(RESIDSCOPE_MODEL=str(stories_path), RESIDSCOPE_PORT=str(port), BROWSER="true")
        found = re.fullmatch(r"Residscope is open at (http://127.0.0.1:(\d+)/) \(Ctrl-C ends it\)\n", serving.said)
        assert found
        assert int(found[2]) != port
        assert httpx.get(found[1], timeout=PATIENCE).status_code == 200
        assert f"Port {port} is busy; taking {found[2]}." in serving.stop()
