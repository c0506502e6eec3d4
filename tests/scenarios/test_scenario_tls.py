"""TLS on every side: clients to the gateway, the gateway to its providers, operators to the admin API."""

import asyncio
import ssl
from collections import Counter

import anthropic
import openai
import pytest
from certificates import Authority, Pair
from system import ROOT, System, new_system, until

MESSAGES = [{"role": "user", "content": "Say something kind."}]
LOAD = 8
"""Clients that ask without a pause, each time on a new connection."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority) -> Pair:
    return authority.issue("gate")


@pytest.fixture(scope="module")
def secure(authority, pair):
    """A system with TLS wherever there is a connection over TCP."""
    system = new_system(SSL_CERT_FILE=str(authority.file))
    simulator = authority.issue("simulator")
    for listener in ("PROXY", "ADMIN"):
        system.env[f"PORTCULLIS_{listener}__TLS__CERTIFICATE"] = str(pair.certificate)
        system.env[f"PORTCULLIS_{listener}__TLS__KEY"] = str(pair.key)
    for provider in ("ANTHROPIC", "OPENAI", "COMPATIBLE"):
        system.env[f"PORTCULLIS_PROVIDERS__{provider}__TLS__CA_FILE"] = str(authority.file)
    try:
        system.start_redis()
        system.start_simulator("--tls", str(simulator.certificate), str(simulator.key))
        system.run("init", "--seeds", str(ROOT / "seeds"))
        system.start_gateway()
        system.proxy, system.admin = (url.replace("http:", "https:") for url in (system.proxy, system.admin))
        yield system
    finally:
        system.stop()


@pytest.fixture
async def clients(secure, authority):
    """The official SDKs; only that they trust our authority is said to them."""
    trusted = authority.trusted()
    gpt = openai.AsyncOpenAI(
        base_url=f"{secure.proxy}/openai/v1",
        api_key="demo-alice",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(verify=trusted),
    )
    claude = anthropic.AsyncAnthropic(
        base_url=f"{secure.proxy}/anthropic",
        api_key="demo-alice",
        max_retries=0,
        http_client=anthropic.DefaultAsyncHttpxClient(verify=trusted),
    )
    async with gpt, claude:
        yield gpt, claude


async def test_official_sdks_over_tls(clients):
    gpt, claude = clients
    answer = await gpt.chat.completions.create(model="gpt-5.4", messages=MESSAGES)
    assert answer.choices[0].message.content
    chunks = [c async for c in await gpt.chat.completions.create(model="gpt-5.4", messages=MESSAGES, stream=True)]
    assert chunks[-1].choices[0].finish_reason == "stop"
    answer = await claude.messages.create(model="claude-opus-4-5", max_tokens=99, messages=MESSAGES)
    assert answer.content[0].text
    async with claude.messages.stream(model="claude-opus-4-5", max_tokens=99, messages=MESSAGES) as stream:
        assert (await stream.get_final_message()).stop_reason == "end_turn"


async def test_a_kill_cuts_a_stream_over_tls(secure: System, clients):
    """The order comes from the command line, over TLS too; the stream ends with an error, never as if complete."""
    _, claude = clients
    slow = {"X-Sim-Interval": "0.02", "X-Sim-Events": "3000"}
    asking = {"model": "claude-fable-5", "max_tokens": 99, "messages": MESSAGES, "extra_headers": slow}
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with claude.messages.stream(**asking) as stream:
            events = 0
            async for _ in stream:
                events += 1
                if events == 5:
                    killed = asyncio.get_running_loop().run_in_executor(
                        None, lambda: secure.run("offline", "claude-fable-5", "--note", "drill")
                    )
    assert caught.value.body["error"]["portcullis"]["reason"] == "model_offline"
    assert "enforced" in await killed
    with pytest.raises(anthropic.PermissionDeniedError):
        await claude.messages.create(**asking)


async def test_a_certificate_is_renewed_under_load_and_nobody_notices(secure: System, clients, authority, pair):
    gpt, _ = clients
    old, new = pair.serial, authority.issue("renewed", kind="rsa")
    served: list[int] = []
    enough = asyncio.Event()

    async def load() -> None:
        while not enough.is_set():
            served.append(await ask_on_a_new_connection(secure.proxy, authority.trusted()))

    asking = [asyncio.ensure_future(load()) for _ in range(LOAD)]
    slow = {"X-Sim-Interval": "0.02", "X-Sim-Events": "150"}
    stream = await gpt.chat.completions.create(model="gpt-5.4", messages=MESSAGES, stream=True, extra_headers=slow)
    await until(lambda: len(served) > 2 * LOAD, "requests before")
    pair.replace_by(new)
    renewed = pair.serial
    await until(lambda: set(served[-10 * LOAD :]) == {renewed} and len(served) > 10 * LOAD, "the new certificate")
    enough.set()
    await asyncio.gather(*asking)  # each raises where an answer was not a good one
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "stop", "what was open before goes on"
    print(f"\nrequests on new connections while the certificate changed: {dict(Counter(served))}, none failed")
    assert set(served) == {old, renewed}


async def ask_on_a_new_connection(url: str, context: ssl.SSLContext) -> int:
    """One request that must succeed; the serial number of the certificate that served it."""
    host, port = url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    certificate = writer.get_extra_info("peercert")
    writer.write(b"GET /availability HTTP/1.1\r\nHost: g\r\nPortcullis-Key: demo-alice\r\nConnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert (await reader.read()).endswith(b"}")
    writer.close()
    await writer.wait_closed()
    return int(certificate["serialNumber"], 16)
