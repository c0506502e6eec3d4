"""Reads the names of models out of a JSON body, strictly: what two parsers could read differently is refused.

On duplicate keys Python, orjson and Node take the last, others the first, and Go matches keys without regard
to case. So a selector's key may stand once, spelled exactly. The body is parsed once by orjson (which refuses a
byte order mark, other encodings, NaN, infinities, lone surrogates, a second document and nesting beyond 1024).
Only where a selector's key occurs more than once anywhere, a second, slower pass looks at the pairs themselves.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from gateway.policy.names import well_formed

EACH = "[]"
MAX_NAMES = 32
"""Names in one request. Requests name one to three; batches come by other operations."""

MAX_STRUCTURE = 2_000_000
"""Brackets and commas in a body. Ten million empty objects in 31 MB would take any parser seconds."""

MAX_AMBIGUOUS_STRUCTURE = 200_000
"""The same for the slow pass, which takes some two microseconds a value."""

MANY_QUOTES = 200_000
"""From here on keys are looked for from the brackets and commas before them, which are bounded: quotes are not. A
string of fifteen million escaped ones kept the search for ten seconds; for an image it is four times as slow.
"""

LIGHT = 20_000
"""Brackets, commas and quotes that are read in about a millisecond: what others may be made to wait for."""

LIGHT_BYTES = 1024 * 1024
"""The same, of bytes."""


class MalformedBodyError(Exception):
    """The body cannot be read in one way only. The message is for the client and quotes nothing of the body."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class HeavyBodyError(Exception):
    """Reading it takes so long that it should be done elsewhere, by ``read``."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Where a JSON body names a model: a path of keys. A step ``[]`` means each item of an array.

    What kind of item it is does not matter: a ``model`` where one may stand is a name that counts.
    """

    path: tuple[str, ...]
    required: bool = False


class Reading(NamedTuple):
    """What a body says: the names it gives, in the order of the selectors, and whether it asks for a stream."""

    names: tuple[str, ...]
    stream: bool


class _Pairs(list[tuple[str, Any]]):
    """An object as the sequence of its members, duplicates and all."""


class BodyReader:
    """Reads the bodies of one operation."""

    def __init__(self, selectors: tuple[Selector, ...]) -> None:
        self.selectors = selectors
        self._keys = tuple(dict.fromkeys(step for s in selectors for step in (*s.path, "stream") if step != EACH))
        self._quoted = tuple((key, b'"%b"' % key.lower().encode()) for key in self._keys)
        self._steps = tuple((selector, frozenset(selector.path) - {EACH}) for selector in selectors)
        occurrence = b'"(?:' + b"|".join(map(_spellings, self._keys)) + rb')"[ \t\r\n]*:'
        self._among_few_quotes = re.compile(occurrence)
        self._among_many_quotes = re.compile(_BEFORE_KEY + occurrence)

    def read_light(self, body: bytes) -> Reading:
        """The names in a body, if that is done in a moment.

        Raises:
            MalformedBodyError: not JSON, not an object, ambiguous, or a name that is none.
            HeavyBodyError: it is not.
        """
        if len(body) > LIGHT and (len(body) > LIGHT_BYTES or _structure(body) + body.count(b'"') > LIGHT):
            raise HeavyBodyError
        return self.read(body)

    def read(self, body: bytes) -> Reading:
        """The names in a body, however long that takes: up to a second.

        Raises:
            MalformedBodyError: not JSON, not an object, ambiguous, or a name that is none.
        """
        if len(body) > MAX_STRUCTURE and _structure(body) > MAX_STRUCTURE:
            raise MalformedBodyError("The body has too many values.", 413)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedBodyError(f"The body is not valid JSON: {error.msg}") from None
        if not isinstance(document, dict):
            raise MalformedBodyError("The body must be a JSON object.")
        keys = self._occurring(body)
        if keys is None:
            if _structure(body) > MAX_AMBIGUOUS_STRUCTURE:
                raise MalformedBodyError("A key that names models stands twice in a body of too many values.", 413)
            document, keys = _as_pairs(body), set(self._keys)
        names: list[str] = []
        for selector, steps in self._steps:
            if steps <= keys:
                names += self._select(document, selector)
            elif selector.required:
                raise _missing(selector)
        if len(names) > MAX_NAMES:
            raise MalformedBodyError(f"The body names more than {MAX_NAMES} models.")
        return Reading(tuple(names), stream="stream" in keys and _member(document, "stream") is True)

    def _occurring(self, body: bytes) -> set[str] | None:
        """Which of the selectors' keys occur anywhere, in any spelling; ``None`` if one does twice."""
        if body.isascii() and b"\\u" not in body:  # case is then all that spellings can differ in
            folded = body.lower()
            counts = [(key, folded.count(quoted)) for key, quoted in self._quoted]
            if all(count < 2 for _, count in counts):
                return {key for key, count in counts if count}
        occurrences = self._among_many_quotes if body.count(b'"') > MANY_QUOTES else self._among_few_quotes
        seen: set[str] = set()
        for match in occurrences.finditer(body):
            key = self._keys[(match.lastindex or 0) - 1]
            if key in seen:
                return None
            seen.add(key)
        return seen

    def _select(self, document: Any, selector: Selector) -> list[str]:
        (first, *others) = selector.path
        plain = not others and isinstance(document, dict) and first in document
        values = [document[first]] if plain else list(_walk(document, selector.path))
        for value in values:
            if not isinstance(value, str) or not well_formed(value):
                raise MalformedBodyError(
                    f"{_spell(selector.path)} must be a model's name: letters, digits and ._:/@+- only."
                )
        if selector.required and not values:
            raise _missing(selector)
        return values


def _missing(selector: Selector) -> MalformedBodyError:
    return MalformedBodyError(f"{_spell(selector.path)} is missing.")


def _structure(body: bytes) -> int:
    """How many values a body can have at the most: three scans at memory's speed."""
    return body.count(b"{") + body.count(b"[") + body.count(b",")


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == EACH:
        if isinstance(value, list) and not isinstance(value, _Pairs):
            for item in value:
                yield from _walk(item, path[1:])
        elif value is not None:
            raise MalformedBodyError("A list was expected where models may be named.")
    elif isinstance(value, dict | _Pairs):
        member = _member(value, path[0])
        if member is not _ABSENT and not (member is None and len(path) > 1):
            yield from _walk(member, path[1:])


_ABSENT = object()


def _member(value: Any, key: str) -> Any:
    """The one member with this key, or ``_ABSENT``; refused where another spelling or a second one stands beside."""
    if isinstance(value, _Pairs):
        found, names = [member for name, member in value if name == key], [name for name, _ in value]
        if len(found) > 1:
            raise MalformedBodyError(_twice(key))
        member = found[0] if found else _ABSENT
    elif key in value:
        return value[key]  # its only spelling in the whole body
    else:
        member, names = _ABSENT, list(value)
    if any(len(name) == len(key) and name != key and name.casefold() == key for name in names):
        raise MalformedBodyError(_twice(key))
    return member


def _twice(key: str) -> str:
    return f"{key!r} stands twice, or in another spelling."


def _as_pairs(body: bytes) -> _Pairs:
    try:
        document: _Pairs = json.loads(body.decode(), object_pairs_hook=_Pairs)
    except RecursionError:
        raise MalformedBodyError("The body is nested too deeply.") from None
    return document


def _spell(path: tuple[str, ...]) -> str:
    return ".".join(path).replace(f".{EACH}", EACH)


_BEFORE_KEY = rb"[{,][ \t\r\n]*"
"""What stands before a key's quote in valid JSON, and never before one within a string: that has a backslash."""

_FOLDING = {"k": "\u212a", "s": "\u017f"}
"""The letters beyond ASCII that fold to ASCII ones: the Kelvin sign and the long s (Unicode CaseFolding.txt)."""


def _spellings(key: str) -> bytes:
    """A group that matches every spelling of a key that some parser takes for it: case, escapes, folding letters."""
    return b"(" + b"".join(_letter(letter) for letter in key) + b")"


def _letter(letter: str) -> bytes:
    forms = {letter.lower(), letter.upper(), _FOLDING.get(letter, letter)}
    literal = [re.escape(form.encode()) for form in sorted(forms)]
    escaped = [b"\\\\u(?i:" + f"{ord(form):04x}".encode() + b")" for form in sorted(forms)]
    return b"(?:" + b"|".join(literal + escaped) + b")"
