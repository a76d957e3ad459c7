"""Put the trained seed that is shipped into the package, and write the card: `python -m training.ship [--made FOLDER]`.

What was measured of every seed is kept in training/results, from which the card is written.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from training.card import write_card

RESULTS = Path(__file__).parent / "results"
CARD = Path(__file__).parents[1] / "MODEL_CARD.md"
PACKAGE = Path(__file__).parents[1] / "src/residscope/demo"
SHIPPED = 1


def read_results() -> dict[int, Any]:
    """What was measured, by seed."""
    return {
        int(path.stem.removeprefix("seed_")): json.loads(path.read_text())
        for path in sorted(RESULTS.glob("seed_*.json"))
    }


def main() -> None:
    """Read the call, and copy."""
    parser = argparse.ArgumentParser(prog="python -m training.ship", description=__doc__.splitlines()[0])
    parser.add_argument("--made", type=Path, default=Path("training/made"), help="where `python -m training` wrote")
    made = parser.parse_args().made
    RESULTS.mkdir(exist_ok=True)
    for path in sorted(made.glob("seed_*/evaluation.json")):
        shutil.copy(path, RESULTS / f"{path.parent.name}.json")
    for part in ("model", "dictionaries"):
        shutil.rmtree(PACKAGE / part, ignore_errors=True)
        shutil.copytree(made / f"seed_{SHIPPED}" / part, PACKAGE / part)
    CARD.write_text(write_card(read_results(), SHIPPED))


if __name__ == "__main__":
    main()
