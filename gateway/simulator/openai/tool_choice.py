"""Which function tool a request offers and forces, in the shapes of chat completions and of responses."""

from typing import Any

from gateway.simulator.dialect import Json
from gateway.simulator.tools import ANY_TOOL, Tool


def offered(document: Json) -> list[Tool]:
    """Return the function tools of a request; chat nests them under `function`, responses does not."""
    listed = document.get("tools")
    found: list[Tool] = []
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and entry.get("type") == "function":
            inner = entry.get("function", entry)
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                found.append(Tool(inner["name"], inner.get("parameters")))
    return found


def forced(document: Json) -> str | None:
    """Return the name that `tool_choice` forces, ANY_TOOL for "required", None where the model may choose."""
    choice: Any = document.get("tool_choice")
    if choice == "required":
        return ANY_TOOL
    if not isinstance(choice, dict):
        return None
    match choice.get("type"):
        case "function":
            return _name(choice.get("function", choice))
        case "allowed_tools":
            allowed = choice.get("allowed_tools", choice)
            return _first_allowed(allowed) if isinstance(allowed, dict) else None
    return None


def _first_allowed(allowed: Json) -> str | None:
    tools = allowed.get("tools")
    if allowed.get("mode") != "required" or not isinstance(tools, list) or not tools:
        return None
    return _name(tools[0].get("function", tools[0])) if isinstance(tools[0], dict) else None


def _name(function: Any) -> str | None:
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
