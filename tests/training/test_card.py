"""The card says what was measured, of the seed that is shipped and of the others beside it, and what failed."""

from typing import Any

import pytest
from jinja2 import UndefinedError
from training.card import write_card
from training.evaluate_dictionaries import Figures

FIGURES = Figures("resid_pre.1", "topk", 0.85, 32.0, 0.97, 0.01, 0.7, 0.3, 1000, None)


def finding(value: float, cells: dict[str, float], met: bool | None = None) -> dict[str, Any]:
    aim = "" if met is None else "at least 0.9"
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "aim": aim, "met": met, "cells": cells}


def evaluation(seed: int, head: str) -> dict[str, Any]:
    prose = {"nats a token, to 128": 2.5, "nats a token, beyond": 2.6, "stories260K": 0.73}
    looks = {head: 0.4, "looks at S1": 0.001, "looks at S2": 0.724}
    return {
        "recipe": {"n_layers": 4, "d_model": 128, "n_heads": 4, "n_ctx": 256, "seed": seed},
        "tokens_seen": 3_000_000,
        "tokens_a_second": 10_000,
        "machine": "2 CPU threads",
        "shares": {"tinystories_sample_2MB.txt": 0.5, "tasks of the grammar": 0.3, "repeated random tokens": 0.2},
        "measured": {
            f"induction head {head}": finding(0.8 + seed / 100, {}, True),
            "prose, nats per byte": finding(0.75, prose, seed == 1),
            f"previous_token head {head}": finding(0.53, {}, True),
            f"duplicate_token head {head}": finding(0.1, {}, False),
            "self-repair": finding(0.0, {}, seed == 0),
            f"ioi: share of the difference that head {head} alone restores": finding(0.4, looks),
            f"ioi: share of the difference that head {head} alone restores at S2": finding(0.004, looks),
            "norm at position 0 over the median elsewhere": finding(3.25, {}),
        },
        "dictionaries": [vars(FIGURES) | {"missed": FIGURES.missed}] if seed == 1 else [],
    }


def test_the_card_has_every_seed() -> None:
    card = write_card({0: evaluation(0, "1.2"), 1: evaluation(1, "2.5")}, shipped=1)
    assert "- Seed 1 of 0, 1, 3,000,000 tokens each." in card
    assert "natural 50%, templated 30%, random 20% of the tokens" in card
    assert "| induction head 2.5 | 0.810 (0.710 to 0.910) | at least 0.9 | met | 0.800 (induction head 1.2) |" in card
    assert "| prose, nats per byte | 0.750 (0.650 to 0.850) | at least 0.9 | met | 0.750, missed |" in card
    assert "| resid_pre.1 topk | 0.850 | 0.700 | 0.300 | 32.0 |" in card
    assert "- Seed 0: prose, nats per byte; duplicate_token head 1.2.\n" in card
    assert (
        "- Seed 1: duplicate_token head 2.5; self-repair; resid_pre.1 topk: variance explained at least 0.9.\n" in card
    )
    assert "72% of its attention is on S2, and 0% on S1" in card
    assert "restores\n  0.4% of the difference at most" in card
    assert "The previous-token head gives 53% of its attention" in card
    assert "There is no self-repair" in card
    assert "There is no self-repair" not in write_card({0: evaluation(0, "1.2")}, shipped=0)
    assert "what that model has (0.730 on the same stories)" in card
    assert card.index("Seed 1:\n\n- ioi: share") < card.index("Seed 0:\n\n- ioi: share")
    assert "10,000 tokens a second, 5 minutes, on 2 CPU threads" in card


def test_a_source_without_a_licence_and_a_fact_that_is_missing_stop_it() -> None:
    one = evaluation(0, "1.2")
    with pytest.raises(KeyError, match=r"secret\.txt"):
        write_card({0: one | {"shares": {"secret.txt": 1.0}}}, 0)
    with pytest.raises((UndefinedError, KeyError)):
        write_card({0: {key: value for key, value in one.items() if key != "machine"}}, 0)
