"""No way round on a WebSocket, either: rows 46 to 52, a kill within a frame, and the official SDK.

What must not arrive carries a mark; the simulator records every message that it gets.
"""

import asyncio
import base64
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from system import new_system, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

A, K, HEARD = "gpt-5.4-mini", "gpt-5.4", "gpt-4o-transcribe"
LIVE_A, LIVE_K = "models/gemini-3-flash", "models/gemini-3-pro"
MARK = "must-not-arrive"
RESPONSES, REALTIME = "/openai/v1/responses", "/openai/v1/realtime"
LIVE = "/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
ORDER = {"authority": "BIS", "reference": "2026-1"}
OFF = {"model_offline"}
UNRESOLVED = {"model_unresolved"}
MALFORMED = {"malformed"}


@dataclass(frozen=True)
class Case:
    """A WebSocket: what is said on it that may be, and then what may not."""

    row: str
    what: str
    path: str
    denied: Any = None
    reasons: frozenset[str] | set[str] = frozenset()
    before: tuple[Any, ...] = ()
    how: str = "text"
    status: tuple[int, ...] = ()
    protocols: tuple[str, ...] = ()
    key: str | None = "demo-alice"


def create(model: str | None, **fields: Any) -> dict[str, Any]:
    return {"type": "response.create", **({"model": model} if model else {}), "input": MARK, **fields}


def _spoken() -> Iterator[tuple[str, str, str, Any, set[str], tuple[Any, ...]]]:
    """Messages that must not arrive, by the rows."""
    first = ({"type": "response.create", "model": A, "input": "hello"},)
    for before in ((), first, first * 3):
        yield "46", f"K after {len(before)} of A", RESPONSES, create(K), OFF, before
    for name in (f"openai/{K}", "GPT-5.4", f"{K}-2026-03-17", f"ft:{K}:acme::1", f"{K}-latest", f"{K}[1m]"):
        yield "46", f"K as {name}", RESPONSES, create(name), OFF | {"unknown_model"}, first
    yield "46", "K nested", RESPONSES, create(A, response={"model": K}), OFF, first
    yield (
        "46",
        "an image tool's K",
        RESPONSES,
        create(A, tools=[{"type": "image_generation", "model": "gpt-image-1"}]),
        OFF,
        first,
    )
    yield "46", "moderation by K", RESPONSES, create(A, moderation={"model": K}), OFF, first
    yield "46", "no model", RESPONSES, create(None), UNRESOLVED, first
    yield "46", "by what was before", RESPONSES, create(None, previous_response_id="resp_1"), UNRESOLVED, first
    yield "46", "a stored prompt", RESPONSES, create(None, prompt={"id": "pmpt_1"}), UNRESOLVED, first
    yield "46", "steering towards K", RESPONSES, {"type": "response.steer", "model": K, "input": MARK}, OFF, first
    yield (
        "46",
        "a kind that is not listed",
        RESPONSES,
        {"type": "response.clone", "model": A, "input": MARK},
        MALFORMED,
        first,
    )
    yield "46", "setup again", LIVE, {"setup": {"model": LIVE_K, "x": MARK}}, OFF, ({"setup": {"model": LIVE_A}},)
    yield "46", "setup", LIVE, {"setup": {"model": LIVE_K, "x": MARK}}, OFF, ()
    yield "46", "setup without a model", LIVE, {"setup": {"x": MARK}}, UNRESOLVED, ()
    yield "46", "a key in another case", LIVE, {"Setup": {"model": LIVE_K, "x": MARK}}, MALFORMED, ()
    yield "46", "two keys", LIVE, {"setup": {"model": LIVE_A}, "realtimeInput": {"text": MARK}}, MALFORMED, ()
    for session in (
        {"model": K}, {"audio": {"input": {"transcription": {"model": HEARD}}}}, {"input_audio_transcription": {"model": HEARD}},
    ):  # fmt: skip
        for kind in ("session.update", "transcription_session.update", "response.create", "conversation.item.create"):
            message = {"type": kind, "session": session, "instructions": MARK}
            yield (
                "52",
                f"{kind} with {json.dumps(session)}",
                f"{REALTIME}?model={A}",
                message,
                OFF,
                ({"type": "response.create"},),
            )
    yield (
        "52",
        "a response by K",
        f"{REALTIME}?model={A}",
        {"type": "response.create", "response": {"model": K, "instructions": MARK}},
        OFF,
        (),
    )
    for what, text in _ambiguous():
        yield "46", what, RESPONSES, text, MALFORMED, first
    yield (
        "46",
        "setup twice",
        LIVE,
        f'{{"setup":{{"model":"{LIVE_A}"}},"setup":{{"model":"{LIVE_K}","x":"{MARK}"}}}}',
        MALFORMED,
        (),
    )


def _ambiguous() -> Iterator[tuple[str, str]]:
    for what, pairs in (
        ("model twice", f'"model":"{A}","model":"{K}"'), ("the reverse", f'"model":"{K}","model":"{A}"'),
        ("escaped", f'"mod\\u0065l":"{K}","model":"{A}"'), ("another case", f'"Model":"{K}","model":"{A}"'),
        ("type twice", f'"type":"response.steer","model":"{A}"'), ("TYPE", f'"TYPE":"response.steer","model":"{A}"'),
        ("no name", '"model":["x"]'), ("null", '"model":null'), ("empty", '"model":""'), ("blanks", f'"model":" {K}"'),
        ("look-alikes", '"model":"gpt-5.\uff14"'), ("NaN", f'"model":"{A}","x":NaN'), ("1e400", f'"model":"{A}","x":1e400'),
        ("zero width", f'"model":"{K}\u200b"'),
    ):  # fmt: skip
        yield what, f'{{"type":"response.create",{pairs},"input":"{MARK}"}}'
    yield "a second document", json.dumps(create(A)) + json.dumps(create(K))
    yield "a byte order mark", "\ufeff" + json.dumps(create(A))
    yield "a list", json.dumps([create(A)])
    yield "not JSON", MARK
    yield "deep", "[" * 100_000 + MARK


def _opened() -> Iterator[Case]:
    """Handshakes that must not arrive."""
    denied, malformed = (403, 451), (400,)
    for path, status, row in (
        (f"{REALTIME}?model={K}", denied, "46"), (f"{REALTIME}?model=openai/{K}", denied, "46"), (f"{REALTIME}?model=gpt-99", (404,), "46"),
        (f"{REALTIME}?call_id=rtc_{MARK}", denied, "49"), (f"{REALTIME}?model={A}&call_id=rtc_{MARK}", denied, "49"),
        (f"{REALTIME}?model={A}&CALL_ID=rtc_1", denied, "49"), (REALTIME, denied, "49"), (f"{REALTIME}?intent=transcription", denied, "49"),
        (f"{REALTIME}/translations?model={K}", denied, "46"),
        (f"{REALTIME}?model={A}&model={K}", malformed, "50"), (f"{REALTIME}?model={K}&model={A}", malformed, "50"),
        (f"{REALTIME}?MODEL={K}", malformed, "50"), (f"{REALTIME}?%6dodel={K}", malformed, "50"), (f"{REALTIME}?model={A}&Model={K}", malformed, "50"),
        (f"{REALTIME}?model={A}&%63all_id=rtc_1", malformed, "50"), (f"{REALTIME}?model=%67pt-5.4", malformed, "50"),
        (f"{REALTIME}?model={A};model={K}", malformed, "50"), (f"{RESPONSES}?model={K}", malformed, "50"), (f"{LIVE}?model={LIVE_K}", malformed, "50"),
        (f"{REALTIME}/?model={A}", (404,), "53"), (f"/openai/v1//realtime?model={A}", malformed, "53"), (f"/openai/v1/%72ealtime?model={A}", malformed, "54"),
    ):  # fmt: skip
        yield Case(row, f"GET {path}", path, status=status)
    keys = ("openai-insecure-api-key.demo-bob", "openai-insecure-api-key.demo-alice")
    yield Case("72", "two keys", f"{REALTIME}?model={A}", status=(401,), protocols=keys[:1])
    yield Case("72", "two subprotocols with keys", f"{REALTIME}?model={A}", status=(401,), protocols=keys, key=None)
    yield Case(
        "46",
        "K, with the key in a subprotocol",
        f"{REALTIME}?model={K}",
        status=denied,
        protocols=("realtime", keys[1]),
        key=None,
    )


def cases() -> Iterator[Case]:
    """Every message as text, as bytes, in pieces of either."""
    yield from _opened()
    for row, what, path, denied, reasons, before in _spoken():
        for how in ("text", "binary", "pieces of text", "pieces of bytes"):
            yield Case(
                "47" if how != "text" and row == "46" else row, f"{what}, {how}", path, denied, reasons, before, how
            )


CASES = list(cases())


@pytest.fixture(scope="module")
def held():
    """A system in which one model of each kind is off under an order."""
    system = new_system(PORTCULLIS_PROXY__LIMITS__WEBSOCKET_HELD_BYTES="4096")
    try:
        system.start()
        asyncio.run(_hold(system))
        yield system
    finally:
        system.stop()


async def _hold(system) -> None:
    answer = await system.ask_admin(
        "POST", "/api/v1/offline", {"models": [K, HEARD, "gpt-image-1", "gemini-3-pro"], "order": ORDER}
    )
    assert answer.status == 200, answer.json


def open_socket(system, path: str, *, key: str | None = "demo-alice", protocols: tuple[str, ...] = (), **options: Any):
    """A client's WebSocket, as ``websockets`` opens it: it offers compression."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= {"x-goog-api-key": key} if key and "google" in path else {}
    headers |= options.pop("headers", {})
    return connect(
        system.proxy.replace("http", "ws") + path, additional_headers=headers, subprotocols=protocols or None, proxy=None, open_timeout=10,
        close_timeout=5, **options,
    )  # fmt: skip


async def say(socket, message: Any, how: str = "text") -> None:
    text = message if isinstance(message, str) else json.dumps(message)
    whole: Any = text.encode() if "b" in how.rsplit(maxsplit=1)[-1] else text
    if how.startswith("pieces"):
        size = max(1, len(whole) // 5)
        await socket.send([whole[at : at + size] for at in range(0, len(whole), size)])
    else:
        await socket.send(whole)


async def refused(socket) -> tuple[str, int, Any]:
    """The reason by which a WebSocket ended, its close code, and its last message; without one, the close says it."""
    last: Any = {}
    try:
        while True:
            last = json.loads(await asyncio.wait_for(socket.recv(), 10))
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else 0
        said = closed.rcvd.reason.partition(":")[0] if closed.rcvd and not last else ""
    return last.get("error", {}).get("portcullis", {}).get("reason", said), code, last


async def arrived(system, since: int) -> list[dict[str, Any]]:
    return (await system.simulated(f"/_sim/requests?full=1&limit=10000&since={since}"))["requests"]


async def total(system) -> int:
    return (await system.simulated("/_sim/stats"))["total"]


async def attempt(system, case: Case) -> str | None:
    """What is wrong with how one was refused; ``None`` if nothing is."""
    if case.status:
        try:
            async with open_socket(system, case.path, key=case.key, protocols=case.protocols):
                return "was let in"
        except InvalidStatus as answer:
            ours = json.loads(answer.response.body)["error"]["portcullis"]
            return (
                None
                if answer.response.status_code in case.status and ours["retry"] is False
                else f"{answer.response.status_code}: {ours}"
            )
    async with open_socket(system, case.path, key=case.key) as socket:
        for message in case.before:
            await say(socket, message)
        await say(socket, case.denied, case.how)
        reason, code, last = await refused(socket)
    return None if reason in case.reasons and code == 1008 else f"{reason} {code} {last}"


async def test_nothing_that_is_denied_arrives(held):
    since, wrong, tried = await total(held), [], defaultdict(int)
    waiting = list(reversed(CASES))

    async def go_on() -> None:
        while waiting:
            case = waiting.pop()
            tried[case.row] += 1
            if (fault := await attempt(held, case)) is not None:
                wrong.append(f"row {case.row}: {case.what}: {fault}")

    await asyncio.gather(*(go_on() for _ in range(4)))
    came = await arrived(held, since)
    reached = [one for one in came if MARK in one["target"] or MARK.encode() in base64.b64decode(one["body_base64"])]
    denied = [one for one in came if one["model"] in (K, HEARD, LIVE_K)]
    print(
        f"\nWebSockets: tried {sum(tried.values())}, refused {sum(tried.values()) - len(wrong)}, reached upstream {len(reached)}; by row {dict(tried)}"
    )
    assert not wrong, "\n".join(wrong)
    assert not reached
    assert not denied
    assert sum(tried.values()) == len(CASES) > 150


async def test_only_so_much_waits_for_the_first_model(held):
    """Row 48."""
    since = await total(held)
    for path, early in (
        (RESPONSES, {"type": "response.steer", "input": MARK}),
        (LIVE, {"realtimeInput": {"text": MARK}}),
    ):
        async with open_socket(held, path) as socket:
            with pytest.raises(ConnectionClosed):
                for _ in range(1000):
                    await say(socket, early)
                await refused(socket)
                await socket.recv()
            assert socket.close_code == 1009
    assert [one["method"] for one in await arrived(held, since)] == ["GET", "GET"], "the handshakes, and no message"


async def test_a_client_secret_is_not_minted_for_what_is_off(held):
    """Row 51."""
    since = await total(held)
    client = openai.AsyncOpenAI(base_url=f"{held.proxy}/openai/v1", api_key="demo-alice", max_retries=0)
    async with client:
        for session in (
            {"type": "realtime", "model": K},
            {"type": "realtime", "model": A, "audio": {"input": {"transcription": {"model": HEARD}}}},
        ):
            with pytest.raises(openai.APIStatusError) as raised:
                await client.realtime.client_secrets.create(session=session)
            assert raised.value.status_code == 451
    assert await total(held) == since


async def test_what_is_permitted_passes(held):
    """The other side: nothing above is refused for being a WebSocket."""
    async with open_socket(held, RESPONSES, headers={"X-Sim-Events": "3"}) as socket:
        for how in ("text", "binary", "pieces of text", "pieces of bytes"):
            await say(socket, create(A), how)
            kinds = []
            while "response.completed" not in kinds:
                kinds.append(json.loads(await asyncio.wait_for(socket.recv(), 10))["type"])
            assert kinds.count("response.output_text.delta") == 3
        assert socket.protocol.extensions == []
    async with open_socket(held, LIVE, headers={"X-Sim-Events": "3"}) as socket:
        await say(socket, {"setup": {"model": LIVE_A}})
        assert json.loads(await socket.recv()) == {"setupComplete": {}}
        await say(socket, {"client_content": {"turns": []}})
        assert len([json.loads(await socket.recv()) for _ in range(4)]) == 4


# ------------------------------------------------------------------------------------------------ kills, by the SDK


@pytest.fixture
async def free(held) -> AsyncIterator[Any]:
    """The same system; what the test takes offline is put back."""
    before = set(await held.holds())
    yield held
    for hold in set(await held.holds()) - before:
        await held.ask_admin("POST", f"/api/v1/holds/{hold}/release", {})


def gpt(system, **more: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{system.proxy}/openai/v1", api_key="demo-alice", max_retries=0, **more)


async def test_the_official_sdk_talks_and_is_told(free):
    async with gpt(free) as client:
        async with client.realtime.connect(model=A) as session:
            assert (await session.recv()).type == "session.created"
            await session.session.update(session={"type": "realtime", "instructions": "Be brief."})
            assert (await session.recv()).type == "session.updated"
            await session.response.create()
            kinds = []
            async for event in session:
                kinds.append(event.type)
                if event.type == "response.done":
                    break
            assert kinds.count("response.output_text.delta") > 10
            await session.session.update(
                session={"type": "realtime", "audio": {"input": {"transcription": {"model": HEARD}}}}
            )
            error = await session.recv()
            assert (error.type, error.error.code) == ("error", "model_offline")
            assert error.error.portcullis["model"] == HEARD
            with pytest.raises(ConnectionClosedError) as closed:
                await session.recv()
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "model_offline")
        with pytest.raises(InvalidStatus) as refused_:
            async with client.realtime.connect(model=K):
                pass
        assert refused_.value.response.status_code == 451
        async with client.responses.connect() as responses:
            await responses.response.create(model=A, input="hello")
            async for event in responses:
                if event.type == "response.completed":
                    break
            await responses.response.create(model=K, input=MARK)
            assert (await responses.recv()).error.code == "model_offline"


async def test_a_kill_while_deltas_come(free):
    """A model goes off while it talks to twenty, and another talks on."""
    stopped = asyncio.Event()

    async def listen(path: str, first: Any) -> tuple[str, int, Any]:
        async with open_socket(free, path, headers={"X-Sim-Events": "100000", "X-Sim-Interval": "0.02"}) as socket:
            await say(socket, first)
            for _ in range(8):
                await socket.recv()
            begun.release()
            if "mini" not in json.dumps([first, path]):
                await stopped.wait()
                await socket.recv()
                return "", 0, {}
            return await refused(socket)

    begun = asyncio.Semaphore(0)
    speak = {"type": "response.create", "model": A, "input": "x"}
    talking = [asyncio.create_task(listen(RESPONSES, speak)) for _ in range(10)]
    talking += [asyncio.create_task(listen(f"{REALTIME}?model={A}", {"type": "response.create"})) for _ in range(10)]
    for _ in talking:
        await asyncio.wait_for(begun.acquire(), 20)
    receipt = await free.offline(A)
    assert receipt["enforced"]
    print(
        f"\nkilled {len(talking)} WebSockets, enforced after {receipt['elapsed_ms']} ms, {receipt['streams_cut']} cut"
    )
    ends = await asyncio.wait_for(asyncio.gather(*talking), 20)
    assert receipt["streams_cut"] == len(talking)
    told = [end for end in ends if end[:2] == ("model_offline", 1008)]
    assert len(told) + sum(1 for end in ends if end[1] == 0) == len(talking), ends
    assert len(told) > len(talking) // 2, "most are told; who was in the middle of something is reset"
    stopped.set()
    await until(lambda: _open(free, 0), "the provider hears of it")


async def _open(system, count: int) -> bool:
    found = await system.metrics()
    return sum(value for name, value in found.items() if name.startswith("portcullis_websockets")) == count


async def test_a_kill_within_a_frame_of_the_client(free):
    """The rest of the message never comes; the provider has got none of it."""
    since = await total(free)
    async with open_socket(free, RESPONSES) as socket:
        await say(socket, {"type": "response.create", "model": A, "input": "hello"})
        await socket.recv()
        socket.transport.write(b"\x81\xfe\x10\x00\0\0\0\0" + json.dumps(create(A)).encode())  # 4096 were announced
        receipt = await free.offline(A)
        assert receipt["enforced"]
        reason, code, _ = await refused(socket)
        assert (reason, code) == ("model_offline", 1008)
    assert [one["method"] for one in await arrived(free, since)] == ["GET", "MESSAGE"]
