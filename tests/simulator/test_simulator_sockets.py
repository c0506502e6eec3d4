"""WebSockets of the simulator: greeted, answered, recorded message by message."""

import json

import aiohttp
import pytest


async def said(socket, count: int) -> list[dict]:
    return [json.loads((await socket.receive(timeout=5)).data) for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "messages", "kinds"),
    [
        (
            "/openai/v1/realtime?model=gpt-5.4",
            [
                {"type": "session.update", "session": {"voice": "alto"}},
                {"type": "conversation.item.create"},
                {"type": "response.create"},
            ],
            [
                "session.created",
                "session.updated",
                "conversation.item.added",
                "response.created",
                *["response.output_text.delta"] * 2,
                "response.done",
            ],
        ),
        (
            "/openai/v1/responses",
            [{"type": "response.create", "model": "gpt-5.4", "input": "hi"}],
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                *["response.output_text.delta"] * 2,
            ],
        ),
    ],
)
async def test_events_by_their_type(http, path, messages, kinds):
    async with http.ws_connect(path, headers={"X-Sim-Events": "2"}) as socket:
        for message in messages:
            await socket.send_json(message)
        assert [event["type"] for event in await said(socket, len(kinds))] == kinds


async def test_live_answers_in_binary_frames(http):
    path = "/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
    async with http.ws_connect(path, headers={"X-Sim-Events": "2"}) as socket:
        await socket.send_json({"setup": {"model": "models/gemini-3-pro"}})
        first = await socket.receive()
        assert (first.type, first.data) == (aiohttp.WSMsgType.BINARY, b'{"setupComplete":{}}')
        await socket.send_json({"client_content": {"turns": []}})
        events = await said(socket, 3)
        assert events[-1] == {"serverContent": {"turnComplete": True}}


async def test_each_message_is_recorded(http):
    async with http.ws_connect("/openai/v1/realtime?model=gpt-5.4") as socket:
        await socket.send_json({"type": "session.update", "session": {"model": "gpt-9"}})
        await said(socket, 2)
        async with http.get("/_sim/requests") as response:
            requests = (await response.json())["requests"]
    assert [(r["method"], r["model"], r["status"]) for r in requests] == [
        ("GET", "gpt-5.4", 101),
        ("MESSAGE", "gpt-9", 101),
    ]


async def test_a_handshake_can_be_refused(http):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect("/openai/v1/realtime?model=gpt-5.4", headers={"X-Sim-Status": "429"})
    assert refused.value.status == 429
