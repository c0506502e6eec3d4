"""A receipt never lies: the real protocol, run by a state machine over everything that may go wrong.

Much longer, and at random: ``PORTCULLIS_MACHINE_EXAMPLES=20000 python -m pytest -s
tests/enforcement/test_enforcement_machine.py -k never_lies``
"""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from machine_rules import Gateway

STEPS = 50
EXAMPLES = 160
"""Together the more than 20 000 steps that every run of the tests takes."""

LONGER = os.environ.get("PORTCULLIS_MACHINE_EXAMPLES")


def machine_settings(examples: int, *, derandomize: bool, shrink: bool = True) -> settings:
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


def test_a_receipt_never_lies():
    Gateway.totals.clear()
    examples = int(LONGER) if LONGER else EXAMPLES
    run_state_machine_as_test(Gateway, settings=machine_settings(examples, derandomize=LONGER is None))
    totals = Gateway.totals
    print("\n" + ", ".join(f"{name}: {count}" for name, count in totals.items()) + ", violations: 0")
    assert LONGER is not None or totals["steps"] >= 20_000
