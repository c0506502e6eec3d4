"""TLS itself: who may come, whom we believe, what an end is, and what happens to those who never get that far."""

import asyncio
import contextlib
import ssl

import pytest
from certificates import Authority, serving
from proxy_harness import OK, STREAM, Client, chunked, get, post
from tls_fixtures import authority, connect, open_door, pair, provider
from tls_harness import TlsProvider

from gateway.proxy.tls import READ_BYTES
from gateway.settings import ClientTls, ServerTls
from gateway.tls import server_context

FIXTURES = (authority, connect, open_door, pair, provider)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture
async def listen():
    """A provider that is a function of reader and writer; its port."""
    servers = []

    async def listening(serve) -> int:
        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return servers[-1].sockets[0].getsockname()[1]

    yield listening
    for server in servers:
        server.close()


def failures(door) -> dict[str, float]:
    return {
        labels[1]: value
        for name, labels, value in door.gate.counters.samples()
        if name == "portcullis_upstream_failures_total"
    }


def version(context: ssl.SSLContext, number: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = number
    return context


# ---------------------------------------------------------------- clients


@pytest.mark.parametrize("number", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_are_spoken_and_http_1_1_is_agreed_on(
    open_door, connect, provider, authority, pair, number
):
    listener = ServerTls(certificate=pair.certificate, key=pair.key)
    door = await open_door(context=server_context(listener, "proxy.tls"))
    context = version(authority.trusted(), number)
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await connect(door, context=context)
    client.send(post())
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(OK)
    assert (await client.message()).body == b"{}"
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    assert (door.handshakes, failures(door)) == ([None], {})


async def test_an_older_version_than_the_minimum_is_refused(open_door, connect, authority, pair):
    listener = ServerTls(certificate=pair.certificate, key=pair.key, minimum="1.3")
    door = await open_door(context=server_context(listener, "proxy.tls"))
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await connect(door, context=version(authority.trusted(), ssl.TLSVersion.TLSv1_2))
    (error,) = door.handshakes
    assert isinstance(error, ssl.SSLError)


async def test_with_a_client_ca_only_its_clients_come_in(open_door, connect, authority, stranger, pair, until):
    listener = ServerTls(certificate=pair.certificate, key=pair.key, client_ca=authority.file)
    door = await open_door(context=server_context(listener, "proxy.tls"))
    known = await connect(door, context=authority.trusted(authority.issue("client")))
    assert (await known.ask(get("/nowhere"))).status == 404
    for certificate in (None, stranger.issue("client")):
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # with TLS 1.3 the client hears of it later
            unknown = await connect(door, context=authority.trusted(certificate))
            unknown.send(get("/nowhere"))
            assert await unknown.rest() == b""
    await until(lambda: len(door.handshakes) == 3)
    assert [type(error) for error in door.handshakes[1:]] == [ssl.SSLError, ssl.SSLCertVerificationError]
    assert [line["status"] for line in door.lines] == [404], "nothing of theirs was read"


@pytest.mark.parametrize("sent", [get("/nowhere"), b"\x16\x03\x01\x00\x05hello", b"\0" * 100])
async def test_what_is_not_tls_is_closed_and_told(open_door, sent, until):
    door = await open_door()
    client = await Client.connect(door.port)
    client.send(sent)
    with contextlib.suppress(ConnectionResetError):
        assert b"HTTP" not in await client.rest()
    await until(lambda: not door.gate.connections)
    (error,) = door.handshakes
    assert isinstance(error, ssl.SSLError)
    await client.close()


async def test_a_handshake_that_never_ends_is_closed_at_the_heads_deadline(open_door, until):
    door = await open_door()
    client = await Client.connect(door.port)
    (connection,) = await until(lambda: door.gate.connections)
    assert connection.deadline == pytest.approx(door.gate.now() + 15, abs=5)
    connection.deadline = 0.0
    door.gate.sweep()
    await client.ends()
    await until(lambda: not door.gate.connections)
    (error,) = door.handshakes
    assert not isinstance(error, ssl.SSLError), "no failure of TLS"
    assert door.lines == []
    await client.close()


async def test_where_there_are_too_many_there_is_no_handshake(open_door, connect, until):
    door = await open_door(limits={"connections": 1})
    await connect(door)
    second = await Client.connect(door.port)
    assert await second.is_reset()
    assert len(door.gate.connections) == 1
    assert [type(error) for error in door.handshakes] == [type(None), ConnectionResetError]
    await second.close()


async def test_a_refused_client_that_stays_is_cut(open_door, connect, until):
    door = await open_door()
    client = await connect(door)
    client.send(b"nonsense\r\n\r\n")
    await client.message()
    await client.ends()
    for connection in door.gate.connections:
        connection.deadline = 0.0
    door.gate.sweep()
    await until(lambda: not door.gate.connections)


async def test_a_refusal_is_read_though_the_client_is_still_sending(open_door, connect):
    """The end is said with the refusal, and what the client still sends is read away: no reset overtakes it."""
    door = await open_door()
    client = await connect(door)
    head, _, _ = post("/nowhere", body=b"x").partition(b"\r\n\r\n")
    client.send(head.replace(b"Content-Length: 1", b"Content-Length: 900000") + b"\r\n\r\n" + b"y" * 800_000)
    refused = await client.message()
    assert (refused.status, refused.header("connection")) == (404, "close")
    await client.ends()


async def test_a_client_that_is_cut_off_is_gone(open_door, connect, provider, until):
    """An end without TLS' own end, in the middle of an answer."""
    door = await open_door()
    client = await connect(door)
    client.send(post(stream=True))
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(STREAM)
    await client.head()
    client.writer.transport.abort()
    assert await upstream.is_reset()
    await until(lambda: not door.gate.connections)


async def test_a_large_body_and_a_large_answer_pass_unchanged(open_door, connect, provider):
    door = await open_door()
    client = await connect(door)
    body = b'{"model":"gpt-5.4","x":"' + b"y" * 3_000_000 + b'"}'
    client.send(post(body=body))
    upstream = await provider.accept()
    assert (await upstream.message()).body == body
    upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    assert (await client.message()).body == body


# ---------------------------------------------------------------- providers


async def test_a_provider_whom_nobody_vouches_for_is_refused(open_door, connect, provider, stranger):
    provider.context.load_cert_chain(*_files(stranger.issue("provider")))
    door = await open_door()
    client = await connect(door)
    refused = await client.ask(post())
    assert (refused.status, refused.reason) == (502, "upstream_unreachable")
    assert failures(door) == {"tls_failed": 1}
    assert not door.gate.providers["openai"].pool.open


async def test_a_provider_with_another_name_is_refused_unless_that_is_the_one_to_ask_for(
    open_door, connect, authority, tmp_path
):
    pair = authority.issue("elsewhere", ("models.internal",))
    for name, status in ((None, 502), ("models.internal", 200), ("other.internal", 502)):
        names = []
        context = serving(pair)
        context.sni_callback = lambda _tls, asked, _context, names=names: names.append(asked)
        async with TlsProvider(pair, context) as provider:
            door = await open_door(tls={"server_name": name})
            door.gate.providers["openai"].pool._dialler.port = provider.port
            client = await connect(door)
            client.send(post())
            if status == 200:
                upstream = await provider.accept()
                await upstream.message()
                upstream.send(OK)
            assert (await client.message()).status == status
            assert names == [name], "an address is no name to ask for"


async def test_a_provider_may_want_to_know_who_we_are(open_door, connect, authority, pair):
    context = serving(pair)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    mine = authority.issue("gateway")
    async with TlsProvider(pair, context) as provider:
        door = await open_door(tls={"certificate": mine.certificate, "key": mine.key})
        door.gate.providers["openai"].pool._dialler.port = provider.port
        client = await connect(door)
        client.send(post())
        upstream = await provider.accept()
        assert upstream.writer.get_extra_info("peercert")["subject"] == ((("commonName", "gateway"),),)
        await upstream.message()
        upstream.send(OK)
        assert (await client.message()).status == 200


async def test_a_provider_that_speaks_no_tls(open_door, connect, listen):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    door = await open_door()
    door.gate.providers["openai"].pool._dialler.port = await listen(answer)
    client = await connect(door)
    assert (await client.ask(post())).status == 502
    assert failures(door) == {"tls_failed": 1}


async def test_a_provider_that_never_finishes_its_handshake(open_door, connect, listen):
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(1000):
                pass
        writer.close()
        ended.set()

    door = await open_door(timeouts={"connect": 0.05})
    door.gate.providers["openai"].pool._dialler.port = await listen(wait)
    client = await connect(door)
    refused = await client.ask(post())
    assert (refused.status, refused.reason) == (504, "upstream_timeout")
    assert failures(door) == {"connect_timeout": 1}
    async with asyncio.timeout(5):
        await ended.wait()


async def test_an_answer_that_ends_without_tls_own_end_is_incomplete(open_door, connect, listen, pair):
    """Its end is the connection's; anyone on the way can close that, but not say so in TLS."""
    door = await open_door()
    answers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = serving(pair).wrap_bio(incoming, outgoing, server_side=True)
        data = b""
        while b"}" not in data:
            received = await reader.read(65536)
            assert received
            incoming.write(received)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                data += tls.read(65536)
            writer.write(outgoing.read())
        tls.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nhalf")
        if answers:
            with contextlib.suppress(ssl.SSLError):
                tls.unwrap()
        answers.append(data)
        writer.write(outgoing.read())
        writer.close()

    door.gate.providers["openai"].pool._dialler.port = await listen(answer)
    client = await connect(door)
    client.send(post())
    await client.head()
    assert await client.chunk() == b"half"
    await client.ends()  # without the last chunk
    assert failures(door) == {"closed": 1}
    whole = await (await connect(door)).ask(post())
    assert (whole.status, whole.body) == (200, b"half")


async def test_a_client_that_waits_makes_its_provider_wait(open_door, connect, provider, until):
    """What has been decrypted waits no further than one read; the rest stays in the kernel."""
    door = await open_door(limits={"write_buffer": 1000})
    client = await connect(door, receive_buffer=4096, limit=1024)
    client.send(post(stream=True))
    upstream = await provider.accept()
    await upstream.message()
    size = 4_000_000
    upstream.send(STREAM + chunked(b"x" * size))
    await until(lambda: any(c._writing_paused for c in door.gate.connections))
    (exchange,) = door.gate.in_flight
    assert exchange.relay.bytes_out < size
    held = exchange._upstream.transport
    assert held._incoming.pending <= READ_BYTES
    door.close_models("gpt-5.4")
    assert await client.is_reset()


def test_verification_cannot_be_turned_off():
    assert set(ClientTls.model_fields) == {"ca_file", "server_name", "certificate", "key"}


def _files(pair):
    return pair.certificate, pair.key
