"""Turns go round the owners."""

import asyncio

import pytest

from gateway.proxy.turns import Turns


@pytest.fixture
def turns():
    return Turns()


class Queue:
    """Tasks that each wait for a turn, note it, and hold it until told."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.order, self.go_on = turns, [], asyncio.Event()

    async def wait(self, name: str) -> None:
        async with self.turns.of(name[0]):
            self.order.append(name)
            await self.go_on.wait()

    async def add(self, *names: str) -> list[asyncio.Task]:
        added = [asyncio.ensure_future(self.wait(name)) for name in names]
        await asyncio.sleep(0)
        return added


async def test_an_owner_that_queues_many_lets_the_others_between(turns):
    queue = Queue(turns)
    tasks = await queue.add("a1", "a2", "a3", "a4", "b1", "c1", "b2")
    assert queue.order == ["a1"]
    queue.go_on.set()
    await asyncio.gather(*tasks)
    assert queue.order == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]
    assert not turns.locked()
    assert not turns._round


async def test_a_turn_that_is_over_is_given_even_after_an_error(turns):
    with pytest.raises(ValueError, match="x"):
        async with turns.of("a"):
            raise ValueError("x")
    assert not turns.locked()


async def test_who_no_longer_waits_is_passed_over(turns):
    queue = Queue(turns)
    _first, second, third = await queue.add("a1", "b1", "c1")
    second.cancel()
    queue.go_on.set()
    await third
    assert queue.order == ["a1", "c1"]
    assert not turns.locked()


async def test_a_turn_that_comes_as_its_owner_leaves_goes_to_the_next(turns):
    queue = Queue(turns)
    queue.go_on.set()
    async with turns.of("a"):
        second, third = await queue.add("b1", "c1")
    second.cancel()  # its turn has come, but it has not run
    await third
    assert queue.order == ["c1"]
    assert not turns.locked()
