"""What the package carries: its sample texts."""

from pathlib import Path

texts = Path(__file__).parent / "texts.txt"
