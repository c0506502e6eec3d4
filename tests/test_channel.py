"""What a worker and its control process say to each other."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import tasks
from gateway.channel import Channel, ChannelClosedError, open_channel


class Pair:
    """Both ends of a channel, and what each was told."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answer: Any = lambda message: {"asked": message["call"]}

    async def open(self) -> "Pair":
        self.sockets = socket.socketpair()
        self.control = await open_channel(self.sockets[0], self.heard.append)
        self.worker = await open_channel(self.sockets[1], lambda message: self.answer(message))  # noqa: PLW0108 - it changes
        return self


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = await Pair().open()
    yield made
    for end in (made.control, made.worker):
        end._writer.close()
        await end.closed.wait()


async def test_a_question_gets_its_answer(pair):
    assert await pair.control.ask("metrics") == {"asked": "metrics"}


async def test_answers_find_their_questions(pair):
    answers = await asyncio.gather(*(pair.control.ask(f"call-{n}") for n in range(50)))
    assert answers == [{"asked": f"call-{n}"} for n in range(50)]
    assert pair.control._waiting == {}


async def test_an_answer_may_take_a_while_and_holds_up_no_other(pair):
    let_go = asyncio.Event()

    async def slow() -> str:
        await let_go.wait()
        return "slow"

    pair.answer = lambda message: slow() if message["call"] == "slow" else "quick"
    first = tasks.spawn(pair.control.ask("slow"), "first", awaited=True)
    assert await pair.control.ask("other") == "quick"
    assert not first.done()
    let_go.set()
    assert await first == "slow"


async def test_events_need_no_answer(pair, until):
    pair.worker.tell("member", member="a:1")
    pair.worker.tell("listening")
    await until(lambda: len(pair.heard) == 2)
    assert pair.heard == [{"event": "member", "member": "a:1"}, {"event": "listening"}]


async def test_an_answer_may_be_none_or_large(pair):
    pair.answer = lambda _: None
    assert await pair.control.ask("x") is None
    pair.answer = lambda _: ["x" * 1000] * 5000
    assert len(await pair.control.ask("x")) == 5000


async def test_who_asks_the_dead_is_told(pair):
    pair.answer = lambda _: pair.worker._writer.close()
    asking = [tasks.spawn(pair.control.ask(f"call-{n}"), "test", awaited=True) for n in range(3)]
    pair.sockets[1].shutdown(socket.SHUT_RDWR)
    for question in asking:
        with pytest.raises(ChannelClosedError):
            await question
    await pair.control.closed.wait()
    with pytest.raises(ChannelClosedError):
        await pair.control.ask("anything")
    pair.control.tell("ignored")


@pytest.mark.parametrize("data", [b"not json\n", b"[1]\n", b'{"result":1}\n', b'{"id":1'])
async def test_what_is_no_message_ends_the_channel_and_nothing_else(data):
    """A worker may be killed in the middle of a line."""
    ours, theirs = socket.socketpair()
    channel = await open_channel(ours, lambda message: None)
    asking = tasks.spawn(channel.ask("x"), "test", awaited=True)
    await asyncio.sleep(0)
    theirs.send(data)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ChannelClosedError):
        await asking
    theirs.close()


async def test_an_answer_nobody_waits_for_is_dropped(pair, until):
    pair.worker._send({"id": 99, "result": 1})
    pair.worker.tell("after")
    await until(lambda: pair.heard)
    assert pair.heard == [{"event": "after"}]
    assert isinstance(pair.control, Channel)


async def test_a_question_that_was_given_up_hurts_nobody(pair):
    asking = tasks.spawn(pair.control.ask("x"), "test", awaited=True)
    await asyncio.sleep(0)
    await tasks.cancel(asking)
    assert await pair.control.ask("y") == {"asked": "y"}


async def test_last_words_arrive(pair, until):
    pair.worker.tell("counted", samples=["x" * 1000] * 2000)
    await pair.worker.close()
    await until(lambda: pair.heard)
    assert len(pair.heard[0]["samples"]) == 2000
    await pair.control.closed.wait()
