"""What the package carries: its sample texts, and prompt pairs for the tasks that its model was made to do."""

from pathlib import Path

from residscope.demo.tasks import pairs as pairs

texts = Path(__file__).parent / "texts.txt"
