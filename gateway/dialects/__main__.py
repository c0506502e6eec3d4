"""``python -m gateway.dialects > docs/dialects.md``: the tables, for people."""

import sys
from collections.abc import Iterator

from gateway.dialects import DIALECTS, Dialect, Operation
from gateway.dialects.keeping import Act, Kept
from gateway.dialects.messages import Talk
from gateway.dialects.selectors import Selector
from gateway.dialects.table import ANY

_HEAD = """# Dialects

<!-- made by: python -m gateway.dialects > docs/dialects.md -->

A dialect is how an API looks: its operations, where they name models, what they may run without naming it, how its
errors look. What is not in a table below is refused with 404. The tables are `gateway/dialects/*.py`.

**Models named** are paths in a JSON body (`tools[].model`: of each item), fields of a form (`svg[model]` for
`svg.model`), or a segment of the path; `!` means that it must be there. **Runs beside** are models that could run
without being named, by the catalog's capability: the request is refused as `model_unresolved` if one of them is not
available to the caller, or if the catalog has none. `a | chat` means: `chat` only where `a` is missing.
**Keeps** says what outlives the request: what was created through the gateway is remembered with its models
([how](enforcement.md#what-was-made-through-the-gateway)), and for whatever uses it *runs beside* gives way to those.

## Adding to a dialect

A provider's own operations are settings; where a path is in the table already, the table stands:

```toml
[[providers.litellm.operations]]
id = "search"
method = "POST"
path = "/v1/search/{index}"      # {model} is a segment that names one
models = ["model!", "rerankers[].model"]
candidates = ""                  # what runs without being named: chat, embedding, image, audio, other, * for any
```

`key_header = "api-key"` sends the gateway's key in another header. Names are the catalog's: a model's `routes` say what
it is called at which provider, `*` in a name stands for anything.

## Adding a dialect

One module beside `gateway/dialects/bedrock.py` with a `Dialect`: its rows, where its SDKs put keys, `error_body`, and
for each operation that streams a `stream_error` that its SDK raises on. Name it in `gateway/dialects/__init__.py` and
in `gateway.settings.Provider.dialect`. The tests in `tests/dialects` walk every table; give its shape to `SHAPES` in
`test_refusal.py`, its SDK to `test_sdk_operations.py`, and run this command.

## Limits

- What was not created through the gateway, and some things that were (stored chat completions, containers, vector
  stores, deployments, files uploaded in parts), are not known: whatever uses them is decided as if they could be any
  model's.
- What a provider goes on with by itself (a batch begun before the kill, a scheduled agent) is not stopped.
- Anthropic's SDK fetches a batch's results from the address in the batch, which is the provider's own; fetch
  `/v1/messages/batches/{batch}/results` instead. Google's uploads and Realtime calls by WebRTC go past the gateway in
  the same way, and are not served, or only begun by it.
- A caller's key in a query (Gemini's `?key=`) is taken out of it and goes no further; it is still in the logs of
  whatever stands between client and gateway, so that a header is better. Other dialects take keys from headers alone;
  one in the query beside another in a header is refused.
- Bedrock requests are signed with keys from settings; roles of an instance are not assumed. Callers cannot be known by
  a signature of theirs: they send their gateway key as the bearer key.
- An empty model, which vLLM takes for its default, is refused: name it.

## What bodies are read

JSON in UTF-8 under one `Content-Type: application/json`; where the table says so, `multipart/form-data`. One `gzip` or
`deflate` around it is read from a bounded copy, and the original goes on. A key or field that names a model may stand
once, spelled exactly: with parsers that differ on the rest, nobody knows who is asked. A batch's file is read line by
line. Of a WebSocket each message of the client is read so, and one of a kind that is not listed ends it.
What can name no model ("anything; it is not read") is passed on as it comes.
"""


def _rows(dialect: Dialect) -> Iterator[str]:
    yield "| operation | request | models named | runs beside | body | keeps |"
    yield "|---|---|---|---|---|---|"
    for operation in dialect.operations:
        cells = (
            operation.id,
            f"`{operation.method} {operation.path}`",
            ", ".join(_named(operation)),
            ", ".join(_beside(operation)),
            str(operation.body) if operation.talk is None else "messages",
            ", ".join(
                dict.fromkeys(f"{kept.act} {kept.kind}" for kept in _kept(operation) if kept.act is not Act.LISTS)
            ),
        )
        yield "| " + " | ".join(cell or "-" for cell in cells) + " |"


def _kept(operation: Operation) -> tuple[Kept, ...]:
    """What a request keeps; of a WebSocket, what its messages do."""
    return operation.kept if operation.talk is None else operation.talk.kept


def _named(operation: Operation) -> Iterator[str]:
    if "{model}" in operation.path:
        yield f"path{f' (as `{operation.prefix}…`)' if operation.prefix else ''}"
    if operation.query:
        yield f"`?{operation.query}=`"
    for selector in operation.selectors:
        yield f"`{selector}`"
    for name, selectors in operation.documents:
        yield from (f"`{name}: {selector}`" for selector in selectors)
    if operation.lines is not None:
        yield from (f"each line's `{selector}`" for selector in operation.lines.selectors)
    if operation.talk is not None:
        yield from _said(operation.talk)


def _said(talk: Talk) -> Iterator[str]:
    """What the messages of a WebSocket name, by their kinds."""
    kinds_of: dict[str, list[str]] = {}
    for kind, reader in talk.reader.kinds.items():
        kinds_of.setdefault(" ".join(f"`{selector}`" for selector in reader.selectors), []).append(kind)
    for selectors, kinds in kinds_of.items():
        yield f"in {' '.join(kinds)}: {selectors or 'nothing'}"


def _beside(operation: Operation) -> Iterator[str]:
    if operation.candidates:
        yield _capability(operation.candidates)
    for selector in operation.selectors:
        if selector.absent:
            yield f"`{Selector(selector.path)}` \\| {_capability(selector.absent)}"
    for implied in operation.implied:
        said = f" = {implied.value}" if implied.value else ""
        yield f"`{Selector(implied.path)}`{said}: {_capability(implied.capability)}"
    for kind, reader in operation.talk.reader.kinds.items() if operation.talk is not None else ():
        for selector in reader.selectors:
            if selector.absent:
                yield f"{kind}: `{Selector(selector.path)}` \\| {_capability(selector.absent)}"
    if not operation.invokes and not operation.candidates and operation.talk is None:
        yield "nothing"


def _capability(name: str) -> str:
    return "any" if name == ANY else name


def document() -> str:
    """The whole page."""
    parts = [_HEAD]
    for dialect in DIALECTS.values():
        places = ", ".join(
            f"`{name.decode()}{': ' + scheme.decode() if scheme else ''}`" for name, scheme in dialect.credentials
        )
        if dialect.query_keys.taken:
            places += f", `?{dialect.query_keys.taken}=`"
        parts.append(f"\n## {dialect.name}\n\nRead from: {dialect.source}. Keys: {places}.\n\n")
        parts.append("\n".join(_rows(dialect)) + "\n")
        if dialect.not_served:
            parts.append("\nNot served:\n\n")
            parts += [f"- `{pattern.replace('|', '&#124;')}`: {why}\n" for pattern, why in dialect.not_served]
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document())
