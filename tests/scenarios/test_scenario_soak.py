"""Everything at once for some seconds, from a fixed seed; ``make soak`` is the same for ten minutes."""

import soak
from system import new_system

SECONDS = 15.0
WARM_UP = 6.0
GROWTH = 24 * 2**20
"""Twice what the memory of refusals may come to in this time; a body that was kept would be megabytes each."""


async def test_after_everything_at_once_nothing_is_left():
    system = new_system(**soak.SETTINGS)
    try:
        report = await soak.Soak(system.start(), seed=7).run(WARM_UP, SECONDS, look_every=SECONDS / 3)
        print(f"\n{report}")
        assert soak.check(report, growth=GROWTH) == []
        missing = {action.__name__ for _, action, _ in soak.ACTIONS} - {what for what, _ in report.outcomes}
        assert not missing, "every action took part"
    finally:
        system.stop()
