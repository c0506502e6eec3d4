"""The Anthropic dialect, read by the official SDK."""

import anthropic
import pytest

ASK = {
    "model": "claude-fable-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "How deep is the sea?"}]}],
}
TOOLS = [
    {"name": "get_time", "input_schema": {"type": "object", "properties": {}}},
    {
        "name": "get_depth",
        "input_schema": {"type": "object", "properties": {"sea": {"type": "string"}, "metric": {"type": "boolean"}}},
    },
]
FORCE = {"type": "tool", "name": "get_depth"}


async def test_message_is_a_sentence_that_names_the_model(anthropic_client, fully_typed):
    message = await anthropic_client.messages.create(**ASK)
    fully_typed(message)
    assert "claude-fable-5" in message.content[0].text
    assert "How deep is the sea?" in message.content[0].text
    assert message.stop_reason == "end_turn"


async def test_stream_accumulates_to_the_same_message(anthropic_client):
    whole = await anthropic_client.messages.create(**ASK)
    async with anthropic_client.messages.stream(**ASK) as stream:
        final = await stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens


async def test_stream_has_every_event_in_order(anthropic_client, fully_typed):
    stream = await anthropic_client.messages.create(**ASK, stream=True, extra_headers={"X-Sim-Events": "3"})
    events = [event async for event in stream]
    for event in events:
        fully_typed(event)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize(("choice", "name"), [({"type": "any"}, "get_time"), (FORCE, "get_depth")])
async def test_forced_tools_are_used(anthropic_client, fully_typed, choice, name):
    message = await anthropic_client.messages.create(**ASK, tools=TOOLS, tool_choice=choice)
    fully_typed(message)
    assert message.stop_reason == "tool_use"
    assert message.content[0].name == name


async def test_tool_input_is_streamed_in_deltas(anthropic_client, fully_typed):
    stream = await anthropic_client.messages.create(**ASK, tools=TOOLS, tool_choice=FORCE, stream=True)
    events = [event async for event in stream]
    for event in events:
        fully_typed(event)
    assert len([event for event in events if event.type == "content_block_delta"]) > 2
    async with anthropic_client.messages.stream(**ASK, tools=TOOLS, tool_choice=FORCE) as helper:
        final = await helper.get_final_message()
    assert final.content[0].input == {"sea": "How deep is the sea?", "metric": True}


async def test_header_asks_for_a_tool(anthropic_client):
    message = await anthropic_client.messages.create(**ASK, tools=TOOLS, extra_headers={"X-Sim-Tool": "get_depth"})
    assert message.content[0].name == "get_depth"


async def test_header_without_tools_is_answered_with_text(anthropic_client):
    message = await anthropic_client.messages.create(**ASK, extra_headers={"X-Sim-Tool": "1"})
    assert message.content[0].type == "text"


async def test_tokens_are_counted(anthropic_client, fully_typed):
    count = await anthropic_client.messages.count_tokens(model=ASK["model"], messages=ASK["messages"])
    fully_typed(count)
    message = await anthropic_client.messages.create(**ASK)
    assert count.input_tokens == message.usage.input_tokens


async def test_models_are_listed_in_pages(anthropic_client, fully_typed):
    page = await anthropic_client.models.list(limit=3)
    assert (page.first_id, page.last_id, page.has_more) == ("claude-fable-5", "claude-opus-4-5", True)
    names = [model.id async for model in page]
    assert names == ["claude-fable-5", "claude-mythos-5", "claude-opus-4-5", "claude-haiku-4-5"]
    back = await anthropic_client.models.list(before_id="claude-haiku-4-5", limit=2)
    assert ([model.id for model in back.data], back.has_more) == (["claude-mythos-5", "claude-opus-4-5"], True)
    fully_typed(await anthropic_client.models.retrieve("claude-fable-5"))
    with pytest.raises(anthropic.NotFoundError):
        await anthropic_client.models.retrieve("claude-none")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after_id=nothing", "before_id=nothing"])
async def test_nonsense_in_paging_is_a_400(http, query):
    async with http.get(f"/anthropic/v1/models?{query}") as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
async def test_forced_status_raises_the_sdks_error(anthropic_client, status, error, kind):
    with pytest.raises(error) as caught:
        await anthropic_client.messages.create(**ASK, extra_headers={"X-Sim-Status": str(status)})
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.body["request_id"] == caught.value.request_id


@pytest.mark.parametrize("body", [b"nothing", b'{"model": "m", "messages": []}', b'{"messages": [{}]}'])
async def test_what_a_provider_would_not_take_is_a_400(http, body):
    for path in ("/anthropic/v1/messages", "/anthropic/v1/messages/count_tokens"):
        async with http.post(path, data=body) as answer:
            assert answer.status == 400
