"""Who gets a connection, in which order, and who waits no longer."""

import pytest
from proxy_harness import OK, get, post

ONE = {"upstream_connections": 1}


@pytest.fixture
async def full(open_door, connect, provider):
    """A gate whose one connection is busy: door, its client, the provider's side of it."""
    door = await open_door(limits=ONE)
    busy = await connect(door)
    busy.send(post(number=0))
    upstream = await provider.accept()
    await upstream.message()
    return door, busy, upstream


@pytest.fixture
def queued(full, connect, until):
    """Ask once more, and be in the queue."""
    door, _, _ = full
    pool = pool_of(door)

    async def waiting(number: int, **fields):
        client = await connect(door)
        before = pool.waiting
        client.send(post(number=number, **fields))
        await until(lambda: pool.waiting == before + 1)
        return client

    return waiting


def pool_of(door):
    return door.gate.providers["openai"].pool


def failures(door) -> dict[str, float]:
    return {
        labels[1]: value
        for name, labels, value in door.gate.counters.samples()
        if name == "portcullis_upstream_failures_total"
    }


# ---------------------------------------------------------------- the queue


async def test_a_connection_goes_to_whoever_waits_longest(full, queued, provider):
    door, busy, upstream = full
    clients = [await queued(number) for number in (1, 2, 3)]
    for number, client in ((0, busy), *enumerate(clients, 1)):
        if number:
            assert (await upstream.message()).json["number"] == number
        upstream.send(OK)
        assert (await client.message()).status == 200
    assert (provider.connections, pool_of(door).waiting, failures(door)) == (1, 0, {})


async def test_nobody_passes_those_who_wait(full, queued, connect, until):
    """Between the moment a connection is given back and the next one's turn there is an idle one."""
    door, _, upstream = full
    first = await queued(1)
    pool = pool_of(door)
    (connection,) = pool.open
    connection.exchange.response_end()
    connection.exchange = None
    pool.give_back(connection)
    assert pool._idle
    late = Late()
    assert pool.acquire(late) is None
    assert list(pool._waiting)[-1] is late
    assert (await upstream.message()).json["number"] == 1
    pool.leave(late)
    upstream.send(OK)
    assert (await first.message()).status == 200


class Late:
    """Asks, and does nothing."""


async def test_a_connection_that_died_makes_room(full, queued, provider):
    _, busy, upstream = full
    waiting = await queued(1)
    await upstream.close()
    assert (await busy.message()).status == 502
    second = await provider.accept()
    assert (await second.message()).json["number"] == 1
    second.send(OK)
    assert (await waiting.message()).status == 200


async def test_a_full_queue_refuses(open_door, connect, provider, until):
    door = await open_door(limits={**ONE, "upstream_queue": 1})
    clients = [await connect(door) for _ in range(3)]
    clients[0].send(post())
    await (await provider.accept()).message()
    clients[1].send(post())
    await until(lambda: pool_of(door).waiting)
    refused = await clients[2].ask(post())
    assert (refused.status, refused.reason, refused.header("retry-after")) == (503, "overloaded", "2")
    assert failures(door) == {"queue_full": 1}


async def test_nobody_waits_longer_than_the_limit(full, queued):
    door, _, _ = full
    first, second = await queued(1), await queued(2)
    pool = pool_of(door)
    asker, last = list(pool._waiting)[-1], max(pool._waiting.values())
    pool._waiting[asker] = last + 1  # the loop's clock counts in milliseconds
    deadline = min(pool._waiting.values())
    assert deadline == pytest.approx(door.gate.now() + 10, abs=5)
    pool.sweep(deadline + 1e-9)
    refused = await first.message()
    assert (refused.status, refused.reason, refused.header("retry-after")) == (503, "overloaded", "2")
    assert (pool.waiting, failures(door)) == (1, {"queue_timeout": 1})
    pool.sweep(deadline + 100)
    assert (await second.message()).status == 503


async def test_a_client_that_goes_away_leaves_the_queue(full, queued, until):
    door, _, upstream = full
    first, second = await queued(1), await queued(2)
    first.reset()
    await until(lambda: pool_of(door).waiting == 1)
    upstream.send(OK)
    assert (await upstream.message()).json["number"] == 2
    upstream.send(OK)
    assert (await second.message()).status == 200


async def test_who_is_denied_while_it_waits_is_refused_at_once_and_leaves(full, queued):
    door, _, upstream = full
    denied, other = await queued(1, model="gpt-5.4-mini"), await queued(2)
    door.close_models("gpt-5.4-mini")
    assert (await denied.message()).reason == "model_offline"
    assert pool_of(door).waiting == 1
    upstream.send(OK)
    assert (await upstream.message()).json["number"] == 2
    upstream.send(OK)
    assert (await other.message()).status == 200


async def test_whoever_gets_a_connection_is_decided_anew(full, queued, monkeypatch):
    """The lease has ended while it waited, and nobody has looked yet."""
    door, busy, upstream = full
    clients = [await queued(number) for number in range(1, 4)]
    upstream.send(OK)
    await busy.message()
    assert (await upstream.message()).json["number"] == 1
    (connection,) = pool_of(door).open
    door.end_lease()
    exchange, connection.exchange = connection.exchange, None
    pool_of(door).give_back(connection)
    for client in clients[1:]:
        refused = await client.message()
        assert (refused.status, refused.reason) == (503, "policy_stale")
    assert list(pool_of(door)._idle) == [connection], "it was handed on, unused"
    connection.exchange = exchange
    assert upstream.reader._buffer == b""


async def test_a_gate_that_closes_leaves_nobody_waiting(full, queued):
    door, _, _ = full
    await queued(1)
    door.gate.close()
    assert pool_of(door).waiting == 0
    assert not door.gate.in_flight


async def test_a_pool_that_closes_refuses_those_who_wait(full, queued):
    door, _, _ = full
    waiting = await queued(1)
    pool_of(door).close()
    assert (await waiting.message()).reason == "overloaded"


async def test_while_it_drains_the_queue_goes_on(full, queued):
    door, busy, upstream = full
    waiting = await queued(1)
    door.gate.stop()
    upstream.send(OK)
    assert (await busy.message()).header("connection") == "close"
    await upstream.message()
    upstream.send(OK)
    assert (await waiting.message()).status == 200
    await waiting.ends()


async def test_the_gauges_tell_of_the_queue(full, queued):
    door, _, _ = full
    await queued(1)
    values = {(name, labels): value for name, labels, value in door.gate.samples("r")}
    assert values["portcullis_upstream_queue", ("openai",)] == 1
    assert values["portcullis_upstream_connections", ("openai",)] == 1


# ---------------------------------------------------------------- what is used again


async def test_an_idle_connection_with_something_unread_is_not_used(open_door, connect, provider, until):
    """What the kernel has already would be taken for the answer to the next request."""
    door = await open_door()
    client = await connect(door)
    client.send(post(number=1))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    await client.message()
    (connection,) = pool_of(door)._idle
    connection.transport.pause_reading()  # as if the loop had not come to it yet
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
    await until(lambda: not connection.is_fit())
    client.send(post(number=2))
    second = await provider.accept()
    assert (await second.message()).json["number"] == 2
    second.send(OK)
    assert (await client.message()).body == b"{}"


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", False),
        (b"HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\n{}", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
    ],
)
async def test_what_a_provider_says_of_its_connection(open_door, connect, provider, until, answer, again):
    door = await open_door()
    client = await connect(door)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(answer)
    await client.message()
    assert (await client.ask(get("/nowhere"))).status == 404
    assert bool(pool_of(door)._idle) == again


async def test_an_answer_while_the_request_is_still_in_our_buffer_ends_the_connection(
    open_door, connect, provider, monkeypatch
):
    """A body of one piece is written at once, but has not left: the next request would follow it."""
    door = await open_door()
    client = await connect(door)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    (connection,) = pool_of(door).open

    class Full:
        get_write_buffer_size = staticmethod(lambda: 1)

        def __getattr__(self, name):
            return getattr(real, name)

    real, connection.transport = connection.transport, Full()
    upstream.send(OK)
    assert (await client.message()).status == 200
    assert await upstream.is_reset()


async def test_a_connection_that_ended_as_soon_as_it_was_there_is_nobodys(open_door, connect, monkeypatch):
    door = await open_door()
    pool = pool_of(door)

    async def ended(factory):
        return factory()  # it never had a transport, or has none any more

    monkeypatch.setattr(pool._dialler, "open", ended)
    client = await connect(door)
    refused = await client.ask(post())
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert (failures(door), pool.open) == ({"closed": 1}, set())
