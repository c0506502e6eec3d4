"""Fixtures around `system.System`: the whole gateway as real processes."""

import pytest
from system import System, new_system


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "scenarios" in str(item.path):
            item.add_marker(pytest.mark.scenario)


@pytest.fixture(scope="module")
def module_system():
    """One system for a whole file; each test leaves it as it found it."""
    system = new_system()
    try:
        yield system.start()
    finally:
        system.stop()


@pytest.fixture
async def system(module_system: System):
    yield module_system
    await module_system.release_all()


@pytest.fixture
def fresh_system():
    """A system of one's own, not yet started, for tests that break things."""
    system = new_system()
    try:
        yield system
    finally:
        system.stop()
