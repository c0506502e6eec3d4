"""What other readers of JSON find where a reader of ours looks: whatever any of them could take for a model's name.

Python's ``json`` (from bytes: a byte order mark, UTF-16 and NaN are welcome), orjson, msgspec and Node.js, each with
its first, its last and, as Go does, its case-folded members. A name that one of them finds in a body which ours has
read, and which ours has not found, is a way round the gateway.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from gateway.dialects.pairs import Pairs
from gateway.dialects.selectors import ANY_MEMBER, EACH, EACH_OR_TEXT, BodyReader, MalformedBodyError, Reading

try:
    import msgspec
except ImportError:  # it is there where `make fuzz` runs
    msgspec = None  # type: ignore[assignment]

_NOTHING: tuple[type[Exception], ...] = (
    (ValueError, RecursionError) if msgspec is None else (ValueError, RecursionError, msgspec.MsgspecError)
)
Parser = Callable[[bytes], Any]
_NODE = """
process.stdin.setEncoding('utf8');
let rest = '';
process.stdin.on('data', data => {
  const lines = (rest + data).split('\\n');
  rest = lines.pop();
  for (const line of lines) {
    let said;
    try { said = JSON.stringify([JSON.parse(Buffer.from(line, 'hex').toString('utf8'))]); } catch { said = 'null'; }
    process.stdout.write(said + '\\n');
  }
});
"""


class Node:
    """``JSON.parse``, in a process of its own."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen([program, "-e", _NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, body: bytes) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(body.hex().encode() + b"\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        if said is None:
            raise ValueError("no JSON")
        return said[0]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def _every_member(body: bytes) -> Any:
    return json.loads(body, object_pairs_hook=Pairs)


def parsers(*, node: bool) -> dict[str, Parser]:
    """Those that are here."""
    found: dict[str, Parser] = {"json": _every_member, "orjson": orjson.loads}
    if msgspec is not None:
        found["msgspec"] = msgspec.json.decode
    program = shutil.which("node")
    if node and program is not None:
        found["node"] = Node(program)
    return found


def parsed(parser: Parser, body: bytes) -> Any:
    """What a parser makes of a body; ``None`` if nothing."""
    try:
        return parser(body)
    except _NOTHING:
        return None


# ------------------------------------------------------------------------------------------------ where they look


def folded(key: str) -> str:
    """As Go compares keys: letter by letter, the Kelvin sign and the long s among them."""
    return "".join(low if len(low := letter.casefold()) == 1 else letter for letter in key)


def members(value: Any, key: str) -> list[Any]:
    """Every member that somebody could take for the one with this key."""
    pairs = value if isinstance(value, Pairs) else value.items() if isinstance(value, dict) else ()
    return [member for name, member in pairs if folded(name) == folded(key)]


def walked(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Every value that somebody could find at a path."""
    if not path:
        yield value
        return
    for inner in _step(value, path[0]):
        yield from walked(inner, path[1:])


def _step(value: Any, step: str) -> list[Any]:
    plain = isinstance(value, list) and not isinstance(value, Pairs)
    if step in (EACH, EACH_OR_TEXT):
        return list(value) if plain else []
    if step == ANY_MEMBER:
        pairs = value if isinstance(value, Pairs) else value.items() if isinstance(value, dict) else ()
        return list(value) if plain else [member for _, member in pairs]
    return members(value, step)


def names_in(reader: BodyReader, document: Any) -> set[str]:
    """Names that somebody could find where the reader's selectors say."""
    found = set()
    for selector in reader.selectors:
        for value in walked(document, selector.path):
            named = members(value, selector.or_key) if selector.or_key else []
            found |= {name for name in (value, *named) if isinstance(name, str)}
    return found


def unnamed_in(reader: BodyReader, document: Any) -> set[str]:
    """Capabilities of models that somebody could let run without a name."""
    found = set()
    for implied in reader.implied:
        for holder in walked(document, implied.path[:-1]):
            said = any(implied.says(value) for value in members(holder, implied.path[-1]))
            if said and not (implied.unless and any(members(holder, implied.unless))):
                found.add(implied.capability)
    for selector in reader.selectors:
        for holder in walked(document, selector.path[:-1]) if selector.absent else ():
            if isinstance(holder, dict | Pairs) and not members(holder, selector.path[-1]):
                found.add(selector.absent)
    return found


def ids_in(reader: BodyReader, document: Any) -> set[tuple[str, str]]:
    """Ids of kept things that somebody could find."""
    found = set()
    for path in reader.references:
        for value in walked(document, path):
            ids = [value] if isinstance(value, str) else members(value, "id") if len(path) == 1 else []
            found |= {(".".join(path), one) for one in ids if isinstance(one, str)}
    return found


# ------------------------------------------------------------------------------------------------ the comparison


def reading_of(reader: Any, body: bytes) -> Reading | None:
    """What ours reads; ``None`` where it refuses. Nothing else may come of any bytes."""
    try:
        return reader.read(body)
    except MalformedBodyError as error:
        assert error.status in (400, 413), error.status
        return None


def compare(reader: BodyReader, body: bytes, reading: Reading, others: dict[str, Parser]) -> None:
    """See that nobody finds in a body which ours has read what ours has not found."""
    for who, parser in others.items():
        document = parsed(parser, body)
        if document is None:
            continue
        names, unnamed, ids = (find(reader, document) for find in (names_in, unnamed_in, ids_in))
        assert names <= set(reading.names), f"{who} reads {names - set(reading.names)}"
        assert unnamed <= set(reading.unnamed), f"{who} could run unnamed ones: {unnamed - set(reading.unnamed)}"
        assert ids <= set(reading.ids), f"{who} uses {ids - set(reading.ids)}"
        stream = bool(reader.selectors) and any(value is True for value in members(document, "stream"))
        assert reading.stream or not stream, f"{who} answers with a stream"
