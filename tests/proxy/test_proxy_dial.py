"""From settings to a connection: addresses in turn, and the way through an egress proxy."""

import asyncio
import base64
import socket

import pytest
from certificates import serving
from proxy_harness import OK, Peer, post
from tls_fixtures import authority, pair

from gateway.proxy.dial import DialError, Dialler
from gateway.proxy.resolver import Resolver
from gateway.settings import Provider

FIXTURES = (authority, pair)
SECRET = base64.b64encode(b"us er:pass:word").decode()


def failures(door) -> dict[str, float]:
    return {
        labels[1]: value
        for name, labels, value in door.gate.counters.samples()
        if name == "portcullis_upstream_failures_total"
    }


# ---------------------------------------------------------------- addresses


class Names(Resolver):
    """Answers with the addresses given."""

    def __init__(self, *hosts: str, port: int) -> None:
        super().__init__(30.0)
        self.found = [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)) for host in hosts]

    async def addresses(self, host: str, port: int):
        self._known[host, port] = (float("inf"), self.found)
        return await super().addresses(host, port)


@pytest.fixture
def dialler(provider):
    def made(*hosts: str) -> Dialler:
        names = Names(*hosts, port=provider.port)
        return Dialler(Provider(dialect="openai", base_url="http://a.example"), names, None)

    return made


async def test_an_address_that_fails_is_followed_by_the_next_at_once(dialler, provider):
    made = dialler("127.0.0.9", "127.0.0.1")
    protocol = await made.open(asyncio.Protocol)
    await provider.accept()
    assert protocol is not None
    assert list(made._resolver._aside) == [(socket.AF_INET, ("127.0.0.9", provider.port))]


async def test_and_is_tried_last_from_then_on(dialler, provider):
    made = dialler("127.0.0.9", "127.0.0.1")
    await made.open(asyncio.Protocol)
    addresses = await made._resolver.addresses("a.example", 80)
    assert [place[0] for _, place in addresses] == ["127.0.0.1", "127.0.0.9"]


async def test_an_address_that_does_not_answer_is_overtaken(dialler, provider, monkeypatch):
    monkeypatch.setattr("gateway.proxy.dial.ATTEMPT_SECONDS", 0.001)
    made = dialler("127.0.0.9", "127.0.0.1")
    loop = asyncio.get_running_loop()
    cancelled = asyncio.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(loop, name)

        async def sock_connect(self, sock, place):
            if place[0] == "127.0.0.9":
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()
            await loop.sock_connect(sock, place)

    made._loop = Slow()
    await made.open(asyncio.Protocol)
    await provider.accept()
    async with asyncio.timeout(5):
        await cancelled.wait()
    await asyncio.sleep(0)
    assert len(made._resolver._aside) == 1


async def test_where_none_answers_there_is_no_connection(dialler):
    made = dialler("127.0.0.8", "127.0.0.9")
    with pytest.raises(DialError, match="none of 2 addresses") as caught:
        await made.open(asyncio.Protocol)
    assert caught.value.cause == "connect_failed"


async def test_a_name_that_does_not_resolve(open_door, connect, monkeypatch):
    door = await open_door()
    dialler = door.gate.providers["openai"].pool._dialler
    dialler.host = "nowhere.invalid"

    async def unknown(*_: object, **__: object):
        raise socket.gaierror(-2, "Name or service not known")

    class Loop:
        getaddrinfo = staticmethod(unknown)
        time = staticmethod(asyncio.get_running_loop().time)

    dialler._resolver._loop = Loop()
    client = await connect(door)
    refused = await client.ask(post())
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert failures(door) == {"connect_failed": 1}


# ---------------------------------------------------------------- an egress proxy


@pytest.fixture
async def egress(provider):
    """A proxy that answers CONNECT as the test says, then joins both sides."""

    class Egress:
        answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        asked: bytes = b""
        target = provider.port

    peers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        Egress.asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(Egress.answer)
        if b" 200 " not in Egress.answer or Egress.answer.endswith(b"!"):
            writer.close()
            return
        theirs = await asyncio.open_connection("127.0.0.1", Egress.target)
        peers.append(writer)
        await asyncio.gather(carry(reader, theirs[1]), carry(theirs[0], writer))

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    Egress.port = server.sockets[0].getsockname()[1]
    yield Egress
    server.close()
    for writer in peers:
        writer.close()


@pytest.fixture
async def through(open_door, egress):
    """A gate whose provider is reached through the proxy."""
    door = await open_door()
    dialler = door.gate.providers["openai"].pool._dialler
    provider = Provider(
        dialect="openai", base_url="http://x", proxy=f"http://us%20er:pass%3Aword@127.0.0.1:{egress.port}"
    )
    dialler._proxy = provider.egress_proxy()
    return door


async def test_a_provider_is_asked_through_a_tunnel(through, connect, egress, provider):
    client = await connect(through)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    assert (await client.message()).status == 200
    target = f"127.0.0.1:{provider.port}"
    lines = egress.asked.decode().split("\r\n")
    assert lines == [
        f"CONNECT {target} HTTP/1.1",
        f"Host: {target}",
        f"Proxy-Authorization: Basic {SECRET}",
        "",
        "",
    ]


async def test_tls_is_spoken_with_the_provider_and_not_with_the_proxy(through, connect, egress, authority, pair):
    accepted: asyncio.Queue[Peer] = asyncio.Queue()
    server = await asyncio.start_server(
        lambda *peer: accepted.put_nowait(Peer(*peer)), "127.0.0.1", 0, ssl=serving(pair)
    )
    egress.target = server.sockets[0].getsockname()[1]

    class Watched:
        context = authority.trusted()

    through.gate.providers["openai"].pool._dialler.tls = Watched
    client = await connect(through)
    client.send(post())
    async with asyncio.timeout(5):
        upstream = await accepted.get()
    assert (await upstream.message()).json == {"model": "gpt-5.4"}
    upstream.send(OK)
    assert (await client.message()).status == 200
    await upstream.close()
    server.close()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "proxy_refused"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nno", "proxy_refused"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "proxy_refused"),
        (b"HTTP/1.1 200 OK\r\n\r\n!", "proxy_failed"),
        (b"HTTP/1.1 503 x\r\n" + b"x: y\r\n" * 4000, "proxy_failed"),
        (b"HTTP/1.1 503 x\r\n", "proxy_failed"),
    ],
)
async def test_a_proxy_that_does_not_open_the_tunnel(through, connect, egress, provider, answer, cause, capsys):
    egress.answer = answer
    client = await connect(through)
    refused = await client.ask(post())
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert failures(through) == {cause: 1}
    assert provider.connections == 0
    told = capsys.readouterr()
    assert "upstream_unreachable" in told.out
    for text in (told.out, told.err, str(through.lines)):
        assert SECRET not in text
        assert "pass" not in text


async def test_a_proxy_that_is_not_there(through, connect, egress):
    dialler = through.gate.providers["openai"].pool._dialler
    dialler._proxy = Provider(dialect="openai", base_url="http://x", proxy="http://127.0.0.1:1").egress_proxy()
    client = await connect(through)
    assert (await client.ask(post())).status == 502
    assert failures(through) == {"proxy_unreachable": 1}


async def test_a_proxy_that_stays_silent_is_given_up_at_the_connect_timeout(open_door, connect):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    door = await open_door(timeouts={"connect": 0.05})
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    proxied = Provider(dialect="openai", base_url="http://x", proxy=url)
    door.gate.providers["openai"].pool._dialler._proxy = proxied.egress_proxy()
    client = await connect(door)
    assert (await client.ask(post())).status == 504
    assert failures(door) == {"connect_timeout": 1}
    server.close()
