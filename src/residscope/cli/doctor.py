"""`residscope doctor`: what is installed, what device, what is missing, what to do."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

_PACKAGES = (
    "residscope",
    "torch",
    "safetensors",
    "tokenizers",
    "transformers",
    "huggingface_hub",
    "fastapi",
    "anywidget",
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what is installed, which device is used, what is missing, and what to do."""
    import torch

    from residscope.results.static_files import STATIC
    from residscope.transformer.placement import as_size, find_devices

    packages = {name: _find_version(name) for name in _PACKAGES}
    missing = [f"{name} is not installed: pip install {name}" for name, found in packages.items() if found is None]
    if not (STATIC / "index.html").is_file():
        missing.append("the pages are not built: run `make build` in the checkout, or install a wheel")
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "free": ", ".join(f"{name} {as_size(n_bytes)}" for name, n_bytes in find_devices().items()),
        "threads": torch.get_num_threads(),
        "packages": packages,
        "missing": missing,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name in ("python", "system", "device", "free", "threads"):
        click.echo(f"{name:<16}{facts[name]}")
    for name, found in packages.items():
        click.echo(f"{name:<16}{found or 'missing'}")
    click.echo("\n".join(f"To do: {line}" for line in missing) or "Nothing is missing.")


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
