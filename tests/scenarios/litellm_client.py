"""LiteLLM as a library, in a process of its own: told by lines of JSON what to call, it tells what came of it.

It brings 250 MB, and warnings that a test would fail on: it lives in ``build/clients`` (`make clients`), not among the
libraries of the tests. ``python litellm_client.py PROXY_URL``
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import litellm

MESSAGES = [{"role": "user", "content": "Say something kind."}]
PLACES = {"anthropic": "anthropic", "openai": "openai/v1", "gemini": "gemini/v1beta"}
KEY = "demo-alice"


def asked(proxy: str, model: str, **more: Any) -> dict[str, Any]:
    """What a call of ``model`` says: address and key are all that is ours."""
    place = PLACES[model.partition("/")[0]]
    return {"model": model, "messages": MESSAGES, "api_base": f"{proxy}/{place}", "api_key": KEY, **more}


def piece(chunk: Any) -> str:
    return chunk.choices[0].delta.content or ""


async def whole(call: dict[str, Any]) -> str:
    return (await litellm.acompletion(**call)).choices[0].message.content


async def streamed(call: dict[str, Any]) -> str:
    return "".join([piece(chunk) async for chunk in await litellm.acompletion(**call, stream=True)])


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """What a call gave, or raised."""
    try:
        return {"gave": call()}
    except Exception as error:
        return {"raised": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}


def call_all(proxy: str, models: list[str]) -> Iterator[Any]:
    """Every model in every way: by model and way, what came."""
    found = {}
    for model in models:
        call = asked(proxy, model)
        found[model] = {
            "completion": outcome(lambda call=call: litellm.completion(**call).choices[0].message.content),
            "stream": outcome(lambda call=call: "".join(map(piece, litellm.completion(**call, stream=True)))),
            "async completion": outcome(lambda call=call: asyncio.run(whole(call))),
            "async stream": outcome(lambda call=call: asyncio.run(streamed(call))),
        }
    yield found


def list_all(proxy: str, providers: list[str]) -> Iterator[Any]:
    """The models of each provider. LiteLLM sends Gemini's key in the query."""
    yield {
        provider: litellm.get_valid_models(
            check_provider_endpoint=True, custom_llm_provider=provider, api_key=KEY, api_base=f"{proxy}/{provider}"
        )
        for provider in providers
    }


def stream(proxy: str, models: list[str]) -> Iterator[Any]:
    """A stream that lasts: first that it has begun, then how it ended."""
    slow = {"X-Sim-Interval": "0.05", "X-Sim-Events": "2000"}
    chunks = litellm.completion(**asked(proxy, models[0], extra_headers=slow), stream=True)
    while not piece(next(chunks)):
        pass
    yield "begun"
    yield outcome(lambda: len(list(chunks)))


def main(proxy: str) -> None:
    """``["call_all", "anthropic/claude-opus-4-5", …]`` a line; so are the answers."""
    litellm.suppress_debug_info = True
    commands = {"call_all": call_all, "list_all": list_all, "stream": stream}
    for line in sys.stdin:
        command, *words = json.loads(line)
        for answer in commands[command](proxy, words):
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
