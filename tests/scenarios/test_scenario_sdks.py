"""Official SDKs, only base URL and key changed, get through the gateway what they get from the provider itself."""

import asyncio

import anthropic
import openai
import pytest

MESSAGES = [{"role": "user", "content": "Say something kind."}]
CLAUDE = {"model": "claude-opus-4-5", "max_tokens": 200, "messages": MESSAGES}
GPT = {"model": "gpt-5.4", "messages": MESSAGES}
TOOL_ANTHROPIC = {
    "tools": [
        {
            "name": "weather",
            "description": "…",
            "input_schema": {"type": "object", "properties": {"model": {"type": "string"}}},
        }
    ],
    "tool_choice": {"type": "tool", "name": "weather"},
}
TOOL_OPENAI = {
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {"type": "object", "properties": {"model": {"type": "string"}}},
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
}
FAST = {"X-Sim-Interval": "0", "X-Sim-Events": "40"}


def openai_kwargs(system, through: bool) -> dict:
    return (
        {"base_url": f"{system.proxy}/openai/v1", "api_key": "demo-alice", "max_retries": 0}
        if through
        else {"base_url": f"{system.simulator}/openai/v1", "api_key": "sim-key", "max_retries": 0}
    )


def anthropic_kwargs(system, through: bool) -> dict:
    return (
        {"base_url": f"{system.proxy}/anthropic", "api_key": "demo-alice", "max_retries": 0}
        if through
        else {"base_url": f"{system.simulator}/anthropic", "api_key": "sim-key", "max_retries": 0}
    )


def dump(value):
    return value.model_dump() if hasattr(value, "model_dump") else value


def openai_calls(client):
    """Name → a call; each gives something comparable."""
    h = {"extra_headers": FAST}
    return {
        "chat": lambda: dump(client.chat.completions.create(**GPT, **h)),
        "chat stream": lambda: [dump(e) for e in client.chat.completions.create(**GPT, stream=True, **h)],
        "chat tool": lambda: dump(client.chat.completions.create(**GPT, **TOOL_OPENAI, **h)),
        "chat tool stream": lambda: [dump(e) for e in client.chat.completions.create(**GPT, **TOOL_OPENAI, stream=True, **h)],
        "responses": lambda: dump(client.responses.create(model="gpt-5.4", input="Hi", **h)),
        "responses stream": lambda: [dump(e) for e in client.responses.create(model="gpt-5.4", input="Hi", stream=True, **h)],
        "completions": lambda: dump(client.completions.create(model="gpt-5.4", prompt="Hi", **h)),
        "embeddings": lambda: dump(client.embeddings.create(model="text-embedding-3-small", input="Hi", **h)),
        "models": lambda: [dump(m) for m in client.models.list(**h)],
        "model": lambda: dump(client.models.retrieve("gpt-5.4", **h)),
        "2 MiB prompt": lambda: dump(client.chat.completions.create(model="gpt-5.4", messages=[{"role": "user", "content": "ü" * 2**20}], **h)),
    }  # fmt: skip


def anthropic_calls(client):
    h = {"extra_headers": FAST}

    def stream(**more):
        with client.messages.stream(**CLAUDE, **more, **h) as events:
            return [dump(e) for e in events]

    return {
        "messages": lambda: dump(client.messages.create(**CLAUDE, **h)),
        "messages stream": stream,
        "messages raw stream": lambda: [dump(e) for e in client.messages.create(**CLAUDE, stream=True, **h)],
        "tool": lambda: dump(client.messages.create(**CLAUDE, **TOOL_ANTHROPIC, **h)),
        "tool stream": lambda: stream(**TOOL_ANTHROPIC),
        "count_tokens": lambda: dump(client.messages.count_tokens(model="claude-opus-4-5", messages=MESSAGES, **h)),
        "models": lambda: [dump(m) for m in client.models.list(**h)],
        "2 MiB prompt": lambda: dump(client.messages.create(model="claude-opus-4-5", max_tokens=9, messages=[{"role": "user", "content": "ü" * 2**20}], **h)),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(openai_calls(None)))
def test_openai_sync_gives_the_same_objects(module_system, name):
    results = []
    for through in (True, False):
        with openai.OpenAI(**openai_kwargs(module_system, through)) as client:
            results.append(openai_calls(client)[name]())
    assert results[0] == results[1]
    assert results[0]


@pytest.mark.parametrize("name", list(anthropic_calls(None)))
def test_anthropic_sync_gives_the_same_objects(module_system, name):
    results = []
    for through in (True, False):
        with anthropic.Anthropic(**anthropic_kwargs(module_system, through)) as client:
            results.append(anthropic_calls(client)[name]())
    assert results[0] == results[1]
    assert results[0]


async def test_async_clients_and_fifty_concurrent_streams_give_the_same_events(system):
    async def chat(client, number):
        stream = await client.chat.completions.create(
            model="gpt-5.4", messages=[{"role": "user", "content": f"number {number}"}], stream=True, extra_headers=FAST
        )
        return [dump(event) async for event in stream]

    async def message(client, number):
        async with client.messages.stream(
            model="claude-opus-4-5",
            max_tokens=99,
            messages=[{"role": "user", "content": f"number {number}"}],
            extra_headers=FAST,
        ) as stream:
            return [dump(event) async for event in stream]

    results = []
    for through in (True, False):
        async with (
            openai.AsyncOpenAI(**openai_kwargs(system, through)) as gpt,
            anthropic.AsyncAnthropic(**anthropic_kwargs(system, through)) as claude,
        ):
            results.append(
                await asyncio.gather(*(chat(gpt, n) for n in range(25)), *(message(claude, n) for n in range(25)))
            )
            plain = await asyncio.gather(gpt.chat.completions.create(**GPT), claude.messages.create(**CLAUDE))
            results[-1].append([dump(p) for p in plain])
    assert results[0] == results[1]


@pytest.mark.parametrize(("status", "headers"), [(429, {"X-Sim-Retry-After": "7"}), (500, {}), (529, {})])
def test_provider_errors_arrive_unchanged(module_system, status, headers):
    seen = []
    for through in (True, False):
        with (
            openai.OpenAI(**openai_kwargs(module_system, through)) as gpt,
            anthropic.Anthropic(**anthropic_kwargs(module_system, through)) as claude,
        ):
            for call, error in (
                (
                    lambda: gpt.chat.completions.create(**GPT, extra_headers={"X-Sim-Status": str(status), **headers}),
                    openai.APIStatusError,
                ),
                (
                    lambda: claude.messages.create(**CLAUDE, extra_headers={"X-Sim-Status": str(status), **headers}),
                    anthropic.APIStatusError,
                ),
            ):
                with pytest.raises(error) as raised:
                    call()
                answer = raised.value.response
                seen.append((type(raised.value), answer.status_code, answer.content, answer.headers.get("retry-after")))
    assert seen[:2] == seen[2:]
    assert seen[0][1] == status
    assert seen[0][3] == headers.get("X-Sim-Retry-After")


def test_a_truncated_stream_is_truncated_for_the_client_too(module_system):
    outcomes = []
    for through in (True, False):
        events: list = []
        with (
            anthropic.Anthropic(**anthropic_kwargs(module_system, through)) as client,
            pytest.raises(Exception) as raised,
        ):
            stream = client.messages.create(**CLAUDE, stream=True, extra_headers={**FAST, "X-Sim-Truncate": "5"})
            events.extend(dump(event) for event in stream)
        outcomes.append((events, type(raised.value)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]


def test_an_openai_compatible_provider_works_by_its_own_name(module_system):
    with openai.OpenAI(base_url=f"{module_system.proxy}/compatible/v1", api_key="demo-alice") as client:
        answer = client.chat.completions.create(model="mistral-large-latest", messages=MESSAGES)
    assert answer.choices[0].message.content
