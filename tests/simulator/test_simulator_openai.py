"""The OpenAI dialect, read by the official SDK."""

import json
import math

import openai
import pytest

CHAT = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "How tall is a tree?"}]}
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 2},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city"],
}
CHAT_TOOLS = [
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
]
RESPONSES_TOOLS = [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}]
FORCE_CHAT = {"type": "function", "function": {"name": "get_weather"}}


async def test_chat_answers_with_a_sentence_that_names_the_model(openai_client, fully_typed):
    completion = await openai_client.chat.completions.create(**CHAT)
    fully_typed(completion)
    text = completion.choices[0].message.content
    assert "gpt-5.4" in text
    assert "How tall is a tree?" in text
    assert 45 <= len(text.split()) <= 80
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


async def test_chat_stream_says_the_same_as_the_object(openai_client, fully_typed):
    whole = await openai_client.chat.completions.create(**CHAT)
    stream = await openai_client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    for chunk in chunks:
        fully_typed(chunk)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].choices == []


async def test_chat_stream_helper_accumulates_to_a_completion(openai_client):
    async with openai_client.chat.completions.stream(**CHAT) as stream:
        final = await stream.get_final_completion()
    whole = await openai_client.chat.completions.create(**CHAT)
    assert final.choices[0].message.content == whole.choices[0].message.content


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("required", "get_time"),
        (FORCE_CHAT, "get_weather"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CHAT_TOOLS[1]]}},
            "get_weather",
        ),
    ],
)
async def test_chat_calls_the_tool_that_is_forced(openai_client, fully_typed, choice, name):
    completion = await openai_client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, tool_choice=choice)
    fully_typed(completion)
    [call] = completion.choices[0].message.tool_calls
    assert call.function.name == name
    assert completion.choices[0].finish_reason == "tool_calls"


async def test_tool_arguments_follow_the_schema(openai_client):
    completion = await openai_client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, tool_choice=FORCE_CHAT)
    arguments = json.loads(completion.choices[0].message.tool_calls[0].function.arguments)
    asked = "How tall is a tree?"
    assert arguments == {"city": asked, "unit": "celsius", "days": 2, "tags": [asked]}


async def test_tool_choice_auto_is_answered_with_text(openai_client):
    completion = await openai_client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, tool_choice="auto")
    assert completion.choices[0].message.tool_calls is None


@pytest.mark.parametrize(("header", "name"), [("1", "get_time"), ("true", "get_time"), ("get_weather", "get_weather")])
async def test_chat_calls_the_tool_that_the_header_asks_for(openai_client, header, name):
    completion = await openai_client.chat.completions.create(
        **CHAT, tools=CHAT_TOOLS, extra_headers={"X-Sim-Tool": header}
    )
    assert completion.choices[0].message.tool_calls[0].function.name == name


async def test_a_tool_that_is_not_offered_is_an_error(openai_client):
    with pytest.raises(openai.BadRequestError, match="offers no tool named 'other'"):
        await openai_client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, extra_headers={"X-Sim-Tool": "other"})


async def test_chat_streams_argument_deltas(openai_client, fully_typed):
    whole = await openai_client.chat.completions.create(**CHAT, tools=CHAT_TOOLS, tool_choice=FORCE_CHAT)
    stream = await openai_client.chat.completions.create(
        **CHAT, tools=CHAT_TOOLS, tool_choice=FORCE_CHAT, stream=True, extra_headers={"X-Sim-Events": "5"}
    )
    chunks = [chunk async for chunk in stream]
    for chunk in chunks:
        fully_typed(chunk)
    calls = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert calls[0].function.name == "get_weather"
    assert len(calls) == 1 + 5
    said = "".join(call.function.arguments for call in calls)
    assert said == whole.choices[0].message.tool_calls[0].function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_responses_object_is_fully_typed(openai_client, fully_typed):
    response = await openai_client.responses.create(
        model="gpt-5.4", input="Hello?", instructions="Be kind.", metadata={"a": "b"}, tools=RESPONSES_TOOLS
    )
    fully_typed(response)
    assert "gpt-5.4" in response.output_text
    assert response.status == "completed"
    assert response.instructions == "Be kind."
    assert response.tools[0].name == "get_weather"


async def test_responses_stream_has_every_event_in_order(openai_client, fully_typed):
    ask = {"model": "gpt-5.4", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}]}
    whole = await openai_client.responses.create(**ask)
    stream = await openai_client.responses.create(**ask, stream=True)
    events = [event async for event in stream]
    for event in events:
        fully_typed(event)
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    assert events[-1].response.output_text == whole.output_text


async def test_responses_stream_helper_accumulates_to_a_response(openai_client):
    async with openai_client.responses.stream(model="gpt-5.4", input="Hello?") as stream:
        final = await stream.get_final_response()
    whole = await openai_client.responses.create(model="gpt-5.4", input="Hello?")
    assert final.output_text == whole.output_text


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "get_weather"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]},
    ],
)
async def test_responses_stream_function_calls(openai_client, fully_typed, choice):
    ask = {"model": "gpt-5.4", "input": "Rain?", "tools": RESPONSES_TOOLS, "tool_choice": choice}
    whole = await openai_client.responses.create(**ask)
    fully_typed(whole)
    stream = await openai_client.responses.create(**ask, stream=True)
    events = [event async for event in stream]
    for event in events:
        fully_typed(event)
    said = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    assert said == whole.output[0].arguments
    assert json.loads(said)["city"] == "Rain?"
    assert events[-1].response.output[0].name == "get_weather"
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_responses_without_a_model_use_the_first_one(openai_client):
    response = await openai_client.responses.create(input="Hello?")
    assert response.model == "gpt-5.4"


async def test_legacy_completions_as_object_and_stream(openai_client, fully_typed):
    ask = {"model": "gpt-5.4", "prompt": "Once upon a time"}
    whole = await openai_client.completions.create(**ask)
    fully_typed(whole)
    stream = await openai_client.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage


async def test_embeddings_are_unit_vectors_that_depend_on_the_input(openai_client, fully_typed):
    model = "text-embedding-3-small"
    both = await openai_client.embeddings.create(model=model, input=["one", "two"], encoding_format="float")
    fully_typed(both)
    again = await openai_client.embeddings.create(model=model, input="two", encoding_format="float")
    assert len(both.data[0].embedding) == 1536
    assert math.isclose(sum(x * x for x in both.data[0].embedding), 1.0)
    assert both.data[1].embedding == again.data[0].embedding != both.data[0].embedding


async def test_embeddings_default_and_base64_encoding(openai_client, http):
    plain = await openai_client.embeddings.create(model="e", input=[1, 2, 3], dimensions=8)
    assert len(plain.data) == 1
    assert len(plain.data[0].embedding) == 8
    ask = {"model": "e", "input": "x", "dimensions": 8, "encoding_format": "base64"}
    async with http.post("/openai/v1/embeddings", json=ask) as answer:
        [item] = (await answer.json())["data"]
    assert len(item["embedding"]) == 44  # 8 floats of 4 bytes


async def test_models_are_listed_and_retrieved(openai_client, fully_typed):
    models = [model async for model in openai_client.models.list()]
    assert [model.id for model in models] == ["gpt-5.4", "gpt-5.4-mini", "text-embedding-3-small"]
    model = await openai_client.models.retrieve("gpt-5.4")
    fully_typed(model)
    with pytest.raises(openai.NotFoundError) as caught:
        await openai_client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (451, openai.APIStatusError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_forced_status_raises_the_sdks_error(openai_client, status, error):
    with pytest.raises(error) as caught:
        await openai_client.chat.completions.create(
            **CHAT, extra_headers={"X-Sim-Status": str(status), "X-Sim-Retry-After": "7"}
        )
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body["message"] == f"simulated error {status}"
    assert caught.value.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"{"),
        ("/v1/chat/completions", b"[]"),
        ("/v1/chat/completions", b'{"model": "m"}'),
        ("/v1/chat/completions", b'{"messages": [{}]}'),
        ("/v1/responses", b'{"model": 7}'),
        ("/v1/responses", b'{"input": 7}'),
        ("/v1/completions", b'{"model": "m"}'),
        ("/v1/embeddings", b'{"model": "m", "input": []}'),
        ("/v1/embeddings", b'{"model": "m", "input": "x", "dimensions": 100000}'),
    ],
)
async def test_what_a_provider_would_not_take_is_a_400(http, path, body):
    async with http.post(f"/openai{path}", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_another_provider_name_speaks_the_dialect_it_is_mapped_to(simulator):
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/compat/v1", api_key="k") as client:
        assert len([model async for model in client.models.list()]) == 7
