"""Names to addresses: asked once, kept a while, used on when the name servers are away."""

import asyncio
import socket

import pytest

from gateway.proxy.resolver import Resolver, in_turn

V4, V6 = socket.AF_INET, socket.AF_INET6


class Loop:
    """A clock, and name servers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.answer: object = ["192.0.2.1", "192.0.2.2"]
        self.gate = asyncio.Event()
        self.gate.set()

    def time(self) -> float:
        return self.now

    async def getaddrinfo(self, host, port, *, type):  # noqa: A002 - its name in asyncio
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(V6 if ":" in a else V4, type, 6, "", (a, port)) for a in self.answer]


@pytest.fixture
async def loop():
    return Loop()


@pytest.fixture
async def resolver(loop):
    made = Resolver(30.0)
    made._loop = loop
    return made


def hosts(addresses) -> list[str]:
    return [place[0] for _, place in addresses]


async def test_a_name_is_asked_for_once_in_its_time(resolver, loop):
    assert hosts(await resolver.addresses("a", 443)) == ["192.0.2.1", "192.0.2.2"]
    loop.now += 29
    await resolver.addresses("a", 443)
    assert loop.asked == 1
    loop.now += 2
    loop.answer = ["192.0.2.3"]
    assert hosts(await resolver.addresses("a", 443)) == ["192.0.2.3"]
    assert loop.asked == 2


async def test_many_who_ask_at_once_are_one_question(resolver, loop):
    loop.gate.clear()
    asking = asyncio.gather(*(resolver.addresses("a", 443) for _ in range(20)))
    await asyncio.sleep(0)
    loop.gate.set()
    assert {tuple(hosts(found)) for found in await asking} == {("192.0.2.1", "192.0.2.2")}
    assert loop.asked == 1


async def test_who_stops_waiting_stops_the_question_for_nobody(resolver, loop):
    loop.gate.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.addresses("a", 443), 0.001)
    other = asyncio.gather(resolver.addresses("a", 443))
    await asyncio.sleep(0)
    loop.gate.set()
    assert hosts((await other)[0]) == ["192.0.2.1", "192.0.2.2"]
    assert loop.asked == 1


@pytest.mark.parametrize("error", [socket.gaierror(-3, "Temporary failure"), UnicodeError("label too long")])
async def test_what_was_known_is_used_on_while_the_name_servers_are_away(resolver, loop, error):
    await resolver.addresses("a", 443)
    loop.now += 31
    loop.answer = error
    assert hosts(await resolver.addresses("a", 443)) == ["192.0.2.1", "192.0.2.2"]
    await resolver.addresses("a", 443)
    assert loop.asked == 2, "and they are not asked for each connection"
    loop.now += 6
    loop.answer = ["192.0.2.9"]
    assert hosts(await resolver.addresses("a", 443)) == ["192.0.2.9"]


async def test_a_name_that_was_never_known_is_an_error_and_asked_for_again(resolver, loop):
    loop.answer = socket.gaierror(-2, "Name or service not known")
    for _ in range(2):
        with pytest.raises(OSError, match="a does not resolve"):
            await resolver.addresses("a", 443)
    assert loop.asked == 2


async def test_an_address_that_failed_comes_last_for_a_while(resolver, loop):
    first, second = await resolver.addresses("a", 443)
    resolver.failed(first)
    assert await resolver.addresses("a", 443) == [second, first]
    resolver.failed(second)
    assert await resolver.addresses("a", 443) == [first, second], "all of them failed: as they came"
    resolver.worked(second)
    assert await resolver.addresses("a", 443) == [second, first]
    loop.now += 31
    assert await resolver.addresses("a", 443) == [first, second]


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ([(V6, 1), (V6, 2), (V4, 3), (V4, 4)], [1, 3, 2, 4]),
        ([(V4, 1), (V6, 2), (V6, 3)], [1, 2, 3]),
        ([(V4, 1), (V4, 1), (V4, 2)], [1, 2]),
        ([], []),
    ],
)
def test_families_take_turns_and_each_address_comes_once(given, order):
    assert [place[0] for _, place in in_turn((family, (number,)) for family, number in given)] == order


async def test_the_real_loop_knows_itself():
    (address, *_) = await Resolver(30.0).addresses("127.0.0.1", 80)
    assert address == (V4, ("127.0.0.1", 80))
