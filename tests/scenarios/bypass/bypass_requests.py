"""Requests as bytes, and what each must come to."""

import json
from dataclasses import dataclass
from typing import Any

AUTH = {
    "openai": "Authorization: Bearer demo-alice", "compatible": "Authorization: Bearer demo-alice",
    "anthropic": "x-api-key: demo-alice", "gemini": "x-goog-api-key: demo-alice",
    "bedrock": "Authorization: Bearer demo-alice", "vertex": "Authorization: Bearer demo-alice",
    "azure": "api-key: demo-alice",
}  # fmt: skip
DENIED, MALFORMED, UNKNOWN, UNREAD = (451,), (400,), (404,), (415,)


@dataclass(frozen=True)
class Case:
    """One request, and the statuses that are right. ``row`` is its class."""

    row: str
    name: str
    provider: str
    data: bytes
    statuses: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """An operation whose JSON body names its model: K is denied, A is permitted."""

    provider: str
    path: str
    denied: str
    allowed: str
    key: str = "model"
    more: str = '"x":1'

    def body(self, *members: str) -> bytes:
        return ("{" + ",".join([*members, self.more]) + "}").encode()

    def named(self, name: str, key: str | None = None) -> str:
        return f'"{key or self.key}":{json.dumps(name, ensure_ascii=False)}'


SDK = (
    Target("openai", "/v1/chat/completions", "gpt-5.4", "gpt-5.4-mini", more='"messages":[]'),
    Target("openai", "/v1/responses", "gpt-5.4", "gpt-5.4-mini", more='"input":"Hi"'),
    Target("compatible", "/v1/chat/completions", "mistral-large", "gpt-oss", more='"messages":[]'),
    Target("anthropic", "/v1/messages", "claude-fable-5", "claude-opus-4-5", more='"messages":[]'),
    Target("anthropic", "/v1/messages/count_tokens", "claude-fable-5", "claude-opus-4-5", more='"messages":[]'),
    Target("gemini", "/v1beta/cachedContents", "models/gemini-3-pro", "models/gemini-3-flash"),
    Target("gemini", "/v1beta/openai/chat/completions", "gemini-3-pro", "gemini-3-flash", more='"messages":[]'),
    Target(
        "bedrock", "/async-invoke", "anthropic.claude-fable-5-20260324-v1:0", "anthropic.claude-opus-4-5-20251101-v1:0",
        key="modelId",
    ),
)  # fmt: skip


def request(
    provider: str,
    path: str,
    body: Any = None,
    *headers: str,
    method: str | None = None,
    kind: str | None = "application/json",
    auth: bool = True,
    line: str | None = None,
) -> bytes:
    """A request. ``body``: bytes as they are, else JSON; ``None``: none."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    lines = [line or f"{method} /{provider}{path} HTTP/1.1", "Host: gateway"]
    lines += [AUTH[provider]] if auth else []
    if body is not None:
        lines += [f"Content-Length: {len(data)}"]
        lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + data


BOUNDARY = "xBOUNDARYx"


def part(name: str, content: str | bytes, *heads: str, more: str = "") -> bytes:
    """A part of a form."""
    data = content if isinstance(content, bytes) else content.encode()
    lines = [f'Content-Disposition: form-data; name="{name}"{more}', *heads, "", ""]
    return f"--{BOUNDARY}\r\n".encode() + "\r\n".join(lines).encode() + data + b"\r\n"


def form(*parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> bytes:
    """A form of parts."""
    return b"".join(parts) + end


def posted(provider: str, path: str, body: bytes, *headers: str, boundary: str = BOUNDARY) -> bytes:
    """A request with a form."""
    return request(provider, path, body, *headers, kind=f"multipart/form-data; boundary={boundary}")
