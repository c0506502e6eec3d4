"""Deterministic arguments for a tool call, made from the tool's JSON Schema."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.simulator.dialect import ApiError, Json

MAX_DEPTH = 8  # a schema nested deeper gets empty objects below
ANY_TOOL = "1"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a request offers."""

    name: str
    schema: Any


def choose(tools: list[Tool], forced: str | None, asked: str | None) -> Tool | None:
    """Return the tool to call, or None for text.

    Args:
        tools: what the request offers; without any the answer is text.
        forced: what its tool_choice forces: a name, ANY_TOOL, or None.
        asked: what X-Sim-Tool says: a name, ANY_TOOL ("true" is the same), or None.

    Raises:
        ApiError: 400 where the named tool is not offered.
    """
    wanted = asked or forced
    if not tools or wanted is None:
        return None
    if wanted.lower() in {ANY_TOOL, "true"}:
        return tools[0]
    for tool in tools:
        if tool.name == wanted:
            return tool
    raise ApiError(400, f"the request offers no tool named {wanted!r}", param="tool_choice")


def arguments(schema: Any, text: str) -> Json:
    """Return an object that follows `schema` as far as types, enums and nesting go; strings say `text`."""
    value = _sample(schema if isinstance(schema, dict) else {}, text, 0)
    return value if isinstance(value, dict) else {}


def _sample(schema: Json, text: str, depth: int) -> Any:
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    make = _SAMPLES.get(kind) if isinstance(kind, str) else None
    return make(schema, text, depth) if make else None


def _object(schema: Json, text: str, depth: int) -> Json:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or depth >= MAX_DEPTH:
        return {}
    return {
        name: _sample(inner if isinstance(inner, dict) else {}, text, depth + 1) for name, inner in properties.items()
    }


def _array(schema: Json, text: str, depth: int) -> list[Any]:
    items = schema.get("items")
    return [_sample(items, text, depth + 1)] if isinstance(items, dict) and depth < MAX_DEPTH else []


_SAMPLES: dict[str, Callable[[Json, str, int], Any]] = {
    "object": _object,
    "array": _array,
    "string": lambda _schema, text, _depth: text[:80] or "simulated",
    "integer": lambda schema, _text, _depth: schema.get("minimum", 1),
    "number": lambda schema, _text, _depth: schema.get("minimum", 0.5),
    "boolean": lambda _schema, _text, _depth: True,
}
